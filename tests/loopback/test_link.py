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
from shoal.demo.listening import listen
from tests.support.proxy import free_pair
from worker.link import Link

SESSION = SessionId(b"s" * 16)


@contextmanager
def connected(address: str, key: WorkerKey | None) -> Iterator[tuple[asyncio.Queue[str], Link]]:
    """A link to shard 0 there; what it says of a refusal comes into the queue."""
    refused: asyncio.Queue[str] = asyncio.Queue()

    def arrived(shard: int, message: ToWorker) -> None:
        raise AssertionError(f"{message} from shard {shard}")

    link = Link(address, SESSION, key, arrived, refused.put_nowait)
    link.connect(0)
    try:
        yield refused, link
    finally:
        link.close()


@asynccontextmanager
async def hanging_up(port: int | None = None) -> AsyncIterator[tuple[str, asyncio.Queue[None]]]:
    """Two ports that close every connection; their address, and a sign for each."""
    signs: asyncio.Queue[None] = asyncio.Queue()

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        signs.put_nowait(None)

    port = free_pair() if port is None else port
    listening = [await listen(hang_up, port=port + offset) for offset in (0, 1)]
    try:
        yield f"tcp://127.0.0.1:{port}", signs
    finally:
        for one in listening:
            await one.close()


@asynccontextmanager
async def coordinator(keys: Keys | None, port: int | None = None) -> AsyncIterator[str]:
    """A coordinator's sockets; their address."""
    port = free_pair() if port is None else port
    addresses = f"tcp://127.0.0.1:{port}", f"tcp://127.0.0.1:{port + 1}"
    sockets = Sockets(addresses, keys, lambda message, body: None, lambda: None)
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
        with connected(address, of(kept)) as (refused, _):
            async with asyncio.timeout(10):
                assert f"{address}: wrong key" in await refused.get()


async def test_a_worker_with_a_key_does_not_talk_to_a_coordinator_without() -> None:
    async with coordinator(None) as address:
        with connected(address, new_keys()[1]) as (refused, _):
            async with asyncio.timeout(10):
                assert "wrong key" in await refused.get()


@pytest.mark.parametrize("key", [None, new_keys()[1]], ids=["without a key", "with one"])
async def test_a_tunnel_whose_far_end_is_not_there_is_no_wrong_key(key: WorkerKey | None) -> None:
    """`ssh -L` and forwarders like it accept, find nobody, and hang up."""
    async with hanging_up() as (address, signs):
        with connected(address, key) as (refused, _):
            async with asyncio.timeout(20):
                for _ in range(12):
                    await signs.get()
            assert refused.empty()


async def let_in(link: Link) -> None:
    """Its handshakes have succeeded, one more than before."""
    before = link._successes
    async with asyncio.timeout(10):
        while link._successes == before:
            await asyncio.sleep(0.01)


async def test_a_worker_that_was_let_in_says_when_the_key_is_another_one() -> None:
    """After `coord key --new` it would wait for ever, and nobody would know why."""
    secret, kept = new_keys()
    port = free_pair()
    with connected(f"tcp://127.0.0.1:{port}", kept) as (refused, link):
        async with coordinator(Keys(kept.server_public, secret, kept.client_public), port):
            await let_in(link)
        secret, new = new_keys()
        async with coordinator(Keys(new.server_public, secret, new.client_public), port):
            async with asyncio.timeout(60):
                assert "coord key DIR --new" in await refused.get()


async def test_a_worker_that_was_let_in_waits_for_its_coordinator_behind_a_tunnel_that_comes_and_goes() -> (
    None
):
    secret, kept = new_keys()
    keys = Keys(kept.server_public, secret, kept.client_public)
    port = free_pair()
    with connected(f"tcp://127.0.0.1:{port}", kept) as (refused, link):
        for _ in range(2):
            async with coordinator(keys, port):
                await let_in(link)
            async with hanging_up(port) as (_, signs), asyncio.timeout(30):
                for _ in range(8):
                    await signs.get()
        async with coordinator(keys, port):
            await let_in(link)
        assert refused.empty()
