"""Whose fault a failure is: the hosts', or this machine's own network, whose failures count for nothing."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from common import messages as m
from common.config import CrawlConfig
from common.messages import LeaseId, Phase
from common.outcome import Outcome
from tests.unit.test_agent import BEAT, FACTS, ME, Desk, messages, only
from worker.steps import Abort, Fetched, Instruction, Probe, Probed, Report, RobotsFetched
from worker.suspicion import (
    FETCHES,
    HOLD_SECONDS,
    HOSTS,
    MAX_PROBE_AFTER,
    PROBE_AFTER,
    TRUSTED_SECONDS,
    WINDOW_SECONDS,
    Standing,
    Suspicion,
)
from worker.visit import Fetch

DOWN = Report(m.Facts(Outcome.TIMEOUT.code, reason="connect"), network=True)
SILENT = Report(m.Facts(Outcome.TIMEOUT.code, reason="silence"))
NAMES = [f"h{number}.test" for number in range(10)]


def suspicion() -> Suspicion[int]:
    return Suspicion()


def fail(
    there: Suspicion[int], hosts: Iterable[str], now: float, visited: Iterable[str] = NAMES
) -> list[bool]:
    """A failure of each; whether it was held back."""
    return [there.failed(host, number, lambda: set(visited), now) for number, host in enumerate(hosts)]


# ---------------------------------------------------------------------------------------------------- alone


def test_a_few_hosts_never_cause_suspicion_and_nothing_of_theirs_waits() -> None:
    there = suspicion()
    few = NAMES[: HOSTS - 1]
    for round_ in range(20):
        assert not any(fail(there, few, 100.0 + round_, few))
    assert there.standing is Standing.WATCHING
    assert not there.probe_due(200.0)
    assert there.next_time() == float("inf")


def test_a_few_hosts_of_many_never_cause_suspicion_however_often_they_fail() -> None:
    there = suspicion()
    for round_ in range(30):
        fail(there, NAMES[: HOSTS - 1], 100.0 + round_)
    assert there.standing is Standing.WATCHING


def test_many_hosts_that_fail_at_once_do() -> None:
    there = suspicion()
    hosts = [NAMES[number % HOSTS] for number in range(FETCHES - 1)]
    assert all(fail(there, hosts, 100.0))
    assert there.standing is Standing.WATCHING, "it could still be chance"
    assert all(fail(there, NAMES[:1], 101.0))
    assert there.standing is Standing.SUSPECTING
    assert there.probe_due(101.0)
    assert not there.probe_due(102.0), "never two at one time"


def test_all_hosts_that_are_visited_are_enough() -> None:
    there = suspicion()
    fail(there, NAMES[:HOSTS], 100.0, NAMES[:HOSTS])
    assert there.standing is Standing.SUSPECTING


def test_one_answer_from_anywhere_clears_it_and_the_failures_stand() -> None:
    there = suspicion()
    fail(there, NAMES[:3], 100.0)
    assert there.answered() == [0, 1, 2]
    fail(there, NAMES[3:], 101.0)
    assert there.standing is Standing.WATCHING
    fail(there, NAMES[:1], 101.0)
    assert there.standing is Standing.SUSPECTING
    assert len(there.answered()) == 8
    assert there.standing is Standing.WATCHING


def test_old_failures_say_nothing_of_now() -> None:
    there = suspicion()
    fail(there, NAMES[:7], 100.0)
    fail(there, NAMES[7:], 100.0 + WINDOW_SECONDS)
    assert there.standing is Standing.WATCHING


def test_a_failure_is_held_back_for_a_while_at_most() -> None:
    there = suspicion()
    fail(there, NAMES[:2], 100.0)
    assert there.next_time() == 100.0 + HOLD_SECONDS
    assert there.overdue(100.0 + HOLD_SECONDS - 0.1) == []
    assert there.overdue(100.0 + HOLD_SECONDS) == [0, 1]
    assert len(there) == 0


def test_failures_of_many_hosts_and_silence_of_the_others_are_a_suspicion_in_the_end() -> None:
    there = suspicion()
    fail(there, NAMES[:HOSTS], 100.0)
    assert there.standing is Standing.WATCHING
    assert there.overdue(100.0 + HOLD_SECONDS) == []
    assert there.standing is Standing.SUSPECTING
    assert there.probe_due(100.0 + HOLD_SECONDS)


def test_while_it_suspects_nothing_is_let_go_for_its_age() -> None:
    there = suspicion()
    fail(there, NAMES, 100.0)
    assert there.overdue(200.0) == []


def test_a_probe_that_finds_the_network_lets_the_failures_stand_and_is_believed_for_a_while() -> None:
    there = suspicion()
    fail(there, NAMES, 100.0)
    assert there.probe_due(100.0)
    assert len(there.probed(True, 101.0)) == len(NAMES)
    assert not any(fail(there, NAMES, 101.0 + TRUSTED_SECONDS - 1))
    assert there.standing is Standing.WATCHING
    fail(there, NAMES, 101.0 + TRUSTED_SECONDS)
    assert there.standing is Standing.SUSPECTING


def test_probes_come_ever_more_seldom_until_one_finds_the_network() -> None:
    there = suspicion()
    fail(there, NAMES, 100.0)
    now, waits = 100.0, []
    for _ in range(6):
        assert there.probe_due(now)
        assert there.next_time() == float("inf"), "a probe is out"
        assert there.probed(False, now) == []
        waits.append(there.next_time() - now)
        now = there.next_time()
    assert waits == [PROBE_AFTER, 10.0, 20.0, 40.0, MAX_PROBE_AFTER, MAX_PROBE_AFTER]
    assert there.standing is Standing.OFFLINE
    assert there.probe_due(now)
    there.probed(True, now)
    assert there.standing is Standing.WATCHING
    assert there.next_time() == float("inf")


def test_a_probe_that_an_answer_overtook_says_nothing_any_more() -> None:
    there = suspicion()
    fail(there, NAMES, 100.0)
    there.probe_due(100.0)
    there.answered()
    assert there.probed(False, 101.0) == []
    assert there.standing is Standing.WATCHING


def test_what_it_remembers_is_bounded() -> None:
    there = suspicion()
    for number in range(1000):
        there.failed(f"h{number % 3}.test", 0, lambda: set(NAMES), 100.0)
        there.overdue(100.0 + HOLD_SECONDS)
    assert len(there._failures) <= 64
    assert len(there) <= 1


# ------------------------------------------------------------------------------------------- in the agent


class Traveller(Desk):
    """A desk whose agent visits many hosts, a request or two of each."""

    def __init__(self, hosts: int = 8, *, obey: bool = False, requests: int = 2, **tuning: int) -> None:
        super().__init__(config=CrawlConfig(obey_robots=obey, delay=1.0, jitter=0.0))
        self.leases = [self.lend_of(name, requests) for name in NAMES[:hosts]]

    def lend_of(self, name: str, requests: int = 2) -> LeaseId:
        plain = self.lease(*(f"https://{name}/{number}" for number in range(requests)))
        lease = m.Lease(ME, plain.number, plain.id, name, 1.0, 1, 1, (), None, plain.requests)
        self.arrive(lease)
        return lease.id

    def fetch(self, lease: int, report: Report, ordinal: int = 0) -> list[Instruction]:
        return self.take(self.agent.handle(Fetched(lease, ordinal, report, self.now), self.now))

    def probed(self, works: bool) -> list[Instruction]:
        return self.take(self.agent.handle(Probed(works), self.now))

    def fall(self) -> list[Instruction]:
        """Every host fails."""
        return [each for lease in self.leases for each in self.fetch(lease, DOWN)]


def test_one_dead_host_among_many_is_told_as_soon_as_another_one_answers() -> None:
    desk = Traveller()
    assert messages(m.Page, desk.fetch(desk.leases[0], DOWN)) == []
    pages = messages(m.Page, desk.fetch(desk.leases[1], Report(FACTS)))
    assert {(page.lease, page.facts.outcome) for page in pages} == {
        (desk.leases[0], Outcome.TIMEOUT.code),
        (desk.leases[1], Outcome.OK.code),
    }


def test_one_dead_host_among_silent_ones_is_told_in_the_end() -> None:
    desk = Traveller()
    desk.fetch(desk.leases[0], DOWN)
    desk.now += 1.0
    [silent] = messages(m.Page, desk.fetch(desk.leases[1], SILENT))
    desk.accept(silent.number)  # silence is no answer
    assert messages(m.Page, desk.pass_time(HOLD_SECONDS - 1.1)) == []
    assert [page.lease for page in messages(m.Page, desk.pass_time(0.2))] == [desk.leases[0]]


def test_the_host_of_a_failure_that_is_held_back_is_visited_on() -> None:
    desk = Traveller()
    [step] = only(Fetch, desk.fetch(desk.leases[0], DOWN))
    assert (step.ordinal, step.at) == (1, desk.now + 1.0)


def test_a_process_that_visits_few_hosts_tells_every_failure_at_once() -> None:
    desk = Traveller(hosts=3)
    assert len(messages(m.Page, desk.fall())) == 3
    assert only(Probe, desk.pass_time(60.0)) == []


def test_when_every_host_fails_the_network_is_probed_and_nothing_is_told_or_begun() -> None:
    desk = Traveller()
    out = desk.fall()
    assert only(Probe, out) == [Probe()]
    assert messages(m.Page, out) == []
    desk.alive(desk.beat().number)
    assert only(Fetch, desk.pass_time(BEAT)) == []


def test_when_the_probe_finds_the_network_all_failures_are_told_and_the_visits_go_on() -> None:
    desk = Traveller()
    desk.fall()
    out = desk.probed(True)
    assert len(messages(m.Page, out)) == 8
    assert {page.facts.outcome for page in messages(m.Page, out)} == {Outcome.TIMEOUT.code}
    assert messages(m.Release, out) == []
    assert not desk.beat().offline


def test_when_it_finds_nothing_every_lease_goes_back_and_no_try_is_counted() -> None:
    desk = Traveller()
    out = desk.fall()
    desk.now += 2.0
    out = desk.probed(False)
    assert messages(m.Page, out) == []
    releases = messages(m.Release, out)
    assert {release.lease for release in releases} == set(desk.leases)
    assert desk.agent.in_flight == 0
    [beat] = messages(m.Heartbeat, out)
    assert (beat.offline, beat.lanes, beat.requests, beat.leases) == (True, 0, 0, ())
    assert messages(m.Page, desk.pass_time(120.0)) == []


def test_a_lease_that_goes_back_tells_when_its_host_was_touched_last() -> None:
    """[9] A fetch that failed counts like any other; what is broken off touched the host until now."""
    desk = Traveller(hosts=9)
    desk.fall()
    desk.now += 0.5
    releases = {release.lease: release.age for release in messages(m.Release, desk.probed(False))}
    assert releases[desk.leases[0]] == 0.0, "its second fetch was under way"
    assert releases[desk.leases[8]] == 0.5


def test_what_landed_before_is_still_told_before_its_lease_goes_back() -> None:
    desk = Traveller()
    [page] = messages(m.Page, desk.fetch(desk.leases[0], Report(FACTS)))
    for lease in desk.leases[1:]:
        desk.fetch(lease, DOWN)
    desk.now += 1.0
    out = desk.fetch(desk.leases[0], DOWN, 1)
    assert only(Probe, out) == [Probe()]
    out = desk.probed(False)
    assert desk.leases[0] not in {release.lease for release in messages(m.Release, out)}
    [release] = messages(m.Release, desk.accept(page.number))
    assert release.lease == desk.leases[0]


def test_while_it_is_offline_it_takes_nothing_and_probes_until_the_network_is_there() -> None:
    desk = Traveller()
    desk.fall()
    desk.probed(False)
    late = desk.lease()
    assert [release.lease for release in messages(m.Release, desk.arrive(late))] == [late.id]
    assert only(Probe, desk.pass_time(PROBE_AFTER - 0.1)) == []
    assert only(Probe, desk.pass_time(0.2)) == [Probe()]
    assert only(Probe, desk.pass_time(60.0)) == []
    [beat] = messages(m.Heartbeat, desk.probed(True))
    assert (beat.offline, beat.lanes) == (False, 1000)
    assert len(only(Fetch, desk.arrive(desk.lease()))) == 1


def test_an_answer_while_the_probe_is_out_ends_the_suspicion() -> None:
    desk = Traveller(hosts=9)
    for lease in desk.leases[:8]:
        desk.fetch(lease, DOWN)
    out = desk.fetch(desk.leases[8], Report(FACTS))
    assert len(messages(m.Page, out)) == 9
    assert desk.probed(False) == []
    assert not desk.beat().offline


def test_a_failed_robots_txt_is_held_back_too_and_its_lane_counts() -> None:
    desk = Traveller(obey=True)
    out: list[Instruction] = []
    for lease, name in zip(desk.leases, NAMES, strict=False):
        place = f"https://{name}"
        done = RobotsFetched(
            lease, place, f"{place}/robots.txt", 0, "DNS", None, "no name server answered", None, b"", 0,
            desk.now, True, network=True,
        )  # fmt: skip
        out += desk.take(desk.agent.handle(done, desk.now))
    assert messages(m.Robots, out) == []
    assert only(Probe, out) == [Probe()]
    desk.now += 2.0
    out = desk.probed(False)
    assert messages(m.Robots, out) == []
    assert [release.age for release in messages(m.Release, out)] == [2.0] * 8


def test_the_hosts_fault_after_all_robots_txt_is_told_as_it_failed() -> None:
    desk = Traveller(obey=True)
    place = f"https://{NAMES[0]}"
    done = RobotsFetched(
        desk.leases[0], place, f"{place}/robots.txt", 0, "DNS", None, "no answer", None, b"", 0, desk.now,
        True, network=True,
    )  # fmt: skip
    assert messages(m.Robots, desk.take(desk.agent.handle(done, desk.now))) == []
    [told] = messages(m.Robots, desk.pass_time(HOLD_SECONDS))
    assert (told.verdict, told.age) == ("DNS", HOLD_SECONDS)


def test_a_pause_does_not_wait_for_what_is_held_back() -> None:
    desk = Traveller(requests=1)
    desk.fetch(desk.leases[0], DOWN)
    out = desk.steer(Phase.PAUSED)
    assert messages(m.Page, out) == []
    assert [release.lease for release in messages(m.Release, out)] == [desk.leases[0]]


def test_a_lease_that_came_while_a_probe_was_out_begins_when_the_network_is_found() -> None:
    """Also after a pause, which had let go of all that was held back."""
    desk = Traveller(requests=1)
    desk.fall()
    desk.steer(Phase.PAUSED)
    desk.steer(Phase.RUNNING)
    lease = desk.lease()
    assert only(Fetch, desk.arrive(lease)) == []
    assert [step.lease for step in only(Fetch, desk.probed(True))] == [lease.id]


def test_a_lease_that_ended_meanwhile_gets_nothing_of_what_was_held_back() -> None:
    desk = Traveller()
    desk.fetch(desk.leases[0], DOWN)
    desk.alive(desk.beat().number, unknown=(desk.leases[0],))
    assert messages(m.Page, desk.pass_time(HOLD_SECONDS)) == []


@pytest.mark.parametrize("works", [True, False])
def test_it_never_asks_to_be_woken_in_the_past_twice(works: bool) -> None:
    desk = Traveller()
    desk.fall()
    desk.probed(works)
    for _ in range(100):
        desk.now = max(desk.now, desk.agent.next_wakeup())
        for _ in only(Probe, desk.wake()):
            desk.probed(works)
        assert desk.agent.next_wakeup() > desk.now


def test_offline_is_broken_off_work_not_results() -> None:
    desk = Traveller(hosts=9)
    desk.fall()
    aborts = only(Abort, desk.probed(False))
    assert {abort.lease for abort in aborts} == set(desk.leases)
