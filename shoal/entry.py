"""Where `coord` and `worker` begin: Shoal's own folder first on the path, then the command line.

`common`, `coordinator` and `worker` are very general names. A user's PYTHONPATH, or the folder they stand in,
may hold packages of the same names, and those would be found first. So the console scripts, `python -m
coordinator` and `python -m worker` all come through here before anything of ours but this file is imported.
Child processes inherit it: multiprocessing's spawn hands `sys.path` on.

Nothing else may be imported here at module level, and nothing is decided here.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator

_INTERRUPTED = 130


def coord() -> None:
    """The console script `coord`; leaves by SystemExit with the exit codes of the contract."""
    _own_folder_first()
    with _quiet_interrupt():
        from coordinator.cli import main

    sys.exit(main())


def worker() -> None:
    """The console script `worker`; leaves by SystemExit with the exit codes of the contract."""
    _own_folder_first()
    with _quiet_interrupt():
        from worker.cli import main

    sys.exit(main())


@contextlib.contextmanager
def _quiet_interrupt() -> Iterator[None]:
    """Ctrl-C while modules are imported ends us at once and without a traceback: nothing has begun. Not where whoever
    started us has it ignored."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, lambda *_: os._exit(_INTERRUPTED))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _own_folder_first() -> None:
    """Put the folder that holds this very `shoal` in front of `sys.path`, once."""
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if sys.path[:1] != [own]:
        sys.path.insert(0, own)
