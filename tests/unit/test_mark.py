"""The mark of what is being parsed, and when it has stood for too long."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from pathlib import Path

import pytest

from common.config import CrawlConfig
from worker.limits import go_first
from worker.mark import Mark, Parsing
from worker.watch import LOOK_SECONDS, Seen, Watch, parse_stat

URL = "http://a.test/"
MIB = 1 << 20


def sides() -> tuple[Mark, Mark]:
    """The process's and the supervisor's."""
    memory = Mark.shared(multiprocessing.get_context("spawn"))
    return Mark(memory), Mark(memory)


def test_a_mark_stands_while_a_page_is_parsed() -> None:
    ours, theirs = sides()
    assert theirs.read() == ()
    with ours.page.parsing(1 << 63, 65_535, URL):
        assert theirs.read() == (Parsing(0, 1, 1 << 63, 65_535, URL),)
        with ours.aside.parsing(5, 0, "http://a.test/sitemap.xml"):
            assert [each.lease for each in theirs.read()] == [1 << 63, 5]
        assert len(theirs.read()) == 1
    assert theirs.read() == ()
    with ours.page.parsing(6, 1, URL):
        assert theirs.read() == (Parsing(0, 2, 6, 1, URL),)


def test_after_an_error_the_mark_stays_whatever_else_is_parsed_on_the_way_out() -> None:
    ours, theirs = sides()
    with pytest.raises(ValueError, match="bad page"), ours.page.parsing(5, 3, URL):
        raise ValueError("bad page")
    with (
        ours.page.parsing(6, 0, "http://innocent.test/"),
        ours.aside.parsing(7, 0, "http://a.test/sitemap.xml"),
    ):
        assert len(theirs.read()) == 2
    assert theirs.read() == (Parsing(0, 1, 5, 3, URL),)


def test_an_url_of_any_length_and_any_characters_is_marked() -> None:
    ours, theirs = sides()
    with ours.page.parsing(5, 3, "http://a.test/" + "ä" * 2000):
        (parsing,) = theirs.read()
        assert parsing.url.startswith("http://a.test/ä")
        assert len(parsing.url.encode()) < 500
    with ours.page.parsing(5, 3, "\ud800\0"):
        assert theirs.read()[0].url == "?\0"


def test_the_bounds_are_the_crawl_s() -> None:
    ours, theirs = sides()
    assert theirs.bounds == (0.0, 0)
    ours.bound(1.5, 3 << 30)
    assert theirs.bounds == (1.5, 3 << 30)


def test_a_page_has_a_bound_by_default() -> None:
    tuning = CrawlConfig().tuning
    assert 0 < tuning.parse_seconds <= tuning.lease_ttl / 3
    assert tuning.parse_memory > 0


# ------------------------------------------------------------------------------------------------------- looks

PAGE = Parsing(0, 1, 5, 3, URL)


class Looks:
    """A watch, and time."""

    def __init__(self, seconds: float = 2.0, size: int = 0) -> None:
        self.watch = Watch()
        self.bounds = (seconds, size)
        self.now, self.cpu, self.resident = 1000.0, 50.0, 100 * MIB

    def look(
        self,
        marks: Sequence[Parsing] = (PAGE,),
        *,
        state: str = "S",
        after: float = LOOK_SECONDS,
        cpu: float = 0.0,
        grown: int = 0,
    ) -> str | None:
        """How a bound was broken."""
        self.now += after
        self.cpu += cpu
        self.resident += grown
        broken = self.watch.look(marks, Seen(state, self.cpu, self.resident), self.bounds, self.now)
        return None if broken is None else broken[1]


def test_a_process_that_waits_and_waits_over_one_page_is_found() -> None:
    looks = Looks()
    assert [looks.look() for _ in range(4)] == [None] * 4
    assert looks.look() == "not done with it after 2.0 s"


@pytest.mark.parametrize(("share", "looks_needed"), [(1.0, 4), (0.75, 6), (0.1, 8), (7.0, 4)])
def test_one_that_computes_is_charged_the_processor_time_it_got_but_no_less_than_half(
    share: float, looks_needed: int
) -> None:
    looks = Looks()
    found = [looks.look(state="R", cpu=share * LOOK_SECONDS) for _ in range(looks_needed + 1)]
    assert found[:-1] == [None] * looks_needed
    assert found[-1] is not None


def test_many_short_pages_are_not_one_long_one() -> None:
    looks = Looks()
    for number in range(1, 40):
        assert looks.look([Parsing(0, number, 5, 3, URL)], state="R", cpu=0.5) is None


def test_a_long_one_aside_is_found_among_many_short_ones() -> None:
    looks = Looks()
    aside = Parsing(1, 1, 9, 0, "http://a.test/sitemap.xml")
    found = [looks.look([Parsing(0, number, 5, 3, URL), aside]) for number in range(1, 6)]
    assert found[:4] == [None] * 4
    assert found[4] is not None


@pytest.mark.parametrize("away", [10.0, 8 * 3600.0])
def test_what_passes_while_the_machine_sleeps_counts_for_one_look_at_most(away: float) -> None:
    looks = Looks()
    assert looks.look() is None
    assert [looks.look(after=away) for _ in range(3)] == [None] * 3
    assert looks.look(after=away) is not None  # it had four whole looks


def test_what_passes_while_it_is_stopped_does_not_count() -> None:
    looks = Looks()
    assert looks.look() is None
    assert [looks.look(state="T") for _ in range(100)] == [None] * 100
    assert looks.look(after=60.0) is None


def test_without_bounds_nothing_is_broken() -> None:
    looks = Looks(0.0, 0)
    assert [looks.look(grown=100 * MIB) for _ in range(100)] == [None] * 100


def test_what_a_page_takes_counts_from_before_it_was_begun() -> None:
    looks = Looks(0.0, 500 * MIB)
    assert looks.look([], grown=4000 * MIB) is None
    assert looks.look(grown=300 * MIB) is None
    assert looks.look(grown=100 * MIB) is None
    assert looks.look(grown=100 * MIB) == "500 MiB of memory for it"


def test_what_all_pages_together_take_is_none_s_fault() -> None:
    looks = Looks(0.0, 500 * MIB)
    for number in range(1, 40):
        assert looks.look([Parsing(0, number, 5, 3, URL)], grown=300 * MIB) is None


def test_what_the_kernel_says_is_read_whatever_the_process_is_called() -> None:
    fields = "R 1 2 3 4 5 6 7 8 9 10 250 50 13 14 15 16 17 18 19 20 1000 22"
    assert parse_stat(f"77 (a) b) {fields}\n", ticks=100, page=4096) == Seen("R", 3.0, 4_096_000)
    with pytest.raises(IndexError):
        parse_stat("", ticks=100, page=4096)


def test_a_process_goes_before_its_parent_when_memory_is_short(tmp_path: Path) -> None:
    adjustment = tmp_path / "oom_score_adj"
    for before, after in (("0\n", "300"), ("900\n", "1000"), ("-1000", "-700"), ("what", "what")):
        adjustment.write_text(before)
        go_first(adjustment)
        assert adjustment.read_text() == after
    go_first(tmp_path / "missing")
    assert not (tmp_path / "missing").exists()
