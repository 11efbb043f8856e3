"""What the supervisor names as the life of a process. It imports the rest only in the child: the parent fetches
nothing, and a third of a second of imports for nothing is what people wait for.
"""

from __future__ import annotations

from multiprocessing.connection import Connection

from worker.settings import WorkerSettings


async def run_process(
    settings: WorkerSettings, session: bytes, replaces: tuple[bytes, ...], index: int, lifeline: Connection
) -> int:
    """See worker/app.py."""
    from worker import app

    return await app.run_process(settings, session, replaces, index, lifeline)
