"""`python -m shoal.demo`: serve the demo web on loopback until told to stop.

Prints the address to start from as its first line. With --hosts-file, writes the names, all at 127.0.0.1, for
`coord crawl --hosts-file`; with --expect, writes what a correct crawl finds, as JSON: URL → outcome; with
--csv, writes a table of firms and their websites.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from shoal.demo.server import serve
from shoal.demo.sites import write_csv
from shoal.demo.web import START, Web


async def demo(port: int, announce: Callable[[Web], None]) -> None:
    """Serve until SIGINT or SIGTERM; `announce` is called once we listen."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        # A shell starts what it puts in the background with SIGINT ignored: Ctrl-C is then meant for the crawl,
        # which still needs us while it stops.
        if signal.getsignal(number) is not signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    # Links across hosts name the port, which is known once we listen; nobody knows of us before it is
    # printed.
    server = await serve(lambda request: web.respond(request), port=port)
    web = Web(server.port)
    announce(web)
    await stop.wait()
    await server.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m shoal.demo", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--hosts-file", type=Path)
    parser.add_argument("--expect", type=Path)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--rows", type=int, default=100_000, help="of the table [default: 100000]")
    given = parser.parse_args()

    def announce(web: Web) -> None:
        if given.hosts_file:
            given.hosts_file.write_text("".join(f"127.0.0.1 {host}\n" for host in web.hosts()))
        if given.expect:
            given.expect.write_text(json.dumps(web.expected(), indent=1, ensure_ascii=False) + "\n")
        if given.csv:
            write_csv(given.csv, web.port, given.rows)
        print(web.url(START), flush=True)

    try:
        asyncio.run(demo(given.port, announce))
    except OverflowError:
        _refuse(f"--port {given.port}: a port is a number up to 65535")
    except OSError as error:
        why = error.strerror if error.filename or not error.errno else os.strerror(error.errno)
        _refuse(f"{error.filename or f'--port {given.port}'}: {why}")


def _refuse(text: str) -> NoReturn:
    print(f"shoal.demo: {text}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
