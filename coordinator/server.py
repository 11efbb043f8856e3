"""The shell of one shard: its two sockets, its files, its clock. It decides nothing.

Every message becomes an event for the core, every instruction of the core a frame, a file or a log line. What waits
for a commit is collected for `commit_interval`; then the outputs are appended and fsynced in a thread (the loop goes
on meanwhile), the rows are staged, synced in that thread too, and only then what rests on them leaves (PROTOCOL
rule 2). A full disk is waited out with the same commit in hand; any other storage error ends the coordinator, for
what is on disk is whole.

Sockets are ROUTERs drained in batches from their edge-triggered descriptors; ROUTER_MANDATORY tells when a worker is
gone. CURVE with one admitted client key guards them beyond loopback.

Read next: shard.py (the core), store/kv.py and sink.py (what a commit is written to).
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import zmq
from zmq.utils import z85

from common import clock, wire
from common.errors import DiskFull, NoFiles, ProtocolError, UsageError
from common.keys import WorkerKey
from common.log import get_logger
from common.messages import FROM_WORKER, Denied, FromWorker, SessionId, ToWorker
from common.openfiles import raise_open_files
from common.tuning import Tuning
from coordinator.shard import Shard
from coordinator.sink import FileSink
from coordinator.steps import (
    Commit,
    DropPieces,
    Event,
    Hashed,
    HashPart,
    Instruction,
    KeepPiece,
    Note,
    Received,
    Say,
    Seeded,
    Send,
    Tell,
    Tick,
)
from coordinator.store.kv import Store

if TYPE_CHECKING:
    from zmq.auth.thread import ThreadAuthenticator

DRAINED_AT_ONCE = 256
"""Messages read from one socket in one turn of the loop."""

GATHER_SECONDS = 0.004
"""From the first message that comes to reading it and its neighbours; far below what a commit takes."""

SEND_QUEUE = 10_000
"""Messages that ZeroMQ may hold for one worker; its credit keeps it far below."""

RECEIVE_QUEUE = 64
"""Messages of one peer that ZeroMQ takes before we have read them; more wait in the peer's own machine. With the bound
on a message's size this is what one peer can make us hold: 128 MiB, while workers' pages are some 20 KiB each."""

MAX_CONTROL_BYTES = 1 << 20
"""Of a message on the control socket: 65,536 leases in one heartbeat take 600 KB."""

HANDSHAKE_SECONDS = 5
"""Until a connection that does not say what it is is cut: each takes a file descriptor."""

MOST_FILES = 65_536
"""Open files that a coordinator asks for, most of them connections: strangers who open thousands a second are cut as
fast. Those who come in between find a commit waiting, not failing."""

SESSION_BYTES = 16

_FIRST_OF_TWO = zmq.NOBLOCK | zmq.SNDMORE

BANNED_KEPT = 10_000
"""Peers that broke the protocol, and are not listened to any more."""

TOLD_FIRST, TOLD_EVERY = 20, 1000
"""Broken messages that are logged: a peer that comes again under another name can send thousands a second."""

DISK_LOOK_SECONDS = 1.0
"""Between two tries of a commit that found no room."""

log = get_logger("coordinator.shard")


class Sockets:
    """A shard's control and data socket. `received(message, body)` is called for each good message, `drained()` after
    those that came together."""

    def __init__(
        self,
        addresses: tuple[str, str],
        keys: Keys | None,
        received: Callable[[FromWorker, bytes], None],
        drained: Callable[[], None],
    ) -> None:
        """Binds at once. UsageError if an address is taken or is none of this machine's."""
        raise_open_files(MOST_FILES)
        self._loop = asyncio.get_running_loop()
        self._received = received
        self._drained = drained
        self._context = zmq.Context(io_threads=1)
        self._guard = None if keys is None else keys.guard(self._context)
        self._banned: dict[bytes, None] = {}
        self.broken = 0
        """Messages that broke the protocol."""
        self.unroutable = 0
        """Messages for workers that were gone."""
        self._look_again: set[bool] = set()
        self._sockets: dict[bool, zmq.Socket[bytes]] = {}
        for data, address in zip((False, True), addresses, strict=True):
            self._sockets[data] = self._bind(address, keys, data)
            self._loop.add_reader(self._descriptor(data), self._knocked, data)

    @property
    def addresses(self) -> tuple[str, str]:
        """Where they are bound; with the port that was found when 0 was asked for."""
        control, data = (self._sockets[each].getsockopt(zmq.LAST_ENDPOINT) for each in (False, True))
        assert isinstance(control, bytes) and isinstance(data, bytes)
        return control.rstrip(b"\0").decode(), data.rstrip(b"\0").decode()

    def send(self, message: ToWorker, *, data: bool) -> None:
        """Send to the session that the message names, now or never."""
        try:
            socket, frame = self._sockets[data], wire.encode(message)
            socket.send(message.session, _FIRST_OF_TWO)
            socket.send(frame, zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                raise
            self.unroutable += 1
        if data not in self._look_again:
            self._look_again.add(data)
            self._loop.call_soon(self._drain, data)

    def close(self) -> None:
        """Close; what was sent has half a second to leave."""
        for data, socket in self._sockets.items():
            self._loop.remove_reader(self._descriptor(data))
            socket.close(linger=500)
        self._sockets.clear()
        if self._guard is not None:
            self._guard.stop()
        self._context.term()

    def _bind(self, address: str, keys: Keys | None, data: bool) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        socket.setsockopt(zmq.SNDHWM, SEND_QUEUE)
        socket.setsockopt(zmq.RCVHWM, RECEIVE_QUEUE)
        socket.setsockopt(zmq.MAXMSGSIZE, wire.MAX_FRAME_BYTES if data else MAX_CONTROL_BYTES)
        socket.setsockopt(zmq.HANDSHAKE_IVL, 1000 * HANDSHAKE_SECONDS)
        socket.setsockopt(zmq.HEARTBEAT_IVL, 5000)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 15000)
        socket.setsockopt(zmq.IPV6, 1)
        if keys is not None:
            socket.setsockopt(zmq.CURVE_SERVER, 1)
            socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
            socket.setsockopt(zmq.ZAP_DOMAIN, b"shoal")
        try:
            socket.bind(address)
        except zmq.ZMQError as error:
            socket.close(linger=0)
            if self._guard is not None:  # before the context: its thread waits on a socket of it
                self._guard.stop()
            self._context.destroy(linger=0)
            if error.errno == zmq.EADDRINUSE:
                raise UsageError(
                    f"--listen {address}: the port is taken; a coordinator there already? "
                    "choose another, such as --listen tcp://127.0.0.1:7787"
                ) from None
            if error.errno in (errno.ENODEV, errno.EADDRNOTAVAIL):
                raise UsageError(
                    f"--listen {address}: no address of this machine; tcp://0.0.0.0:7777 listens on all it has"
                ) from None
            raise UsageError(f"--listen {address}: {error.strerror}") from None
        return socket

    def _descriptor(self, data: bool) -> int:
        descriptor = self._sockets[data].getsockopt(zmq.FD)
        assert isinstance(descriptor, int)
        return descriptor

    def _knocked(self, data: bool) -> None:
        """Something came: wait a moment for what comes with it. A turn of the loop costs more than a message."""
        self._loop.remove_reader(self._descriptor(data))
        self._loop.call_later(GATHER_SECONDS, self._gathered, data)

    def _gathered(self, data: bool) -> None:
        if data in self._sockets:
            self._loop.add_reader(self._descriptor(data), self._knocked, data)
            self._drain(data)

    def _drain(self, data: bool) -> None:
        self._look_again.discard(data)
        socket = self._sockets.get(data)
        if socket is None:
            return
        for _ in range(DRAINED_AT_ONCE):
            try:
                peer, *frames = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                self._drained()
                return
            if peer in self._banned:
                continue
            try:
                message, body = wire.decode(frames, FROM_WORKER)
                if message.session != peer:  # type: ignore[union-attr]  # FROM_WORKER all have one
                    raise ProtocolError("a message for another session than its sender's")
            except ProtocolError as error:
                self._ban(peer, str(error))
                continue
            self._received(message, body)  # type: ignore[arg-type]  # decode gives one of FROM_WORKER
        self._drained()
        self._loop.call_soon(self._drain, data)

    def _ban(self, peer: bytes, error: str) -> None:
        self.broken += 1
        self._banned[peer] = None
        if len(self._banned) > BANNED_KEPT:
            del self._banned[next(iter(self._banned))]
        if self.broken <= TOLD_FIRST or self.broken % TOLD_EVERY == 0:
            log.warning("protocol.broken", peer=peer.hex()[:32], error=error, times=self.broken)
        if len(peer) == SESSION_BYTES:
            self.send(
                Denied(SessionId(peer), 0, f"the protocol was broken: {error}"[:1000], False), data=False
            )


class Keys:
    """The coordinator's own key pair, and the one client key that is let in."""

    def __init__(self, public: bytes, secret: bytes, client_public: bytes) -> None:
        self.public = public
        self.secret = secret
        self._client_public = client_public

    def guard(self, context: zmq.Context[zmq.Socket[bytes]]) -> ThreadAuthenticator:
        """The ZAP handler: without one, CURVE lets any key pair in."""
        from zmq.auth.thread import ThreadAuthenticator  # 30 ms of CPU that loopback does without

        guard = ThreadAuthenticator(context)
        guard.start()
        guard.configure_curve_callback("shoal", _OnlyClient(self._client_public))
        return guard


class _OnlyClient:
    """Admits one client key."""

    def __init__(self, public: bytes) -> None:
        self._public = public

    def callback(self, domain: str, key: bytes) -> bool:
        """Called by the authenticator's thread with the raw or Z85 key of who wants in."""
        return (z85.decode(key) if len(key) == 40 else key) == self._public


def new_keys() -> tuple[bytes, WorkerKey]:
    """A coordinator's secret key and the key that workers need. All raw, 32 bytes each."""
    server_public, server_secret = (z85.decode(key) for key in zmq.curve_keypair())
    client_public, client_secret = (z85.decode(key) for key in zmq.curve_keypair())
    return server_secret, WorkerKey(server_public, client_public, client_secret)


class ShardServer:
    """Runs one shard's core until `stop`. `told` gets what the core has to say to control and to people."""

    def __init__(
        self,
        core: Shard,
        store: Store,
        sink: FileSink,
        tuning: Tuning,
        told: Callable[[Tell | Seeded | Say], None],
    ) -> None:
        self.core = core
        self._store = store
        self._sink = sink
        self._interval = tuning.commit_interval
        self._bytes = tuning.commit_bytes
        self._told = told
        self._sockets: Sockets | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._hasher = ThreadPoolExecutor(1, thread_name_prefix="hash")
        """Beside the commits: a download of some gibibytes takes seconds."""
        self._loop = asyncio.get_running_loop()
        self._dirty = asyncio.Event()
        self._full = asyncio.Event()
        self._stopping = False
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = float("inf")
        self._failure: Exception | None = None
        self.disk_full = False
        """The last commit found no room and is tried again."""
        self.no_files = False
        """And what it had no room for is one more open file."""
        self._commit_began: float | None = None
        self._commit_took = 0.0

    def listen(self, addresses: tuple[str, str], keys: Keys | None) -> tuple[str, str]:
        """Open the sockets; where they are."""
        self._sockets = Sockets(
            addresses, keys, lambda message, body: self._take(Received(message, body)), self._taken
        )
        self.deliver(Tick())
        return self._sockets.addresses

    @property
    def sockets(self) -> Sockets | None:
        """The sockets, for their counters."""
        return self._sockets

    def commit_seconds(self, now: float) -> float:
        """How long the last commit took, or the one under way has taken if that is longer already."""
        under_way = 0.0 if self._commit_began is None else now - self._commit_began
        return max(under_way, self._commit_took)

    def deliver(self, event: Event) -> None:
        """Give the core an event and carry out what follows.

        An error of our own ends the coordinator: half an event may be in memory, and the last commit is whole. So
        nothing of it is committed, and the next start goes on from there.
        """
        self._take(event)
        self._taken()

    def _take(self, event: Event) -> None:
        if self._failure is not None:
            return
        try:
            instructions = self.core.handle(event, clock.now(), clock.wall())
        except Exception as error:
            log.exception("shard.failed", on=type(event).__name__)
            self._failure = error
            self.stop()
            return
        self._carry_out(instructions)

    def _taken(self) -> None:
        """Once for all events that came together: see that what they left is committed, and when to wake up."""
        if self._failure is not None:
            return
        if self.core.unsealed:
            self._dirty.set()
            if self.core.unsealed_bytes >= self._bytes:
                self._full.set()
        self._set_alarm()

    async def run(self) -> None:
        """Commit what comes, until `stop`; then once more. Raises StorageError when the disk cannot be trusted."""
        while not self._stopping:
            await self._dirty.wait()
            if not self._stopping:
                try:
                    async with asyncio.timeout(self._interval):
                        await self._full.wait()
                except TimeoutError:
                    pass
            self._dirty.clear()
            self._full.clear()
            if self._failure is not None:
                raise self._failure
            await self._commit()
        if self._failure is not None:
            raise self._failure
        if self.core.unsealed:
            await self._commit()

    def stop(self) -> None:
        """`run` commits what there is and ends."""
        self._stopping = True
        self._dirty.set()
        self._full.set()

    def close(self) -> None:
        """After `run`: close the sockets, then the files."""
        if self._alarm is not None:
            self._alarm.cancel()
        if self._sockets is not None:
            self._sockets.close()
        self._thread.shutdown()
        self._hasher.shutdown(cancel_futures=True)
        self._sink.close()
        self._store.close()

    async def _commit(self) -> None:
        commit = self.core.seal(clock.now(), clock.wall())
        self._set_alarm()  # what could not be lent with this commit may be due before anything comes
        if commit.rows or commit.outputs or self._sink.has_waiting:
            self._commit_began = began = clock.now()
            await self._make_durable(commit)
            self._commit_began, self._commit_took = None, clock.now() - began
        self._carry_out(self.core.committed(commit))
        if self.core.unsealed:
            self._dirty.set()

    async def _make_durable(self, commit: Commit) -> None:
        """First the bytes, then the rows that speak of them (rule 2)."""
        while (commit.outputs or self._sink.has_waiting) and not await self._try(
            lambda: self._sink.write(commit.outputs)
        ):
            pass
        while not await self._try_rows(commit):
            pass
        if self.disk_full:
            log.warning("files.enough" if self.no_files else "disk.enough")
        self.disk_full = self.no_files = False

    async def _try_rows(self, commit: Commit) -> bool:
        try:
            self._store.stage(commit.rows)
        except DiskFull as error:
            await self._wait_for_room(error)
            return False
        return await self._try(self._store.sync)

    async def _try(self, step: Callable[[], None]) -> bool:
        try:
            await self._loop.run_in_executor(self._thread, step)
        except DiskFull as error:
            await self._wait_for_room(error)
            return False
        return True

    async def _wait_for_room(self, error: DiskFull) -> None:
        if not self.disk_full:
            log.error("files.none" if isinstance(error, NoFiles) else "disk.full", error=str(error))
        self.disk_full, self.no_files = True, isinstance(error, NoFiles)
        await asyncio.sleep(DISK_LOOK_SECONDS)

    def _carry_out(self, instructions: Sequence[Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case Send(message, data):
                    if self._sockets is not None:
                        self._sockets.send(message, data=data)
                case Note(event, facts, level):
                    getattr(log, level)(event, **dict(facts))
                case KeepPiece(key, index, body, file):
                    self._sink.keep(key, index, body, file)
                case DropPieces(key, file):
                    self._sink.drop(key, file)
                case HashPart():
                    self._hash(instruction)
                case Tell() | Seeded() | Say():
                    self._told(instruction)

    def _hash(self, step: HashPart) -> None:
        """Read a download's part beside the loop; the core hears of it, unless it has been stopped."""

        def told(done: asyncio.Future[str | None]) -> None:
            if not done.cancelled() and not self._stopping:
                self.deliver(Hashed(step.session, step.number, done.result()))

        work = self._loop.run_in_executor(self._hasher, self._sink.digest, step.part, step.pieces, step.tail)
        work.add_done_callback(told)

    def _set_alarm(self) -> None:
        """Wake the core when something is due."""
        at = self.core.next_wakeup()
        if at is None or at >= self._alarm_at:
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = at
        self._alarm = self._loop.call_later(max(0.0, at - clock.now()), self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._alarm_at = float("inf")
        self.deliver(Tick())
