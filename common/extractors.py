"""Extractors as they are named and kept: `FILE.py:FUNCTION`, `package.module:function`, and `[extract.NAME]` tables.

Both sides must agree on them: the coordinator reads the file and keeps its digest, the workers run it. Nothing is run
or imported here. Of a file only its text is looked at: whether it is Python, whether it has the function, and whether
it imports a module of its own folder whose name is Shoal's.

Read next: `worker/extractload.py` (from this to functions), `worker/extractrules.py` (what the tables mean).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple, cast

from common.errors import UsageError
from common.options import quoted

MAX_CODE_BYTES: Final = 256 << 10
"""Of an extractor's file: it travels to each worker process with the configuration, in one message."""

TAKEN: Final = ("common", "coordinator", "worker")
"""Import names that are Shoal's: a module of an extractor's own folder cannot have them."""

KINDS: Final = ("css", "xpath", "re")
"""What a field of a table may begin with, before a colon."""

_SPEC: Final = re.compile(r"(?P<place>.+):(?P<function>[^\W\d]\w*)")
_MODULE: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_MAX_RULES: Final = 100
_MAX_FIELDS: Final = 100
_MAX_TEXT: Final = 4096


class Spec(NamedTuple):
    """What `--extract` names."""

    place: str
    """The path of a file, or the dotted name of a module."""
    function: str

    @property
    def is_file(self) -> bool:
        """Whether `place` is a path."""
        return self.place.endswith(".py")


def parse_spec(text: str) -> Spec:
    """Take `FILE.py:FUNCTION` or `package.module:function` apart. ValueError with prose for anything else."""
    match = _SPEC.fullmatch(text)
    if match is not None and (match["place"].endswith(".py") or _MODULE.fullmatch(match["place"])):
        return Spec(match["place"], match["function"])
    if text.endswith(".py"):
        raise ValueError(f"which function of {text}? write {text}:FUNCTION, such as {text}:parse")
    raise ValueError(f"expected FILE.py:FUNCTION or package.module:function, not {text!r}")


class Code(NamedTuple):
    """An extractor's file as the coordinator read it."""

    file: str
    """Its absolute path there."""
    source: bytes
    digest: str
    """SHA-256 of the source, hex."""


def read_code(path: Path, function: str, where: str) -> Code:
    """Read an extractor's file and look it over. UsageError: it cannot be read, or cannot be an extractor.

    `where`: what names the option in an error.
    """
    try:
        source = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{where}: {path}: {error.strerror}") from None
    if len(source) > MAX_CODE_BYTES:
        raise UsageError(
            f"{where}: {path} has {len(source):,} bytes, at most {MAX_CODE_BYTES:,} travel to workers"
        )
    look_over(source, str(path), function, where)
    return Code(str(path), source, sha256(source).hexdigest())


def look_over(source: bytes, file: str, function: str, where: str) -> None:
    """Refuse with one line what is no Python, lacks the function, or imports a name that is taken."""
    name = Path(file).name
    try:
        tree = ast.parse(source, name)
    except SyntaxError as error:
        raise UsageError(f"{where}: {name} line {error.lineno}: {error.msg}") from None
    except ValueError as error:  # a NUL byte, or no text at all
        raise UsageError(f"{where}: {name} is not Python: {error}") from None
    for taken in TAKEN:
        if taken in set(_imported(tree)) and beside(file, taken):
            raise UsageError(f"{where}: {taken_line(name, taken)}")
    known = set(_names(tree))
    if function not in known and "*" not in known:
        found = ", ".join(sorted(each for each in _functions(tree) if not each.startswith("_"))) or "none"
        raise UsageError(f"{where}: {name} has no function {function!r}; it has: {found}")


def beside(file: str, taken: str) -> bool:
    """Whether a module of a taken name stands beside the file."""
    folder = Path(file).parent
    return (folder / f"{taken}.py").is_file() or (folder / taken).is_dir()


def taken_line(name: str, taken: str) -> str:
    """For people: which name is taken."""
    return f"{name} stands beside a {taken!r} of its own, but that import name is taken by Shoal: rename it"


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def _names(tree: ast.Module) -> Iterator[str]:
    """What the module may define, wherever at its top level; `*` where that cannot be told."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name) for alias in node.names)


def _functions(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name


# ------------------------------------------------------------------------------------------------------------ tables


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a table: where its value stands. `many`: a list of all that is found, by each selector."""

    name: str
    selectors: tuple[str, ...]
    many: bool


@dataclass(frozen=True, slots=True)
class ExtractRule:
    """One `[extract.NAME]` table: items without code."""

    name: str
    """Also of the items: items/NAME."""
    fields: tuple[Field, ...]
    match: str | None = None
    """Regular expression, searched in the canonical URL; None: every page."""
    each: str | None = None
    """Selector of the elements that are an item each; None: the page is one."""

    def to_wire(self) -> list[object]:
        """For WELCOME."""
        return [
            self.name,
            self.match,
            self.each,
            [[field.name, list(field.selectors), field.many] for field in self.fields],
        ]

    def to_toml(self) -> list[str]:
        """As lines of crawl.toml."""
        lines = [f"[extract.{_key(self.name)}]"]
        if self.match is not None:
            lines.append(f"match = {quoted(self.match)}")
        if self.each is not None:
            lines.append(f"each = {quoted(self.each)}")
        for field in self.fields:
            texts = [quoted(selector) for selector in field.selectors]
            lines.append(f"{_key(field.name)} = {'[' + ', '.join(texts) + ']' if field.many else texts[0]}")
        return lines


def parse_rules(tables: Mapping[str, object]) -> tuple[ExtractRule, ...]:
    """The rules that TOML gave, by name. ValueError with prose, which names the table."""
    if len(tables) > _MAX_RULES:
        raise ValueError(f"[extract]: {len(tables)} tables, at most {_MAX_RULES}")
    return tuple(_rule(name, table) for name, table in tables.items())


def rules_from_wire(wire: object) -> tuple[ExtractRule, ...]:
    """The inverse of `to_wire`, for a list of them. ValueError for anything else."""
    if not isinstance(wire, list | tuple) or len(wire) > _MAX_RULES:
        raise ValueError("extractors: no list of them")
    tables: dict[str, object] = {}
    for row in wire:
        if not isinstance(row, list | tuple) or len(row) != 4 or not isinstance(row[3], list | tuple):
            raise ValueError("extractors: expected rows of 4")
        name, match, each, fields = row
        table: dict[str, object] = {}
        if match is not None:
            table["match"] = match
        if each is not None:
            table["each"] = each
        for field in fields:
            if (
                not isinstance(field, list | tuple)
                or len(field) != 3
                or not isinstance(field[1], list | tuple)
            ):
                raise ValueError("extractors: expected fields of 3")
            table[str(field[0])] = list(field[1]) if field[2] else (field[1] or [None])[0]
        tables[str(name)] = table
    return parse_rules(tables)


def code_from_wire(wire: object) -> Code | None:
    """A file as the coordinator sent it. ValueError for anything else, and where digest and source do not agree."""
    if wire is None:
        return None
    if not isinstance(wire, list | tuple) or len(wire) != 3:
        raise ValueError("code: expected a row of 3")
    file, source, digest = wire
    if not isinstance(file, str) or not isinstance(source, bytes) or len(source) > MAX_CODE_BYTES:
        raise ValueError("code: no file")
    if digest != sha256(source).hexdigest():
        raise ValueError("code: the digest is of another file")
    return Code(file, source, cast("str", digest))


def _rule(name: str, table: object) -> ExtractRule:
    where = f"[extract.{name}]"
    if not _NAME.fullmatch(name):
        raise ValueError(f"{where}: a name has letters, digits, '_', '-' and '.', at most 64 of them")
    if not isinstance(table, Mapping):
        raise ValueError(f'[extract]: {name} is no table: write {where}, or function = "FILE.py:FUNCTION"')
    match = each = None
    fields: list[Field] = []
    for key, value in table.items():
        if key == "match":
            match = _text(value, f"{where} match")
            try:
                re.compile(match)
            except re.error as error:
                raise ValueError(f"{where} match: not a regular expression: {error}") from None
        elif key == "each":
            each = _text(value, f"{where} each")
            if each.startswith("re:"):
                raise ValueError(f"{where} each: elements are found by css: or xpath:")
        else:
            fields.append(_field(str(key), value, where))
    if not fields:
        raise ValueError(f'{where} has no fields: write one, such as title = "css:h1"')
    if len(fields) > _MAX_FIELDS:
        raise ValueError(f"{where} has {len(fields)} fields, at most {_MAX_FIELDS}")
    return ExtractRule(name, tuple(fields), match, each)


def _field(name: str, value: object, where: str) -> Field:
    many = isinstance(value, list | tuple)
    texts = list(cast("list[object]", value)) if many else [value]
    selectors = tuple(_text(text, f"{where} {name}") for text in texts)
    if not selectors:
        raise ValueError(f"{where} {name}: an empty list finds nothing")
    for selector in selectors:
        kind, colon, expression = selector.partition(":")
        if not colon or kind not in KINDS or not expression.strip():
            raise ValueError(f'{where} {name}: expected "css:...", "xpath:..." or "re:...", not {selector!r}')
        if kind == "re":
            try:
                re.compile(expression)
            except re.error as error:
                raise ValueError(f"{where} {name}: not a regular expression: {error}") from None
    return Field(name, selectors, many)


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > _MAX_TEXT:
        raise ValueError(f"{where}: expected text, not {str(value)[:60]!r}")
    return value


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else quoted(name)
