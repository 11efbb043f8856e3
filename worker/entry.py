"""What the supervisor names as the life of a process, and what it gives it on its way. The rest is imported only in the
child: the parent fetches nothing, and a third of a second of imports for nothing is what people wait for.
"""

from __future__ import annotations

from dataclasses import dataclass
from multiprocessing.connection import Connection

from worker.mark import Memory
from worker.settings import WorkerSettings

Suspect = tuple[bytes, int, int]
"""(session, lease, ordinal): what a process that died was parsing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Birth:
    """One process of those that share their settings."""

    session: bytes
    replaces: tuple[bytes, ...]
    """Sessions of those that died in its place."""
    suspects: tuple[Suspect, ...]
    """Of those."""
    index: int
    """Its place."""
    lifeline: Connection
    """Becomes readable when the parent is gone; a reason to be refused is left there."""
    mark: Memory
    """For worker/mark.py."""


async def run_process(settings: WorkerSettings, birth: Birth) -> int:
    """See worker/app.py."""
    from worker import app

    return await app.run_process(settings, birth)
