"""A configuration that changes while the crawl runs breaks no fetch off."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from tests.support.site import Answer, Site, html
from worker.exchange import Exchange
from worker.fetcher import Fetcher, FetcherSettings
from worker.fetchers import Fetchers

SETTINGS = FetcherSettings(user_agent="one", allow_private=("127.0.0.0/8",), hosts={"a.test": ("127.0.0.1",)})


async def fetch(fetchers: Fetchers, url: str) -> tuple[Fetcher, Exchange]:
    async with fetchers.fetcher() as fetcher:
        came = await fetcher.fetch(url, may_write=lambda: True, max_bytes=1 << 20)
    assert isinstance(came, Exchange), came
    return fetcher, came


def agents(site: Site) -> list[str]:
    return [hit.headers["user-agent"] for hit in site.log]


async def test_a_fetch_under_way_ends_with_the_fetcher_it_began_with(site: Site) -> None:
    site.answer("a.test", "/slow", Answer(200, {}, b"late", wait=2.0))
    site.answer("a.test", "/fast", html("x"))
    fetchers = Fetchers()
    assert fetchers.use_from_now(SETTINGS)
    slow = asyncio.create_task(fetch(fetchers, site.url("a.test", "/slow")))
    while not site.log:
        await asyncio.sleep(0.005)
    assert fetchers.use_from_now(replace(SETTINGS, user_agent="two"))
    await fetch(fetchers, site.url("a.test", "/fast"))
    assert not slow.done()
    old, came = await slow
    assert came.payload == b"late"
    assert agents(site) == ["one", "two"]
    assert old.sockets == (0, 0)  # closed with its last fetch
    await fetchers.close()


async def test_one_that_nobody_used_any_more_is_closed_with_the_next_fetch(site: Site) -> None:
    site.answer("a.test", "/", html("x"))
    fetchers = Fetchers()
    fetchers.use_from_now(SETTINGS)
    old, _ = await fetch(fetchers, site.url("a.test"))
    assert old.sockets == (0, 1)
    fetchers.use_from_now(replace(SETTINGS, user_agent="two"))
    new, _ = await fetch(fetchers, site.url("a.test"))
    assert old.sockets == (0, 0)
    assert new is not old
    await fetchers.close()


async def test_the_same_settings_keep_the_same_connections(site: Site) -> None:
    site.answer("a.test", "/", html("x"))
    fetchers = Fetchers()
    fetchers.use_from_now(SETTINGS)
    first, _ = await fetch(fetchers, site.url("a.test"))
    assert not fetchers.use_from_now(replace(SETTINGS))
    second, _ = await fetch(fetchers, site.url("a.test"))
    assert first is second
    assert len({hit.client_port for hit in site.log}) == 1
    await fetchers.close()


async def test_after_the_network_was_gone_connections_are_made_anew(site: Site) -> None:
    site.answer("a.test", "/", html("x"))
    fetchers = Fetchers()
    fetchers.use_from_now(SETTINGS)
    await fetch(fetchers, site.url("a.test"))
    fetchers.renew()
    await fetch(fetchers, site.url("a.test"))
    assert len({hit.client_port for hit in site.log}) == 2
    assert not fetchers.use_from_now(replace(SETTINGS))
    await fetchers.close()


async def test_held_bytes_are_those_of_old_and_new(site: Site) -> None:
    site.answer("a.test", "/", Answer(200, {}, b"x" * 1000))
    fetchers = Fetchers()
    assert fetchers.held == 0
    fetchers.use_from_now(SETTINGS)
    _, came = await fetch(fetchers, site.url("a.test"))
    assert fetchers.held == 1000
    came.release()
    assert fetchers.held == 0
    await fetchers.close()
