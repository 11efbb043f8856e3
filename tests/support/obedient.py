"""A worker process that does what a test tells it, over a Unix socket whose path is `settings.coord`.

It says who it is in one line of JSON; then it is told `exit N`, `raise`, `deafen` (SIGTERM is heard, said,
and not obeyed), `freeze` (the event loop stands still), `bound SECONDS BYTES`, `parse LEASE` (its request 7 is
marked as being parsed), `done`, `fail LEASE` (parsing raises), `spin` (it takes all the processor time there is) or
`grow BYTES`. The end of the connection is the end of the
process, so a test waits for what happens and never sleeps. As a module it is the parent: `-m
tests.support.obedient SOCKET PROCS [--lock FILE] [--lifeline FD]`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
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
    mark = Mark(birth.mark)
    parsing, kept = contextlib.ExitStack(), bytearray()
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
        word, *numbers = told.result().decode().split() or [""]
        match word:
            case "exit":
                return int(numbers[0])
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
            case "bound":
                mark.bound(float(numbers[0]), int(numbers[1]))
            case "parse":
                parsing.enter_context(mark.page.parsing(int(numbers[0]), 7, "http://poison.test/"))
                writer.write(b"parsing\n")
            case "done":
                parsing.close()
                writer.write(b"done\n")
            case "fail":
                with mark.page.parsing(int(numbers[0]), 7, "http://poison.test/"):
                    raise RuntimeError("told to")
            case "grow":
                kept += b"x" * int(numbers[0])
                writer.write(b"grown\n")
            case "spin":
                writer.write(b"spinning\n")
                await writer.drain()
                while True:
                    pass
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
