"""The budget for bodies: bounded, and nobody waits for ever."""

from __future__ import annotations

import asyncio

import pytest

from worker.bodies import BodyBudget, Hold


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_reader_waits_while_others_may_still_give_back() -> None:
    budget = BodyBudget(100)
    finished, reading = Hold(budget), Hold(budget)
    assert finished.grow(60)
    assert not reading.grow(60)
    waiting = asyncio.create_task(reading.room())
    await turns()
    assert not waiting.done()
    assert budget.waiting == 1
    finished.release()
    await waiting
    assert budget.held == 60
    reading.release()
    reading.release()
    assert budget.held == 0


async def test_when_all_who_hold_wait_the_first_goes_on_and_the_others_after_it() -> None:
    budget = BodyBudget(100)
    holds = [Hold(budget) for _ in range(3)]
    for hold in holds:
        hold.grow(40)
    waiting = [asyncio.create_task(hold.room()) for hold in holds]
    await turns()
    assert [task.done() for task in waiting] == [True, False, False]
    holds[0].release()
    await turns()
    assert all(task.done() for task in waiting)


async def test_new_fetches_wait_behind_those_that_read() -> None:
    budget = BodyBudget(100)
    done, reading = Hold(budget), Hold(budget)
    done.grow(50)
    reading.grow(50)
    entering = asyncio.create_task(budget.entrance())
    room = asyncio.create_task(reading.room())
    await turns()
    assert (entering.done(), room.done(), budget.waiting) == (False, False, 2)
    done.release()
    await turns()
    assert (entering.done(), room.done()) == (True, True)


async def test_a_waiter_that_is_cancelled_passes_its_turn_on() -> None:
    budget = BodyBudget(10)
    full = Hold(budget)
    full.grow(10)
    first, second = (asyncio.create_task(budget.entrance()) for _ in range(2))
    await turns()
    full.release()
    first.cancel()
    await turns()
    assert second.done()
    assert not second.cancelled()
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_reader_that_is_cancelled_lets_the_others_go_on() -> None:
    budget = BodyBudget(100)
    holds = [Hold(budget) for _ in range(3)]
    for hold in holds:
        hold.grow(40)
    waiting = [asyncio.create_task(hold.room()) for hold in holds[1:]]
    await turns()
    assert not any(task.done() for task in waiting)
    waiting[0].cancel()
    holds[1].release()
    await turns()
    assert waiting[1].done()


async def test_a_hold_that_is_forgotten_gives_its_bytes_back() -> None:
    budget = BodyBudget(10)
    hold = Hold(budget)
    hold.grow(7)
    del hold
    assert budget.held == 0
