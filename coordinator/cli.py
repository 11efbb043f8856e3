"""The command line `coord`: what each command is called, and what its help teaches.

Each command lives in `coordinator/commands/`; options come from `common/config.py`. Commands of later
versions are added here and not named before they exist.
"""

from __future__ import annotations

from collections.abc import Sequence

import click

from common.commandline import Group, run
from common.config import version
from coordinator.commands.export import export
from coordinator.commands.files import init, key
from coordinator.commands.inspect import audit, tail, why
from coordinator.commands.start import crawl, start
from coordinator.commands.steer import add, block, pause, resume, retry, set_options, stop
from coordinator.commands.watch import status


def main(args: Sequence[str] | None = None) -> int:
    """Carry out `coord ARGS`; returns the exit code of the contract."""
    return run(coord, "coord", args)


@click.group(cls=Group)
@click.version_option(version(), prog_name="shoal", message="%(prog)s %(version)s")
def coord() -> None:
    """Shoal, a batch web crawler: say where to begin and where to put it, it does the rest.

    \b
      coord crawl https://example.org/ --out crawl1      one site, on this machine
      coord crawl urls.txt --no-follow --out list1       a list of URLs, and nothing else
      coord status crawl1                                how far it is
      coord stop crawl1                                  end it; the first command goes on

    With more machines: `coord start` here, `worker start` there.

    \b
    Every option, file and exit code: docs/reference.md. Completion in bash (zsh_source, fish_source):
      eval "$(_COORD_COMPLETE=bash_source coord)"
    """


for _command in (crawl, start, status, stop, pause, resume, add, set_options, block, retry):
    coord.add_command(_command)
for _command in (why, audit, tail, export, init, key):
    coord.add_command(_command)
