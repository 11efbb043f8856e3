"""At most so many hosts of one address at once."""

from __future__ import annotations

import asyncio
import random

import pytest

from worker.gate import AddressGate, Place


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def entering(gate: AddressGate, address: str, host: str) -> asyncio.Task[Place]:
    return asyncio.create_task(gate.enter(address, host))


async def test_hosts_beyond_the_cap_wait_for_their_turn_and_other_addresses_do_not() -> None:
    gate = AddressGate(2)
    first, second = await gate.enter("192.0.2.1", "a"), await gate.enter("192.0.2.1", "b")
    third, fourth = entering(gate, "192.0.2.1", "c"), entering(gate, "192.0.2.1", "d")
    other = entering(gate, "192.0.2.2", "e")
    await turns()
    assert [task.done() for task in (third, fourth, other)] == [False, False, True]
    assert gate.waiting == 2
    gate.leave(second)
    await turns()
    assert (third.done(), fourth.done(), gate.waiting) == (True, False, 1)
    gate.leave(first)
    await fourth
    for place in (await third, await fourth, await other):
        gate.leave(place)
    assert gate._doors == {}


async def test_a_host_counts_once_however_many_fetches_it_has() -> None:
    gate = AddressGate(1)
    places = [await gate.enter("192.0.2.1", "a") for _ in range(3)]
    waiting = entering(gate, "192.0.2.1", "b")
    await turns()
    for place in places:
        assert not waiting.done()
        gate.leave(place)
    await waiting


async def test_a_host_that_is_in_does_not_keep_its_place_for_ever() -> None:
    gate = AddressGate(1)
    first = await gate.enter("192.0.2.1", "a")
    other, again = entering(gate, "192.0.2.1", "b"), entering(gate, "192.0.2.1", "a")
    await turns()
    gate.leave(first)
    await turns()
    assert (other.done(), again.done()) == (True, False)
    gate.leave(await other)
    gate.leave(await again)


async def test_who_is_cancelled_leaves_no_place_taken() -> None:
    gate = AddressGate(1)
    first = await gate.enter("192.0.2.1", "a")
    gone, let_in, last = (entering(gate, "192.0.2.1", host) for host in "bcd")
    await turns()
    gone.cancel()
    await turns()
    gate.leave(first)  # c is let in, but does not know it yet
    let_in.cancel()
    await turns()
    assert let_in.cancelled()
    gate.leave(await last)
    assert (gate._doors, gate.waiting) == ({}, 0)


async def test_another_address_than_expected_is_counted_instead() -> None:
    gate = AddressGate(1)
    place = await gate.enter("192.0.2.1", "a")
    waiting = entering(gate, "192.0.2.1", "b")
    await turns()
    gate.move(place, "192.0.2.2")
    await waiting
    late = entering(gate, "192.0.2.2", "c")
    await turns()
    assert not late.done()
    gate.leave(place)
    gate.leave(await late)
    gate.leave(await waiting)
    assert gate._doors == {}


async def test_closing_ends_the_wait() -> None:
    gate = AddressGate(1)
    await gate.enter("192.0.2.1", "a")
    waiting = entering(gate, "192.0.2.1", "b")
    await turns()
    gate.close()
    with pytest.raises(OSError, match="closed"):
        await waiting


@pytest.mark.parametrize("seed", range(20))
async def test_the_invariants_hold_whatever_happens(seed: int) -> None:
    chance = random.Random(seed)
    gate = AddressGate(3)
    places: list[Place] = []
    tasks: list[asyncio.Task[Place]] = []
    for _ in range(300):
        match chance.randrange(4):
            case 0 | 1:
                tasks.append(entering(gate, f"192.0.2.{chance.randrange(2)}", f"h{chance.randrange(8)}"))
            case 2 if places:
                gate.leave(places.pop(chance.randrange(len(places))))
            case 3 if tasks:
                tasks[chance.randrange(len(tasks))].cancel()
        if chance.random() < 0.7:
            await turns(chance.randrange(3))
        done = [task for task in tasks if task.done()]
        tasks = [task for task in tasks if not task.done()]
        places += [task.result() for task in done if not task.cancelled()]
        gate.check()
    for task in tasks:
        task.cancel()
    for task in tasks:
        try:
            places.append(await task)
        except asyncio.CancelledError:
            continue
    for place in places:
        gate.leave(place)
    assert (gate._doors, gate.waiting) == ({}, 0)
