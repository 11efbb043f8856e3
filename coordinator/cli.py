"""The command line `coord`: what each command is called, and what its help teaches.

Each command lives in `coordinator/commands/`; options come from `common/config.py`. Commands of later
versions are added here and not named before they exist.
"""

from __future__ import annotations

from collections.abc import Sequence

import click

from common.commandline import Commands, Group, run
from common.version import version


def main(args: Sequence[str] | None = None) -> int:
    """Carry out `coord ARGS`; returns the exit code of the contract."""
    return run(coord, "coord", args)


@click.group(cls=Group)
@click.version_option(version(), prog_name="shoal", message="%(prog)s %(version)s")
def coord() -> None:
    """Shoal, a batch web crawler: say where to begin and where to put it, it does the rest.

    \b
      coord crawl https://example.org/ --out crawl1   one site, on this machine
      coord crawl urls.txt --no-follow --out list1    a list of URLs, nothing else
      coord status crawl1                             how far it is
      coord stop crawl1                               end it; the first goes on

    With more machines: `coord start` here, `worker start` there.

    \b
    Every option, file and exit code: docs/reference.md. Completion in bash
    (zsh_source, fish_source):
      eval "$(_COORD_COMPLETE=bash_source coord)"
    """


coord.commands = Commands(
    {
        "crawl": "coordinator.commands.start:crawl",
        "start": "coordinator.commands.start:start",
        "status": "coordinator.commands.watch:status",
        "stop": "coordinator.commands.steer:stop",
        "pause": "coordinator.commands.steer:pause",
        "resume": "coordinator.commands.steer:resume",
        "add": "coordinator.commands.steer:add",
        "set": "coordinator.commands.steer:set_options",
        "block": "coordinator.commands.steer:block",
        "retry": "coordinator.commands.steer:retry",
        "why": "coordinator.commands.inspect:why",
        "audit": "coordinator.commands.inspect:audit",
        "tail": "coordinator.commands.inspect:tail",
        "export": "coordinator.commands.export:export",
        "init": "coordinator.commands.files:init",
        "key": "coordinator.commands.files:key",
    }
)
