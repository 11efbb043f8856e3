"""What the shard does when a person steers: retries, rounds, and how far the known URLs were read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from common import messages as m
from common.config import CrawlConfig
from common.errors import UsageError
from common.messages import Flag, Request
from common.outcome import Outcome
from common.scope import HeldSites, Scope
from common.url import host_key, slot
from coordinator.changing import with_blocked
from coordinator.explain import plain_form
from coordinator.recrawl import as_new, belongs, is_last, is_over, read_from
from coordinator.retrying import Wanted
from coordinator.steps import Asked, NewRound, Reconfigured, Retry, Seeds, Steered
from coordinator.store.rows import DoneRow, key_of, meta_row, pack, request_row, unpack_request_row
from coordinator.walk import END_KEY, FIRST_KEY, newly_blocked, queued_at, step
from tests.unit.test_shard import OK, SITE, Bench, close, lent, links, poll, request, sent

FREE = CrawlConfig(obey_robots=False, retries=0)


def key(url: str, current: int = 0) -> bytes:
    name = host_key(url)  # type: ignore[arg-type]
    return request_row(slot(name), key_of(url, plain_form(False, current), 1))


def done(bench: Bench, url: str, current: int = 0) -> DoneRow:
    packed = bench.rows.get(key(url, current))
    assert packed is not None
    row = unpack_request_row(packed)
    assert isinstance(row, DoneRow)
    return row


def ended(bench: Bench, *facts: m.Facts) -> list[str]:
    """So many URLs of a site that ended so."""
    urls = [f"{SITE}/{number}" for number in range(len(facts))]
    lease = lent(bench, *urls)
    for ordinal, each in enumerate(facts):
        bench.page(lease, ordinal, each)
    bench.wait(5)
    return urls


def work(bench: Bench) -> None:
    """Everything that is lent, and all that is lent after it, gives a page."""
    quiet = 0
    while quiet < 10:
        quiet += 1
        bench.wait(2)
        for lease in list(bench.shard.leases):
            for ordinal in sorted(lease.open):
                quiet = 0
                bench.page(lease, ordinal)  # type: ignore[arg-type]  # it has what is needed of a Lease


def known(*urls: str, read_to: bytes = END_KEY) -> Seeds:
    return Seeds(2, tuple(request(url) for url in urls), read_to)


# ------------------------------------------------------------------------------------------------------ retries


def test_what_was_never_lent_is_charged_when_it_is_tried_anew() -> None:
    bench = Bench(with_blocked(FREE, ["b.test"], undo=False))
    bench.give(Asked(m.Cap(1, 1)))
    bench.page(lent(bench, f"{SITE}/"), links=(links(*(f"https://b.test/{n}" for n in range(3))),))
    bench.wait(5)
    blocked = [url for url, outcome in bench.outcomes().items() if outcome == "OPERATOR"]
    assert len(blocked) == 3
    bench.give(Reconfigured(FREE))
    assert sent(m.Lease, bench.give(Retry(7, tuple(map(key, blocked)))) + bench.wait(5)) == []
    [lease] = sent(m.Lease, bench.give(Asked(m.Cap(2, 3))) + bench.wait(5))
    assert len(lease.requests) == 2, "--max-pages is never passed"
    bench.adds_up()


def test_a_page_that_is_tried_anew_in_a_round_is_counted_as_what_it_is_at_last() -> None:
    bench = Bench(FREE)
    [url] = ended(bench, OK._replace(digest="sha1:A"))
    bench.give(NewRound(1, None))
    [lease] = bench.seed(url)
    bench.page(lease, 0, m.Facts(Outcome.TIMEOUT.code))
    assert +bench.shard.ledger.counts.again == {"vanished": 1}
    bench.give(Retry(7, (key(url, 1),)))
    [lease] = sent(m.Lease, bench.wait(400))
    bench.page(lease, 0, OK._replace(digest="sha1:A"))
    assert +bench.shard.ledger.counts.again == {"unchanged": 1}
    bench.adds_up()


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "name outcomes, such as --outcome TIMEOUT"),
        (["TIMEOUTS"], "no outcome is called 'TIMEOUTS'; did you mean TIMEOUT?"),
        (["OK,q"], "no outcome is called 'q'; there are OK, REDIRECT"),
    ],
)
def test_a_name_that_is_no_outcome_is_told_the_nearest(names: list[str], said: str) -> None:
    with pytest.raises(UsageError) as error:
        Wanted.of(names, None)
    assert said in str(error.value)


def test_outcomes_are_read_as_they_are_typed() -> None:
    wanted = Wanted.of(["timeout,SERVER_ERROR", "host-unreachable"], "https://A.test/x")
    assert wanted.outcomes == {Outcome.TIMEOUT, Outcome.SERVER_ERROR, Outcome.HOST_UNREACHABLE}
    assert wanted.match == "a.test"


# ------------------------------------------------------------------------------------------------------- rounds


def test_what_was_fetched_in_an_earlier_round_is_no_trap_in_the_next() -> None:
    """Its shape was counted when it was found; counted again with each round, every site would be a trap at last."""
    bench = Bench(replace(FREE, delay=0.0))
    urls = [f"{SITE}/calendar?year={year}&month=1" for year in range(1950, 1990)]
    lease = lent(bench, f"{SITE}/")
    bench.page(lease, 0, links=(links(*urls),))
    work(bench)
    fetched = [url for url, outcome in bench.outcomes().items() if outcome == "OK"]
    assert len(fetched) > 5
    before = bench.shard.ledger.counts.guarded.total()
    for number in range(1, 4):
        bench.give(NewRound(number, None))
        bench.give(known(*fetched))
        work(bench)
        assert bench.shard.ledger.counts.again["unchanged"] == len(fetched)
        assert bench.shard.ledger.counts.guarded.total() == before
    bench.adds_up()


def test_what_a_budget_held_back_is_fetched_once_whatever_the_round() -> None:
    bench = Bench(FREE)
    bench.give(Asked(m.Cap(1, 1)))
    lease = lent(bench, f"{SITE}/0", f"{SITE}/1")
    bench.page(lease, 0, links=(links(f"{SITE}/2", depth=3),))
    bench.wait(5)
    assert is_over(bench.shard), "the rest is held back"
    bench.give(NewRound(1, None))
    bench.give(known(f"{SITE}/0"))
    bench.give(Seeds(3, (request(f"{SITE}/1"), request(f"{SITE}/2", depth=1))))
    assert not is_over(bench.shard)
    bench.give(Asked(m.Cap(2, 10)))
    work(bench)
    lines = [(line["url"][-1], line["round"], line["depth"]) for line in bench.lines()]
    assert sorted(lines) == [("0", 0, 0), ("0", 1, 0), ("1", 0, 0), ("2", 0, 1)]
    bench.adds_up()


def test_how_far_the_known_urls_were_read_is_kept_with_what_they_gave() -> None:
    bench = Bench(FREE)
    ended(bench, OK, OK)
    assert read_from(bench.rows, bench.shard.round) == END_KEY
    bench.give(NewRound(1, None))
    assert read_from(bench.rows, 1) == FIRST_KEY and not is_over(bench.shard)
    bench.give(known(f"{SITE}/0", read_to=b"rx"))
    bench.handle(known(f"{SITE}/1"))  # and killed before its commit
    bench.restart()
    assert read_from(bench.rows, bench.shard.round) == b"rx"
    bench.give(known(f"{SITE}/1"))
    assert read_from(bench.rows, 1) == END_KEY
    assert bench.shard.ledger.counts.admitted == 4
    bench.give(NewRound(2, None))
    assert read_from(bench.rows, 2) == FIRST_KEY, "a new round reads all of them again"


def test_of_several_rounds_the_last_one_that_fetched_a_url_speaks_for_it() -> None:
    bench = Bench(FREE)
    urls = ended(bench, OK, OK, OK)
    bench.give(NewRound(1, None))
    [lease] = bench.seed(*urls[:2])
    bench.page(lease, 0, OK)
    bench.page(lease, 1, m.Facts(Outcome.OPERATOR.code))
    bench.rows.put(meta_row("crawl"), pack((b"c" * 16, 1)))
    rows, after = step(bench.rows, FIRST_KEY, lambda rows, row: is_last(rows, row, 2))
    assert after == END_KEY
    assert {(row.request.url[-1], 0 if row.request.form is None else 1) for _, row in rows} == {
        ("0", 1),
        ("1", 0),  # it was blocked in between, which says nothing of it
        ("2", 0),
    }


def test_a_known_request_is_given_again_without_what_an_earlier_round_put_on_it() -> None:
    bench = Bench(FREE)
    [url] = ended(bench, OK._replace(etag='"1"'))
    bench.give(NewRound(1, None))
    [lease] = sent(m.Lease, bench.give(known(url)))
    bench.page(lease, 0, OK._replace(etag='"2"'))
    again = as_new(done(bench, url, 1))
    assert again == Request(url, 0, 0, 0, 0, "seed", None, plain_form(False, 1)._replace(round=0))  # type: ignore[union-attr]


def test_a_recrawl_obeys_the_options_of_today() -> None:
    scope = Scope("host", HeldSites({"a.test"}), deny=("/no",))
    for url, flags, depth, config, wanted in (
        ("https://a.test/", 0, 1, FREE, True),
        ("https://a.test/no", 0, 1, FREE, False),
        ("https://a.test/no", Flag.SEED, 0, FREE, True),
        ("https://b.test/", 0, 1, FREE, False),
        ("https://a.test/", 0, 3, replace(FREE, max_depth=2), False),
        ("https://a.test/", 0, 1, replace(FREE, no_follow=True), False),
        ("https://a.test/", Flag.SEED, 0, replace(FREE, no_follow=True), True),
    ):
        assert belongs(request(url, flags=flags, depth=depth), scope, config) is wanted, url


def test_what_a_block_ends_is_counted_by_host() -> None:
    bench = Bench(FREE)
    bench.give(Seeds(1, tuple(request(f"https://{name}.test/{n}") for name in "ab" for n in range(3))))
    assert queued_at(bench.rows, newly_blocked(FREE, with_blocked(FREE, ["*.other.test"], undo=False))) == 0
    assert queued_at(bench.rows, newly_blocked(FREE, with_blocked(FREE, ["b.test"], undo=False))) == 3
    assert queued_at(bench.rows, lambda name: True, without=frozenset({"b.test"})) == 3


def test_a_blocked_host_that_a_budget_holds_back_ends_at_once() -> None:
    bench = Bench(FREE)
    bench.give(Asked(m.Cap(1, 1)))
    bench.page(lent(bench, f"{SITE}/"), links=(links("https://b.test/1", "https://c.test/1"),))
    bench.restart()
    bench.wait(5)
    bench.shard.frontier.hosts.clear()  # as when there are more of them than memory is for
    bench.give(Reconfigured(with_blocked(FREE, ["b.test"], undo=False)))
    bench.wait(5)
    assert bench.outcomes() == {f"{SITE}/": "OK", "https://b.test/1": "OPERATOR"}
    assert is_over(bench.shard), "c.test is still held back"
    bench.adds_up()


# ------------------------------------------------------------------------------- what is blocked ends, always


def blocked(bench: Bench, *hosts: str) -> Reconfigured:
    return Reconfigured(with_blocked(bench.shard.config, hosts, undo=False))


def exhausted(hosts: int, pages: int, **config: int) -> Bench:
    """A crawl whose budget is used up, with so many pages of each host queued beyond it."""
    bench = Bench(replace(FREE, guards=False, **config))  # type: ignore[arg-type]
    if not config:
        bench.give(Asked(m.Cap(1, 1)))
    bench.join()
    lease = lent(bench, f"{SITE}/")
    for host in range(hosts):
        bench.give(Seeds(1, tuple(request(f"https://h{host}.test/{page}") for page in range(pages))))
    bench.page(lease)
    bench.wait(1)
    return bench


def run_until_quiet(bench: Bench) -> None:
    while bench.shard.next_wakeup() == 0.0:
        bench.wait(0.0)


@pytest.mark.parametrize("pattern", ["h1.test", "h1.*"])
@pytest.mark.parametrize("kept", [True, False])
def test_a_blocked_host_ends_its_queue_though_the_budget_is_used_up(pattern: str, kept: bool) -> None:
    bench = exhausted(3, 1200)
    run_until_quiet(bench)
    assert poll(bench, 1).lendable == 0, "what the budget holds back keeps no crawl open"
    if not kept:
        bench.restart()
        bench.join()
        run_until_quiet(bench)
    bench.give(blocked(bench, pattern))
    report = poll(bench, 2)
    assert report.lendable, "what is to end does"
    assert not close(bench, report)
    run_until_quiet(bench)
    ended = [url for url, outcome in bench.outcomes().items() if outcome == "OPERATOR"]
    assert sorted(ended) == sorted(f"https://h1.test/{page}" for page in range(1200))
    assert close(bench, poll(bench, 3))
    bench.adds_up()


def test_a_blocked_host_ends_its_queue_though_nobody_works_and_the_crawl_is_paused() -> None:
    bench = Bench(FREE)
    bench.seed(f"{SITE}/1", "https://b.test/1")
    bench.give(Steered(m.Phase.PAUSED))
    bench.give(blocked(bench, "a.test"))
    assert bench.outcomes() == {f"{SITE}/1": "OPERATOR"}


def test_a_blocked_host_that_was_parked_ends_before_its_turn_comes() -> None:
    bench = Bench(FREE)
    bench.shard.frontier.bench.room = 2
    bench.seed(*(f"https://h{number}.test/" for number in range(10)))
    bench.give(blocked(bench, "h8.test"))
    assert bench.outcomes() == {"https://h8.test/": "OPERATOR"}
    bench.give(Reconfigured(with_blocked(bench.shard.config, ["h8.test"], undo=True)))
    assert [lease.host for lease in bench.join()][:1] == ["h0.test"]
    bench.seed("https://h8.test/again")
    bench.adds_up()


def test_what_is_found_of_a_blocked_host_ends_at_once() -> None:
    bench = Bench(FREE)
    bench.give(blocked(bench, "b.test"))
    bench.page(lent(bench, f"{SITE}/"), links=(links("https://b.test/1"),))
    assert bench.outcomes()["https://b.test/1"] == "OPERATOR"


def test_many_blocked_hosts_are_ended_some_at_a_time() -> None:
    """And do not fill memory meanwhile."""
    bench = Bench(replace(FREE, guards=False))
    bench.shard.frontier.bench.room = 10
    for batch in range(4):
        bench.give(
            Seeds(1, tuple(request(f"https://h{batch}-{n}.test/{p}") for n in range(300) for p in range(3)))
        )
    bench.give(blocked(bench, "*.test"))
    steps = most = 0
    while bench.shard.next_wakeup() == 0.0:
        before = bench.shard.ledger.counts.ended
        bench.wait(0.0)
        steps += 1
        most = max(most, bench.shard.ledger.counts.ended - before)
    assert bench.shard.ledger.counts.ended == 3600
    assert most <= 600
    assert steps >= 5
