"""The worker's end of the sockets: whom it takes for a coordinator, and when it says that there is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
import zmq
from zmq.utils import z85

from common.keys import WorkerKey
from common.messages import SessionId, ToWorker
from coordinator.server import Keys, Sockets, new_keys
from tests.support.proxy import free_pair
from worker.link import Link

SESSION = SessionId(b"s" * 16)


@contextmanager
def connected(address: str, key: WorkerKey | None) -> Iterator[asyncio.Queue[str]]:
    """A link to shard 0 there; what it says of a refusal comes into the queue."""
    refused: asyncio.Queue[str] = asyncio.Queue()

    def arrived(shard: int, message: ToWorker) -> None:
        raise AssertionError(f"{message} from shard {shard}")

    link = Link(address, SESSION, key, arrived, refused.put_nowait)
    link.connect(0)
    try:
        yield refused
    finally:
        link.close()


@asynccontextmanager
async def hanging_up() -> AsyncIterator[tuple[str, asyncio.Queue[None]]]:
    """Two ports that close every connection; their address, and a sign for each."""
    signs: asyncio.Queue[None] = asyncio.Queue()

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        signs.put_nowait(None)
        writer.close()

    port = free_pair()
    servers = [await asyncio.start_server(hang_up, "127.0.0.1", port + offset) for offset in (0, 1)]
    try:
        yield f"tcp://127.0.0.1:{port}", signs
    finally:
        for server in servers:
            server.close()


@asynccontextmanager
async def coordinator(keys: Keys | None) -> AsyncIterator[str]:
    """A coordinator's sockets; their address."""
    port = free_pair()
    sockets = Sockets(
        (f"tcp://127.0.0.1:{port}", f"tcp://127.0.0.1:{port + 1}"), keys, lambda message, body: None
    )
    try:
        yield f"tcp://127.0.0.1:{port}"
    finally:
        sockets.close()


def strangers_key(kept: WorkerKey) -> WorkerKey:
    """The right coordinator, but a client key that it does not admit any more."""
    public, secret = (z85.decode(key) for key in zmq.curve_keypair())
    return WorkerKey(kept.server_public, public, secret)


def someone_elses(kept: WorkerKey) -> WorkerKey:
    """The key of another crawl."""
    return new_keys()[1]


def none_at_all(kept: WorkerKey) -> None:
    """Forgotten."""


@pytest.mark.parametrize("of", [strangers_key, someone_elses, none_at_all])
async def test_a_worker_with_a_wrong_key_says_so_at_once(of: Callable[[WorkerKey], WorkerKey | None]) -> None:
    """ZeroMQ itself falls silent for ever after a handshake that was refused."""
    secret, kept = new_keys()
    async with coordinator(Keys(kept.server_public, secret, kept.client_public)) as address:
        with connected(address, of(kept)) as refused:
            async with asyncio.timeout(10):
                assert f"{address}: wrong key" in await refused.get()


async def test_a_worker_with_a_key_does_not_talk_to_a_coordinator_without() -> None:
    async with coordinator(None) as address:
        with connected(address, new_keys()[1]) as refused:
            async with asyncio.timeout(10):
                assert "wrong key" in await refused.get()


@pytest.mark.parametrize("key", [None, new_keys()[1]], ids=["without a key", "with one"])
async def test_a_tunnel_whose_far_end_is_not_there_is_no_wrong_key(key: WorkerKey | None) -> None:
    """`ssh -L` and forwarders like it accept, find nobody, and hang up."""
    async with hanging_up() as (address, signs):
        with connected(address, key) as refused:
            async with asyncio.timeout(20):
                for _ in range(12):
                    await signs.get()
            assert refused.empty()
