"""Nonsense against codec, shard and agent: chance searches, and what it has found stands beside it as plain tests."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common import messages as m
from common import wire
from common.errors import ProtocolError
from common.messages import FROM_WORKER, MAX_HEADER_BYTES, TAGS, LinkGroup, SessionId
from tests.fuzz.__main__ import Target, bombard
from tests.fuzz.agents import AgentTarget
from tests.fuzz.codec import KINDS, CodecTarget
from tests.fuzz.making import Maker
from tests.fuzz.shards import ShardTarget

choices = st.randoms(use_true_random=False)
search = settings(
    max_examples=10,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
each_target = pytest.mark.parametrize(
    "make", [CodecTarget, ShardTarget, AgentTarget], ids=["codec", "shard", "agent"]
)


@given(choices)
@search
def test_the_codec_raises_nothing_but_protocol_errors(rng: random.Random) -> None:
    target = CodecTarget(rng)
    for _ in range(10):
        target.step()


@given(choices)
@search
def test_a_shard_stays_right_whatever_workers_say(rng: random.Random) -> None:
    target = ShardTarget(rng)
    for _ in range(12):
        target.step()
    target.end()


@given(choices)
@search
def test_an_agent_stays_right_whatever_shards_say(rng: random.Random) -> None:
    target = AgentTarget(rng)
    for _ in range(12):
        target.step()
    target.end()


@each_target
@pytest.mark.parametrize("seed", [1, 2])
def test_a_long_run_of_one_seed_breaks_nothing(make: Callable[[random.Random], Target], seed: int) -> None:
    sent, refused, wrong = bombard(make, 2000, seed)
    assert wrong is None, str(wrong)
    assert sent >= 2000
    assert 0 < refused < sent, "some are broken, some are not"


@each_target
def test_the_same_seed_sends_the_same_messages(make: Callable[[random.Random], Target]) -> None:
    assert bombard(make, 600, 7) == bombard(make, 600, 7)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_class_of_message_is_made_and_comes_back(kind: type[m.Message]) -> None:
    """A class or a field that the maker did not know would fail here first."""
    maker = Maker(random.Random(3))
    for _ in range(50):
        message = maker.message(kind)
        assert wire.decode([wire.encode(message)], frozenset((kind,)))[0] == message


def test_leases_are_granted_and_pages_are_taken_beside_the_nonsense() -> None:
    """So that the search is not one of refusals alone."""
    charged = ended = fetches = 0
    for seed in range(4):
        target = ShardTarget(random.Random(seed))
        agent = AgentTarget(random.Random(seed))
        while target.sent < 1500:
            target.step()
            agent.step()
        charged += target.bench.shard.ledger.counts.charged
        ended += target.bench.shard.ledger.counts.ended
        fetches += agent.fetches
    assert charged > 50 and ended > 20 and fetches > 50, (charged, ended, fetches)


HEADERS = {
    "an array of four thousand million": b"\xdd\xff\xff\xff\xff",
    "a text of four gigabytes": b"\xdb\xff\xff\xff\xff" + b"x" * 100,
    "nested without end": b"\x91" * 1_000_000,
    "maps in maps": b"\x81\x01" * 1_000_000,
    "millions of nothings": b"\xdd\x00\x7f\xff\x00" + b"\xc0" * 0x7FFF00,
    "millions of empty maps": b"\xdd\x00\x7f\xff\x00" + b"\x80" * 0x7FFF00,
    "millions of arrays of one": b"\xdd\x00\x3f\xff\x00" + b"\x91\xc0" * 0x3FFF00,
    "millions of extensions": b"\xdd\x00\x20\x00\x00" + b"\xd4\x01\x00" * 0x200000,
}


@pytest.mark.parametrize("what", HEADERS)
def test_what_a_header_declares_is_not_what_it_costs(what: str) -> None:
    """The dearest is a header of arrays of one element: 33 bytes of memory for each of its own, while it is read."""
    header = HEADERS[what]
    assert len(header) <= MAX_HEADER_BYTES
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            wire.decode([header], FROM_WORKER)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 34 * len(header) + 64 * 1024


# ----------------------------------------------------------------------------------------- what the search has found


def test_columns_of_a_group_of_links_are_equally_long() -> None:
    """A group with fewer forms than URLs made the shard fall off the end, and the coordinator with it."""
    session = SessionId(b"s" * 16)
    for forms in ((), (None,), (None, None, None)):
        group = LinkGroup("https://a.test/", "seed", 1, 0, 0, ("https://a.test/1", "https://a.test/2"), forms)
        with pytest.raises(ProtocolError, match="forms for 2 urls"):
            wire.decode([wire.encode(m.Links(1, session, (group,)))], FROM_WORKER)


def test_a_header_holds_no_maps_and_no_extensions() -> None:
    """No message has any; an empty map costs 64 times its byte."""
    tag = next(tag for tag, kind in TAGS.items() if kind is m.Hello)
    for strange in ({}, {1: 2}, msgpack.ExtType(5, b"x"), msgpack.Timestamp(1, 2)):
        with pytest.raises(ProtocolError, match="not msgpack"):
            wire.decode([msgpack.packb([tag, strange])], FROM_WORKER)
