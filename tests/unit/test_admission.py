"""What the shard admits: sitemaps, guards against traps, rounds of recrawling, near-duplicates; and robots.txt that
is too old, cookies, budgets that hold hosts back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from common import messages as m
from common.config import CrawlConfig
from common.messages import Flag, Form
from common.outcome import Outcome
from common.scope import HeldSites, Scope
from common.url import host_key, slot
from coordinator import policy
from coordinator.steps import Asked, NewRound, Received, Seeds
from coordinator.store.rows import DoneRow, key_of, request_row, unpack_request_row
from tests.unit.test_shard import SITE, Bench, lent, links, request, sent

FREE = CrawlConfig(obey_robots=False)
OBEY = CrawlConfig(sitemaps=True)
OK = m.Facts(Outcome.OK.code, status=200, elapsed_ms=5, fetched_at=1_000_000.0)
SITEMAP = Form(m.SITEMAP, (), None, None, 0, 0, None)


def robots(bench: Bench, lease: m.Lease, verdict: str = "rules", **more: Any) -> list[m.Lease]:
    bench.data += 1
    text = b"User-agent: *\n" if verdict == "rules" else None
    message = m.Robots(
        bench.data, lease.session, lease.id, SITE, verdict, None, None, None, text, 0.0, 0, **more
    )
    return sent(m.Lease, bench.give(Received(message)))


# ------------------------------------------------------------------------------------------------------ sitemaps


def test_the_sitemaps_of_a_robots_txt_are_read_first_and_have_no_line() -> None:
    bench = Bench(OBEY)
    lease = lent(bench, f"{SITE}/0", f"{SITE}/1")
    robots(bench, lease, sitemaps=(f"{SITE}/sitemap.xml",))
    [lease] = [lease, *sent(m.Lease, bench.page(lease) + bench.wait(2))][-1:]
    assert [each.form and each.form.method for each in lease.requests] == [m.SITEMAP, None]
    assert lease.requests[0].referrer == f"{SITE}/robots.txt"
    entries = m.LinkGroup(f"{SITE}/sitemap.xml", "seed", 1, 0, 0, (f"{SITE}/listed",), None, (1_700_000_000,))
    bench.page(lease, 0, links=(entries,), body=b"<record>")
    bench.page(lease, 1)
    [after] = sent(m.Lease, bench.wait(5))
    assert after.requests[0].lastmod == 1_700_000_000
    bench.page(after)
    assert sorted(bench.outcomes()) == [f"{SITE}/0", f"{SITE}/1", f"{SITE}/listed"]
    assert {line["url"]: line["lastmod"] for line in bench.lines()}[
        f"{SITE}/listed"
    ] == "2023-11-14T22:13:20.000Z"
    counts = bench.shard.ledger.counts
    assert (counts.sitemaps, counts.ended, counts.charged) == (1, 4, 3), "a sitemap is no page"
    bench.adds_up()


def test_a_sitemap_and_a_page_of_the_same_address_are_two_requests() -> None:
    bench = Bench(FREE)
    bench.join()
    bench.give(Seeds(1, (request(f"{SITE}/s", form=SITEMAP), request(f"{SITE}/s"))))
    assert bench.shard.ledger.counts.admitted == 2


def test_no_sitemaps_are_read_where_none_are_wanted() -> None:
    for config in (replace(OBEY, sitemaps=False), replace(OBEY, no_follow=True)):
        bench = Bench(config)
        robots(bench, lent(bench), sitemaps=(f"{SITE}/sitemap.xml",))
        assert bench.shard.ledger.counts.admitted == 1


# -------------------------------------------------------------------------------------------------- stale robots.txt


def known_for_a_day(bench: Bench) -> m.Lease:
    lease = lent(bench)
    robots(bench, lease)
    bench.page(lease)
    bench.now += 25 * 3600
    bench.wall += 25 * 3600
    bench.beat()
    [lease] = bench.seed(f"{SITE}/next")
    assert lease.robots == (), "too old: to be asked for again"
    return lease


def test_an_old_robots_txt_serves_while_its_server_fails() -> None:
    bench = Bench(OBEY)
    lease = known_for_a_day(bench)
    robots(bench, lease, "ROBOTS_UNREACHABLE")
    bench.release(lease)
    [again] = sent(m.Lease, bench.wait(2))
    assert [each.verdict for each in again.robots] == ["rules"]
    bench.page(again)
    assert bench.outcomes()[f"{SITE}/next"] == "OK"
    bench.wait(policy.ROBOTS_WAITS[0] + 1)
    bench.beat()
    [later] = bench.seed(f"{SITE}/later")
    assert later.robots == (), "its time is over: to be asked for again"


def test_a_copy_that_is_a_week_old_serves_no_more() -> None:
    bench = Bench(OBEY)
    lease = lent(bench)
    robots(bench, lease)
    bench.page(lease)
    bench.now += 8 * 86400
    bench.wall += 8 * 86400
    bench.beat()
    [lease] = bench.seed(f"{SITE}/next")
    robots(bench, lease, "ROBOTS_UNREACHABLE")
    bench.release(lease)
    assert sent(m.Lease, bench.wait(2)) == []


# ------------------------------------------------------------------------------------------------------------ traps


def test_what_a_guard_refuses_ends_as_a_trap_with_its_rule() -> None:
    bench = Bench(FREE)
    trap = f"{SITE}/" + "calendar/next/" * 9
    bench.page(lent(bench), links=(links(trap, f"{SITE}/good"),))
    assert bench.outcomes()[trap] == "TRAP"
    assert [line["reason"] for line in bench.lines() if line["url"] == trap] == ["repeated"]
    assert bench.shard.ledger.counts.guarded == {"repeated": 1}
    assert bench.shard.leases.requests + bench.shard.frontier.queued == 1
    bench.adds_up()
    bench.restart()
    bench.adds_up()


def test_seeds_are_not_guarded_and_guards_can_be_off() -> None:
    trap = f"{SITE}/" + "calendar/next/" * 9
    bench = Bench(FREE)
    assert lent(bench, trap).requests[0].url == trap
    bench = Bench(replace(FREE, guards=False))
    bench.page(lent(bench), links=(links(trap),))
    assert bench.shard.ledger.counts.guarded == {}


def test_counters_of_guards_are_kept() -> None:
    bench = Bench(FREE)
    lease = lent(bench)
    ids = [f"{SITE}/page?PHPSESSID={number:032x}" for number in range(8)]
    bench.page(lease, links=(links(*ids[:4]),))
    bench.restart()
    bench.join()
    bench.give(Received(bench.links(links(*ids[4:]))))
    assert bench.shard.ledger.counts.guarded == {"session": 5}


# ----------------------------------------------------------------------------------------------------------- rounds


def row(bench: Bench, url: str, round_number: int) -> DoneRow:
    form = None if not round_number else Form("GET", (), None, None, round_number, 0, None)
    name = host_key(url)  # type: ignore[arg-type]  # a canonical one
    packed = bench.rows.get(request_row(slot(name), key_of(url, form, 1)))
    assert packed is not None
    found = unpack_request_row(packed)
    assert isinstance(found, DoneRow)
    return found


def first_round(bench: Bench, *facts: m.Facts) -> None:
    lease = lent(bench, *(f"{SITE}/{number}" for number in range(len(facts))))
    for ordinal, each in enumerate(facts):
        bench.page(lease, ordinal, each, body=b"<asked><answered>", split=7)
    bench.wait(5)


TAGGED = OK._replace(
    etag='"v1"', last_modified="Thu, 01 Jan 1970 00:00:00 GMT", digest="sha1:A", wire_length=9
)


def again(bench: Bench, *urls: str, since: float | None = None) -> list[m.Lease]:
    bench.give(NewRound(1, since))
    return bench.seed(*urls)


def test_a_new_round_asks_again_with_what_was_known() -> None:
    bench = Bench(FREE)
    first_round(bench, TAGGED)
    [lease] = again(bench, f"{SITE}/0")
    form = lease.requests[0].form
    assert form is not None and form.round == 1
    assert dict(form.headers) == {
        "If-None-Match": '"v1"',
        "If-Modified-Since": "Thu, 01 Jan 1970 00:00:00 GMT",
    }


def test_a_round_that_looks_for_more_than_the_one_before_asks_for_pages_whole() -> None:
    """A 304 has no links: what a smaller depth had cut off would never be found."""
    bench = Bench(replace(FREE, max_depth=1))
    first_round(bench, TAGGED)
    bench.config = replace(FREE, max_depth=3, delay=0.5)
    bench.restart()
    bench.join()
    [lease] = [*again(bench, f"{SITE}/0"), *sent(m.Lease, bench.wait(5))]
    assert lease.requests[0].form == m.Form("GET", (), None, None, 1, 0, None)
    bench.page(lease, 0, TAGGED, body=b"<asked><answered>", split=7)
    bench.config = replace(bench.config, delay=2.0)
    bench.restart()
    bench.join()
    bench.give(NewRound(2, None))
    [lease] = [*bench.seed(f"{SITE}/0"), *sent(m.Lease, bench.wait(5))]
    assert dict(lease.requests[0].form.headers)["If-None-Match"] == '"v1"', "looks for the same"  # type: ignore[union-attr]


def test_not_modified_is_a_revisit_and_keeps_what_the_next_round_needs() -> None:
    bench = Bench(FREE)
    first_round(bench, TAGGED)
    [lease] = again(bench, f"{SITE}/0")
    same = m.Facts(Outcome.NOT_MODIFIED.code, status=304, elapsed_ms=3, fetched_at=2_000_000.0)
    bench.page(lease, 0, same, body=b"<asked>", split=7)
    [line] = [each for each in bench.lines() if each["round"] == 1]
    assert (line["outcome"], line["record"], line["etag"], line["digest"]) == (
        "NOT_MODIFIED",
        "revisit",
        '"v1"',
        "sha1:A",
    )
    assert row(bench, f"{SITE}/0", 1).facts.etag == '"v1"'
    assert bench.shard.ledger.counts.again == {"unchanged": 1}
    bench.adds_up()


def test_a_round_tells_what_changed_vanished_and_is_new() -> None:
    bench = Bench(FREE)
    first_round(bench, TAGGED, TAGGED._replace(digest="sha1:B"), TAGGED)
    [lease] = again(bench, f"{SITE}/0", f"{SITE}/1", f"{SITE}/2")
    bench.page(lease, 0, OK._replace(digest="sha1:C"), links=(links(f"{SITE}/new"),))
    bench.page(lease, 1, OK._replace(digest="sha1:B"))
    bench.page(lease, 2, m.Facts(Outcome.CLIENT_ERROR.code, status=410))
    [lease] = sent(m.Lease, bench.wait(5))
    bench.page(lease)
    assert bench.shard.ledger.counts.again == {"changed": 1, "unchanged": 1, "vanished": 1, "new": 1}
    assert {line["url"] for line in bench.lines() if line["round"] == 1} == {
        f"{SITE}/{name}" for name in ("0", "1", "2", "new")
    }


def test_what_was_fetched_lately_is_left_alone() -> None:
    bench = Bench(FREE)
    first_round(bench, TAGGED, TAGGED._replace(fetched_at=1_500_000.0))
    [lease] = again(bench, f"{SITE}/0", f"{SITE}/1", since=1_200_000.0)
    assert [each.url for each in lease.requests] == [f"{SITE}/0"]
    assert bench.shard.ledger.counts.refused["fresh"] == 1


def test_budgets_count_anew_in_a_round() -> None:
    bench = Bench(replace(FREE, max_pages_per_host=2))
    first_round(bench, OK, OK)
    bench.give(Asked(m.Cap(1, 2)))
    [lease] = again(bench, f"{SITE}/0", f"{SITE}/1", f"{SITE}/2")
    assert len(lease.requests) == 2
    assert bench.shard.ledger.counts.charged == 2
    bench.adds_up()


def test_a_round_outlives_a_restart() -> None:
    bench = Bench(FREE)
    first_round(bench, OK)
    again(bench, f"{SITE}/0", since=2_000_000.0)
    bench.restart()
    assert bench.shard.round == 1
    bench.wait(40)
    [lease] = bench.join() + sent(m.Lease, bench.wait(2))
    form = lease.requests[0].form
    assert form is not None and form.round == 1


# ------------------------------------------------------------------------------------------- near-duplicates, cookies


def test_a_near_duplicate_is_told_and_its_links_are_left() -> None:
    bench = Bench(replace(FREE, near_duplicates=3, delay=0.0))
    lease = lent(bench, f"{SITE}/0", f"{SITE}/1")
    bench.page(lease, 0, OK._replace(simhash=0b1111))
    bench.page(lease, 1, OK._replace(simhash=0b1001), links=(links(f"{SITE}/deeper"),))
    [line] = [each for each in bench.lines() if each["url"] == f"{SITE}/1"]
    assert (line["reason"], line["simhash"]) == ("near_duplicate", "0000000000000009")
    assert f"{SITE}/0" in line["error"]
    assert bench.shard.ledger.counts.refused["near_duplicate"] == 1
    assert bench.shard.ledger.counts.admitted == 2


def test_cookies_come_back_with_the_next_lease_and_only_if_wanted() -> None:
    for wanted in (True, False):
        bench = Bench(replace(FREE, cookies=wanted))
        lease = lent(bench)
        page = replace(bench.page_message(lease), cookies=b"jar")
        bench.give(Received(page))
        bench.restart()
        bench.join()
        bench.seed(f"{SITE}/next")
        [lease] = sent(m.Lease, bench.wait(5))
        assert lease.cookies == (b"jar" if wanted else None)


# ------------------------------------------------------------------------------------------------- held by a budget


def test_hosts_that_a_budget_holds_leave_memory_and_come_back() -> None:
    bench = Bench(FREE)
    bench.give(Asked(m.Cap(1, 0)))
    bench.join()
    bench.seed(*(f"https://h{number}.test/" for number in range(50)))
    assert bench.shard.frontier.lendable == 0
    bench.restart()
    assert bench.join() == [] and bench.shard.frontier.queued == 50
    bench.give(Asked(m.Cap(9, 20)))
    bench.wait(1)
    assert bench.shard.leases.requests == 20
    bench.adds_up()
    bench.give(Asked(m.Cap(10, None)))
    bench.wait(1)
    assert bench.shard.leases.requests == 50
    bench.adds_up()


def test_pages_per_host_are_counted_without_holding_hosts_in_memory() -> None:
    bench = Bench(replace(FREE, max_pages_per_host=1))
    bench.join()
    bench.seed(*(f"https://h{number % 5}.test/{number}" for number in range(20)))
    frontier = bench.shard.frontier
    assert (bench.shard.leases.requests, frontier.budgets.held, frontier.lendable) == (5, 15, 0)
    bench.restart()
    frontier = bench.shard.frontier
    assert (frontier.budgets.held, frontier.lendable) == (15, 0)
    frontier.limit_hosts(2, bench.now, bench.wall)
    assert (frontier.budgets.held, frontier.lendable) == (10, 5)
    bench.adds_up()


def test_a_trusted_flag_comes_from_the_request_alone() -> None:
    """A worker cannot make a seed's redirect of what was none."""
    bench = Bench(FREE)
    bench.page(lent(bench, f"{SITE}/0"), links=(links(f"{SITE}/1"),))
    [lease] = sent(m.Lease, bench.wait(2))
    bench.page(lease, links=(links("https://far.test/", hops=1, flags=int(Flag.SEED)),))
    assert bench.shard.scope.version == 1


def test_links_without_a_page_widen_nothing() -> None:
    """Whoever may speak may tell of links; the target of a seed's redirect rides in the page of a lease."""
    for config in (FREE, replace(FREE, max_depth=None, no_follow=True)):
        bench = Bench(config, scope=Scope("host", HeldSites({"a.test"})))
        bench.join()
        hop = links("https://far.test/", depth=0, hops=1, flags=int(Flag.SEED))
        bench.give(Received(bench.links(hop)))
        assert bench.shard.scope.version == 1
        assert bench.shard.ledger.counts.refused == {"scope": 1}
        assert bench.shard.ledger.counts.admitted == 0
