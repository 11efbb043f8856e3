"""The worker's agent, one test a promise; numbers in brackets are the rules of docs/protocol.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TypeVar

import pytest

from common import messages as m
from common.config import CrawlConfig
from common.configwire import config_to_wire
from common.messages import LeaseId, LinkGroup, Phase, Request, SessionId, lease_id
from common.outcome import Outcome
from common.scope import HeldSites, Scope
from common.tuning import Tuning
from common.url import CanonicalURL, fingerprint, host_key, slot
from common.wire import encode, pack
from worker.agent import DRAIN_SECONDS, Agent
from worker.owed import SEND_AGAIN_AFTER
from worker.steps import (
    Abort,
    Arrived,
    Configure,
    Connect,
    Exit,
    Fetched,
    Instruction,
    Leaving,
    Load,
    Post,
    Report,
    Rescoped,
    RobotsFetched,
    Woken,
)
from worker.visit import SELF_REDIRECTS, Fetch, FetchRobots

ME = SessionId(b"m" * 16)
DEAD = SessionId(b"d" * 16)
CRAWL = b"c" * 16
SITE = "https://a.test"
T, BEAT = 30.0, 5.0
SEED = 99
FACTS = m.Facts(outcome=Outcome.OK.code, status=200)
SCOPE = Scope("any", None)
Kind = TypeVar("Kind")


def halves(shards: int) -> bytes:
    return bytes(number % shards for number in range(1024))


def foreign_url(shard: int, shards: int = 2) -> str:
    """A URL that belongs to this shard."""
    names = (f"https://n{number}.test/" for number in range(100))
    return next(url for url in names if slot(host_key(CanonicalURL(url))) % shards == shard)


def links(*urls: str, depth: int = 1) -> LinkGroup:
    return LinkGroup(f"{SITE}/", "seed", depth, 0, 0, urls, None)


class Desk:
    """An agent, a clock, and what the agent wants done."""

    def __init__(
        self,
        shards: int = 1,
        *,
        config: CrawlConfig | None = None,
        replaces: Sequence[bytes] = (),
        suspects: Sequence[tuple[bytes, int, int]] = (),
        greet: bool = True,
    ) -> None:
        self.now = 1000.0
        self.shards = shards
        self.config = config or CONFIG
        self.epochs = [1] * shards
        self.counter = 0
        self.numbers: dict[int, int] = {}
        """The last control number heard from the agent, by shard."""
        self.posts: list[Post] = []
        self.agent = Agent(
            ME,
            replaces=replaces,
            suspects=suspects,
            host="box",
            pid=7,
            index=0,
            local=False,
            now=self.now,
            max_lanes=1000,
        )
        self.out = self.wake()
        if greet:
            for shard in range(shards):
                self.out += self.welcome(shard)
            self.posts.clear()

    # what happens to it

    def take(self, out: list[Instruction]) -> list[Instruction]:
        for each in out:
            if isinstance(each, Post):
                self.posts.append(each)
                if not each.data:
                    self.numbers[each.shard] = each.message.number
        return out

    def wake(self, seconds: float = 0.0) -> list[Instruction]:
        self.now += seconds
        return self.take(self.agent.handle(Woken(), self.now))

    def pass_time(self, seconds: float) -> list[Instruction]:
        """Woken whenever it asks for it."""
        end, out = self.now + seconds, []
        while (at := self.agent.next_wakeup()) <= end:
            self.now = max(self.now, at)
            out += self.wake()
        self.now = end
        return out

    def arrive(self, message: m.ToWorker, shard: int = 0) -> list[Instruction]:
        return self.take(self.agent.handle(Arrived(shard, message), self.now))

    def welcome(
        self,
        shard: int = 0,
        *,
        number: int | None = None,
        epoch: int | None = None,
        store: int = 5,
        crawl: bytes = CRAWL,
        scope: Scope = SCOPE,
    ) -> list[Instruction]:
        message = m.Welcome(
            session=ME,
            number=self.numbers[shard] if number is None else number,
            version=m.VERSION,
            crawl=crawl,
            store=store,
            shard=shard,
            shards=self.shards,
            epoch=self.epochs[shard] if epoch is None else epoch,
            ttl=T,
            heartbeat=BEAT,
            slots=halves(self.shards),
            seed=SEED,
            config=pack(config_to_wire(self.config)),
            scope=pack(scope.to_wire()),
            scope_version=scope.version,
        )
        return self.arrive(message, shard)

    def lease(
        self,
        *urls: str,
        shard: int = 0,
        number: int | None = None,
        lanes: int = 1,
        delay: float = 1.0,
        scope_version: int = 1,
        robots: tuple[m.RobotsRules, ...] = (),
        cookies: bytes | None = None,
    ) -> m.Lease:
        self.counter += 1
        return m.Lease(
            session=ME,
            number=self.numbers[shard] if number is None else number,
            id=lease_id(self.epochs[shard], self.counter, shard),
            host="a.test",
            delay=delay,
            lanes=lanes,
            scope_version=scope_version,
            robots=robots,
            cookies=cookies,
            requests=tuple(Request(url, 0, 0, 0, 0, "seed", None, None) for url in urls or (f"{SITE}/",)),
        )

    def lend(self, *urls: str, shard: int = 0, lanes: int = 1, delay: float = 1.0) -> LeaseId:
        """A lease that was taken, its first fetches begun."""
        lease = self.lease(*urls, shard=shard, lanes=lanes, delay=delay)
        self.arrive(lease, shard)
        return lease.id

    def fetched(
        self, lease: int, ordinal: int = 0, report: Report | None = None, *, sent: bool = True
    ) -> list[Post]:
        """A fetch is over; what is sent because of it."""
        came = (report or Report(FACTS)) if sent else None
        return only(Post, self.take(self.agent.handle(Fetched(lease, ordinal, came, self.now), self.now)))

    def accept(self, *numbers: int, shard: int = 0) -> list[Instruction]:
        return self.arrive(m.Answer(ME, numbers, ()), shard)

    def refuse(self, number: int, reason: str, shard: int = 0) -> list[Instruction]:
        return self.arrive(m.Answer(ME, (), ((number, reason),)), shard)

    def alive(
        self,
        number: int | None = None,
        *,
        shard: int = 0,
        unknown: tuple[LeaseId, ...] = (),
        released: tuple[LeaseId, ...] = (),
        phase: Phase = Phase.RUNNING,
        scope_version: int = 1,
        recalled: tuple[LeaseId, ...] = (),
    ) -> list[Instruction]:
        number = self.numbers[shard] if number is None else number
        return self.arrive(
            m.Alive(ME, number, self.epochs[shard], unknown, released, phase, scope_version, recalled), shard
        )

    def beat(self, shard: int = 0) -> m.Heartbeat:
        """Wait for the next heartbeat."""
        for _ in range(100):
            self.now = max(self.now, self.agent.next_wakeup())
            beats = messages(m.Heartbeat, [post for post in only(Post, self.wake()) if post.shard == shard])
            if beats:
                return beats[-1]
        raise AssertionError("no heartbeat")

    def steer(self, phase: Phase) -> list[Instruction]:
        """The shard's phase changes: it says so at once, and again when asked."""
        out = self.alive(0, phase=phase)
        return out + self.alive(self.numbers[0], phase=phase)


def only(kind: type[Kind], out: Sequence[object]) -> list[Kind]:
    return [each for each in out if isinstance(each, kind)]


def messages(kind: type[Kind], out: Sequence[object]) -> list[Kind]:
    return only(kind, [post.message for post in only(Post, out)])


def number_of(post: Post) -> int:
    return post.message.number


@pytest.fixture
def desk() -> Desk:
    return Desk()


# --------------------------------------------------------------------------------------------------- greeting


def test_it_says_hello_until_somebody_answers() -> None:
    desk = Desk(greet=False)
    assert len(messages(m.Hello, desk.out)) == 1
    assert len(messages(m.Hello, desk.pass_time(3.5))) == 3
    assert only(Configure, desk.welcome()) != []
    assert messages(m.Hello, desk.pass_time(20.0)) == []


def test_after_the_welcome_it_connects_to_every_shard_and_tells_its_credit_at_once() -> None:
    desk = Desk(shards=3, greet=False)
    out = desk.welcome(0)
    assert [each.shard for each in only(Connect, out)] == [1, 2]
    assert {post.shard for post in only(Post, out) if isinstance(post.message, m.Hello)} == {1, 2}
    assert len(messages(m.Heartbeat, out)) == 1


def test_who_is_denied_leaves_and_says_why() -> None:
    desk = Desk(greet=False)
    assert desk.arrive(m.Denied(ME, 1, "another version", True)) == [
        Exit(finished=False, reason="another version")
    ]


def test_a_message_for_another_session_is_ignored(desk: Desk) -> None:
    """[13] A process that took over a dead one's connection."""
    lease = m.Lease(DEAD, 1, LeaseId(1), "a.test", 1.0, 1, 1, (), None, ())
    assert desk.arrive(lease) == []
    assert desk.arrive(m.HelloAgain(DEAD)) == []


# ---------------------------------------------------------------------------- rule 1: links first, then pages


def test_a_page_whose_links_are_of_its_own_shard_carries_them_itself(desk: Desk) -> None:
    lease = desk.lend()
    group = links(f"{SITE}/1", "https://b.test/")
    [post] = desk.fetched(lease, report=Report(FACTS, (group,), asked=b"ask", answered=b"answer"))
    page = post.message
    assert isinstance(page, m.Page)
    assert (page.links, page.split, post.body, post.data) == ((group,), 3, b"askanswer", True)


def test_a_page_is_sent_only_after_its_links_of_other_shards_are_acknowledged() -> None:
    desk = Desk(shards=2)
    lease = desk.lend()
    here, there = foreign_url(0), foreign_url(1)
    [sent] = desk.fetched(lease, report=Report(FACTS, (links(here, there),)))
    assert (sent.shard, sent.message) == (1, m.Links(number_of(sent), ME, (links(there),)))
    assert messages(m.Page, desk.pass_time(20.0)) == []
    [page] = messages(m.Page, desk.accept(number_of(sent), shard=1))
    assert page.links == (links(here),)


def test_a_page_waits_for_every_shard_that_gets_links() -> None:
    desk = Desk(shards=3)
    lease = desk.lend()
    report = Report(FACTS, (links(*(foreign_url(shard, 3) for shard in range(3))),))
    first, second = desk.fetched(lease, report=report)
    assert {first.shard, second.shard} == {1, 2}
    assert messages(m.Page, desk.accept(number_of(first), shard=first.shard)) == []
    assert messages(m.Page, desk.accept(number_of(first), shard=first.shard)) == []
    assert len(messages(m.Page, desk.accept(number_of(second), shard=second.shard))) == 1


def test_links_that_a_closed_shard_refuses_are_sent_again_and_the_page_waits() -> None:
    desk = Desk(shards=2)
    lease = desk.lend()
    [sent] = desk.fetched(lease, report=Report(FACTS, (links(foreign_url(1)),)))
    assert desk.refuse(number_of(sent), "closed", shard=1) == []
    out = desk.pass_time(SEND_AGAIN_AFTER + 1)
    assert messages(m.Links, out) == [sent.message]
    assert messages(m.Page, out) == []
    assert len(messages(m.Page, desk.accept(number_of(sent), shard=1))) == 1


def test_forms_go_with_their_urls_to_the_shards_that_own_them() -> None:
    desk = Desk(shards=2)
    lease = desk.lend()
    post, put = (m.Form(method, (), b"x", None, 0, 0, None) for method in ("POST", "PUT"))
    here, there = foreign_url(0), foreign_url(1)
    group = LinkGroup(f"{SITE}/", "seed", 1, 0, 0, (there, here), (post, put))
    [sent] = desk.fetched(lease, report=Report(FACTS, (group,)))
    assert isinstance(sent.message, m.Links)
    assert sent.message.groups == (group._replace(urls=(there,), forms=(post,)),)
    [page] = messages(m.Page, desk.accept(number_of(sent), shard=1))
    assert page.links == (group._replace(urls=(here,), forms=(put,)),)


def test_a_page_of_a_lease_that_ran_out_while_its_links_travelled_is_never_sent() -> None:
    desk = Desk(shards=2)
    lease = desk.lend()
    [sent] = desk.fetched(lease, report=Report(FACTS, (links(foreign_url(1)),)))
    desk.pass_time(T + 1)
    assert messages(m.Page, desk.accept(number_of(sent), shard=1)) == []


# ---------------------------------------------------------------------------------- rule 4: links sent lately


def mark(url: str) -> bytes:
    return fingerprint(CanonicalURL(url), SEED)


def test_links_count_as_sent_when_acknowledged_not_when_sent_and_with_their_depth(desk: Desk) -> None:
    lease = desk.lend()
    link = mark(f"{SITE}/1")
    [page] = desk.fetched(lease, report=Report(FACTS, (links(f"{SITE}/1", depth=3),), (link,), depth=3))
    assert not desk.agent.sent.covers(link, 3)
    desk.accept(number_of(page))
    assert desk.agent.sent.covers(link, 3)
    assert not desk.agent.sent.covers(link, 2)


def test_links_of_a_refused_page_do_not_count_as_sent(desk: Desk) -> None:
    lease = desk.lend()
    link = mark(f"{SITE}/1")
    [page] = desk.fetched(lease, report=Report(FACTS, (links(f"{SITE}/1"),), (link,), depth=1))
    desk.refuse(number_of(page), "lease")
    desk.accept(number_of(page))
    assert not desk.agent.sent.covers(link, 9)


def remember(desk: Desk) -> bytes:
    link = mark(f"{SITE}/1")
    desk.agent.sent.enter(link, 1)
    return link


def test_what_was_sent_is_forgotten_when_the_scope_grows(desk: Desk) -> None:
    link = remember(desk)
    grown = Scope("any", None, version=2)
    assert only(Rescoped, desk.arrive(terms(grown))) != []
    assert not desk.agent.sent.covers(link, 9)


@pytest.mark.parametrize("change", [{"crawl": b"x" * 16}, {"store": 4}, {"epoch": 0}], ids=str)
def test_what_was_sent_is_forgotten_when_the_crawl_changes_or_the_store_went_back(
    desk: Desk, change: dict[str, int]
) -> None:
    link = remember(desk)
    desk.arrive(m.HelloAgain(ME))
    desk.welcome(**change)  # type: ignore[arg-type]  # one of three keywords
    assert not desk.agent.sent.covers(link, 9)


def test_what_was_sent_is_kept_when_a_shard_comes_back_with_all_its_commits(desk: Desk) -> None:
    link = remember(desk)
    desk.arrive(m.HelloAgain(ME))
    desk.welcome(epoch=2, store=9)
    assert desk.agent.sent.covers(link, 9)


# --------------------------------------------------------------------- rules 6 to 8: until when a lease holds


def test_a_lease_is_counted_from_the_sending_of_the_message_it_names_not_from_its_arrival(desk: Desk) -> None:
    beat = desk.beat()
    sent_at = desk.now
    desk.now += 20.0
    desk.beat()
    lease = desk.lease(number=beat.number)
    assert len(only(Fetch, desk.arrive(lease))) == 1
    assert desk.agent.may_write(lease.id, sent_at + T - 0.001)
    assert not desk.agent.may_write(lease.id, sent_at + T)


def test_a_lease_that_was_on_its_way_for_longer_than_it_holds_is_not_begun(desk: Desk) -> None:
    number = desk.beat().number
    desk.now += T
    lease = desk.lease(number=number)
    assert only(Fetch, desk.arrive(lease)) == []
    assert lease.id not in desk.beat().leases


def test_a_lease_that_names_a_message_that_was_never_sent_is_not_begun(desk: Desk) -> None:
    assert only(Fetch, desk.arrive(desk.lease(number=999))) == []


def test_a_lease_is_taken_once(desk: Desk) -> None:
    lease = desk.lease()
    assert len(only(Fetch, desk.arrive(lease))) == 1
    assert desk.arrive(lease) == []
    [page] = desk.fetched(lease.id)
    desk.accept(number_of(page))
    assert only(Fetch, desk.arrive(lease)) == [], "not even when it is done"


def test_leases_of_two_shards_with_equal_counters_are_two() -> None:
    desk = Desk(shards=2)
    one = desk.lease(shard=0)
    desk.counter = 0
    two = desk.lease(foreign_url(1), shard=1)
    assert len(only(Fetch, desk.arrive(one, 0) + desk.arrive(two, 1))) == 2


def test_a_heartbeat_lists_exactly_what_is_held() -> None:
    desk = Desk(shards=2)
    first, second, other = desk.lend(), desk.lend(), desk.lend(shard=1)
    assert set(desk.beat(0).leases) == {first, second}
    assert set(desk.beat(1).leases) == {other}
    [page] = desk.fetched(first)
    assert set(desk.beat(0).leases) == {first, second}, "until its last page is answered"
    desk.accept(number_of(page))
    assert set(desk.beat(0).leases) == {second}


def test_a_renewal_counts_from_the_sending_of_the_heartbeat_it_answers(desk: Desk) -> None:
    lease = desk.lend()
    beat = desk.beat()
    sent_at = desk.now
    desk.now += 3.0
    desk.alive(beat.number)
    assert desk.agent.may_write(lease, sent_at + T - 0.001)
    assert not desk.agent.may_write(lease, sent_at + T)


def test_a_renewal_covers_only_what_its_heartbeat_listed(desk: Desk) -> None:
    begun = desk.now
    before = desk.beat()
    desk.now += 0.5
    lease = desk.lend()
    number = desk.numbers[0]
    assert number == before.number
    desk.now += 1.0
    desk.alive(before.number)
    assert not desk.agent.may_write(lease, begun + T + BEAT + 1.0)


def test_an_older_answer_never_shortens_a_lease(desk: Desk) -> None:
    lease = desk.lend()
    old, new = desk.beat(), desk.beat()
    sent_at = desk.now
    desk.alive(new.number)
    desk.alive(old.number)
    assert desk.agent.may_write(lease, sent_at + T - 0.001)


def test_an_alive_that_answers_nothing_renews_nothing(desk: Desk) -> None:
    """It is sent to all when the phase changes."""
    lease = desk.lend()
    sent_at = desk.now
    desk.beat()
    desk.alive(0)
    assert not desk.agent.may_write(lease, sent_at + T)


def test_a_lease_that_the_shard_does_not_know_is_broken_off_at_once(desk: Desk) -> None:
    lease, other = desk.lend(), desk.lend()
    out = desk.alive(desk.beat().number, unknown=(lease,))
    assert only(Abort, out) == [Abort(lease)]
    assert not desk.agent.may_write(lease, desk.now)
    assert desk.beat().leases == (other,)
    assert desk.fetched(lease) == [], "its result would only be refused"


def test_at_its_deadline_a_lease_is_broken_off_by_the_agents_own_clock(desk: Desk) -> None:
    lease = desk.lend(f"{SITE}/1", f"{SITE}/2", lanes=2)
    out = desk.pass_time(T - 1)
    assert only(Abort, out) == []
    assert only(Abort, desk.pass_time(2)) == [Abort(lease)]
    assert desk.fetched(lease) == []
    assert desk.beat().leases == ()


def test_what_is_owed_for_a_lease_that_ran_out_is_not_sent_any_more(desk: Desk) -> None:
    lease = desk.lend()
    desk.fetched(lease)
    desk.pass_time(T)
    assert messages(m.Page, desk.pass_time(10 * T)) == []


def test_a_frozen_agent_does_not_revive_a_lease_by_an_answer_that_waited_for_it(desk: Desk) -> None:
    lease = desk.lend()
    desk.now += T - 1.0
    beat = desk.beat()
    desk.now += 10.0
    out = desk.alive(beat.number)
    assert only(Abort, out) == [Abort(lease)]
    assert not desk.agent.may_write(lease, desk.now)


def test_a_request_is_not_written_once_its_lease_is_over(desk: Desk) -> None:
    lease = desk.lend()
    assert desk.agent.may_write(lease, desk.now)
    assert not desk.agent.may_write(lease, desk.now + T)
    assert not desk.agent.may_write(LeaseId(12345), desk.now)


# -------------------------------------------------------------------------------------- politeness in a lease


def test_the_next_fetch_of_a_lane_begins_a_delay_after_the_last_one_ended(desk: Desk) -> None:
    lease = desk.lend(f"{SITE}/1", f"{SITE}/2")
    desk.now += 7.0
    out = desk.take(desk.agent.handle(Fetched(lease, 0, Report(FACTS), desk.now - 0.25), desk.now))
    [step] = only(Fetch, out)
    assert (step.ordinal, step.at) == (1, desk.now - 0.25 + 1.0)


def test_a_page_tells_how_long_ago_its_lease_last_touched_the_host(desk: Desk) -> None:
    lease = desk.lend(f"{SITE}/1", f"{SITE}/2", lanes=2)
    desk.agent.handle(Fetched(lease, 1, Report(FACTS), desk.now), desk.now)
    desk.now += 4.0
    out = desk.take(desk.agent.handle(Fetched(lease, 0, Report(FACTS), desk.now - 6.0), desk.now))
    [page] = messages(m.Page, out)
    assert page.age == 4.0, "the age of the latest end, not of this page's own"


@pytest.mark.parametrize(
    "facts",
    [
        FACTS._replace(outcome=Outcome.CLIENT_ERROR.code, status=429),
        FACTS._replace(outcome=Outcome.SERVER_ERROR.code, status=503),
        m.Facts(Outcome.TIMEOUT.code, reason="read_timeout"),
    ],
    ids=["429", "503", "timeout"],
)
def test_a_host_that_has_had_enough_is_left_alone_and_its_lease_goes_back(desk: Desk, facts: m.Facts) -> None:
    """The rest of a lease once followed at the old delay, whatever Retry-After said."""
    lease = desk.lend(f"{SITE}/1", f"{SITE}/2", f"{SITE}/3", lanes=2)
    out = desk.take(desk.agent.handle(Fetched(lease, 0, Report(facts), desk.now), desk.now))
    assert only(Fetch, out) == []
    [page] = messages(m.Page, out)
    assert only(Fetch, desk.accept(page.number)) == []
    out = desk.take(desk.agent.handle(Fetched(lease, 1, Report(FACTS), desk.now), desk.now))
    assert only(Fetch, out) == []
    [page] = messages(m.Page, out)
    [release] = messages(m.Release, desk.accept(page.number))
    assert release.lease == lease


def test_a_fetch_that_could_not_be_sent_is_tried_again_and_nothing_is_told(desk: Desk) -> None:
    lease = desk.lend()
    out = desk.take(desk.agent.handle(Fetched(lease, 0, None, desk.now), desk.now))
    assert messages(m.Page, out) == []
    [step] = only(Fetch, out)
    assert step.at > desk.now


# ----------------------------------------------------------------------------------- rule 11: refused results


def test_a_refused_page_ends_its_lease_here_too(desk: Desk) -> None:
    lease = desk.lend(f"{SITE}/1", f"{SITE}/2", lanes=2)
    [page] = desk.fetched(lease, 0)
    assert only(Abort, desk.refuse(number_of(page), "lease")) == [Abort(lease)]
    assert desk.beat().leases == ()


def test_an_answer_to_something_that_is_not_owed_is_ignored(desk: Desk) -> None:
    assert desk.accept(77) == []
    assert desk.refuse(78, "lease") == []


# ------------------------------------------------------------------- rules 12 and 13: restarts and identities


def test_after_a_shards_restart_its_leases_are_listed_and_go_on(desk: Desk) -> None:
    lease = desk.lend(f"{SITE}/1", f"{SITE}/2")
    [hello] = messages(m.Hello, desk.arrive(m.HelloAgain(ME)))
    assert hello.leases == (lease,)
    desk.epochs[0] = 2
    assert only(Abort, desk.welcome(store=6)) == []
    assert desk.beat().leases == (lease,)
    assert desk.beat().epoch == 2
    assert len(desk.fetched(lease)) == 1


def test_many_messages_of_an_unknown_session_lead_to_one_hello(desk: Desk) -> None:
    out = [each for _ in range(50) for each in desk.arrive(m.HelloAgain(ME))]
    assert len(messages(m.Hello, out)) == 1


def test_after_hello_again_everything_unanswered_is_sent_again(desk: Desk) -> None:
    lease = desk.lend(f"{SITE}/1", f"{SITE}/2", lanes=2, delay=0.0)
    first, second = desk.fetched(lease, 0)[0], desk.fetched(lease, 1)[0]
    desk.accept(number_of(first))
    desk.arrive(m.HelloAgain(ME))
    assert messages(m.Page, desk.welcome()) == [second.message]


def test_nothing_but_hello_is_sent_before_the_welcome(desk: Desk) -> None:
    lease = desk.lend()
    desk.arrive(m.HelloAgain(ME))
    assert desk.fetched(lease) == []
    out = desk.pass_time(20.0)
    assert {type(post.message) for post in only(Post, out)} == {m.Hello}
    assert len(messages(m.Page, desk.welcome())) == 1


def test_leases_and_answers_of_an_older_epoch_are_ignored(desk: Desk) -> None:
    old = desk.lease()
    beat = desk.beat()
    lease = desk.lend()
    late = m.Alive(ME, beat.number, 1, (lease,), (), Phase.FINISHED, 1)
    desk.arrive(m.HelloAgain(ME))
    desk.epochs[0] = 2
    desk.welcome(store=6)
    assert only(Fetch, desk.arrive(old)) == []
    assert desk.arrive(late) == []


def test_a_welcome_of_an_older_epoch_that_comes_late_is_ignored(desk: Desk) -> None:
    lease = desk.lend()
    old = desk.numbers[0]
    desk.arrive(m.HelloAgain(ME))
    desk.epochs[0] = 2
    desk.welcome(store=6)
    assert desk.welcome(number=old - 1, epoch=1, store=5) == []
    assert desk.beat().leases == (lease,)
    assert desk.beat().epoch == 2


@pytest.mark.parametrize("change", [{"crawl": b"x" * 16}, {"store": 4}, {"epoch": 0}], ids=str)
def test_everything_is_dropped_when_the_crawl_changes_or_the_store_went_back(
    desk: Desk, change: dict[str, int]
) -> None:
    lease = desk.lend(f"{SITE}/1", f"{SITE}/2", lanes=2)
    desk.fetched(lease, 0)
    desk.arrive(m.HelloAgain(ME))
    out = desk.welcome(**change)  # type: ignore[arg-type]  # one of three keywords
    assert only(Abort, out) == [Abort(lease)]
    assert messages(m.Page, out) == []
    assert messages(m.Page, desk.pass_time(60.0)) == []
    assert desk.agent.in_flight == 0


def test_when_one_shards_store_went_back_the_others_are_greeted_anew() -> None:
    desk = Desk(shards=2)
    desk.lend(shard=1)
    desk.arrive(m.HelloAgain(ME), 0)
    out = desk.welcome(0, store=1) + desk.pass_time(1.5)
    hellos = [post for post in only(Post, out) if isinstance(post.message, m.Hello)]
    assert {post.shard for post in hellos} == {1}
    desk.welcome(1)
    assert only(Fetch, desk.arrive(desk.lease(shard=1), 1)) != []


def test_the_dead_that_it_replaces_are_named_to_every_shard_until_it_is_welcome() -> None:
    desk = Desk(shards=2, replaces=(DEAD,), greet=False)
    assert messages(m.Hello, desk.out)[0].replaces == (DEAD,)
    out = desk.welcome(0)
    assert messages(m.Hello, out)[0].replaces == (DEAD,)
    desk.welcome(1)
    [again] = messages(m.Hello, desk.arrive(m.HelloAgain(ME), 0))
    assert again.replaces == ()


def test_a_page_is_sent_again_until_it_is_answered_ever_more_slowly(desk: Desk) -> None:
    lease = desk.lend()
    [page] = desk.fetched(lease)
    times = []
    for _ in range(100):
        desk.pass_time(1.0)
        desk.alive(desk.numbers[0])
        times += [desk.now] * len([post for post in desk.posts if post.message == page.message])
        desk.posts.clear()
    gaps = [later - earlier for earlier, later in pairwise(times[1:])]
    assert gaps == [10.0, 20.0, 30.0, 30.0]
    desk.accept(number_of(page))
    assert messages(m.Page, desk.pass_time(100.0)) == []


def test_an_answer_settles_the_messages_it_names_and_no_earlier_ones(desk: Desk) -> None:
    lease = desk.lend(f"{SITE}/1", f"{SITE}/2", lanes=2)
    first, second = desk.fetched(lease, 0)[0], desk.fetched(lease, 1)[0]
    desk.accept(number_of(second))
    assert messages(m.Page, desk.pass_time(SEND_AGAIN_AFTER)) == [first.message]


# -------------------------------------------------------------------------------------------- rule 23: credit


def bounded(**tuning: int) -> CrawlConfig:
    return CrawlConfig(obey_robots=False, tuning=Tuning(**tuning))  # type: ignore[arg-type]  # whole numbers only


def test_credit_is_divided_over_the_shards() -> None:
    one, two = Desk(), Desk(shards=2)
    assert (one.beat().lanes, two.beat().lanes) == (1000, 500)
    one.agent.lower_lanes(300)
    assert one.beat().lanes == 300


def test_nothing_is_begun_while_as_many_pages_are_unanswered_as_may_be() -> None:
    desk = Desk(config=bounded(unacknowledged_pages=3))
    lease = desk.lease(*(f"{SITE}/{page}" for page in range(10)), lanes=3, delay=0.0)
    begun = [step.ordinal for step in only(Fetch, desk.arrive(lease))]
    assert begun == [0, 1, 2]
    posts = [post for ordinal in range(5) for post in desk.fetched(lease.id, ordinal)]
    assert len(posts) == 5, "three that were held, and two that were in flight then"
    assert desk.agent.in_flight == 0
    assert only(Fetch, desk.accept(*(number_of(post) for post in posts[:2]))) == []
    out = desk.accept(number_of(posts[4]))
    assert 5 in [step.ordinal for step in only(Fetch, out)]


def test_bytes_bound_what_is_begun_but_one_big_page_passes() -> None:
    desk = Desk(config=bounded(unacknowledged_bytes=1000))
    lease = desk.lend(f"{SITE}/1", f"{SITE}/2", f"{SITE}/3", lanes=1, delay=0.0)
    [big] = desk.fetched(lease, 0, Report(FACTS, answered=bytes(5000)))
    assert desk.agent.in_flight == 0
    out = desk.accept(number_of(big))
    assert [step.ordinal for step in only(Fetch, out)] == [1]


def test_links_never_wait_for_the_bound_on_pages() -> None:
    desk = Desk(shards=2, config=bounded(unacknowledged_pages=1))
    lease = desk.lend(f"{SITE}/1", f"{SITE}/2")
    other = desk.lend()
    del other
    [sent] = desk.fetched(lease, 0, Report(FACTS, (links(foreign_url(1)),)))
    assert isinstance(sent.message, m.Links)
    assert len(messages(m.Page, desk.accept(number_of(sent), shard=1))) == 1


def test_a_visit_that_waited_for_room_goes_on_when_another_ones_page_is_answered() -> None:
    desk = Desk(config=bounded(unacknowledged_pages=1))
    first = desk.lend()
    [page] = desk.fetched(first)
    second = desk.lease("https://b.test/")
    assert only(Fetch, desk.arrive(second)) == []
    [step] = only(Fetch, desk.accept(number_of(page)))
    assert step.lease == second.id


# ----------------------------------------------------------------------------------------------------- pieces


@pytest.mark.parametrize(
    ("size", "pieces"),
    [(m.PIECE_BYTES, 0), (m.PIECE_BYTES + 1, 1), (2 * m.PIECE_BYTES, 1), (2 * m.PIECE_BYTES + 1, 2)],
)
def test_a_record_above_one_piece_travels_in_pieces_and_ends_with_its_page(
    desk: Desk, size: int, pieces: int
) -> None:
    lease = desk.lend()
    record = bytes(range(256)) * (size // 256) + bytes(size % 256)
    *parts, page = desk.fetched(lease, report=Report(FACTS, asked=b"ask", answered=record))
    assert isinstance(page.message, m.Page)
    assert (page.message.pieces, page.message.split) == (pieces, 3)
    assert [part.message.index for part in parts if isinstance(part.message, m.Piece)] == list(range(pieces))
    assert all(len(part.body) == m.PIECE_BYTES for part in parts)
    assert b"".join(part.body for part in parts) + page.body[3:] == record
    assert len({number_of(post) for post in (*parts, page)}) == pieces + 1


def test_when_pieces_are_missing_all_are_sent_again_and_the_page_as_it_was(desk: Desk) -> None:
    lease = desk.lend()
    *parts, page = desk.fetched(lease, report=Report(FACTS, answered=bytes(3 * m.PIECE_BYTES)))
    again = only(Post, desk.refuse(number_of(page), "pieces"))
    assert [post.body for post in again] == [post.body for post in (*parts, page)]
    assert again[-1].message == page.message
    desk.accept(number_of(page))
    assert messages(m.Page, desk.pass_time(30.0)) == []


def test_pieces_are_not_sent_to_a_shard_that_has_not_welcomed_us(desk: Desk) -> None:
    lease = desk.lend()
    desk.arrive(m.HelloAgain(ME))
    assert desk.fetched(lease, report=Report(FACTS, answered=bytes(3 * m.PIECE_BYTES))) == []


# ----------------------------------------------------------------------------------------------------- robots

CONFIG = CrawlConfig(obey_robots=False, delay=1.0, jitter=0.0)
OBEY = CrawlConfig(obey_robots=True, delay=1.0, jitter=0.0)


def robots(desk: Desk, lease: int, text: bytes | None = b"", verdict: str = "rules") -> list[Instruction]:
    done = RobotsFetched(
        lease,
        SITE,
        f"{SITE}/robots.txt",
        0,
        verdict,
        200,
        None,
        text,
        b"record",
        0,
        desk.now,
        verdict != "",
    )
    return desk.take(desk.agent.handle(done, desk.now))


def test_no_page_before_its_robots_txt_is_acknowledged() -> None:
    desk = Desk(config=OBEY)
    lease = desk.lease()
    [step] = only(FetchRobots, desk.arrive(lease))
    assert step.authority == SITE
    out = robots(desk, lease.id, b"User-agent: *\nCrawl-delay: 0.5\n")
    [told] = messages(m.Robots, out)
    assert (told.crawl_delay, told.verdict, told.age) == (0.5, "rules", 0.0)
    assert only(Fetch, out) == []
    [fetch] = only(Fetch, desk.accept(told.number))
    assert fetch.at == desk.now + 1.0, "robots.txt was a fetch of the host"


def test_a_longer_delay_that_robots_txt_asks_for_needs_a_new_lease() -> None:
    desk = Desk(config=OBEY)
    lease = desk.lend()
    [told] = messages(m.Robots, robots(desk, lease, b"User-agent: *\nCrawl-delay: 9\n"))
    out = desk.accept(told.number)
    assert only(Fetch, out) == []
    [release] = messages(m.Release, out)
    assert (release.lease, release.age) == (lease, 0.0)


@pytest.mark.parametrize("verdict", ["ROBOTS_UNREACHABLE", "DNS"])
def test_without_rules_the_lease_is_given_back(verdict: str) -> None:
    desk = Desk(config=OBEY)
    lease = desk.lend()
    [told] = messages(m.Robots, robots(desk, lease, None, verdict))
    assert len(messages(m.Release, desk.accept(told.number))) == 1


def test_a_robots_fetch_that_was_not_sent_gives_the_lease_back_and_tells_nothing() -> None:
    desk = Desk(config=OBEY)
    lease = desk.lend()
    out = robots(desk, lease, None, "")
    assert messages(m.Robots, out) == []
    [release] = messages(m.Release, out)
    assert release.age is None


def test_pages_that_are_not_answered_yet_are_not_lost_when_a_lease_is_given_back_for_its_robots_txt() -> None:
    desk = Desk(config=OBEY)
    rules = m.RobotsRules("http://a.test", 1, "allow", None)
    lease = desk.lease("http://a.test/1", f"{SITE}/2", robots=(rules,))
    desk.arrive(lease)
    [page] = desk.fetched(lease.id)
    desk.now += 0.5
    [told] = messages(m.Robots, robots(desk, lease.id, None, "DNS"))
    assert messages(m.Release, desk.accept(told.number)) == []
    assert len(messages(m.Release, desk.accept(number_of(page)))) == 1


def test_rules_come_once_and_are_kept_by_version() -> None:
    desk = Desk(config=OBEY)
    text = b"User-agent: *\nDisallow: /no\n"
    for body in (text, None):
        lease = desk.lease(f"{SITE}/no", robots=(m.RobotsRules(SITE, 4, "rules", body),))
        [page] = messages(m.Page, desk.arrive(lease))
        assert page.facts == m.Facts(Outcome.ROBOTS_DENIED.code, reason="robots")
        desk.accept(page.number)
    lease = desk.lease(f"{SITE}/no", robots=(m.RobotsRules(SITE, 5, "rules", None),))
    assert len(only(FetchRobots, desk.arrive(lease))) == 1, (
        "a version that it does not have is fetched, not guessed"
    )


def test_a_verdict_that_is_an_outcome_is_every_requests_result_without_a_fetch() -> None:
    desk = Desk(config=OBEY)
    lease = desk.lease(f"{SITE}/1", f"{SITE}/2", robots=(m.RobotsRules(SITE, 1, "DNS", None),))
    out = desk.arrive(lease)
    assert only(Fetch, out) == []
    assert [page.facts.outcome for page in messages(m.Page, out)] == [Outcome.DNS.code] * 2
    assert {page.age for page in messages(m.Page, out)} == {None}


# ------------------------------------------------------- rule 20: redirects to the same URL, and cookies

AGAIN = Report(FACTS._replace(outcome=Outcome.REDIRECT.code, status=302), again=True)
COOKIES = CrawlConfig(obey_robots=False, delay=1.0, jitter=0.0, cookies=True)


def test_a_page_that_redirects_to_itself_is_fetched_again_after_the_delay_and_not_told(desk: Desk) -> None:
    lease = desk.lend(f"{SITE}/1", f"{SITE}/2")
    desk.now += 0.5
    out = desk.take(desk.agent.handle(Fetched(lease, 0, AGAIN, desk.now), desk.now))
    assert messages(m.Page, out) == []
    [step] = only(Fetch, out)
    assert (step.ordinal, step.at) == (0, desk.now + 1.0)
    [page] = desk.fetched(lease, 0)
    assert isinstance(page.message, m.Page)
    assert page.message.facts == FACTS


def test_a_page_that_redirects_to_itself_for_ever_is_told_as_that(desk: Desk) -> None:
    lease = desk.lend()
    told = [desk.fetched(lease, 0, AGAIN) for _ in range(SELF_REDIRECTS + 1)]
    assert told[:-1] == [[]] * SELF_REDIRECTS
    [page] = messages(m.Page, told[-1])
    assert (page.facts.outcome, page.facts.reason, page.facts.status) == (
        Outcome.TOO_MANY_REDIRECTS.code,
        "self",
        302,
    )
    assert desk.agent.fetched == SELF_REDIRECTS + 1


def test_a_page_that_redirects_to_itself_is_not_fetched_again_in_a_pause(desk: Desk) -> None:
    lease = desk.lend()
    desk.steer(Phase.PAUSED)
    out = desk.take(desk.agent.handle(Fetched(lease, 0, AGAIN, desk.now), desk.now))
    assert only(Fetch, out) == []
    [release] = messages(m.Release, out)
    assert (release.lease, release.age) == (lease, 0.0)


def test_cookies_come_with_the_lease_and_go_with_the_page_that_changed_them() -> None:
    desk = Desk(config=COOKIES)
    lease = desk.lease(f"{SITE}/1", f"{SITE}/2", f"{SITE}/3", cookies=b"old", delay=0.0)
    assert [step.cookies for step in only(Fetch, desk.arrive(lease))] == [b"old"]
    told = []
    for ordinal, changed in enumerate((None, b"new", None)):
        out = desk.take(
            desk.agent.handle(Fetched(lease.id, ordinal, Report(FACTS, cookies=changed), desk.now), desk.now)
        )
        told += [page.cookies for page in messages(m.Page, out)]
        told += [step.cookies for step in only(Fetch, out)]
    assert told == [None, b"old", b"new", b"new", None]


def test_cookies_of_a_fetch_that_is_made_again_are_sent_and_go_with_the_page() -> None:
    desk = Desk(config=COOKIES)
    lease = desk.lend()
    out = desk.take(desk.agent.handle(Fetched(lease, 0, replace(AGAIN, cookies=b"in"), desk.now), desk.now))
    assert [step.cookies for step in only(Fetch, out)] == [b"in"]
    [page] = desk.fetched(lease)
    assert isinstance(page.message, m.Page)
    assert page.message.cookies == b"in"


def test_a_page_that_had_to_wait_never_tells_older_cookies_than_the_one_before() -> None:
    desk = Desk(2, config=COOKIES)
    lease = desk.lend(f"{SITE}/1", f"{SITE}/2", lanes=2)
    [sent] = desk.fetched(lease, 0, Report(FACTS, (links(foreign_url(1)),), cookies=b"one"))
    [later] = messages(m.Page, desk.fetched(lease, 1, Report(FACTS, cookies=b"two")))
    [waited] = messages(m.Page, desk.accept(number_of(sent), shard=1))
    assert (later.cookies, waited.cookies) == (b"two", None)


def test_without_the_option_no_cookies_are_sent() -> None:
    desk = Desk()
    [step] = only(Fetch, desk.arrive(desk.lease(cookies=b"old")))
    assert step.cookies is None


# ------------------------------------------------------------------------------------ many outlinks of a page


def test_more_outlinks_than_a_message_holds_go_before_the_page_in_portions(desk: Desk) -> None:
    """[1] The page is told when they are durable, though they are of its own shard."""
    lease = desk.lend()
    urls = tuple(f"{SITE}/{'x' * 100}/{number}" for number in range(20_000))
    posts = desk.fetched(lease, report=Report(FACTS, (links(*urls),)))
    assert [type(post.message) for post in posts] == [m.Links, m.Links]
    assert {post.shard for post in posts} == {0}
    assert messages(m.Page, desk.accept(number_of(posts[1]))) == []
    [page] = messages(m.Page, desk.accept(number_of(posts[0])))
    sent = [*(group for post in messages(m.Links, posts) for group in post.groups), *page.links]
    assert tuple(url for group in sent for url in group.urls) == urls


def test_outlinks_for_another_shard_are_cut_into_portions_too() -> None:
    desk = Desk(shards=2)
    lease = desk.lend()
    there = foreign_url(1)
    urls = tuple(f"{there}{'x' * 100}/{number}" for number in range(20_000))
    posts = desk.fetched(lease, report=Report(FACTS, (links(*urls),)))
    assert [post.shard for post in posts] == [1, 1, 1]
    assert all(len(encode(post.message)) < 2 << 20 for post in posts)
    for post in posts[:2]:
        assert messages(m.Page, desk.accept(number_of(post), shard=1)) == []
    assert len(messages(m.Page, desk.accept(number_of(posts[2]), shard=1))) == 1


def test_many_outlinks_count_against_the_bound_on_bytes() -> None:
    desk = Desk(config=bounded(unacknowledged_bytes=1 << 20))
    lease = desk.lend(f"{SITE}/1", f"{SITE}/2", delay=0.0)
    urls = tuple(f"{SITE}/{'x' * 100}/{number}" for number in range(20_000))
    posts = desk.fetched(lease, report=Report(FACTS, (links(*urls),)))
    assert desk.agent.in_flight == 0
    out = desk.accept(*(number_of(post) for post in posts))
    assert [step.ordinal for step in only(Fetch, out)] == [1]


# ------------------------------------------------------------------------------------- changes while it runs


def test_a_recalled_lease_begins_nothing_more_and_goes_back_when_its_pages_are_answered(desk: Desk) -> None:
    lease, other = desk.lend(f"{SITE}/1", f"{SITE}/2"), desk.lend()
    assert messages(m.Release, desk.alive(recalled=(lease, lease, LeaseId(12345)))) == []
    [page] = desk.fetched(lease)
    assert isinstance(page.message, m.Page)
    [release] = messages(m.Release, desk.accept(number_of(page)))
    assert (release.lease, release.age) == (lease, 0.0)
    assert desk.beat().leases == (other,)


def test_a_recalled_lease_that_has_nothing_under_way_goes_back_at_once(desk: Desk) -> None:
    lease = desk.lease(scope_version=2)
    desk.arrive(lease)
    [release] = messages(m.Release, desk.alive(recalled=(lease.id,)))
    assert (release.lease, release.age) == (lease.id, None)


def test_a_lease_whose_requests_are_all_under_way_ends_as_ever_when_it_is_recalled(desk: Desk) -> None:
    lease = desk.lend()
    desk.alive(recalled=(lease,))
    [page] = desk.fetched(lease)
    assert messages(m.Release, desk.accept(number_of(page))) == []
    assert desk.beat().leases == ()


def terms(scope: Scope, config: CrawlConfig = CONFIG) -> m.Terms:
    return m.Terms(ME, pack(scope.to_wire()), scope.version, pack(config_to_wire(config)))


def test_another_configuration_holds_for_what_begins_from_now_on(desk: Desk) -> None:
    changed = replace(CONFIG, concurrency=10)
    message = terms(Scope("any", None, version=2), changed)
    out = desk.arrive(message)
    assert [configure.config.concurrency for configure in only(Configure, out)] == [10]
    assert [beat.lanes for beat in messages(m.Heartbeat, out)] == [10]
    assert desk.arrive(message) == [], "a second time it says nothing new"


def test_older_terms_that_come_late_change_nothing(desk: Desk) -> None:
    desk.arrive(terms(Scope("any", None, version=3), replace(CONFIG, concurrency=10)))
    assert desk.arrive(terms(Scope("any", None, version=2))) == []


def test_terms_that_come_before_the_welcome_change_nothing() -> None:
    desk = Desk(greet=False)
    assert desk.arrive(terms(Scope("any", None, version=9))) == []


def test_with_another_product_token_rules_are_not_taken_from_before() -> None:
    desk = Desk(config=OBEY)
    desk.arrive(desk.lease(robots=(m.RobotsRules(SITE, 4, "rules", b""),)))
    desk.arrive(terms(Scope("any", None, version=2), replace(OBEY, robots_token="other")))
    out = desk.arrive(desk.lease(robots=(m.RobotsRules(SITE, 4, "rules", None),)))
    assert len(only(FetchRobots, out)) == 1


def test_what_it_replaces_was_parsing_is_named_to_every_shard_until_it_is_welcome() -> None:
    """[24]"""
    suspect = (DEAD, LeaseId(5), 3)
    desk = Desk(replaces=(DEAD,), suspects=(suspect,), greet=False)
    assert messages(m.Hello, desk.out)[0].suspects == (suspect,)
    desk.welcome()
    assert messages(m.Hello, desk.arrive(m.HelloAgain(ME)))[0].suspects == ()


def test_a_heartbeat_tells_how_the_process_does(desk: Desk) -> None:
    desk.agent.handle(Load(5, 7, 150, 1 << 28, 61), desk.now)
    beat = desk.beat()
    assert (beat.held_bytes, beat.lag_ms, beat.cpu_percent, beat.rss) == (5, 7, 150, 1 << 28)
    assert beat.extract_percent == 61
    assert not beat.offline


# ------------------------------------------------------------------------------------------------------ scope


def test_a_lease_that_needs_a_newer_scope_waits_for_it(desk: Desk) -> None:
    lease = desk.lease(scope_version=2)
    assert desk.arrive(lease) == []
    grown = Scope("host", HeldSites(["a.test"]), version=2)
    out = desk.arrive(terms(grown))
    assert [type(each) for each in out] == [Rescoped, Fetch]


def test_a_lost_rescope_is_asked_for_and_what_waited_for_it_goes_on(desk: Desk) -> None:
    lease = desk.lease(scope_version=2)
    desk.arrive(lease)
    assert len(messages(m.Hello, desk.alive(0, scope_version=2))) == 1
    out = desk.welcome(scope=Scope("any", None, version=2))
    assert len(only(Configure, out)) == 1
    assert len(only(Fetch, out)) == 1


def test_an_older_scope_changes_nothing(desk: Desk) -> None:
    assert desk.arrive(terms(SCOPE)) == []


# ----------------------------------------------------------------------------------- pausing, leaving, ending


def test_what_is_in_flight_may_land_and_be_answered_before_a_lease_is_given_back(desk: Desk) -> None:
    lease = desk.lend(f"{SITE}/1", f"{SITE}/2")
    out = desk.take(desk.agent.handle(Leaving(), desk.now))
    [beat] = messages(m.Heartbeat, out)
    assert (beat.lanes, beat.requests) == (0, 0)
    assert messages(m.Release, out) == []
    desk.now += 1.0
    [page] = desk.fetched(lease)
    assert isinstance(page.message, m.Page)
    desk.now += 0.5
    out = desk.accept(number_of(page))
    [release] = messages(m.Release, out)
    assert (release.lease, release.age) == (lease, 0.5)
    assert [type(each) for each in out[-2:]] == [Post, Exit]
    assert len(messages(m.Goodbye, out)) == 1


def test_what_does_not_land_in_time_is_broken_off_and_its_age_is_nothing(desk: Desk) -> None:
    """[9] The host was visited until this very moment."""
    lease = desk.lend(f"{SITE}/1", f"{SITE}/2", lanes=2)
    desk.fetched(lease, 0)
    desk.take(desk.agent.handle(Leaving(), desk.now))
    out = desk.pass_time(DRAIN_SECONDS)
    assert only(Abort, out) == [Abort(lease)]
    [release] = messages(m.Release, out)
    assert release.age == 0.0
    assert only(Exit, out) == [Exit(finished=False)]


def test_without_leases_it_leaves_at_once(desk: Desk) -> None:
    out = desk.take(desk.agent.handle(Leaving(), desk.now))
    assert only(Exit, out) == [Exit(finished=False)]
    assert only(Exit, desk.pass_time(20.0)) == []


def test_a_paused_agent_leaves_at_once_too(desk: Desk) -> None:
    desk.steer(Phase.PAUSED)
    desk.pass_time(60.0)
    assert only(Exit, desk.take(desk.agent.handle(Leaving(), desk.now))) == [Exit(finished=False)]


def test_a_paused_agent_gives_back_what_it_holds_and_takes_nothing(desk: Desk) -> None:
    lease = desk.lend(f"{SITE}/1", f"{SITE}/2")
    desk.steer(Phase.PAUSED)
    [page] = desk.fetched(lease)
    assert len(messages(m.Release, desk.accept(number_of(page)))) == 1
    refused = desk.lease()
    out = desk.arrive(refused)
    assert [release.lease for release in messages(m.Release, out)] == [refused.id]
    assert desk.beat().lanes == 0


def test_a_lease_that_waits_for_its_scope_is_given_back_as_well(desk: Desk) -> None:
    early = desk.lease(scope_version=2)
    desk.arrive(early)
    out = desk.steer(Phase.PAUSED)
    assert [release.lease for release in messages(m.Release, out)] == [early.id]


def test_an_agent_that_may_go_on_says_so_at_once(desk: Desk) -> None:
    desk.steer(Phase.PAUSED)
    *_, beat = messages(m.Heartbeat, desk.steer(Phase.RUNNING))
    assert beat.lanes == 1000
    assert len(only(Fetch, desk.arrive(desk.lease()))) == 1


def test_a_release_is_said_again_until_answered_with_an_age_that_grew(desk: Desk) -> None:
    """[9] The first one may be lost: then the shard knows nothing else of the last fetch."""
    lease = desk.lend(f"{SITE}/1", f"{SITE}/2")
    desk.steer(Phase.PAUSED)
    [page] = desk.fetched(lease)
    desk.now += 1.0
    [first] = messages(m.Release, desk.accept(number_of(page)))
    assert first.age == 1.0
    [again] = messages(m.Release, desk.pass_time(SEND_AGAIN_AFTER))
    assert (again.lease, again.age) == (lease, 1.0 + SEND_AGAIN_AFTER)
    assert again.number > first.number
    desk.alive(again.number, released=(lease,))
    assert messages(m.Release, desk.pass_time(60.0)) == []


def test_when_the_crawl_is_finished_the_process_ends_with_success(desk: Desk) -> None:
    assert only(Exit, desk.alive(desk.numbers[0], phase=Phase.FINISHED)) == [Exit(finished=True)]
    assert only(Exit, desk.alive(0, phase=Phase.FINISHED)) == [Exit(finished=True)]


def test_it_never_asks_to_be_woken_in_the_past_twice(desk: Desk) -> None:
    lease = desk.lend(f"{SITE}/1", f"{SITE}/2", lanes=2)
    desk.fetched(lease, 0)
    for _ in range(200):
        desk.now = max(desk.now, desk.agent.next_wakeup())
        desk.wake()
        assert desk.agent.next_wakeup() > desk.now
