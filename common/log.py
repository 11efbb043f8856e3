"""Log lines: an event with its fields, as text for people or as JSON, to standard error and to a rotated
file.

    log = get_logger("coordinator.leases")
    log.info("lease.expired", lease="1:81", host="a.test", held_s=30.2)

What is said when: ERROR somebody must act; WARNING the crawl lost something; INFO milestones; DEBUG
everything, and only there a line per URL. A call below the level costs one comparison (0.3 µs). What the web
sent is never trusted: control characters in values are escaped, so that a title cannot write a line or move
the cursor.

A log that cannot be written never stops a crawl: the line is dropped. One process, one file: two never share
one. No library carries the fields: a dict does, and every command starts 70 ms of CPU sooner (ADR 0026).
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from common import clock

DEBUG, INFO, WARNING, ERROR = logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR

KEPT_FILES = 4
"""Closed log files beside the one being written."""

_VALUE_CHARACTERS = 2000
"""Longest text of one field; tracebacks are not cut."""

_NUMBERS = {"debug": DEBUG, "info": INFO, "warning": WARNING, "error": ERROR}

# C0, DEL and C1 move cursors; line and paragraph separators end lines; the bidirectional marks reorder what
# is read.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_PLAIN = re.compile(r"[^\s\"'=\x00-\x1f\x7f-\x9f]+")


class Log:
    """A named source of log lines; get one with `get_logger`."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[str, object]) -> None:
        self._fields = fields

    def debug(self, event: str, **fields: object) -> None:
        if _outputs.level <= DEBUG:
            self._say("debug", event, fields)

    def info(self, event: str, **fields: object) -> None:
        if _outputs.level <= INFO:
            self._say("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        if _outputs.level <= WARNING:
            self._say("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        """`exc_info`: an exception, or True for the one that is being dealt with; its traceback comes along."""
        if _outputs.level <= ERROR:
            self._say("error", event, fields)

    def exception(self, event: str, **fields: object) -> None:
        """An error with the traceback of the exception that is being dealt with."""
        self.error(event, exc_info=True, **fields)

    def enabled(self, level: int) -> bool:
        """Whether a line of this level goes anywhere: ask before fields are made that cost something."""
        return _outputs.level <= level

    def _say(self, level: str, event: str, fields: Mapping[str, object]) -> None:
        line: dict[str, object] = {**self._fields, **fields, "event": event}
        error = line.pop("exc_info", None)
        if error:
            error = error if isinstance(error, BaseException) else sys.exception()
        if isinstance(error, BaseException):
            line["exception"] = "".join(traceback.format_exception(error)).rstrip("\n")
        _outputs.emit(line | {"level": level, "time": clock.rfc3339(clock.wall())})


def get_logger(name: str, **fields: object) -> Log:
    """A logger; `name` (`coordinator.leases`) and the fields stand on each of its lines."""
    return Log({"logger": name, **fields})


def level_for(quiet: bool, verbose: int) -> int:
    """The level of standard error for -q and the number of -v."""
    if quiet:
        return ERROR
    return (WARNING, INFO, DEBUG)[min(verbose, 2)]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """Where lines go."""

    level: int = WARNING
    """Of standard error."""
    form: str = "text"
    """`text` or `json`, for both."""
    file: Path | None = None
    """Also to this one."""
    file_level: int = INFO
    rotate_bytes: int = 64 << 20
    """Size at which the file becomes `NAME.1` and a new one is begun."""


def set_up_log(settings: LogSettings) -> None:
    """Say where lines go from now on; in force for all loggers at once, also those made earlier.

    Raises `OSError` if the file cannot be opened. Warnings of libraries come along.
    """
    _outputs.close()
    render = _as_json if settings.form == "json" else _as_text
    # A person at a terminal gets a line; tracebacks are for the file and for those who asked with -v.
    outputs = [_Output(settings.level, render, _to_stderr, tracebacks=settings.level <= INFO)]
    if settings.file is not None:
        _outputs.file = RotatedFile(settings.file, settings.rotate_bytes)
        outputs.append(_Output(settings.file_level, render, _outputs.file.write, tracebacks=True))
    _outputs.all = tuple(outputs)
    _outputs.level = min(output.level for output in outputs)
    root = logging.getLogger()
    root.handlers[:] = [_FromLibraries(WARNING)]
    logging.captureWarnings(True)


class RotatedFile:
    """A text file that is renamed to `NAME.1` (and that to `NAME.2`, ...) when it has grown to `limit`
    bytes."""

    def __init__(self, path: Path, limit: int) -> None:
        self._path = path
        self._limit = limit
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file, self._length = self._open()

    def write(self, line: str) -> None:
        """Append a line; raises `OSError`."""
        if self._length > self._limit:
            self._rotate()
        self._file.write(line)
        self._length += len(line)  # characters, near enough to bytes for a bound

    def close(self) -> None:
        self._file.close()

    def _open(self) -> tuple[TextIO, int]:
        # Line-buffered: what was said before a kill -9 is there to be read.
        file = self._path.open("a", encoding="utf-8", errors="backslashreplace", buffering=1)
        return file, os.fstat(file.fileno()).st_size

    def _rotate(self) -> None:
        self._file.close()
        for number in range(KEPT_FILES - 1, 0, -1):
            older = self._numbered(number)
            if older.exists():
                older.replace(self._numbered(number + 1))
        self._path.replace(self._numbered(1))
        self._file, self._length = self._open()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


def escaped(text: str) -> str:
    """Text with its control characters made visible: safe for a terminal and for a line of a log."""
    return _CONTROLS.sub(_escape, text)


def escaped_json(text: str) -> str:
    """As `escaped`, for a line of JSON: what it shows is still the same JSON."""
    return _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


# -- within


@dataclass(frozen=True, slots=True)
class _Output:
    level: int
    render: Callable[[Mapping[str, object]], str]
    write: Callable[[str], None]
    tracebacks: bool
    """Or only the last line of one."""


class _Outputs:
    """Where lines go. One for the process: a log is the one thing that everything may reach."""

    def __init__(self) -> None:
        self.all: tuple[_Output, ...] = (_Output(WARNING, _as_text, _to_stderr, tracebacks=False),)
        self.level = WARNING
        self.file: RotatedFile | None = None

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None

    def emit(self, line: Mapping[str, object]) -> None:
        number = _NUMBERS[str(line["level"])]
        for output in self.all:
            if number >= output.level:
                try:
                    shown = line if output.tracebacks else _without_traceback(line)
                    output.write(output.render(shown) + "\n")
                except (OSError, ValueError):  # disk full, pipe gone, file closed
                    pass


class _FromLibraries(logging.Handler):
    """Lines of libraries that use Python's own logging."""

    def emit(self, record: logging.LogRecord) -> None:
        level = next(
            (name for name, number in reversed(_NUMBERS.items()) if record.levelno >= number), "debug"
        )
        line: dict[str, object] = {
            "time": clock.rfc3339(record.created),
            "level": level,
            "event": record.getMessage(),
            "logger": record.name,
        }
        if record.exc_info:
            line["exception"] = logging.Formatter().formatException(record.exc_info)
        _outputs.emit(line)


def _without_traceback(line: Mapping[str, object]) -> Mapping[str, object]:
    if "exception" not in line:
        return line
    fields = dict(line)
    # Of a group of exceptions the innermost line that names one is the news; frames are indented or drawn.
    rows = [row.strip(" |+-") for row in str(fields.pop("exception")).splitlines()]
    named = [
        row for row in rows if re.match(r"[\w.]+(Error|Exception|Warning|Exit|Interrupt|Full|URL)?: ", row)
    ]
    return fields | {"error": named[-1] if named else rows[-1] if rows else ""}


def _as_text(line: Mapping[str, object]) -> str:
    fields = dict(line)
    time, level, event = (fields.pop(key) for key in ("time", "level", "event"))
    exception = fields.pop("exception", None)
    fields.pop("logger", None)
    shown = [str(time), f"{level!s:<7}", escaped(str(event))]
    shown += [f"{name}={_field(value)}" for name, value in fields.items()]
    text = " ".join(shown)
    if exception is not None:
        text += "".join(f"\n  | {escaped(row)}" for row in str(exception).splitlines())
    return text


def _as_json(line: Mapping[str, object]) -> str:
    ordered = {key: line[key] for key in ("time", "level", "event") if key in line} | dict(line)
    # ASCII only: no control character and no direction mark of the web reaches a terminal.
    return json.dumps(ordered, default=str)


def _field(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    if len(text) > _VALUE_CHARACTERS:
        text = f"{text[:_VALUE_CHARACTERS]}… ({len(text)} characters)"
    if _PLAIN.fullmatch(text):
        return escaped(text)
    return '"' + escaped(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return {9: "\\t", 10: "\\n", 13: "\\r"}.get(code) or (
        f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
    )


def _to_stderr(line: str) -> None:
    # Looked up each time: a progress bar puts its own stream there, so that lines appear above it.
    sys.stderr.write(line)


_outputs = _Outputs()
