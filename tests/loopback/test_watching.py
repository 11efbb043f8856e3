"""What a crawl waits for is told right: each cause is brought about at a real shard, and by real processes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common import messages as m
from common.config import CrawlConfig
from common.errors import DiskFull
from common.log import LogSettings, set_up_log
from common.messages import Phase
from common.outcome import Outcome
from common.tuning import Tuning
from coordinator import survey
from coordinator.outputs import OutputBatch
from coordinator.status import Phase as Shown
from coordinator.steps import Steered
from tests.support.watched import ONE, TWO, Watched, failed

FREE = CrawlConfig(obey_robots=False, min_free=0)
A, B = "https://a.test/", "https://b.test/"


async def test_without_workers_the_command_to_start_one_is_told(tmp_path: Path) -> None:
    async with Watched(tmp_path) as crawl:
        crawl.seed(A)
        status = crawl.look(worker_command="worker start --coord tcp://x:1")
        assert status.limits == "no workers: run `worker start --coord tcp://x:1`"
        assert [each.what for each in status.waiting] == ["no_workers"]
        assert crawl.look(worker_command="").limits == "the local workers are starting"
        crawl.join()
        assert "no_workers" not in crawl.causes()


async def test_a_worker_that_says_nothing_is_told_as_silent_not_as_none(tmp_path: Path) -> None:
    quick = replace(FREE, tuning=Tuning(heartbeat=0.02))
    async with Watched(tmp_path, quick) as crawl:
        crawl.join(host="node1")
        crawl.seed(A)
        await crawl.until(lambda: "workers_silent" in crawl.causes())
        status = crawl.look()
        assert status.waiting[0].what == "workers_silent"
        assert "no word from 1 worker" in status.limits
        assert status.waiting[0].examples == ("node1:7",)
        assert status.phase is Shown.RUNNING  # its lease is still out


async def test_one_polite_host_is_told_with_its_own_delay(tmp_path: Path) -> None:
    async with Watched(tmp_path, replace(FREE, delay=60.0)) as crawl:
        crawl.join()
        crawl.seed(A, A + "2")
        crawl.page(A)
        if crawl.core.leases.requests:
            crawl.release(A + "2")
        status = crawl.look()
        assert status.phase is Shown.WAITING
        [cause] = status.waiting
        assert cause.what == "politeness"
        assert cause.text.startswith("1 host × 60 s: at most 0.0167 pages/s")
        assert cause.until_seconds == pytest.approx(60, abs=5)
        assert cause.examples == ("a.test",)


async def test_many_polite_hosts_are_told_with_who_is_due_first(tmp_path: Path) -> None:
    async with Watched(tmp_path, replace(FREE, delay=60.0)) as crawl:
        crawl.join()
        urls = [f"https://h{number}.test/" for number in range(25)]
        crawl.seed(*urls)
        for url in urls:
            crawl.page(url)
        crawl.seed(*(f"{url}2" for url in urls))
        [cause] = crawl.look().waiting
        assert cause.what == "politeness"
        assert cause.text.startswith("waiting for politeness: 25 hosts, next due in ")
        assert cause.count == 25
        assert len(cause.examples) == 5


async def test_a_retry_is_no_politeness(tmp_path: Path) -> None:
    """It was told as that: 'waiting for politeness'."""
    async with Watched(tmp_path) as crawl:
        crawl.join()
        crawl.seed(A)
        crawl.page(A, failed(Outcome.TIMEOUT))
        status = crawl.look()
        assert status.waiting[0].what == "retries"
        assert status.limits.startswith("1 URL waits for a retry, next in ")
        assert status.waiting[0].until_seconds == pytest.approx(10, abs=3)
        assert status.waiting[0].examples == ("a.test",)
        assert (status.retries_waiting, status.queued, status.tries) == (1, 1, {"TIMEOUT": 1})
        [error] = status.recent_errors
        assert (error.url, error.outcome, error.error, error.again) == (
            A,
            "TIMEOUT",
            "it was not to be",
            True,
        )
        assert "politeness" not in {each.what for each in status.waiting}


async def test_a_host_that_rests_after_failures_is_told(tmp_path: Path) -> None:
    async with Watched(tmp_path) as crawl:
        crawl.join()
        crawl.seed(A + "1", A + "2", A + "3", A + "4")
        for number in "123":
            crawl.page(A + number, failed(Outcome.REFUSED))
        crawl.release(A + "4")
        causes = crawl.causes()
        assert next(iter(causes)) == "backoff"
        assert causes["backoff"].text.startswith("1 host rests after failures, a.test is tried again in ")
        assert causes["backoff"].until_seconds == pytest.approx(8, abs=3)
        assert causes["retries"].count == 3
        [host] = crawl.look().failing_hosts
        assert (host.host, host.failures, host.given_up) == ("a.test", 3, "")


async def test_a_robots_txt_that_could_not_be_read_is_told_with_its_time(tmp_path: Path) -> None:
    async with Watched(tmp_path, CrawlConfig(min_free=0, delay=0.0)) as crawl:
        crawl.join()
        crawl.seed(A + "1", B + "1")
        crawl.robots(A + "1", "ROBOTS_UNREACHABLE")
        crawl.release(A + "1")
        crawl.robots(B + "1", "allow")
        crawl.page(B + "1")
        await crawl.settled()
        status = crawl.look()
        assert status.waiting[0].what == "robots"
        assert status.limits.startswith(
            "robots.txt of 1 host could not be read, a.test is asked for again in "
        )
        assert status.waiting[0].until_seconds == pytest.approx(60, abs=5)
        assert status.waiting[0].hint == "yours? --ignore-robots"
        assert [error.url for error in status.recent_errors] == ["https://a.test/robots.txt"]


async def test_what_waits_for_an_address_is_told(tmp_path: Path) -> None:
    async with Watched(tmp_path, replace(FREE, per_ip=1, delay=0.0)) as crawl:
        crawl.join()
        here = replace_ip("192.0.2.1")
        for url in (A + "1", B + "1"):
            crawl.seed(url)
            crawl.page(url, here)
            await crawl.settled()
        crawl.seed(A + "2", B + "2")
        await crawl.settled()
        cause = crawl.causes()["per_ip"]
        assert cause.text.startswith("--per-ip 1: 1 host waits for others of 192.0.2.1")
        assert (cause.count, cause.examples) == (1, ("192.0.2.1",))


async def test_a_permit_that_is_waited_for_is_told(tmp_path: Path) -> None:
    async with Watched(tmp_path, replace(FREE, delay=60.0)) as crawl:
        crawl.join()
        crawl.seed(B)
        crawl.page(B)
        crawl.say(m.Want(crawl.number(), ONE, "b.test"))
        cause = crawl.causes()["permits"]
        assert cause.text == "a robots.txt was redirected to b.test, which must be due first"


async def test_a_budget_that_holds_everything_is_told(tmp_path: Path) -> None:
    async with Watched(tmp_path, replace(FREE, max_pages=1)) as crawl:
        crawl.cap(1)
        crawl.join()
        crawl.seed(A, B)
        lent = A if any(lease.host == "a.test" for lease in crawl.core.leases) else B
        crawl.page(lent)
        status = crawl.look()
        assert status.limits == "--max-pages is reached: 1 URLs stay queued"
        assert status.held_back == 1
    folder = tmp_path / "second"
    folder.mkdir()
    async with Watched(folder, replace(FREE, max_pages_per_host=1)) as crawl:
        crawl.join()
        crawl.seed(A, A + "2")
        crawl.page(A)
        assert crawl.look().limits == "--max-pages-per-host is reached: 1 URLs stay queued"


async def test_workers_without_network_are_told(tmp_path: Path) -> None:
    async with Watched(tmp_path) as crawl:
        crawl.join()
        crawl.beat(lanes=0, requests=0, offline=True)
        crawl.seed(A)
        status = crawl.look()
        assert status.waiting[0].what == "workers_offline"
        assert status.limits.startswith("1 worker without network: node1:7")
        assert status.workers[0].offline
        crawl.join(TWO, host="node2")
        assert crawl.look().waiting[0].what != "workers_offline"
        assert "workers_offline" in crawl.causes()


async def test_workers_without_credit_are_told_by_what_it_is(tmp_path: Path) -> None:
    async with Watched(tmp_path, replace(FREE, memory=1 << 20)) as crawl:
        crawl.join(lanes=1, requests=10)
        crawl.seed(A, B, "https://c.test/")
        assert crawl.look().limits == (
            "fetches in flight: 1 of 1; more processes or a larger --concurrency help"
        )
        crawl.beat(lanes=1, requests=10, in_flight=1, held_bytes=1 << 20)
        status = crawl.look()
        assert status.waiting[0].what == "memory"
        assert status.waiting[0].examples == ("node1:7",)
        assert status.workers[0].held_bytes == 1 << 20


async def test_busy_processors_are_told(tmp_path: Path) -> None:
    async with Watched(tmp_path) as crawl:
        crawl.join()
        crawl.seed(A)
        crawl.beat(in_flight=1, cpu_percent=97, rss=1 << 26, extract_percent=93)
        assert crawl.look().limits == (
            "extractors busy: they take 93% of the workers' time; more processes or machines help"
        )
        assert crawl.look().workers[0].extract_percent == 93
        crawl.beat(in_flight=1, cpu_percent=97, rss=1 << 26)
        status = crawl.look()
        assert status.limits == "workers busy: CPU at 97%; more processes or machines help"
        assert (status.workers[0].cpu_percent, status.workers[0].rss_bytes) == (97, 1 << 26)


async def test_dns_that_fails_is_told_although_the_retries_wait(tmp_path: Path) -> None:
    async with Watched(tmp_path) as crawl:
        crawl.join()
        crawl.look()
        urls = [f"https://h{number}.test/" for number in range(12)]
        crawl.seed(*urls)
        for url in urls:
            crawl.page(url, failed(Outcome.DNS))
        status = crawl.look()
        assert status.waiting[0].what == "dns"
        assert status.limits.startswith("DNS: 100% of the last 12 fetches came to that; do the machines")
        assert "retries" in crawl.causes()


async def test_a_disk_that_is_short_and_one_that_is_full_are_told(tmp_path: Path) -> None:
    async with Watched(tmp_path, replace(FREE, min_free=1 << 60)) as crawl:
        crawl.join()
        assert crawl.look().limits.startswith("disk short: ")
        crawl.watch.config = FREE
        room = threading.Event()
        crawl.sink.write = until_room(room, crawl.sink.write)  # type: ignore[method-assign, assignment]
        crawl.seed(A)
        crawl.page(A)
        await crawl.until(lambda: crawl.look().limits.startswith("disk full: "))
        assert crawl.look().waiting[0].what == "disk_full"
        room.set()
        await crawl.until(lambda: "disk_full" not in crawl.causes())


async def test_storage_that_is_behind_is_told(tmp_path: Path) -> None:
    async with Watched(tmp_path) as crawl:
        crawl.join()
        crawl.seed(A)
        goes_on = threading.Event()
        write = crawl.sink.write

        def slow(batch: OutputBatch) -> None:
            goes_on.wait(30)
            write(batch)

        crawl.sink.write = slow  # type: ignore[method-assign]
        crawl.page(A)
        await crawl.until(lambda: crawl.look().limits.startswith("storage is behind: a commit takes "))
        assert crawl.look().commit_seconds >= 2
        goes_on.set()


async def test_what_a_person_did_comes_first(tmp_path: Path) -> None:
    async with Watched(tmp_path) as crawl:
        crawl.seed(A)
        crawl.deliver(Steered(Phase.PAUSED))
        assert crawl.look(Shown.PAUSED).limits == "paused by hand: `coord resume c1` goes on"
        assert crawl.look(Shown.STOPPING).limits == "ending: what is in flight is brought home"
        assert crawl.look(Shown.FINISHED).waiting == ()


async def test_seeds_that_are_read_and_seeds_that_never_came(tmp_path: Path) -> None:
    async with Watched(tmp_path) as crawl:
        crawl.join()
        assert crawl.look().limits == "nothing queued: waiting for seeds"
        crawl.tally.reading = 1
        assert crawl.look().limits == "reading seeds"
        crawl.seed(A)
        assert "seeds" in crawl.causes()


async def test_text_of_the_web_is_safe_to_show(tmp_path: Path) -> None:
    async with Watched(tmp_path) as crawl:
        crawl.join(host="no\x1b[2Jde")
        crawl.seed(A)
        crawl.page(A, m.Facts(Outcome.RESET.code, error="bye\x1b]0;owned\x07"))
        crawl.beat(offline=True, lanes=0, requests=0)
        status = crawl.look()
        told = json.dumps([each.text for each in status.waiting]) + status.recent_errors[0].error
        assert "\x1b" not in told
        assert "\\u001b" not in told
        assert "owned" in told


async def test_one_long_queue_decides_how_long_it_takes(tmp_path: Path) -> None:
    """Ten quick hosts say 'three seconds left', while one host has a hundred pages at ten seconds each."""
    async with Watched(tmp_path, replace(FREE, no_follow=True, delay=10.0)) as crawl:
        crawl.join()
        quick = [f"https://h{number}.test/" for number in range(20)]
        crawl.seed(*quick, *(f"{A}{number}" for number in range(100)))
        crawl.look(after=0)
        for url in quick:
            crawl.page(url)
        status = crawl.look(after=2)
        assert status.rate == pytest.approx(10)
        [longest] = status.long_queues
        assert (longest.host, longest.delay_seconds) == ("a.test", 10.0)
        assert longest.queued >= 90
        assert status.eta_seconds == pytest.approx(longest.queued * 10)
        cause = crawl.causes()["longest_queue"]
        assert cause.examples == ("a.test",)
        assert cause.until_seconds == longest.alone_seconds


async def test_a_look_costs_the_same_with_twenty_thousand_hosts(tmp_path: Path) -> None:
    """Counted in hosts, not in seconds: a step looks at a part, and all are seen after so many steps."""
    async with Watched(tmp_path) as crawl:
        urls = [f"https://h{number}.test/" for number in range(4 * survey.STEP_HOSTS)]
        crawl.seed(*urls)
        crawl.seed("https://h9.test/2", "https://h9.test/3")
        look = survey.Survey(crawl.core)
        pictures = [look.step(1000.0 + step, 0.0) for step in range(6)]
        assert [picture.hosts for picture in pictures[:3]] == [0, 0, 0]
        assert pictures[3].hosts == len(urls)
        assert pictures[3].long_queues[0].host == "h9.test"
        assert len(pictures[3].long_queues) == survey.KEPT
        # Asked more often than that, it looks no further.
        assert look.step(1005.1, 0.0) is pictures[5]


async def test_the_log_says_why_nothing_moves(
    tmp_path: Path, log_lines: Callable[[], list[dict[str, Any]]]
) -> None:
    async with Watched(tmp_path) as crawl:
        crawl.seed(A)
        for seconds in (59, 60, 61, 119, 120, 239, 240):
            crawl.look(after=seconds)
        crawl.join()
        crawl.page(A)
        crawl.look(after=300)
        crawl.look(after=330)
    lines = [line for line in log_lines() if line["event"].startswith("crawl.")]
    assert [(line["event"], round(line["still_s"])) for line in lines] == [
        ("crawl.waiting", 60),
        ("crawl.waiting", 120),
        ("crawl.waiting", 240),
        ("crawl.moving", 300),
    ]
    assert lines[0]["causes"] == "no workers: run `worker start`"


@pytest.fixture
def log_lines(tmp_path: Path) -> Callable[[], list[dict[str, Any]]]:
    """What was written into the log, a file of JSON lines."""
    path = tmp_path / "log" / "coord.log"
    path.parent.mkdir()
    set_up_log(LogSettings(form="json", file=path))
    return lambda: [json.loads(line) for line in path.read_text().splitlines()]


def replace_ip(ip: str) -> m.Facts:
    return m.Facts(Outcome.OK.code, status=200, elapsed_ms=1, ip=ip)


def until_room(room: threading.Event, write: Callable[[OutputBatch], None]) -> Callable[[OutputBatch], None]:
    def guarded(batch: OutputBatch) -> None:
        if not room.is_set():
            raise DiskFull("no room")
        write(batch)

    return guarded
