"""Where `coord` and `worker` begin: Shoal's own folder first on the path, then the command line.

`common`, `coordinator` and `worker` are very general names. A user's PYTHONPATH, or the folder they stand in,
may hold packages of the same names, and those would be found first. So the console scripts, `python -m
coordinator` and `python -m worker` all come through here before anything of ours but this file is imported.
Child processes inherit it: multiprocessing's spawn hands `sys.path` on.

Nothing else may be imported here at module level, and nothing is decided here.
"""

from __future__ import annotations

import os
import sys


def coord() -> None:
    """The console script `coord`; leaves by SystemExit with the exit codes of the contract."""
    _own_folder_first()
    from coordinator.cli import main

    sys.exit(main())


def worker() -> None:
    """The console script `worker`; leaves by SystemExit with the exit codes of the contract."""
    _own_folder_first()
    from worker.cli import main

    sys.exit(main())


def _own_folder_first() -> None:
    """Put the folder that holds this very `shoal` in front of `sys.path`, once."""
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if sys.path[:1] != [own]:
        sys.path.insert(0, own)
