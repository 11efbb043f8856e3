"""The worker's end of the sockets: frames out, messages in. It decides nothing.

Two DEALERs to each shard, control and data, so that a heartbeat never waits behind a megabyte; each is drained in
batches by a reader on its file descriptor. That descriptor is edge-triggered: it may stay silent although there is
something to read, so after every read and every batch of sends the socket is asked once more. What cannot be sent now
(nobody there, or too much under way) is dropped: the agent sends again what is not answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import zmq
from zmq.utils.monitor import parse_monitor_message

from common import wire
from common.endpoints import endpoints, parse
from common.errors import ProtocolError
from common.keys import WorkerKey
from common.log import get_logger
from common.messages import TO_WORKER, FromWorker, ToWorker

DRAINED_AT_ONCE = 128
"""Messages read in one turn of the loop; then others get theirs."""

SEND_QUEUE = 2000
"""Messages that ZeroMQ may hold on the way to one shard; credit keeps us far below."""

GATHER_SECONDS = 0.005
"""Data messages wait this long for others: waking ZeroMQ's thread costs more than the message. Far below a commit."""

GATHERED_MOST = 64
"""Messages that are gathered at most, a megabyte or so."""

TOLD_FIRST, TOLD_EVERY = 5, 1000
"""Broken messages that are logged: whoever speaks something else than ZeroMQ sends dozens a second."""

FAILURES_TOLD = 3
"""Handshakes broken off one after another before we look whether it is for the key."""

LOOK_SECONDS = 5.0
"""For the first byte of whoever is there."""

_BROKEN_OFF = zmq.Event.HANDSHAKE_FAILED_NO_DETAIL
"""The other side hung up: a coordinator that cannot read our greeting, for we have another's key. Or a tunnel whose far
end is not there: so without a key it means nothing, and with one it is who is there that decides: a coordinator begins
to greet as soon as it is connected to, a tunnel without a far end has nothing to say. Who was let in before has to
hear it twice, with handshakes broken off in between: its coordinator may come back at that moment."""

_REFUSED = {zmq.Event.HANDSHAKE_FAILED_PROTOCOL, zmq.Event.HANDSHAKE_FAILED_AUTH}
"""It let us in no further: no ZeroMQ there, one of us without a key, or our key not admitted. ZeroMQ never connects
again after it (libzmq 4.3, tried), so it must be told at once."""

_WRONG_KEY = "wrong key, or not a coordinator; it needs --key FILE, the worker.key of its DIR"
_OTHER_KEY = (
    "the coordinator does not know this key any more: after `coord key DIR --new` every worker needs the new "
    "worker.key (--key FILE). Or something else listens there now"
)

log = get_logger("worker.link")


class Link:
    """All sockets of one worker process. `arrived(shard, message)` is called for each message that comes; a
    ProtocolError that it raises is the message's fault, which is counted and dropped."""

    def __init__(
        self,
        address: str,
        session: bytes,
        key: WorkerKey | None,
        arrived: Callable[[int, ToWorker], None],
        refused: Callable[[str], None],
    ) -> None:
        self._address = address
        self._session = session
        self._key = key
        self._arrived = arrived
        self._refused = refused
        self._context = zmq.Context(io_threads=1)
        self._loop = asyncio.get_running_loop()
        self._sockets: dict[tuple[int, bool], zmq.Socket[bytes]] = {}
        self._monitors: list[zmq.Socket[bytes]] = []
        self._failures = 0
        """Handshakes broken off since the last one that succeeded, or since somebody looked why."""
        self._successes = 0
        """Handshakes."""
        self._greeted = False
        """Who is there greeted when it was looked at last, and no handshake succeeded since."""
        self._look: asyncio.Task[None] | None = None
        self._look_again: set[tuple[int, bool]] = set()
        self._gathered: dict[int, list[list[bytes]]] = {}
        """Data messages by shard that leave together."""
        self.dropped = 0
        """Messages that could not be sent when they should have been."""
        self.broken = 0
        """Messages that broke the protocol."""

    def connect(self, shard: int) -> None:
        """Open both sockets to a shard; it need not be there yet."""
        for data, address in zip((False, True), endpoints(self._address, shard), strict=True):
            socket: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
            socket.setsockopt(zmq.ROUTING_ID, self._session)
            socket.setsockopt(zmq.IMMEDIATE, 1)
            socket.setsockopt(zmq.SNDHWM, SEND_QUEUE)
            socket.setsockopt(zmq.RCVHWM, SEND_QUEUE)
            socket.setsockopt(zmq.LINGER, 1000)
            socket.setsockopt(zmq.RECONNECT_IVL, 100)
            socket.setsockopt(zmq.RECONNECT_IVL_MAX, 2000)
            socket.setsockopt(zmq.HEARTBEAT_IVL, 5000)
            socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 15000)
            socket.setsockopt(zmq.IPV6, 1)
            socket.setsockopt(zmq.MAXMSGSIZE, wire.MAX_FRAME_BYTES)
            if self._key is not None:
                socket.setsockopt(zmq.CURVE_SERVERKEY, self._key.server_public)
                socket.setsockopt(zmq.CURVE_PUBLICKEY, self._key.client_public)
                socket.setsockopt(zmq.CURVE_SECRETKEY, self._key.client_secret)
            if not data:
                self._watch(socket)
            socket.connect(address)
            self._sockets[shard, data] = socket
            self._loop.add_reader(_descriptor(socket), self._drain, shard, data)

    def send(self, shard: int, message: FromWorker, *, data: bool, body: bytes) -> None:
        """Send a message, now or never; data with what comes in the next moment."""
        frames = [wire.encode(message), body] if body else [wire.encode(message)]
        if not data:
            self._send(shard, data, frames)
            return
        waiting = self._gathered.get(shard)
        if waiting is None:
            self._gathered[shard] = [frames]
            self._loop.call_later(GATHER_SECONDS, self._flush, shard)
            return
        waiting.append(frames)
        if len(waiting) >= GATHERED_MOST:
            self._flush(shard)

    def _flush(self, shard: int) -> None:
        for frames in self._gathered.pop(shard, ()):
            self._send(shard, True, frames)

    def _send(self, shard: int, data: bool, frames: list[bytes]) -> None:
        socket = self._sockets.get((shard, data))
        if socket is None:
            return
        try:
            socket.send_multipart(frames, zmq.NOBLOCK, copy=True)
        except zmq.Again:
            self.dropped += 1
        if (shard, data) not in self._look_again:
            self._look_again.add((shard, data))
            self._loop.call_soon(self._drain, shard, data)

    def close(self) -> None:
        """Close all sockets; what was sent has a second to leave."""
        if self._look is not None:
            self._look.cancel()
        for shard in list(self._gathered):
            self._flush(shard)
        for socket in (*self._sockets.values(), *self._monitors):
            self._loop.remove_reader(_descriptor(socket))
            socket.close()
        self._sockets.clear()
        self._monitors.clear()
        self._context.term()

    def _drain(self, shard: int, data: bool) -> None:
        self._look_again.discard((shard, data))
        socket = self._sockets.get((shard, data))
        if socket is None:
            return
        for _ in range(DRAINED_AT_ONCE):
            try:
                frames = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                message, _ = wire.decode(frames, TO_WORKER)
                self._arrived(shard, message)  # type: ignore[arg-type]  # decode gives one of TO_WORKER
            except ProtocolError as error:  # of the codec, or of the agent: well-formed, but nonsense
                self.broken += 1
                if self.broken <= TOLD_FIRST or self.broken % TOLD_EVERY == 0:
                    log.warning("protocol.broken", shard=shard, error=str(error), times=self.broken)
                continue
            if (shard, data) not in self._sockets:
                return
        self._loop.call_soon(self._drain, shard, data)

    def _watch(self, socket: zmq.Socket[bytes]) -> None:
        """A wrong key is met with silence on the socket; only its monitor tells."""
        monitor = socket.get_monitor_socket(
            zmq.Event.HANDSHAKE_SUCCEEDED | _BROKEN_OFF | sum(_REFUSED) | zmq.Event.DISCONNECTED
        )
        self._monitors.append(monitor)
        self._loop.add_reader(_descriptor(monitor), self._observe, monitor)
        self._loop.call_soon(self._observe, monitor)

    def _observe(self, monitor: zmq.Socket[bytes]) -> None:
        while True:
            try:
                event = parse_monitor_message(monitor.recv_multipart(zmq.NOBLOCK))["event"]
            except zmq.ZMQError:
                return
            if event == zmq.Event.HANDSHAKE_SUCCEEDED:
                self._failures, self._greeted = 0, False
                self._successes += 1
            elif event == _BROKEN_OFF and self._key is not None:
                self._failures += 1
                if self._failures >= FAILURES_TOLD and self._look is None:
                    self._look = self._loop.create_task(self._look_who_is_there(), name="who is there")
            elif event in _REFUSED:
                self._refused(f"{self._address}: {_OTHER_KEY if self._successes else _WRONG_KEY}")

    async def _look_who_is_there(self) -> None:
        host, port = parse(self._address, "--coord")
        before = self._successes
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                reader, writer = await asyncio.open_connection(host.strip("[]"), port)
                try:
                    greeted = bool(await reader.read(1))
                finally:
                    writer.transport.abort()
        except OSError:  # a time-out too
            greeted = False
        self._look = None
        if self._successes != before:
            return
        self._failures = 0
        again, self._greeted = self._greeted, greeted
        if greeted and (again or not self._successes):
            self._refused(f"{self._address}: {_OTHER_KEY if self._successes else _WRONG_KEY}")


def _descriptor(socket: zmq.Socket[bytes]) -> int:
    descriptor = socket.getsockopt(zmq.FD)
    assert isinstance(descriptor, int)
    return descriptor
