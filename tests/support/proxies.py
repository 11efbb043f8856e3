"""Other people's proxies on a free port of loopback: tinyproxy (HTTP), microsocks (SOCKS5), dante (SOCKS4 and 5).

A test that asks for one is skipped, with its name, where it is not installed
(`apt-get install tinyproxy-bin microsocks dante-server`).
"""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

_TINYPROXY = """
Port {port}
Listen 127.0.0.1
LogLevel Critical
{login}
"""
_DANTE = """
logoutput: {log}
internal: 127.0.0.1 port = {port}
external: lo
clientmethod: none
socksmethod: none
user.unprivileged: nobody
client pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 }}
socks block {{ from: 0.0.0.0/0 to: 127.0.0.9/32 }}
socks pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 }}
"""


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


@asynccontextmanager
async def tinyproxy(folder: Path, login: str = "") -> AsyncIterator[int]:
    """An HTTP proxy; `login`: the user name and the password it asks for, with a space between."""
    port = free_port()
    config = folder / "tinyproxy.conf"
    config.write_text(_TINYPROXY.format(port=port, login=f"BasicAuth {login}" if login else ""))
    async with _running(port, "tinyproxy", "-d", "-c", str(config)):
        yield port


@asynccontextmanager
async def microsocks(*options: str) -> AsyncIterator[int]:
    """A SOCKS5 proxy; options: `-u USER -P PASSWORD`."""
    port = free_port()
    async with _running(port, "microsocks", "-i", "127.0.0.1", "-p", str(port), *options):
        yield port


@asynccontextmanager
async def dante(folder: Path) -> AsyncIterator[int]:
    """A SOCKS4 and SOCKS5 proxy that serves no connection to 127.0.0.9."""
    port = free_port()
    config = folder / "danted.conf"
    config.write_text(_DANTE.format(port=port, log=folder / "danted.log"))
    async with _running(port, "danted", "-f", str(config), "-p", str(folder / "danted.pid")):
        yield port


@asynccontextmanager
async def _running(port: int, *command: str) -> AsyncIterator[None]:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*command, stdout=quiet, stderr=quiet)
    try:
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                assert process.returncode is None, f"{command[0]} ended at once"
                await asyncio.sleep(
                    0.02
                )  # another program's start: there is nothing to wait for but its port
            else:
                writer.close()
                break
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
