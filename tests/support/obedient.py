"""A worker process that does what a test tells it, over a Unix socket whose path is `settings.coord`.

It says who it is in one line of JSON; then it is told `exit N`, `raise`, `deafen` (SIGTERM is heard, said,
and not obeyed) or `freeze` (the event loop stands still). The end of the connection is the end of the
process, so a test waits for what happens and never sleeps. As a module it is the parent: `-m
tests.support.obedient SOCKET PROCS [--lock FILE] [--lifeline FD]`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path

from worker.entry import Birth
from worker.mark import Mark
from worker.settings import WorkerSettings


async def obey(settings: WorkerSettings, birth: Birth) -> int:
    """The target; see above."""
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
    reader, writer = await asyncio.open_unix_connection(settings.coord)
    hello = {
        "index": birth.index,
        "session": birth.session.hex(),
        "replaces": [one.hex() for one in birth.replaces],
        "suspects": [[session.hex(), lease, ordinal] for session, lease, ordinal in birth.suspects],
        "pid": os.getpid(),
        "loop": type(asyncio.get_running_loop()).__module__,
    }
    writer.write(json.dumps(hello).encode() + b"\n")
    deaf = False
    told = asyncio.create_task(reader.readline())
    while True:
        stop = asyncio.create_task(asked.wait())
        await asyncio.wait({told, stop}, return_when=asyncio.FIRST_COMPLETED)
        if stop.done():
            asked.clear()
            writer.write(b"asked to stop\n")
            await writer.drain()
            if not deaf:
                return 3
            continue
        stop.cancel()
        word, _, number = told.result().decode().strip().partition(" ")
        match word:
            case "exit":
                return int(number)
            case "raise":
                raise RuntimeError("told to")
            case "deafen":
                deaf = True
                writer.write(b"deaf\n")
            case "freeze":
                writer.write(b"frozen\n")
                await writer.drain()
                while True:
                    time.sleep(60)  # noqa: ASYNC251  the loop is to stand still
            case _:
                return 1
        told = asyncio.create_task(reader.readline())


def main() -> int:
    """The parent, as `worker start` runs it."""
    import uvloop

    from worker.supervisor import Supervisor

    parser = argparse.ArgumentParser()
    parser.add_argument("socket")
    parser.add_argument("procs", type=int)
    parser.add_argument("--lock", type=Path)
    parser.add_argument("--lifeline", type=int)
    given = parser.parse_args()
    settings = WorkerSettings(coord=given.socket, procs=given.procs, lock=given.lock, lifeline=given.lifeline)

    async def supervise() -> int:
        return await Supervisor(settings, obey, follow_seconds=0.2, stop_seconds=1.0).run()

    return uvloop.run(supervise())


if __name__ == "__main__":
    # By its name, not as __main__: the processes import the target from there.
    from tests.support import obedient

    sys.exit(obedient.main())
