"""A port of loopback and the connections it took: one coroutine for each, all ended when the port is closed.

`asyncio.start_server` leaves open what its server took in the very moment in which it closed (3.11), and what a
client does not read to its end. Here `close()` returns when nothing is open any more, whatever each connection was
at: every socket is known from its acceptance on. It decides nothing about what is said.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""What is said over one connection. When it returns, or the client leaves, what it wrote is sent, and then the
connection is closed."""


class Listening:
    """A port that listens, from now on; of the running loop."""

    def __init__(
        self, talk: Talk, listeners: list[socket.socket], *, tls: ssl.SSLContext | None, limit: int
    ) -> None:
        self.port = int(listeners[0].getsockname()[1])
        self._talk = talk
        self._listeners = listeners
        self._tls = tls
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._connections: dict[asyncio.Task[None], socket.socket] = {}
        for listener in listeners:
            listener.setblocking(False)
            self._loop.add_reader(listener, self._accept, listener)

    async def close(self) -> None:
        """Stop listening and cut what is open; returns when nothing of it runs any more."""
        for listener in self._listeners:
            self._loop.remove_reader(listener)
            listener.close()
        open_now = dict(self._connections)
        for task in open_now:
            task.cancel()
        await asyncio.gather(*open_now, return_exceptions=True)
        for connection in open_now.values():
            connection.close()  # of a task that was cancelled before its first step

    def _accept(self, listener: socket.socket) -> None:
        with suppress(
            OSError
        ):  # nobody is left, or no descriptor is free: the kernel holds them until one is
            while True:
                connection, _ = listener.accept()
                connection.setblocking(False)
                task = self._loop.create_task(self._serve(connection))
                self._connections[task] = connection
                task.add_done_callback(self._connections.pop)

    async def _serve(self, connection: socket.socket) -> None:
        reader = asyncio.StreamReader(self._limit)
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport, _ = await self._loop.connect_accepted_socket(
                lambda: protocol, connection, ssl=self._tls
            )
        except OSError:
            return  # it speaks no TLS, or none that we do
        writer = asyncio.StreamWriter(transport, protocol, reader, self._loop)
        try:
            with suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                await self._talk(reader, writer)
            writer.close()
            await writer.wait_closed()
        except (OSError, asyncio.CancelledError):
            pass  # the connection is lost, or we are closing; the task ends here in any case
        finally:
            transport.abort()
            with suppress(OSError):
                await writer.wait_closed()


async def listen(
    talk: Talk,
    *addresses: str,
    port: int = 0,
    tls: ssl.SSLContext | None = None,
    limit: int = 1 << 16,
    backlog: int = 128,
) -> Listening:
    """Listen at one port of these addresses, or of 127.0.0.1; port 0 takes a free one.

    `limit`: bytes that one `readuntil` may take; `backlog`: connections that the kernel holds until we take them.
    Raises OSError where the port is taken.
    """
    listeners: list[socket.socket] = []
    try:
        for address in addresses or ("127.0.0.1",):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            listeners.append(socket.create_server((address, port), family=family, backlog=backlog))
            port = port or int(listeners[0].getsockname()[1])
    except OSError:
        for listener in listeners:
            listener.close()
        raise
    return Listening(talk, listeners, tls=tls, limit=limit)
