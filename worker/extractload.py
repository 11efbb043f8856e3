"""From what names an extractor to its functions: a file that came with the configuration, or a module that is here.

Code that came over the wire runs only where its owner said so; without that word the module must be importable here
under the file's own name. A file is run under a name of its own, `shoal_extractor_STEM`, so that it shadows nothing;
where it lies on this machine, unchanged, its folder goes to the end of the path, for what it imports beside it.

Every way to fail is one UsageError line; a traceback of the author's own code goes into the log.
"""

from __future__ import annotations

import importlib
import importlib.util
import linecache
import sys
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from common.config import CrawlConfig
from common.errors import UsageError
from common.extractors import TAKEN, Code, beside, parse_spec, taken_line
from common.log import get_logger

log = get_logger("worker.extract")


def load_functions(
    config: CrawlConfig, *, allow_code: bool
) -> tuple[str, Mapping[str, Callable[..., Any]]] | None:
    """(name of the first function, all functions of its module by name); None: the crawl has no function.

    `allow_code`: whether a file that the coordinator sent may be run here. Raises UsageError.
    """
    if config.extract is None:
        return None
    try:
        spec = parse_spec(config.extract)
    except ValueError as error:
        raise UsageError(f"--extract: {error}") from None
    if not spec.is_file:
        module = _imported(spec.place)
        place = spec.place
    elif config.code is None:
        raise UsageError(f"--extract {spec.place}: the file did not come with the configuration")
    else:
        place = Path(spec.place).name
        module = _run(config.code) if allow_code else _found_here(config.code)
        log.info("extractor.loaded", file=spec.place, sha256=config.code.digest, function=spec.function)
    functions = {name: value for name, value in vars(module).items() if callable(value)}
    if spec.function not in functions:
        raise UsageError(f"--extract: {place} has no function {spec.function!r}")
    return spec.function, functions


def _run(code: Code) -> ModuleType:
    """The module that a file makes, run now."""
    path = Path(code.file)
    name = f"shoal_extractor_{path.stem}"
    module = ModuleType(name)
    module.__file__ = code.file
    text = code.source.decode("utf-8", "replace")
    # So that a traceback shows the lines, on a machine that has no such file as well.
    linecache.cache[code.file] = (len(text), None, text.splitlines(keepends=True), code.file)
    if _is_here(code) and str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    before = sys.modules.get(name)
    sys.modules[name] = module  # dataclasses and pydantic look their own module up
    try:
        exec(compile(code.source, code.file, "exec"), vars(module))
    except Exception as error:  # noqa: BLE001  whatever the author's module raises is one line here
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
        raise _failed(path.name, error, code) from None
    return module


def _is_here(code: Code) -> bool:
    try:
        return sha256(Path(code.file).read_bytes()).hexdigest() == code.digest
    except OSError:
        return False


def _found_here(code: Code) -> ModuleType:
    """The module of that name on this machine, if there is one."""
    stem = Path(code.file).stem
    spec = None
    if stem.isidentifier() and stem not in TAKEN:
        try:
            spec = importlib.util.find_spec(stem)
        except (ImportError, ValueError):
            spec = None
    if spec is None:
        raise UsageError(
            f"the crawl extracts with {Path(code.file).name}, which its coordinator sends: start this worker with "
            f"--allow-code to run it, or install a module {stem!r} here"
        )
    module = _imported(stem)
    origin = spec.origin
    if origin is not None and Path(origin).is_file():
        here = sha256(Path(origin).read_bytes()).hexdigest()
        if here != code.digest:
            log.warning("extractor.differs", file=origin, sha256=here, coordinators=code.digest)
    return module


def _imported(name: str) -> ModuleType:
    top = name.partition(".")[0]
    if top in TAKEN:
        raise UsageError(f"--extract {name}: the import name {top!r} is taken by Shoal: rename the package")
    try:
        return importlib.import_module(name)
    except Exception as error:  # noqa: BLE001  as above
        raise _failed(name, error, None) from None


def _failed(name: str, error: Exception, code: Code | None) -> UsageError:
    """One line for a module that could not be run; the log has the rest."""
    log.warning("extractor.failed", module=name, exc_info=error)
    text = " ".join(str(error).split())
    if isinstance(error, ImportError) and code is not None:
        top = (error.name or "").partition(".")[0]
        if top in TAKEN and beside(code.file, top):
            return UsageError(f"--extract: {taken_line(name, top)}")
    line = _line_in(error, name if code is None else code.file)
    where = f"{name}{f' line {line}' if line else ''}"
    return UsageError(f"--extract: {where}: {type(error).__name__}: {text[:300]}")


def _line_in(error: Exception, file: str) -> int | None:
    """The last line of the file itself in the traceback."""
    found, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            found = trace.tb_lineno
        trace = trace.tb_next
    return error.lineno if isinstance(error, SyntaxError) else found
