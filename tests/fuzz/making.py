"""Messages from their annotations, valid ones and broken ones, out of any source of randomness.

`Maker.message(kind)` makes a message of a class of common/messages.py that the codec must take, field by field from
its type and bound: a new field or class is covered without a change here. Numbers like to stand at their bounds,
texts hold what hurts a terminal, sessions, leases and hosts come mostly from the `Known` ones, so that a message often
means something. `Maker.damaged(frames)` breaks frames as a bad peer, a bad network or another version would.

The source is a `random.Random`: a seeded one (`python -m tests.fuzz`), hypothesis's, which shrinks (the tests), or one
that reads its choices from the bytes of a coverage-guided fuzzer (coverage_guided.py). It decides nothing of what is
right: that is beside each target, in codec.py, shards.py, agents.py.
"""

from __future__ import annotations

import random
import struct
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints

import msgpack

from common.messages import (
    MAX_HEADER_BYTES,
    TAGS,
    LeaseId,
    LinkGroup,
    Range,
    SessionId,
    Size,
    lease_id,
)
from common.outcome import OUTCOMES
from common.wire import MAX_BODY_BYTES

Kind = TypeVar("Kind")

STRANGE: Final = (
    "",
    "\x1b]0;owned\x07\x1b[2J\x1b[31m",
    "two\r\nlines\n",
    "\x00",
    "\x9b31m\x85",
    "\u202egnp.exe",
    "../../../../etc/passwd",
    "%s%n{0}{x!r}",
    "retry",
    "rules",
    "\ud7ff\ue000\ufeff\U0010ffff",
    "a" * 255,
)
"""Texts that something downstream may trip over."""

URLS: Final = (
    "",
    "/",
    "http://",
    "http:///",
    "https://a.test",
    "http://a.test:99999/",
    "http://[::1/",
    "http://[]/",
    "https://./",
    "http://a..test/",
    "https://a.test./x",
    "ftp://a.test/",
    "javascript:alert(1)",
    "https://a.test/\n",
    "https://a.test/ä",
    "https:////",
    "https://a.test/" + "x" * 3000,
)
"""What is no canonical URL, or just so."""


@dataclass
class Known:
    """What the peer under test would recognise. Lists may be shared with it and grow."""

    sessions: list[bytes] = field(default_factory=lambda: [b"s" * 16])
    leases: list[int] = field(default_factory=list)
    urls: list[str] = field(default_factory=lambda: ["https://a.test/", "https://b.test/x?y=1"])
    numbers: list[int] = field(default_factory=list)
    shared: dict[str, list[Any]] = field(default_factory=dict)
    """By the name of a field: values that mean something there, such as the packed configuration."""


class Maker:
    """Makes messages. `big`: the chance in a thousand that a long thing is made as long as it may be."""

    def __init__(self, rng: random.Random, known: Known | None = None, *, big: int = 1) -> None:
        self.rng = rng
        self.known = known or Known()
        self._big = big

    # ---------------------------------------------------------------------------------------------------- valid

    def message(self, kind: type[Kind]) -> Kind:
        """A message of this class that the codec takes."""
        return kind(*[make(self, name) for name, make in _makers(kind)])

    def number(self, low: int, high: int) -> int:
        """A number within its bounds, often at one of them."""
        chance = self.rng.randrange(8)
        if chance == 0:
            return low
        if chance == 1:
            return high
        if chance == 2:
            return self.rng.randint(low, high)
        if chance == 3 and self.known.numbers:
            return min(high, max(low, self.rng.choice(self.known.numbers)))
        return min(high, max(low, self.rng.randrange(12)))

    def seconds(self, low: float, high: float) -> float:
        """Seconds within their bounds."""
        chance = self.rng.randrange(6)
        if chance == 0:
            return float(low)
        if chance == 1:
            return float(high)
        if chance == 2:
            return min(float(high), 1_000_000.0 + self.rng.random())
        return min(float(high), self.rng.random() * 100)

    def text(self, name: str, high: int) -> str:
        """A text; `name` is its field's."""
        if name in self.known.shared and self.rng.randrange(10):
            return str(self.rng.choice(self.known.shared[name]))[:high]
        if high > 4096:
            return self.url(high)
        chance = self.rng.randrange(6)
        if chance == 0:
            return self.rng.choice(STRANGE)[:high]
        if chance == 1:
            return self.rng.choice(OUTCOMES).value[:high]
        if chance == 2 and not self.rng.randrange(4):
            return "\u20ac" * high if high <= 4096 else "x" * high
        return f"{name}{self.rng.randrange(1000)}"[:high]

    def url(self, high: int) -> str:
        """A URL that is known, one that is none, or a new one."""
        chance = self.rng.randrange(6)
        if chance < 3:
            return self.rng.choice(self.known.urls)[:high]
        if chance == 3:
            return self.rng.choice(URLS)[:high]
        if chance == 4 and not self.rng.randrange(20):
            return ("https://a.test/" + "y" * high)[:high]
        return f"http{'s' * self.rng.randrange(2)}://h{self.rng.randrange(6)}.test/{self.rng.randrange(50)}"

    def octets(self, name: str, high: int) -> bytes:
        """Bytes; those of a session come from the known ones."""
        if name in self.known.shared and self.rng.randrange(10):
            return bytes(self.rng.choice(self.known.shared[name]))[:high]
        chance = self.rng.randrange(1000)
        if chance < self._big:
            return bytes(high)
        if chance < 300:
            return b""
        return self.rng.randbytes(min(high, self.rng.randrange(64)))

    def session(self) -> SessionId:
        """One of the known sessions, seldom another."""
        if self.rng.randrange(12):
            return SessionId(self.rng.choice(self.known.sessions))
        return SessionId(self.rng.randbytes(self.rng.choice((0, 5, 16))))

    def lease(self) -> LeaseId:
        """A lease that there is, one of the past or the future, or none."""
        if self.known.leases and self.rng.randrange(4):
            return LeaseId(self.rng.choice(self.known.leases[-64:]))
        if self.rng.randrange(2):
            return lease_id(self.rng.randrange(4), self.rng.randrange(8), self.rng.randrange(3))
        return LeaseId(self.number(0, 2**64 - 1))

    def many(self, high: int) -> int:
        """How many elements an array gets."""
        chance = self.rng.randrange(1000)
        if chance < self._big:
            return min(high, 3000)
        return min(high, (0, 0, 1, 1, 2, 3, 5)[self.rng.randrange(7)])

    def body(self) -> bytes:
        """A body frame: none, some, or a whole piece."""
        chance = self.rng.randrange(100)
        if chance == 0:
            return bytes(1 << 20)
        return b"" if chance < 60 else self.rng.randbytes(self.rng.randrange(200))

    # --------------------------------------------------------------------------------------------------- broken

    def damaged(self, frames: Sequence[bytes]) -> list[bytes]:
        """The frames with one thing wrong, or several."""
        broken = list(frames)
        for _ in range(1 + (not self.rng.randrange(4))):
            if not broken:
                break
            broken = _DAMAGES[self.rng.randrange(len(_DAMAGES))](self, broken)
        return broken

    def _cut(self, frames: list[bytes]) -> list[bytes]:
        return [frames[0][: self.rng.randrange(len(frames[0]) + 1)], *frames[1:]]

    def _longer(self, frames: list[bytes]) -> list[bytes]:
        return [frames[0] + self.rng.randbytes(1 + self.rng.randrange(20)), *frames[1:]]

    def _flipped(self, frames: list[bytes]) -> list[bytes]:
        header = bytearray(frames[0] or b"\x90")
        for _ in range(1 + self.rng.randrange(4)):
            header[self.rng.randrange(len(header))] ^= 1 << self.rng.randrange(8)
        return [bytes(header), *frames[1:]]

    def _noise(self, frames: list[bytes]) -> list[bytes]:
        return [self.rng.randbytes(self.rng.randrange(200)), *frames[1:]]

    def _declared(self, frames: list[bytes]) -> list[bytes]:
        """Lengths of gigabytes in front of little, and nesting without end."""
        deep = 1 + self.rng.randrange(3000)
        huge = (
            b"\xdd\xff\xff\xff\xff",
            b"\xdf\x7f\xff\xff\xff",
            b"\xdb\xff\xff\xff\xf0abc",
            b"\xc6\xff\xff\xff\xff",
            b"\xc9\xff\xff\xff\xff\x01",
            b"\x91" * deep,
            b"\x91" * deep + b"\x01",
            b"\x81\x01" * deep + b"\x01",
            b"\xd4\x01\x00",
            b"\xd6\xff\x00\x00\x00\x00",
            b"\xc7\x00\x05",
            b"\xc1",
        )
        tag = bytes((0xDC, 0, 10, 1 + self.rng.randrange(70)))
        return [self.rng.choice((b"", tag)) + self.rng.choice(huge), *frames[1:]]

    def _frames(self, frames: list[bytes]) -> list[bytes]:
        return self.rng.choice(([], [b""], [*frames, b"", b"x"], [*frames, *frames], [b"", *frames]))

    def _oversized(self, frames: list[bytes]) -> list[bytes]:
        if self.rng.randrange(30):
            return self._longer(frames)
        if self.rng.randrange(2):
            return [b"\xc4" + bytes(MAX_HEADER_BYTES), *frames[1:]]
        return [frames[0], bytes(MAX_BODY_BYTES + 1)]

    def _values(self, frames: list[bytes]) -> list[bytes]:
        """One value of the array, at any depth, is another: of a wrong type, out of range, too long, missing."""
        try:
            values = msgpack.unpackb(frames[0], use_list=True, raw=False, strict_map_key=False)
        except (ValueError, TypeError, RecursionError, msgpack.UnpackException):
            return self._flipped(frames)
        if not isinstance(values, list) or not values:
            return self._flipped(frames)
        place: list[Any] = values
        while True:
            at = self.rng.randrange(len(place))
            inner = place[at]
            if not isinstance(inner, list) or not inner or not self.rng.randrange(3):
                break
            place = inner
        chance = self.rng.randrange(8)
        if chance == 0:
            del place[at]
        elif chance == 1:
            place.insert(at, place[at])
        elif chance == 2:
            place[at], place[0] = place[0], place[at]
        else:
            place[at] = self.rng.choice(_WRONG)
        try:
            return [msgpack.packb(values, use_bin_type=True, unicode_errors="surrogatepass"), *frames[1:]]
        except (ValueError, TypeError, OverflowError):
            return self._flipped(frames)

    def _other_tag(self, frames: list[bytes]) -> list[bytes]:
        header = bytearray(frames[0])
        if len(header) > 3:
            at = 1 if header[0] & 0xF0 == 0x90 else 3
            header[at] = self.rng.choice((*TAGS, self.rng.randrange(128)))
        return [bytes(header), *frames[1:]]


_WRONG: Final = (
    None,
    True,
    False,
    -1,
    2**63,
    2**64 - 1,
    -(2**63),
    0.5,
    float("nan"),
    float("inf"),
    -0.0,
    "",
    "text",
    b"",
    b"bytes",
    "\ud800",
    [],
    [[]],
    {},
    {1: 2},
    "x" * 70_000,
    bytes(70_000),
    [0] * 5000,
    msgpack.ExtType(1, b"x"),
    msgpack.Timestamp(1, 2),
)

_DAMAGES: Final = (
    Maker._cut,
    Maker._longer,
    Maker._flipped,
    Maker._noise,
    Maker._declared,
    Maker._frames,
    Maker._oversized,
    Maker._values,
    Maker._values,
    Maker._values,
    Maker._values,
    Maker._other_tag,
)

# ------------------------------------------------------------------------------------------ compiled from the types

_Make = Callable[[Maker, str], Any]
_made: dict[type, list[tuple[str, _Make]]] = {}


def _makers(kind: type[Any]) -> list[tuple[str, _Make]]:
    known = _made.get(kind)
    if known is None:
        hints = get_type_hints(kind, include_extras=True)
        known = [(each.name, _compile(hints[each.name])) for each in fields(kind)]
        _made[kind] = known
    return known


def _compile(kind: Any, bound: Range | Size | None = None) -> _Make:
    if kind is SessionId:
        return lambda maker, name: maker.session()
    if kind is LeaseId:
        return lambda maker, name: maker.lease()
    kind = getattr(kind, "__supertype__", kind)
    origin = get_origin(kind)
    if origin is Annotated:
        inner, *bounds = get_args(kind)
        return _compile(inner, bounds[0])
    if origin in (Union, types.UnionType):
        (inner,) = [part for part in get_args(kind) if part is not type(None)]
        make = _compile(inner, bound)
        return lambda maker, name: make(maker, name) if maker.rng.randrange(3) else None
    if origin is tuple:
        parts = get_args(kind)
        if len(parts) == 2 and parts[1] is Ellipsis:
            assert isinstance(bound, Size)
            each, high = _compile(parts[0]), bound.high
            return lambda maker, name: tuple(each(maker, name) for _ in range(maker.many(high)))
        each_part = [_compile(part) for part in parts]
        return lambda maker, name: tuple(make(maker, name) for make in each_part)
    if isinstance(kind, type) and issubclass(kind, tuple):
        hints = get_type_hints(kind, include_extras=True)
        named = [(name, _compile(hints[name])) for name in kind._fields]  # type: ignore[attr-defined]  # NamedTuple
        return lambda maker, name: _even(kind(*[make(maker, part) for part, make in named]))
    if kind is bool:
        return lambda maker, name: bool(maker.rng.randrange(2))
    if kind is int:
        assert isinstance(bound, Range)
        low, high = bound
        return lambda maker, name: maker.number(low, high)
    if kind is float:
        assert isinstance(bound, Range)
        low, high = bound
        return lambda maker, name: maker.seconds(low, high)
    assert isinstance(bound, Size), kind
    most = bound.high
    if kind is str:
        return lambda maker, name: maker.text(name, most)
    return lambda maker, name: maker.octets(name, most)


def _even(row: Any) -> Any:
    """A LinkGroup with its columns equally long, which the codec asks for; any other row as it is."""
    if type(row) is not LinkGroup:
        return row
    columns = {name: value for name, value in zip(row._fields, row, strict=True) if type(value) is tuple}
    size = min(map(len, columns.values()))
    return row._replace(**{name: value[:size] for name, value in columns.items()})


class Octets(random.Random):
    """A source whose choices are the bits of some bytes: what a coverage-guided fuzzer varies. After them it goes on
    like any seeded one, the same each time."""

    def __new__(cls, octets: bytes) -> Octets:
        return super().__new__(cls)

    def __init__(self, octets: bytes) -> None:
        super().__init__(0)
        self._octets = octets
        self._at = 0

    def getrandbits(self, k: int, /) -> int:
        """`k` bits, whole bytes taken from the front."""
        if self._at >= len(self._octets):
            return super().getrandbits(k)
        size = (k + 7) // 8
        taken = self._octets[self._at : self._at + size]
        self._at += size
        return int.from_bytes(taken, "big") & ((1 << k) - 1)

    def random(self) -> float:
        """In [0, 1)."""
        return struct.unpack(">I", self.getrandbits(32).to_bytes(4, "big"))[0] / 2**32

    def randbytes(self, n: int) -> bytes:
        """`n` bytes."""
        return self.getrandbits(8 * n).to_bytes(n, "big") if n else b""
