"""Seeds: what a person typed after `coord start`, `crawl` or `add`, read as a stream of URLs.

An argument is, the first that fits: `-` (standard input), an existing file, an existing CSV file with one of
its columns (`firms.csv#website`), or the text of a seed. A line of a file or of standard input, and a cell of a
column, is such a text, too.

A file may be packed with gzip or Zstandard, told by its first bytes, not by its name. It has one seed a line;
blank lines and lines that begin with `#` count as lines and give nothing. No more than one line is held in
memory, of a CSV file one row.

What is wrong with an argument is a UsageError, raised by `read` before the first seed, so that nothing is
half done; so is a file that holds something else than seeds, by its first lines. What is wrong with a line is a
Seed without a URL: it is told, counted and skipped. It does not decide whether a seed is new, nor look at scope;
http instead of https for a bare host is tried by whoever fetches it.

Read next: seedtext.py (what one text means), csvcolumn.py (rows and cells), intake.py (who asks for them).
"""

from __future__ import annotations

import gzip
import io
import itertools
import os
import re
import stat
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final, cast

from common.errors import UsageError
from common.masking import masked_url
from common.nearest import closest
from common.url import MAX_LENGTH
from coordinator import csvcolumn
from coordinator.seedtext import COMMAND_LINE, MAX_GIVEN, Seed, bare_host, no_host, parse, short

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAX_LINE: Final = 65536
"""Bytes of a line. Longer ones are skipped without being held; no URL we fetch comes near."""

FIRST_LINES: Final = 100
"""Lines of a file that are looked at before any is admitted: does it hold seeds?"""

_FIRST_BYTES = 1 << 16
_FEW_LINES = 20  # with fewer, a file of bad lines only is small enough to be told line by line
_NEARLY_ALL = 0.9
_MAX_NEIGHBOURS = 10_000  # files looked at for "did you mean"


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
            f"{short(argument)} is a directory; name the files in it that hold seeds, one URL a line"
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
            raise UsageError(f"{short(path)}: {wrong}") from None
        except _DAMAGE as wrong:
            raise UsageError(f"{short(path)}: {_damage(wrong)}") from None


def _refuse_utf16(path: str, begin: bytes) -> None:
    if begin in (b"\xff\xfe", b"\xfe\xff"):
        raise UsageError(f"{short(path)} is in UTF-16; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)")


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
            f"{short(path)} is no text (it has NUL bytes): seeds are lines of URLs, or a CSV file"
        )
    head.seek(0)
    return head


def _refuse_other(argument: str, seeds: Iterator[Seed]) -> None:
    """UsageError where nearly all of the first lines are bad: of whatever it is, some may pass for hosts."""
    read = list(itertools.islice(seeds, FIRST_LINES))
    bad = [seed for seed in read if seed.url is None]
    if len(read) >= _FEW_LINES and len(bad) >= _NEARLY_ALL * len(read):
        raise UsageError(
            f"{short(argument)} does not look like seeds: of its first {len(read)} lines {len(bad)} are no URLs"
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
        raise UsageError(f"{short(path)}: cannot be read ({wrong.strerror or wrong})") from None


def _check_text(argument: str, position: int, max_length: int) -> None:
    text = argument.strip()
    first = next(parse(text, COMMAND_LINE, position, max_length=max_length))
    if first.url is not None:
        host = None if first.kind == "sitemap" else bare_host(text)
        wrong = None if host is None else no_host(host, first.url, typed=True)
        if wrong is None:
            return
        why, _, advice = wrong.partition("; ")
        way_out = f"; {advice}" * bool(advice)
    elif first.reason in ("range", "too_long") or re.match(r"(?i)\s*(sitemap:|[a-z][a-z0-9+.-]*://)", text):
        raise UsageError(f"{short(argument)}: {first.error}")
    else:
        why = "no bare host (a host name has a dot in it)" if "." not in text else "no bare host"
        way_out = "; give a file, https://..., sitemap:https://..., a host name, or -"
    meant = _neighbour(argument)
    raise UsageError(
        f"{short(argument)}: no such file, no URL (it has no scheme), {why}"
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
                start = raw[:MAX_GIVEN].decode("utf-8", "backslashreplace").strip()[:MAX_GIVEN]
                error = f"not UTF-8 (byte {bad.start + 1} of the line)"
                yield Seed(source, number, start, None, reason="encoding", error=error)
                continue
            if "\0" in text:
                yield Seed(
                    source, number, short(text, 200), None, reason="encoding", error="a NUL byte in it"
                )
                continue
            if text and not text.startswith("#"):
                for seed in parse(text, source, number, max_length=max_length):
                    if seed.url is None and number == 1 and _looks_like_names(text):
                        hint = f"; a table? give it with a column: {short(source)}#NAME"
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
