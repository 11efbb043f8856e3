"""Seeds: what a person typed after `coord start`, `crawl` or `add`, read as a stream of URLs.

An argument is, the first that fits: `-` (standard input), an existing file, an existing CSV file with one of
its columns (`firms.csv#website`), a URL, `sitemap:URL`, a bare host. A line of a file or of standard input, and
a cell of a column, is one of the last three. In all of them `[0-2970:30]` is a range:
it stands for 0, 30, ... 2970, both ends included, `[001-100]` keeps its zeros, and of several ranges the last
runs fastest.

A file may be packed with gzip or Zstandard, told by its first bytes, not by its name. It has one seed a line;
blank lines and lines that begin with `#` count as lines and give nothing. No more than one line is held in
memory, of a CSV file one row (csvcolumn.py).

What is wrong with an argument is a UsageError, raised by `read` before the first seed, so that nothing is
half done; so is a file that holds something else than seeds, by its first lines. What is wrong with a line is a
Seed without a URL: it is told, counted and skipped. It does not decide whether a seed is new, nor look at scope;
http instead of https for a bare host is tried by whoever fetches it.
"""

from __future__ import annotations

import functools
import gzip
import io
import itertools
import math
import os
import re
import stat
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final, Literal, cast

from common.errors import BadURL, UsageError
from common.masking import masked_url
from common.nearest import closest
from common.scope import suffixes
from common.url import MAX_LENGTH, CanonicalURL, canonical
from coordinator import csvcolumn

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

COMMAND_LINE: Final = "command line"
"""The `source` of a seed that was itself an argument; its `line` is the argument's place, from 1."""

MAX_LINE: Final = 65536
"""Bytes of a line. Longer ones are skipped without being held; no URL we fetch comes near."""

MAX_RANGES: Final = 8
"""Ranges in one text."""

MAX_RANGE: Final = 100_000_000
"""URLs that one range may stand for. More is a slip of the finger more often than a plan."""

FIRST_LINES: Final = 100
"""Lines of a file that are looked at before any is admitted: does it hold seeds?"""

_FIRST_BYTES = 1 << 16
_FEW_LINES = 20  # with fewer, a file of bad lines only is small enough to be told line by line
_NEARLY_ALL = 0.9
_MAX_GIVEN = 2048  # characters of a line kept in a Seed, for messages and for the `seed` column
_MAX_NEIGHBOURS = 10_000  # files looked at for "did you mean"


@dataclass(frozen=True, slots=True)
class Seed:
    """One URL that a person asked for, or one line that is none (`url` None, then `reason` and `error` say
    why)."""

    source: str
    """The file as it was named, its column included; `-` or COMMAND_LINE."""
    line: int
    """From 1, blank lines and remarks included; where a row of several lines begins."""
    given: str
    """As written, a range unexpanded, credentials masked; cut to 2048 characters."""
    url: CanonicalURL | None
    kind: Literal["url", "sitemap"] = "url"
    bare: bool = False
    """A host without a scheme: `url` says https, and http is to be tried if that is refused."""
    reason: str | None = None
    """A stable code: those of BadURL, `host` (a bare host that is none), `encoding`, `range`, `damaged` (the file ends
    or breaks here); of a CSV file also `csv` and `column`."""
    error: str | None = None
    """`reason` in words for people."""
    part: int = 0
    """Which URL of a range, from 0: (source, line, part) names a seed."""
    credentials: bool = False
    """A user name or password stood in it; `url` is without them."""


def read(
    arguments: Sequence[str], *, skip_lines: Mapping[str, int] | None = None, max_length: int = MAX_LENGTH
) -> Iterator[Seed]:
    """The seeds of all arguments, in order. Only the next line is read when the next seed is asked for.

    `skip_lines`: how many lines of a source (see `Seed.source`) to pass over, as they were admitted before.
    Raises UsageError, at once and not in the middle, if an argument is nothing that we know or cannot be
    opened.
    """
    if arguments.count("-") > 1:
        raise UsageError("- (standard input) is given twice; it can be read once")
    if "-" in arguments and sys.stdin is None:
        raise UsageError("- (standard input) is closed; give a file")
    for position, argument in enumerate(arguments, 1):
        _check(argument, position, max_length)
    return _seeds(arguments, skip_lines or {}, max_length)


def parse(text: str, source: str, line: int, *, max_length: int = MAX_LENGTH) -> Iterator[Seed]:
    """The seeds of one line that is no file: one, or those of a range; never none."""
    shown = masked_url(text)
    given, credentials = _short(shown, _MAX_GIVEN), shown != text
    try:
        texts = _expanded(shown)
    except _BadRange as bad:
        yield Seed(source, line, given, None, reason="range", error=str(bad), credentials=credentials)
        return
    for part, one in enumerate(texts):
        kind: Literal["url", "sitemap"] = "url"
        if one[:8].lower() == "sitemap:":
            kind, one = "sitemap", one[8:].strip()
        host = _bare_host(one)
        bare = host is not None
        try:
            url = canonical("https://" + one if bare else one, max_length=max_length)
        except BadURL as bad:
            words = _in_words(bad.reason, one, max_length)
            yield Seed(source, line, given, None, kind, bare, bad.reason, words, part, credentials)
            continue
        # Of an argument `_check_text` asks, which has more to say.
        wrong = None if host is None or source == COMMAND_LINE else _no_host(host, url)
        if wrong is None:
            yield Seed(source, line, given, url, kind, bare, part=part, credentials=credentials)
        else:
            error = f"{_short(host or '')}: {wrong}"
            yield Seed(source, line, given, None, kind, bare, "host", error, part)


# --------------------------------------------------------------------------------------- arguments


def _seeds(arguments: Sequence[str], skip_lines: Mapping[str, int], max_length: int) -> Iterator[Seed]:
    for position, argument in enumerate(arguments, 1):
        if argument == "-":
            yield from _lines(sys.stdin.buffer, "-", skip_lines.get("-", 0), max_length)
        elif os.path.exists(argument):
            with _opened(argument) as file:
                yield from _lines(file, argument, skip_lines.get(argument, 0), max_length)
        elif (table := _table(argument)) is not None:
            with _opened(table[0]) as file:
                yield from _cells(file, table[1], argument, skip_lines.get(argument, 0), max_length)
        elif position > skip_lines.get(COMMAND_LINE, 0):
            yield from parse(argument.strip(), COMMAND_LINE, position, max_length=max_length)


def _check(argument: str, position: int, max_length: int) -> None:
    if argument == "-":
        return
    try:
        mode = os.stat(argument).st_mode
    except (OSError, ValueError):  # ValueError: a NUL in it
        table = _table(argument)
        if table is None:
            _check_text(argument, position, max_length)
        else:
            _check_table(*table)
        return
    if stat.S_ISDIR(mode):
        raise UsageError(
            f"{_short(argument)} is a directory; name the files in it that hold seeds, one URL a line"
        )
    if stat.S_ISREG(mode):  # not a pipe, which can be opened only once
        with _opened(argument) as file:
            _refuse_utf16(argument, file.read(2))
            file.seek(0)
            _refuse_other(argument, _lines(_head(argument, file), argument, 0, max_length))


def _check_table(path: str, column: str) -> None:
    with _opened(path) as file:
        _refuse_utf16(path, file.read(2))
        file.seek(0)
        _head(path, file)
        file.seek(0)
        try:
            csvcolumn.cells(_unpacked(file), column)
        except UsageError as wrong:
            raise UsageError(f"{_short(path)}: {wrong}") from None
        except _DAMAGE as wrong:
            raise UsageError(f"{_short(path)}: {_damage(wrong)}") from None


def _refuse_utf16(path: str, begin: bytes) -> None:
    if begin in (b"\xff\xfe", b"\xfe\xff"):
        raise UsageError(f"{_short(path)} is in UTF-16; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)")


def _head(path: str, file: BinaryIO) -> BinaryIO:
    """The first lines of a file, unpacked. UsageError where they are no text."""
    head = io.BytesIO()
    try:
        unpacked = _unpacked(file)
        for _ in range(FIRST_LINES):
            if not head.write(unpacked.readline(_FIRST_BYTES)) or head.tell() >= _FIRST_BYTES:
                break
    except _DAMAGE:
        pass  # told where it is read on
    if b"\0" in head.getvalue():
        raise UsageError(
            f"{_short(path)} is no text (it has NUL bytes): seeds are lines of URLs, or a CSV file"
        )
    head.seek(0)
    return head


def _refuse_other(argument: str, seeds: Iterator[Seed]) -> None:
    """UsageError where nearly all of the first lines are bad: of whatever it is, some may pass for hosts."""
    read = list(itertools.islice(seeds, FIRST_LINES))
    bad = [seed for seed in read if seed.url is None]
    if len(read) >= _FEW_LINES and len(bad) >= _NEARLY_ALL * len(read):
        raise UsageError(
            f"{_short(argument)} does not look like seeds: of its first {len(read)} lines {len(bad)} are no URLs"
            f" (line {bad[0].line}: {bad[0].error})"
        )


def _table(argument: str) -> tuple[str, str] | None:
    """(file, column) of what names both; the first `#` before which a file stands parts them."""
    place = argument.find("#")
    while place >= 0:
        if os.path.isfile(argument[:place]):
            return argument[:place], argument[place + 1 :]
        place = argument.find("#", place + 1)
    return None


def absolute(argument: str) -> str:
    """The same seed for somebody who stands in another folder, and to keep: files with their whole path, URLs without
    their credentials."""
    if os.path.isfile(argument):
        return os.path.abspath(argument)
    table = _table(argument)
    return masked_url(argument) if table is None else f"{os.path.abspath(table[0])}#{table[1]}"


def _opened(path: str) -> BinaryIO:
    try:
        return cast(BinaryIO, open(path, "rb"))
    except OSError as wrong:
        raise UsageError(f"{_short(path)}: cannot be read ({wrong.strerror or wrong})") from None


def _check_text(argument: str, position: int, max_length: int) -> None:
    text = argument.strip()
    first = next(parse(text, COMMAND_LINE, position, max_length=max_length))
    if first.url is not None:
        host = None if first.kind == "sitemap" else _bare_host(text)
        wrong = None if host is None else _no_host(host, first.url, typed=True)
        if wrong is None:
            return
        why, _, advice = wrong.partition("; ")
        way_out = f"; {advice}" * bool(advice)
    elif first.reason in ("range", "too_long") or re.match(r"(?i)\s*(sitemap:|[a-z][a-z0-9+.-]*://)", text):
        raise UsageError(f"{_short(argument)}: {first.error}")
    else:
        why = "no bare host (a host name has a dot in it)" if "." not in text else "no bare host"
        way_out = "; give a file, https://..., sitemap:https://..., a host name, or -"
    meant = _neighbour(argument)
    raise UsageError(
        f"{_short(argument)}: no such file, no URL (it has no scheme), {why}"
        + (f"; did you mean {meant}?" if meant else way_out)
    )


def _neighbour(path: str) -> str | None:
    """A file beside `path` whose name is much like it; with the column that stands behind it."""
    path, mark, column = path.partition("#")
    folder, name = os.path.split(path)
    try:
        with os.scandir(folder or ".") as entries:
            names = [entry.name for entry in itertools.islice(entries, _MAX_NEIGHBOURS) if not entry.is_dir()]
    except (OSError, ValueError):
        return None
    close = closest(name, names, alike=0.6)
    return None if close is None else f"{Path(folder) / close}{mark}{column}"


# Names that never leave a house or a laboratory (RFC 2606, 6761, 6762, 8375; ICANN's .internal). Any other
# unknown ending is more likely a file that is not there, or no host at all.
_PRIVATE_ENDINGS = frozenset(
    {"test", "example", "invalid", "localhost", "local", "internal", "lan", "home.arpa"}
)


_is_address = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}").fullmatch
_is_name = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?\.)*[a-z0-9](?:[a-z0-9-]*[a-z0-9])?").fullmatch


def _no_host(host: str, url: CanonicalURL, *, typed: bool = False) -> str | None:
    """Why a bare host is none that a person would mean; `url`: what the URL standard makes of it. None: it is one.

    The standard takes `super().call(x)` for a host, and `1.5` for 1.0.0.5. `typed`: by hand, where four numbers are an
    address; in a file those of the form n.n.n.0 are versions.
    """
    name = re.sub(r":\d*$", "", url.split("/")[2]).rstrip(".")
    ending = name.rpartition(".")[2]
    if name.startswith("[") or name in _PRIVATE_ENDINGS:
        return None
    if ending.isdecimal():
        is_address = _is_address(re.sub(r":\d*$", "", host)) is not None
        if is_address and (typed or ending != "0"):
            return None
        return f"no host name{' but perhaps a version' * is_address}; for the address write http://{name}/"
    if "." not in name or _is_name(name) is None:
        return "no host name"
    if ending in _PRIVATE_ENDINGS or _is_public(ending):
        return None
    way_out = f"if it is a host of yours, write https://{_short(host)}"
    return f"no host of the public internet ({_short(ending)!r} is no top-level domain); {way_out}"


@functools.lru_cache(4096)
def _is_public(ending: str) -> bool:
    return suffixes().publicsuffix(f"x.{ending}", accept_unknown=False) is not None


# --------------------------------------------------------------------------------------- lines


def _lines(file: BinaryIO, source: str, skip: int, max_length: int) -> Iterator[Seed]:
    number = 0
    try:
        unpacked = _unpacked(file)
        if unpacked is file and b"\0" in _peek(file, 1):  # of a pipe: files were looked at before
            error = "no text (it has NUL bytes): nothing of it was read"
            yield Seed(source, 1, "", None, reason="damaged", error=error)
            return
        while True:
            number += 1
            raw = unpacked.readline(MAX_LINE + 1)
            if not raw:
                return
            too_long = len(raw) > MAX_LINE and not raw.endswith(b"\n")
            if too_long:
                rest = raw
                while rest and not rest.endswith(b"\n"):
                    rest = unpacked.readline(MAX_LINE)
            if number <= skip:
                continue
            if too_long:
                start = raw[:200].decode("utf-8", "backslashreplace") + "\u2026"
                error = f"a line of over {MAX_LINE} bytes"
                yield Seed(source, number, start, None, reason="too_long", error=error)
                continue
            try:
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            except UnicodeDecodeError as bad:
                start = raw[:_MAX_GIVEN].decode("utf-8", "backslashreplace").strip()[:_MAX_GIVEN]
                error = f"not UTF-8 (byte {bad.start + 1} of the line)"
                yield Seed(source, number, start, None, reason="encoding", error=error)
                continue
            if "\0" in text:
                yield Seed(
                    source, number, _short(text, 200), None, reason="encoding", error="a NUL byte in it"
                )
                continue
            if text and not text.startswith("#"):
                for seed in parse(text, source, number, max_length=max_length):
                    if seed.url is None and number == 1 and _looks_like_names(text):
                        hint = f"; a table? give it with a column: {_short(source)}#NAME"
                        seed = replace(seed, error=f"{seed.error}{hint}")
                    yield seed
    except _DAMAGE as wrong:
        # Not a UsageError: the lines before it are in the crawl by now, and the arguments after it are to be
        # read.
        yield Seed(source, number, "", None, reason="damaged", error=_damage(wrong))


def _cells(file: BinaryIO, column: str, source: str, skip: int, max_length: int) -> Iterator[Seed]:
    """The seeds of one column of a CSV file."""
    line = 1
    try:
        for cell in csvcolumn.cells(_unpacked(file), column):
            line = cell.line
            if line <= skip:
                continue
            if cell.reason is None:
                yield from parse(cell.text, source, line, max_length=max_length)
            else:
                yield Seed(source, line, cell.text, None, reason=cell.reason, error=cell.error)
    except _DAMAGE as wrong:
        yield Seed(source, line + 1, "", None, reason="damaged", error=_damage(wrong))


_DAMAGE: Final = (EOFError, zlib.error, zstd.ZstdError, OSError)
"""What reading a file may raise when it has begun well."""


def _damage(wrong: BaseException) -> str:
    if isinstance(wrong, OSError) and not isinstance(wrong, gzip.BadGzipFile):
        return f"the file cannot be read on ({wrong.strerror or wrong})"
    why = str(wrong).rstrip(".")
    return f"the packed file is damaged or cut short here ({why}); nothing after it was read"


def _looks_like_names(text: str) -> bool:
    """Whether the first line of a file may be that of a table, with the names of its columns."""
    return re.fullmatch(r"[^,;\t:/]+([,;\t][^,;\t:/]+)+", text) is not None


def _unpacked(file: BinaryIO) -> csvcolumn.Lines:
    """`file` as it is or through an unpacker; memory is bounded by the format's window (Zstandard: 128 MiB,
    gzip: 32 KiB), however well the content was packed."""
    magic = _peek(file, 4)[:4]
    if magic.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=file)
    skippable = magic[1:] == b"\x2a\x4d\x18" and magic[0] >> 4 == 5  # what pzstd begins its files with
    if magic == b"\x28\xb5\x2f\xfd" or skippable:
        return cast(csvcolumn.Lines, zstd.ZstdFile(file))
    return file


def _peek(file: BinaryIO, size: int) -> bytes:
    """What can be read next, as far as it is there; waits for the first byte."""
    peek = getattr(file, "peek", None)
    return cast(bytes, peek(size)) if peek is not None else b""


# --------------------------------------------------------------------------------------- a line


# A name with a dot, an address in brackets or localhost, then a port or a path or nothing. `mailto:x` has no
# dot before its colon, `me@example.org` is an address of another kind.
_NAME = r"[^\s/?#:@\\\[\]%]*"
_host_like = re.compile(
    rf"(?P<host>(?:\[[0-9a-f:.]+\]|{_NAME}\.{_NAME}|localhost)(?::[0-9]+)?)(?:[/?#].*)?", re.IGNORECASE
).fullmatch


def _bare_host(text: str) -> str | None:
    """The host, with its port, of a text that starts with one instead of with a scheme."""
    found = _host_like(text)
    return found["host"] if found else None


def is_bare(text: str) -> bool:
    """Whether a text begins with a host instead of with a scheme."""
    return _bare_host(text) is not None


_range = re.compile(r"\[([0-9]+)-([0-9]+)(?::([0-9]+))?\]")


class _BadRange(Exception):
    """Its text is for people."""


def _expanded(text: str) -> Iterator[str]:
    """The texts that `text` with its ranges stands for. _BadRange at once."""
    pieces = _range.split(text)  # text, first, last, step, text, first, ...
    ranges: list[tuple[range, int]] = []
    if len(pieces) // 4 > MAX_RANGES:
        raise _BadRange(f"{len(pieces) // 4} ranges in one URL; {MAX_RANGES} is the most")
    for first, last, step in zip(pieces[1::4], pieces[2::4], pieces[3::4], strict=True):
        if len(first) > 18 or len(last) > 18 or len(step or "") > 18:
            raise _BadRange(f"a number of over 18 digits in [{first}-{last}]"[:200])
        if int(first) > int(last):
            raise _BadRange(f"[{first}-{last}] ends before it begins")
        if step is not None and int(step) == 0:
            raise _BadRange(f"[{first}-{last}:{step}] takes steps of 0")
        width = len(first) if first.startswith("0") else 0
        ranges.append((range(int(first), int(last) + 1, int(step or 1)), width))
    count = math.prod(len(numbers) for numbers, _ in ranges)
    if count > MAX_RANGE:
        raise _BadRange(f"a range of {count} URLs; {MAX_RANGE} is the most")
    return _filled(pieces[0::4], ranges)


def _filled(texts: list[str], ranges: list[tuple[range, int]]) -> Iterator[str]:
    """By hand and not itertools.product, which would hold all numbers of every range."""
    if not ranges:
        yield texts[0]
        return
    numbers, width = ranges[0]
    for number in numbers:
        for rest in _filled(texts[1:], ranges[1:]):
            yield f"{texts[0]}{number:0{width}d}{rest}"


def _in_words(reason: str, text: str, max_length: int) -> str:
    if reason == "empty":
        return "no URL at all"
    if reason == "too_long":
        return f"over {max_length} characters in its canonical form (--max-url-length)"
    if reason == "scheme":
        return f"{_short(text.partition(':')[0])}: is not http or https"
    if reason == "no_host":
        return "a URL without a host"
    if "://" not in text:
        return (
            "neither a URL (no scheme) nor a host name (no dot)"
            if "." not in text
            else "neither a URL nor a host"
        )
    return "not a URL (by the WHATWG standard)"


def _short(text: str, most: int = 100) -> str:
    """For people and for UTF-8 files: bytes of an argument that were none come as surrogates."""
    shown = text.encode("utf-8", "backslashreplace").decode()
    return shown if len(shown) <= most else shown[: most - 1] + "\u2026"
