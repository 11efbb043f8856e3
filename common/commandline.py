"""What both command lines share: options made from the configuration, errors in one line, exit codes.

Click parses; values stay text until `common.configfile.load` reads them, so that a flag, a variable and a
line of a file are judged by the same words. Help lists options in the groups of `common/config.py`.

Exit codes: 0 done; 1 a person must look; 2 usage or configuration; 3 stopped before the end; 130 Ctrl-C.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from importlib import import_module
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from common.config import OPTIONS, CrawlConfig
from common.errors import ShoalError, UsageError
from common.log import escaped
from common.options import Option
from common.processors import processors

F = TypeVar("F", bound=Callable[..., Any])

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}

ELSEWHERE = {
    "help": "--help",
    "version": "--version",
    "-v": "--version",
    "-V": "--version",
    "run": "crawl",
    "fetch": "crawl",
    "get": "crawl",
    "spider": "crawl",
    "kill": "stop",
    "end": "stop",
    "continue": "resume",
    "log": "tail",
    "logs": "tail",
    "show": "status",
    "info": "status",
    "check": "audit",
    "verify": "audit",
    "dump": "export",
    "-o": "--out",
    "--directory-prefix": "--out",
    "--threads": "--procs",
    "--workers": "--procs",
    "--jobs": "--procs",
    "--processes": "--procs",
    "--wait": "--delay",
    "--limit": "--max-pages",
    "--quota": "--max-total-bytes",
    "--level": "--max-depth",
    "--agent": "--user-agent",
    "--dry": "--dry-run",
    "--page-requisites": "--media",
    "--no-parent": "--scope",
    "--input-file": "SEED",
}
"""What other programs call it, and what it is called here: for \"did you mean\"."""

_SENTENCE = 500
"""Characters of a command's first sentence; click would cut it to fit one line."""

_COUNTED = "-v"
_PLACES = "Places and processes"
_ALONE = "Options"
"""Heading where a command has no options of the configuration."""


def run(command: click.Command, name: str, args: Sequence[str] | None = None) -> int:
    """Carry out a command line and return its exit code; whatever goes wrong is one line on standard
    error."""
    given = list(sys.argv[1:] if args is None else args)
    if sys.stdout is None:  # closed by whoever started us: `coord status crawl1 >&-`
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  for as long as we live
    try:
        code = command.main(args=given, prog_name=name, standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except (click.Abort, KeyboardInterrupt):
        return 130
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 2
    except click.ClickException as error:
        return _tell(name, _in_prose(error), 2)
    except UsageError as error:
        return _tell(name, str(error), 2)
    except ShoalError as error:
        return _tell(name, str(error), 1)
    except BrokenPipeError:
        _forget_output()
        return 0  # `coord status | head`: whoever read has what they wanted
    except SystemExit as leaving:
        # Click leaves so when a pipe broke; it has no other reason to here.
        _forget_output()
        return 0 if leaving.code == 1 else int(leaving.code or 0)
    except Exception as error:  # noqa: BLE001  the last line of defence: one line, not a traceback
        if any(re.fullmatch(r"-[a-z]*v[a-z]*|--verbose", part) for part in given):
            traceback.print_exc()
            return _tell(name, f"unexpected {type(error).__name__}: {error}", 1)
        return _tell(name, f"unexpected {type(error).__name__}: {error} (run with -v for the traceback)", 1)


class Group(click.Group):
    """A command with subcommands: alone it shows its help; a misspelt one is told the nearest."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, context_settings=CONTEXT, **kwargs)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order of a crawl's life, not of the alphabet

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [
            (name, of.get_short_help_str(_SENTENCE)) for name, of in self.commands.items() if not of.hidden
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)  # in whole sentences, on several lines where they must


class Commands(MutableMapping[str, click.Command]):
    """A group's commands by name, each imported when it is asked for: nobody waits for what other commands need."""

    def __init__(self, places: Mapping[str, str]) -> None:
        """`places`: `package.module:name` of each command, in the order in which they are listed."""
        self._commands: dict[str, click.Command | str] = {**places}

    def __getitem__(self, name: str) -> click.Command:
        found = self._commands[name]
        if isinstance(found, str):
            module, _, command = found.partition(":")
            found = self._commands[name] = getattr(import_module(module), command)
            assert isinstance(found, click.Command)
        return found

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._commands[name] = command

    def __delitem__(self, name: str) -> None:
        del self._commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._commands)

    def __len__(self) -> int:
        return len(self._commands)

    def __contains__(self, name: object) -> bool:
        return name in self._commands


class Command(click.Command):
    """A command whose help shows its options in groups, and whose text keeps its lines."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("context_settings", CONTEXT)
        super().__init__(*args, **kwargs)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # `--allow-private URL` must not swallow the URL: its value comes with "=" or not at all.
        bare = {
            flag: param.bare
            for param in self.params
            if isinstance(param, Flag) and param.bare is not None
            for flag in param.opts
        }
        end = args.index("--") if "--" in args else len(args)
        given = [
            f"{arg}={bare[arg]}" if place < end and arg in bare else arg for place, arg in enumerate(args)
        ]
        return super().parse_args(ctx, given)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {_PLACES: []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and isinstance(param, click.Option):
                groups.setdefault(getattr(param, "group", _PLACES), []).append(record)
        if len(groups) == 1:
            groups = {_ALONE: groups[_PLACES]}
        for group, records in groups.items():
            if records:
                with formatter.section(group):
                    formatter.write_dl(records)


class Flag(click.Option):
    """An option of the configuration as a flag."""

    def __init__(self, decls: Sequence[str], group: str, bare: str | None, **attrs: Any) -> None:
        super().__init__(decls, **attrs)
        self.group = group
        self.bare = bare

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        record = super().get_help_record(ctx)
        if record is None or self.bare is None:
            return record
        return record[0].replace(f" {self.metavar}", f"[={self.metavar}]"), record[1]


class Value(click.ParamType):  # type: ignore[type-arg]  # generic only in the newest click
    """Text that is judged later; knows its choices for the shell's completion."""

    def __init__(self, name: str, choices: tuple[str, ...] = (), *, path: bool = False) -> None:
        self.name = name
        self._choices = choices
        self._path = path

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        if self._path:
            return [CompletionItem(incomplete, type="file")]
        before, comma, last = incomplete.rpartition(",")
        return [
            CompletionItem(before + comma + choice) for choice in self._choices if choice.startswith(last)
        ]


def config_options(names: Iterable[str] = tuple(OPTIONS)) -> Callable[[F], F]:
    """A decorator that gives a command the flags of these options; they arrive under their keys, None if not
    given."""

    def decorate(function: F) -> F:
        # A list even when the command has been made already; click reads it backwards.
        params = function.__dict__.setdefault("__click_params__", [])
        flags = [_flag(name, OPTIONS[name]) for name in names if OPTIONS[name].flags != ""]
        params.extend(reversed(flags))
        return function

    return decorate


def given_options(values: dict[str, Any]) -> dict[str, Any]:
    """Of a command's arguments those that are options of the configuration and were given."""
    return {
        name: value
        for name, value in values.items()
        if name in OPTIONS and value not in (None, ()) and not (name == "verbose" and not value)
    }


def process_count(text: str | None) -> int:
    """The N of `--procs N`; without one, the processors this process may use."""
    if text is None:
        return processors()
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise UsageError(f"--procs {text}: expected a number of processes, such as --procs {processors()}")
    return int(text)


def say(name: str, text: str) -> None:
    """A line for people on standard error; what may have come from elsewhere cannot move the cursor."""
    try:
        sys.stderr.write(f"{name}: {escaped(text)}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass  # nobody is there to read it


def _flag(name: str, of: Option) -> Flag:
    long = "--" + name.replace("_", "-")
    attrs: dict[str, Any] = {"default": None, "help": _help(name, of)}
    if of.flags == _COUNTED:
        decls = [of.flags, long, name]
        attrs |= {"count": True, "default": 0}
    elif of.kind.switch:
        decls = [*(of.flags or long).split(" "), *([long] if of.flags and "--" not in of.flags else []), name]
        attrs["is_flag"] = True
        if "/" not in (of.flags or ""):
            attrs |= {"flag_value": True, "type": click.BOOL}
    else:
        decls = [of.flags or long, name]
        attrs |= {
            "metavar": of.kind.metavar,
            "multiple": of.kind.many,
            "type": Value(of.kind.name, of.kind.choices, path=of.kind.metavar == "FILE"),
        }
    return Flag(decls, of.group, of.bare, **attrs)


def _help(name: str, of: Option) -> str:
    default = getattr(CrawlConfig(), name)
    if of.kind.switch or default is None or default == () or of.flags == _COUNTED:
        return of.help
    shown = ",".join(default) if isinstance(default, tuple) else of.to_toml(default).strip('"')
    unit = " s" if of.kind.name == "time" else ""
    return f"{of.help} [default: {shown}{unit}]"


def _in_prose(error: click.ClickException) -> str:
    text = " ".join(error.format_message().split())
    near = getattr(error, "possibilities", None)
    wrong = _unknown(error)
    if wrong is not None:
        noun = "option" if wrong.startswith("-") else "command"
        meant = ELSEWHERE.get(wrong) or (near[0] if near else None)
        if "://" in wrong or os.path.isfile(wrong):
            text = f"no such command: {wrong}; did you mean `coord crawl {wrong} --out DIR`?"
        elif meant is not None:
            text = f"no such {noun}: {wrong}; did you mean {meant}?"
    where = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx is not None else ""
    text = text.rstrip(".") if not text.endswith("?") else text
    return f"{text[:1].lower()}{text[1:]}" + (f" (see `{where} --help`)" if where else "")


def _unknown(error: click.ClickException) -> str | None:
    """The option or command that is none; None if that is not what is wrong."""
    if isinstance(error, click.exceptions.NoSuchOption):
        return error.option_name
    named = getattr(error, "command_name", None)  # the newest click has a class for it
    if isinstance(named, str):
        return named
    found = re.fullmatch(r"No such command '(.+)'\.?", error.format_message())
    return None if found is None else found[1]


def _tell(name: str, text: str, code: int) -> int:
    say(name, text)
    return code


def _forget_output() -> None:
    """Point standard output nowhere, so that Python's last flush does not complain about the broken pipe."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        pass
