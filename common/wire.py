"""Messages to frames and back: strict, bounded, generated from the types in `common/messages.py`.

What does not decode exactly raises `ProtocolError`: an unknown tag, a missing field, an `int` where a `str` belongs
(also `True` where a number belongs), a number out of its range, anything longer than its bound. Nothing is coerced
but an integer where seconds are expected.

A message is looked at twice at most. First by a function made for its class, which takes what is plainly right and
says nothing of the rest: 6 µs for a Page with its links. What it does not take goes through the checks, a closure a
field, which know better and say what is wrong: 14 µs. A test holds the two against each other.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Collection, Sequence
from dataclasses import fields
from functools import cache
from operator import attrgetter
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgpack

from common.errors import ProtocolError
from common.messages import MAX_HEADER_BYTES, PIECE_BYTES, TAGS, LinkGroup, Message, Range, Size

MAX_BODY_BYTES = 2 * PIECE_BYTES
"""A body frame: one piece, or what is left of a record after its pieces, with room for the request record."""

MAX_FRAME_BYTES = max(MAX_HEADER_BYTES, MAX_BODY_BYTES)
"""What ZeroMQ itself refuses to receive more of."""

_Check = Callable[[Any], Any]


def encode(message: Message) -> bytes:
    """The header frame of a message; its body, if it has one, is the caller's own frame."""
    tag, take = _ENCODERS[type(message)]
    return _pack((tag, *take(message)))


def decode(frames: Sequence[bytes], expected: Collection[type[Message]]) -> tuple[Message, bytes]:
    """The message and its body (b"" without one) in `frames`; only classes in `expected` may come.

    Raises ProtocolError, and nothing else, whatever the bytes.
    """
    if not 1 <= len(frames) <= 2:
        raise ProtocolError(f"message of {len(frames)} frames, 1 or 2 expected")
    header = frames[0]
    if len(header) > MAX_HEADER_BYTES:
        raise ProtocolError(f"header of {len(header)} bytes, at most {MAX_HEADER_BYTES}")
    body = frames[1] if len(frames) == 2 else b""
    if len(body) > MAX_BODY_BYTES:
        raise ProtocolError(f"body of {len(body)} bytes, at most {MAX_BODY_BYTES}")
    values = _unpack(header, max_map_len=0, max_ext_len=0, object_hook=_no_map)
    if type(values) is not tuple or not values or type(values[0]) is not int:
        raise ProtocolError("header is no array that begins with a tag")
    kind = TAGS.get(values[0])
    if kind is None or kind not in expected:
        raise ProtocolError(f"unexpected tag {values[0]}")
    message = taker(kind)(values)  # type: ignore[arg-type]  # a class is hashable
    return (strictly(kind, values) if message is None else message), body


def strictly(kind: type[Message], values: tuple[Any, ...]) -> Message:
    """The message in an unpacked header, every field checked by itself. Raises ProtocolError, which names the field."""
    names, checks = _checks(kind)  # type: ignore[arg-type]  # as above
    if len(values) != len(checks) + 1:
        raise ProtocolError(f"{kind.__name__}: {len(values) - 1} fields, {len(checks)} expected")
    checked = []
    for position, check in enumerate(checks, 1):
        try:
            checked.append(check(values[position]))
        except _Bad as bad:
            raise ProtocolError(f"{kind.__name__}.{names[position - 1]}: {bad}") from None
    return kind(*checked)


def pack(value: Any) -> bytes:
    """Plain lists, maps, numbers and texts as msgpack: for what travels inside a bytes field."""
    return _pack(value)


def unpack(packed: bytes) -> Any:
    """The inverse of `pack`; arrays come back as tuples. Raises ProtocolError."""
    return _unpack(packed)


def _no_map(values: dict[Any, Any]) -> Any:
    """No message has maps, and an empty one costs 64 times its byte; the bound on their length lets it pass."""
    raise ValueError("a map")


def _unpack(packed: bytes, **bounds: Any) -> Any:
    try:
        return msgpack.unpackb(packed, use_list=False, raw=False, strict_map_key=False, **bounds)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise ProtocolError(f"not msgpack: {error}") from None


# ------------------------------------------------------------------------------------------ compiled from the types


class _Bad(Exception):
    """A value that its field does not take; says what came and what was expected."""


def _exactly(kind: type[str] | type[bytes], high: int) -> _Check:
    def check(value: Any) -> Any:
        if type(value) is not kind:
            raise _Bad(f"{type(value).__name__}, {kind.__name__} expected")
        if len(value) > high:
            raise _Bad(f"length {len(value)}, at most {high}")
        return value

    return check


def _flag(value: Any) -> Any:
    if value is not True and value is not False:
        raise _Bad(f"{type(value).__name__}, bool expected")
    return value


def _number(low: int, high: int) -> _Check:
    def check(value: Any) -> Any:
        if type(value) is not int:
            raise _Bad(f"{type(value).__name__}, int expected")
        if not low <= value <= high:
            raise _Bad(f"{value}, {low} to {high} expected")
        return value

    return check


def _seconds(low: int, high: int) -> _Check:
    def check(value: Any) -> Any:
        if type(value) is int:
            value = float(value)
        if type(value) is not float:
            raise _Bad(f"{type(value).__name__}, float expected")
        if not low <= value <= high:
            raise _Bad(f"{value}, {low} to {high} expected")
        return value

    return check


def _optional(inner: _Check) -> _Check:
    def check(value: Any) -> Any:
        return None if value is None else inner(value)

    return check


def _many(inner: _Check, high: int) -> _Check:
    def check(value: Any) -> Any:
        if type(value) is not tuple:
            raise _Bad(f"{type(value).__name__}, array expected")
        if len(value) > high:
            raise _Bad(f"{len(value)} elements, at most {high}")
        return tuple(map(inner, value)) if value else value

    return check


def _row(make: Callable[..., Any], inner: Sequence[_Check]) -> _Check:
    def check(value: Any) -> Any:
        if type(value) is not tuple:
            raise _Bad(f"{type(value).__name__}, array of {len(inner)} expected")
        if len(value) != len(inner):
            raise _Bad(f"array of {len(value)}, of {len(inner)} expected")
        return make([test(part) for test, part in zip(inner, value, strict=True)])

    return check


def _links(parts: Sequence[Any]) -> LinkGroup:
    """A group whose columns are equally long: who reads one by the position of another must not fall off."""
    group = LinkGroup._make(parts)
    for name, column in zip(LinkGroup._fields, group, strict=True):
        if type(column) is tuple and len(column) != len(group.urls):
            raise _Bad(f"{len(column)} {name} for {len(group.urls)} urls")
    return group


def _compile(kind: Any, bound: Range | Size | None = None) -> _Check:
    kind = getattr(kind, "__supertype__", kind)
    origin = get_origin(kind)
    if origin is Annotated:
        inner, *bounds = get_args(kind)
        return _compile(inner, bounds[0])
    if origin in (Union, types.UnionType):
        (inner,) = [part for part in get_args(kind) if part is not type(None)]
        return _optional(_compile(inner, bound))
    if origin is tuple:
        parts = get_args(kind)
        if len(parts) == 2 and parts[1] is Ellipsis:
            if not isinstance(bound, Size):
                raise TypeError(f"{kind} has no bound")
            return _many(_compile(parts[0]), bound.high)
        return _row(tuple, [_compile(part) for part in parts])
    if hasattr(kind, "_fields"):  # a NamedTuple
        hints = get_type_hints(kind, include_extras=True)
        make = _links if kind is LinkGroup else kind._make
        return _row(make, [_compile(hints[name]) for name in kind._fields])
    if kind is bool:
        return _flag
    if kind in (int, float):
        if not isinstance(bound, Range):
            raise TypeError(f"{kind} has no bound")
        return (_number if kind is int else _seconds)(bound.low, bound.high)
    if kind in (str, bytes):
        if not isinstance(bound, Size):
            raise TypeError(f"{kind} has no bound")
        return _exactly(kind, bound.high)
    raise TypeError(f"no check for {kind}")


@cache
def _checks(kind: type[Message]) -> tuple[tuple[str, ...], tuple[_Check, ...]]:
    hints = get_type_hints(kind, include_extras=True)
    names = tuple(field.name for field in fields(kind))
    return names, tuple(_compile(hints[name]) for name in names)


# ----------------------------------------------------------------------------- and once more, a function a message


@cache
def taker(kind: type[Message]) -> Callable[[tuple[Any, ...]], Message | None]:
    """The message in an unpacked header, or None if anything about it is not plainly right. Written out as Python, as
    dataclasses write their methods: a closure a field costs twice as much. Made when the first of its class comes."""
    source = _Source({"make": kind, "new": tuple.__new__})
    hints = get_type_hints(kind, include_extras=True)
    parts = [f"v{number}" for number in range(len(fields(kind)))]
    source.add(f"if len(values) != {len(parts) + 1}: return None")
    source.add(f"_, {', '.join(parts)}, = values")
    for part, field in zip(parts, fields(kind), strict=True):
        source.take(part, hints[field.name])
    source.add(f"return make({', '.join(parts)})")
    exec("def take(values):\n" + "\n".join(source.lines), source.names)
    take: Callable[[tuple[Any, ...]], Message | None] = source.names["take"]
    return take


class _Source:
    """The body of such a function as it grows. `take` adds what leaves in a variable the value of a type, or returns
    None; the types are those that `_compile` knows, and no others."""

    def __init__(self, names: dict[str, Any]) -> None:
        self.lines: list[str] = []
        self.names = names
        self._depth = 1

    def add(self, line: str) -> None:
        self.lines.append(" " * self._depth + line)

    def take(self, var: str, kind: Any, bound: Range | Size | None = None) -> bool:
        """Returns whether the variable is set to something else than what came."""
        kind = getattr(kind, "__supertype__", kind)
        origin = get_origin(kind)
        if origin is Annotated:
            inner, *bounds = get_args(kind)
            return self.take(var, inner, bounds[0])
        if origin in (Union, types.UnionType):
            (inner,) = [part for part in get_args(kind) if part is not type(None)]
            self.add(f"if {var} is not None:")
            return self._within(var, inner, bound)
        if origin is tuple:
            parts = get_args(kind)
            if len(parts) == 2 and parts[1] is Ellipsis:
                assert isinstance(bound, Size)
                return self._many(var, parts[0], bound)
            return self._row(var, parts, "tuple")
        if isinstance(kind, type) and issubclass(kind, tuple):
            return self._named(var, kind)
        if kind is bool:
            self._only(f"{var} is True or {var} is False")
        elif isinstance(bound, Range):
            self._only(f"type({var}) is {kind.__name__} and {bound.low} <= {var} <= {bound.high}")
        else:
            assert isinstance(bound, Size)
            self._only(f"type({var}) is {kind.__name__} and len({var}) <= {bound.high}")
        return False

    def _only(self, condition: str) -> None:
        self.add(f"if not ({condition}): return None")

    def _within(self, var: str, kind: Any, bound: Range | Size | None) -> bool:
        self._depth += 1
        changed = self.take(var, kind, bound)
        self._depth -= 1
        return changed

    def _many(self, var: str, kind: Any, bound: Size) -> bool:
        self._only(f"type({var}) is tuple and len({var}) <= {bound.high}")
        start = len(self.lines)
        self.add(f"for {var}_ in {var}:")
        if not self._within(f"{var}_", kind, None):
            return False
        self.lines.insert(start, " " * self._depth + f"{var}s = []")
        self.add(f" {var}s.append({var}_)")
        self.add(f"{var} = tuple({var}s)")
        return True

    def _row(self, var: str, kinds: Sequence[Any], make: str) -> bool:
        self._only(f"type({var}) is tuple and len({var}) == {len(kinds)}")
        parts = [f"{var}_{number}" for number in range(len(kinds))]
        self.add(f"{', '.join(parts)}, = {var}")
        changed = [self.take(part, kind) for part, kind in zip(parts, kinds, strict=True)]
        if any(changed) or make != "tuple":
            whole = f"({', '.join(parts)},)" if any(changed) else var
            self.add(f"{var} = {whole if make == 'tuple' else f'new({make}, {whole})'}")
            return True
        return False

    def _named(self, var: str, kind: Any) -> bool:
        hints = get_type_hints(kind, include_extras=True)
        self.names[kind.__name__] = kind
        self._row(var, [hints[name] for name in kind._fields], kind.__name__)
        if kind is LinkGroup:  # as in _links
            for column in ("forms", "lastmods"):
                self._only(f"{var}.{column} is None or len({var}.{column}) == len({var}.urls)")
        return True


def _taker(kind: type[Message]) -> Callable[[Message], tuple[Any, ...]]:
    names = [field.name for field in fields(kind)]
    take = attrgetter(*names)
    return take if len(names) > 1 else lambda message: (take(message),)


_pack: Callable[[Any], bytes] = msgpack.Packer(use_bin_type=True, autoreset=True).pack
_ENCODERS = {kind: (tag, _taker(kind)) for tag, kind in TAGS.items()}
