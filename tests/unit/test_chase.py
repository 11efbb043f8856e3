"""A robots.txt that leads on: within its host in the visit's lane, elsewhere under a permit (rule 19)."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from common import messages as m
from common.config import CrawlConfig
from common.messages import LeaseId, Phase
from common.url import CanonicalURL, HostKey, host_key, slot
from tests.unit.test_agent import BEAT, ME, SITE, Desk, T, messages, number_of, only
from worker.agent import DRAIN_SECONDS
from worker.chase import PERMIT_WAIT, RECORD_BYTES, Chases
from worker.owed import SEND_AGAIN_AFTER
from worker.robots import MAX_REDIRECTS
from worker.steps import Abort, Instruction, Post, RobotsFetched
from worker.visit import Fetch, FetchRobots

OBEY = CrawlConfig(obey_robots=True, delay=1.0, jitter=0.0)
ELSEWHERE = CanonicalURL("https://b.test/robots.txt")
RULES = b"User-agent: *\nDisallow: /no\n"


class Asker(Desk):
    """A desk whose agent asks for the robots.txt of one lease."""

    def __init__(self, shards: int = 1, config: CrawlConfig = OBEY) -> None:
        super().__init__(shards, config=config)
        self.lease_id = self.lend(f"{SITE}/1", f"{SITE}/2")
        self.hops = [FetchRobots(self.lease_id, self.lease_id, SITE, f"{SITE}/robots.txt", 0, self.now)]
        self.agent_posts = self.posts

    def take(self, out: list[Instruction]) -> list[Instruction]:
        if hasattr(self, "hops"):
            self.hops += only(FetchRobots, out)
        return super().take(out)

    def came(
        self,
        verdict: str,
        target: CanonicalURL | None = None,
        *,
        status: int | None = 200,
        text: bytes | None = None,
        error: str | None = None,
        record: bytes = b"record ",
        sent: bool = True,
    ) -> list[Instruction]:
        """The last hop that was given out is over."""
        hop = self.hops[-1]
        done = RobotsFetched(
            hop.lease,
            hop.authority,
            hop.url,
            hop.hops,
            verdict,
            status,
            error,
            text,
            record,
            0,
            self.now,
            sent,
            f"192.0.2.{len(self.hops)}",
            target,
        )
        return self.take(self.agent.handle(done, self.now))

    def follow(self, target: CanonicalURL = ELSEWHERE) -> list[Instruction]:
        return self.came("follow", target, status=301)

    def permit(self, host: str = "b.test", *, shard: int = 0, delay: float = 1.0) -> m.Lease:
        lease = self.lease(shard=shard, delay=delay)
        return m.Lease(ME, lease.number, lease.id, host, delay, 1, 1, (), None, ())

    def permitted(self, host: str = "b.test", **terms: float) -> tuple[LeaseId, list[Instruction]]:
        permit = self.permit(host, **terms)  # type: ignore[arg-type]  # only the delay
        return permit.id, self.arrive(permit)


@pytest.fixture
def desk() -> Asker:
    return Asker()


def wants(out: Iterable[Instruction]) -> list[str]:
    return [want.host for want in messages(m.Want, list(out))]


# ------------------------------------------------------------------------------------------- within the host


def test_a_hop_within_the_host_takes_the_visits_lane_after_its_delay(desk: Asker) -> None:
    desk.now += 0.25
    [hop] = only(FetchRobots, desk.follow(CanonicalURL("http://a.test:8080/r.txt")))
    assert hop == FetchRobots(
        desk.lease_id, desk.lease_id, SITE, "http://a.test:8080/r.txt", 1, desk.now + 1.0
    )


def test_all_hops_records_ride_in_robots_with_the_address_of_the_first(desk: Asker) -> None:
    desk.follow(CanonicalURL("http://a.test/r.txt"))
    [told] = messages(m.Robots, desk.came("rules", text=RULES, record=b"last"))
    [post] = [post for post in desk.posts if post.message == told]
    assert (post.body, told.split, told.ip, told.authority) == (b"record last", 0, "192.0.2.1", SITE)
    assert (told.verdict, told.text) == ("rules", RULES)


def test_records_of_hops_are_kept_up_to_a_bound(desk: Asker) -> None:
    big = bytes(RECORD_BYTES - 3)
    desk.came("follow", CanonicalURL("http://a.test/r.txt"), record=big)
    [told] = messages(m.Robots, desk.came("rules", text=RULES, record=b"too much"))
    [post] = [post for post in desk.posts if post.message == told]
    assert post.body == big


def test_no_more_redirects_are_followed_than_the_rfc_asks_for(desk: Asker) -> None:
    for hop in range(MAX_REDIRECTS):
        assert only(FetchRobots, desk.follow(CanonicalURL(f"http://a.test/{hop}"))) != []
    [told] = messages(m.Robots, desk.follow(CanonicalURL("http://a.test/more")))
    assert told.verdict == "allow"


def test_the_permit_of_one_redirect_too_many_goes_back(desk: Asker) -> None:
    desk.follow()
    permit, _ = desk.permitted()
    for hop in range(MAX_REDIRECTS - 1):
        desk.follow(CanonicalURL(f"http://b.test/{hop}"))
    out = desk.follow(CanonicalURL("http://b.test/more"))
    assert [release.lease for release in messages(m.Release, out)] == [permit]
    assert [told.verdict for told in messages(m.Robots, out)] == ["allow"]
    assert desk.beat().leases == (desk.lease_id,)


def test_a_hop_that_fails_makes_robots_txt_unreachable_and_says_where(desk: Asker) -> None:
    desk.follow(CanonicalURL("http://a.test/r.txt"))
    [told] = messages(m.Robots, desk.came("REFUSED", status=None, error="connection refused"))
    assert told.verdict == "ROBOTS_UNREACHABLE"
    assert told.error == "redirected to http://a.test/r.txt: connection refused"


# ------------------------------------------------------------------------------------------- to another host


def test_another_host_is_not_touched_before_a_permit_came(desk: Asker) -> None:
    out = desk.follow()
    assert wants(out) == ["b.test"]
    assert only(FetchRobots, out) == []
    permit, out = desk.permitted()
    assert only(FetchRobots, out) == [FetchRobots(desk.lease_id, permit, SITE, ELSEWHERE, 1, desk.now)]
    assert desk.agent.may_write(permit, desk.now)


def test_a_permit_goes_back_with_its_age_as_soon_as_its_hop_is_over(desk: Asker) -> None:
    desk.follow()
    permit, _ = desk.permitted()
    desk.now += 3.0
    out = desk.came("rules", text=RULES)
    [release] = messages(m.Release, out)
    assert (release.lease, release.age) == (permit, 0.0)
    [told] = messages(m.Robots, out)
    assert (told.lease, told.age) == (desk.lease_id, 3.0), "its own host was left alone meanwhile"
    assert len(only(Fetch, desk.accept(told.number))) == 1
    assert desk.beat().leases == (desk.lease_id,)


def test_a_permit_is_held_and_renewed_like_any_lease(desk: Asker) -> None:
    desk.follow()
    permit, _ = desk.permitted()
    beat = desk.beat()
    assert set(beat.leases) == {desk.lease_id, permit}
    desk.alive(beat.number)
    assert desk.agent.may_write(permit, desk.now + T - 0.001)


def test_a_want_is_said_again_until_a_permit_comes(desk: Asker) -> None:
    desk.follow()
    assert wants(desk.pass_time(3 * SEND_AGAIN_AFTER)) == ["b.test"] * 3
    desk.permitted()
    assert wants(desk.pass_time(3 * SEND_AGAIN_AFTER)) == []


def test_a_want_goes_to_the_shard_that_owns_the_host_and_again_when_that_restarts() -> None:
    desk = Asker(shards=2)
    name = next(name for n in range(99) if slot(HostKey(name := f"n{n}.test")) % 2 == 1)
    out = desk.follow(CanonicalURL(f"https://{name}/robots.txt"))
    assert [(post.shard, type(post.message)) for post in only(Post, out)] == [(1, m.Want)]
    desk.arrive(m.HelloAgain(ME), 1)
    assert wants(desk.pass_time(SEND_AGAIN_AFTER + 1)) == [], "not before it is greeted"
    desk.epochs[1] = 2
    assert wants(desk.welcome(1, store=6)) == [name]


def test_without_a_permit_in_time_robots_txt_is_unreachable(desk: Asker) -> None:
    desk.follow()
    for _ in range(int(PERMIT_WAIT / BEAT) - 1):
        desk.pass_time(BEAT)
        desk.alive()
    assert messages(m.Robots, desk.posts) == []
    desk.pass_time(BEAT)
    [told] = messages(m.Robots, desk.posts)
    assert told.verdict == "ROBOTS_UNREACHABLE"
    assert "no permit" in str(told.error)
    permit, out = desk.permitted()
    assert [release.lease for release in messages(m.Release, out)] == [permit], "it came too late"
    assert only(FetchRobots, out) == []


def test_a_permit_that_nobody_waits_for_goes_back_at_once(desk: Asker) -> None:
    desk.follow()
    desk.permitted()
    again, out = desk.permitted()
    [release] = messages(m.Release, out)
    assert (release.lease, release.age) == (again, None)


def test_the_next_hop_on_the_permits_host_takes_its_lane_after_its_delay(desk: Asker) -> None:
    desk.follow()
    permit, _ = desk.permitted(delay=7.0)
    out = desk.follow(CanonicalURL("http://b.test/there"))
    assert messages(m.Release, out) == []
    assert only(FetchRobots, out) == [
        FetchRobots(desk.lease_id, permit, SITE, "http://b.test/there", 2, desk.now + 7.0)
    ]


def test_a_hop_back_to_the_visits_own_host_needs_no_permit_and_keeps_its_delay(desk: Asker) -> None:
    desk.follow()
    desk.permitted()
    out = desk.follow(CanonicalURL("https://a.test/back"))
    assert len(messages(m.Release, out)) == 1
    [hop] = only(FetchRobots, out)
    assert (hop.under, hop.at) == (desk.lease_id, desk.now + 1.0)


def test_a_third_host_needs_a_permit_of_its_own(desk: Asker) -> None:
    desk.follow()
    desk.permitted()
    out = desk.follow(CanonicalURL("https://c.test/robots.txt"))
    assert len(messages(m.Release, out)) == 1
    assert wants(out) == ["c.test"]
    _, out = desk.permitted("b.test")
    assert only(FetchRobots, out) == []
    _, out = desk.permitted("c.test")
    assert [hop.hops for hop in only(FetchRobots, out)] == [2]


def test_one_host_is_wanted_once_and_each_permit_serves_one_robots_txt(desk: Asker) -> None:
    desk.follow()
    other = desk.lease("https://c.test/1")
    other = m.Lease(ME, other.number, other.id, "c.test", 1.0, 1, 1, (), None, other.requests)
    desk.arrive(other)
    assert wants(desk.follow()) == []
    first, out = desk.permitted()
    assert [hop.lease for hop in only(FetchRobots, out)] == [desk.lease_id]
    assert wants(out) == ["b.test"], "the other one still waits"
    second, out = desk.permitted()
    assert [(hop.lease, hop.under) for hop in only(FetchRobots, out)] == [(other.id, second)]
    assert first != second


# --------------------------------------------------------------------------------------------- what comes between


def test_a_hop_that_could_not_be_sent_gives_both_leases_back_and_tells_nothing(desk: Asker) -> None:
    desk.follow()
    permit, _ = desk.permitted()
    out = desk.came("", sent=False, status=None)
    assert {(release.lease, release.age) for release in messages(m.Release, out)} == {
        (permit, None),
        (desk.lease_id, 0.0),
    }
    assert messages(m.Robots, out) == []


def test_a_permit_that_ends_breaks_its_hop_off_and_the_visits_lease_goes_back(desk: Asker) -> None:
    desk.follow()
    permit, _ = desk.permitted()
    out = desk.alive(desk.beat().number, unknown=(permit,))
    assert only(Abort, out) == [Abort(permit)]
    assert [release.lease for release in messages(m.Release, out)] == [desk.lease_id]
    assert desk.came("rules", text=RULES) == [], "its result counts no more"


def test_a_visit_that_ends_gives_back_the_permit_that_it_used(desk: Asker) -> None:
    desk.follow()
    permit, _ = desk.permitted()
    out = desk.alive(desk.beat().number, unknown=(desk.lease_id,))
    assert set(only(Abort, out)) == {Abort(permit), Abort(desk.lease_id)}
    [release] = messages(m.Release, out)
    assert (release.lease, release.age) == (permit, 0.0), "the hop was broken off just now"


def test_a_visit_that_ends_while_it_waits_wants_nothing_more(desk: Asker) -> None:
    desk.follow()
    desk.alive(desk.beat().number, unknown=(desk.lease_id,))
    assert wants(desk.pass_time(60.0)) == []


def test_both_run_out_together(desk: Asker) -> None:
    desk.follow()
    permit, _ = desk.permitted()
    out = desk.pass_time(T)
    assert {Abort(permit), Abort(desk.lease_id)} <= set(only(Abort, out))
    assert desk.beat().leases == ()


def test_who_waits_for_a_permit_does_not_hold_up_a_pause(desk: Asker) -> None:
    desk.follow()
    out = desk.steer(Phase.PAUSED)
    assert [release.lease for release in messages(m.Release, out)] == [desk.lease_id]
    permit, out = desk.permitted()
    assert [release.lease for release in messages(m.Release, out)] == [permit]


def test_a_pause_lets_a_hop_land_and_follows_no_further(desk: Asker) -> None:
    desk.follow()
    permit, _ = desk.permitted()
    assert messages(m.Release, desk.steer(Phase.PAUSED)) == []
    out = desk.follow(CanonicalURL("http://b.test/more"))
    assert only(FetchRobots, out) == []
    assert {release.lease for release in messages(m.Release, out)} == {permit, desk.lease_id}


def test_a_pause_breaks_off_a_hop_that_does_not_land(desk: Asker) -> None:
    desk.follow()
    permit, _ = desk.permitted()
    desk.steer(Phase.PAUSED)
    out = desk.pass_time(DRAIN_SECONDS)
    assert {Abort(permit), Abort(desk.lease_id)} <= set(only(Abort, out))
    assert {release.lease for release in messages(m.Release, out)} == {permit, desk.lease_id}


@pytest.mark.parametrize("with_permit", [True, False])
def test_another_crawl_ends_all_of_it(desk: Asker, with_permit: bool) -> None:
    desk.follow()
    if with_permit:
        desk.permitted()
    desk.arrive(m.HelloAgain(ME))
    out = desk.welcome(crawl=b"x" * 16)
    assert messages(m.Release, out) == []
    assert wants(desk.pass_time(60.0)) == []
    assert desk.beat().leases == ()


def test_a_recalled_lease_that_waits_for_a_permit_goes_back_at_once(desk: Asker) -> None:
    desk.follow()
    out = desk.alive(recalled=(desk.lease_id,))
    assert [release.lease for release in messages(m.Release, out)] == [desk.lease_id]


# ------------------------------------------------------------------------------------------------- sitemaps


def test_sitemaps_are_told_as_canonical_urls(desk: Asker) -> None:
    text = (
        b"Sitemap: https://A.test:443/one.xml\nSitemap: /two.xml#x\nSitemap: ftp://a.test/3\n"
        b"Sitemap: /two.xml\nSitemap: http://\nSitemap: https://cdn.test/four.gz\n"
    )
    [told] = messages(m.Robots, desk.came("rules", text=text))
    assert told.sitemaps == (f"{SITE}/one.xml", f"{SITE}/two.xml", "https://cdn.test/four.gz")


@pytest.mark.parametrize("change", [{"sitemaps": False}, {"no_follow": True}], ids=str)
def test_sitemaps_that_are_not_to_be_read_are_not_told(change: dict[str, bool]) -> None:
    desk = Asker(config=CrawlConfig(jitter=0.0, **change))  # type: ignore[arg-type]  # two switches
    [told] = messages(m.Robots, desk.came("rules", text=b"Sitemap: /one.xml\n"))
    assert told.sitemaps == ()


def test_the_number_of_sitemaps_is_bounded(desk: Asker) -> None:
    text = b"".join(b"Sitemap: /%d.xml\n" % number for number in range(1500))
    [told] = messages(m.Robots, desk.came("rules", text=text))
    assert len(told.sitemaps) == 1000


# ------------------------------------------------------------------------------------------------- invariants


def test_each_host_has_a_queue_and_nothing_is_left_over() -> None:
    chases = Chases()
    for lease, name in enumerate(("b", "b", "c", "b")):
        chase = chases.begin(lease, SITE, None, CanonicalURL(f"https://{name}.test/robots.txt"))
        chases.want(chase, 10.0)
        chases.check()
    b = host_key(ELSEWHERE)
    assert [found.lease for permit in (7, 8) if (found := chases.serve(b, permit))] == [0, 1]
    chases.check()
    assert chases.forget(3) is None
    assert not chases.is_wanted(b, 99.0)
    assert chases.serve(b, 9) is None
    assert chases.forget(0) == 7
    assert chases.permit_over(8) is chases.get(1)
    chases.check()
    chases.forget(1)
    assert chases.times() == [10.0 + SEND_AGAIN_AFTER, 10.0 + PERMIT_WAIT]
    chases.forget(2)
    chases.check()
    assert chases.times() == []


def test_it_never_asks_to_be_woken_in_the_past_twice(desk: Asker) -> None:
    desk.follow()
    for _ in range(200):
        desk.now = max(desk.now, desk.agent.next_wakeup())
        desk.wake()
        assert desk.agent.next_wakeup() > desk.now
    assert number_of(desk.posts[-1]) > 0
