"""What people see: figures that are right, lines that fit, and words that say what to do."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from common.config import CrawlConfig
from common.errors import ProtocolError
from coordinator import lastscreen, progress
from coordinator.history import Meter
from coordinator.status import (
    FailedTry,
    HostCounts,
    HostStatus,
    Phase,
    SeedEnd,
    Seeds,
    Status,
    Waiting,
    WorkerStatus,
    size_text,
    time_text,
)
from coordinator.waiting import Facts, estimate, pace, waiting

LIMIT = "1 host × 1 s: at most 1 page/s; more processes will not help; yours? --per-host 4 --delay 0"

STATUS = Status(
    phase=Phase.RUNNING,
    directory="crawl1",
    started_at="2026-05-01T12:00:00.000Z",
    elapsed_seconds=204.2,
    pages=6204,
    pages_now=6204,
    outcomes={"OK": 6000, "REDIRECT": 120, "CLIENT_ERROR": 53, "TIMEOUT": 31},
    rate=412.3,
    rate_average=380.1,
    bytes_received=1_503_238_553,
    bytes_rate=19_084_083,
    in_flight=1000,
    admitted=10064,
    queued=3796,
    leased=64,
    hosts=HostCounts(214, 12, 180, 22),
    errors=31,
    workers=(WorkerStatus("node0", 4000, 1000, 700, 51.5, 0.5),),
    refused={"scope": 120345},
    seeds=Seeds(1000, 3),
    eta_seconds=200.4,
    limits=LIMIT,
    disk_free_bytes=80 << 30,
)
FINISHED = replace(STATUS, phase=Phase.FINISHED, queued=0, leased=0, exit_code=0, limits="", eta_seconds=None)


def drawn(what: RenderableType, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_bar_fits_the_terminal_and_the_first_figures_are_always_there(width: int) -> None:
    lines = drawn(progress.screen(STATUS, width), width)
    assert all(len(line) <= width for line in lines)
    assert len(lines) <= 6
    assert lines[1].startswith("412 pages/s")
    text = " ".join(" ".join(lines).split())
    assert "--per-host 4 --delay 0" in text


def test_the_bar_tells_all_that_was_promised() -> None:
    text = " ".join(" ".join(drawn(progress.screen(STATUS, 120), 120)).split())
    for part in (
        "running",
        "6,204 of 10,064 known",
        "3 min 20 s left",
        "1,000 in flight",
        "3,796 queued",
        "214 hosts (12 ready, 180 waiting, 22 lent)",
        "31 errors",
        "1 worker",
        "1.4 GiB",
        "18.2 MiB/s",
        "3 bad seeds",
        LIMIT,
    ):
        assert part in text


def test_without_a_terminal_a_line_comes_now_and_then_and_ever_more_seldom() -> None:
    stream = io.StringIO()
    lines = progress.reporter(CrawlConfig(), stream)
    for tenth in range(6000):
        lines.show(STATUS, tenth / 10)
    told = stream.getvalue().splitlines()
    assert 10 <= len(told) <= 20
    assert told[0].startswith("running: 6,204 pages, 412 pages/s, 1,000 in flight")
    assert "about 3 min 20 s left" in told[0]


def test_a_pause_is_told_at_once_but_waiting_is_no_news() -> None:
    stream = io.StringIO()
    lines = progress.Lines(stream)
    lines.show(STATUS, 0.0)
    lines.show(replace(STATUS, phase=Phase.WAITING), 0.1)
    lines.show(STATUS, 0.2)
    assert stream.getvalue() == ""
    lines.show(replace(STATUS, phase=Phase.PAUSED), 0.3)
    assert stream.getvalue().startswith("paused: ")


def test_quiet_is_quiet_and_no_progress_still_says_how_it_ended() -> None:
    stream = io.StringIO()
    quiet = progress.reporter(CrawlConfig(quiet=True), stream)
    quiet.say("hello")
    quiet.show(STATUS, 100.0)
    quiet.close(FINISHED)
    assert stream.getvalue() == ""
    plain = progress.reporter(CrawlConfig(progress=False), stream)
    plain.show(STATUS, 0.0)
    plain.show(STATUS, 1000.0)
    assert stream.getvalue() == ""
    plain.close(FINISHED)
    assert stream.getvalue().startswith("Finished: 6,204 URLs in 3 min 24 s")


def test_a_reader_that_leaves_does_not_end_the_crawl() -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    lines = progress.Lines(Broken())
    lines.say("hello")
    lines.show(replace(STATUS, phase=Phase.PAUSED), 0.0)
    lines.close(FINISHED)


def test_the_summary_says_what_came_where_it_is_and_what_to_type_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "crawl1" / "warc" / "crawl1.warc.gz").mkdir(parents=True)
    text = lastscreen.summary(FINISHED).plain
    for part in (
        "Finished: 6,204 URLs in 3 min 24 s, 380 a second, 1.4 GiB",
        "CLIENT_ERROR",
        "links left out: scope 120,345",
        "3 bad seeds of 1,000: crawl1/seeds",
        "crawl1/warc/",
        "coord crawl URL --out crawl1",
    ):
        assert part in text
    assert max(map(len, text.splitlines())) <= 80
    assert "Exit code" not in text


def test_the_summary_names_the_folders_that_hold_something(tmp_path: Path) -> None:
    directory = tmp_path / "c"
    for name in ("pages/a", "items/a", "text/a", "files/a", "links", "warc"):
        (directory / name).mkdir(parents=True)
    made = replace(
        FINISHED,
        directory=str(directory),
        items={f"kind_{number}": 1000 + number for number in range(10)},
        files=3,
        file_bytes=5 << 20,
    )
    lines = lastscreen.summary(made).plain.replace(str(directory), "c").splitlines()
    start = lines.index("Where it is") + 1
    assert lines[start : lines.index("Next")] == [
        "  c/pages/   a line of JSON each: outcome, title",
        "  c/items/   what extractors made: kind_0 1,000, kind_1 1,001, kind_2 1,002 and 7 kinds more",
        "  c/text/    the text of each page",
        "  c/files/   3 downloads, 5.0 MiB",
    ]


def test_the_summary_lists_what_a_person_must_look_at() -> None:
    urls = tuple(f"https://a.test/{number}\x1b" for number in range(10))
    poisoned = replace(FINISHED, outcomes={"OK": 5, "POISON": 12}, poison=urls, exit_code=1, reason="poison")
    text = lastscreen.summary(poisoned).plain
    assert "Worker processes died over these (POISON): look at them" in text
    assert text.count("https://a.test/") == 10 and "\x1b" not in text
    assert "and 2 more: coord export crawl1 --outcome POISON --to -" in text


def test_extractors_have_a_column_when_there_are_any() -> None:
    workers = (WorkerStatus("node0", 1, extract_percent=93), WorkerStatus("node0", 2))
    lines = drawn(progress.table(replace(STATUS, workers=workers, items={"film": 1234, "star": 5}), 80), 80)
    (head,) = (line for line in lines if line.startswith("worker"))
    assert "extract" in head and any("93%" in line for line in lines)
    assert "items: film 1,234 · star 5" in lines
    assert all(len(line) <= 80 for line in lines)
    assert not any("extract" in line for line in drawn(progress.table(STATUS, 80), 80))


def test_a_stop_says_that_nothing_is_lost_and_how_to_go_on() -> None:
    stopped = replace(STATUS, phase=Phase.STOPPED, reason="stopped by hand", exit_code=3, pages=9000)
    text = lastscreen.summary(stopped).plain
    assert "Stopped (stopped by hand)" in text
    assert "9,000 URLs in all" in text
    assert "3,860 URLs still queued" in text
    assert "coord crawl --out crawl1" in text
    assert "No seed" not in lastscreen.summary(replace(stopped, outcomes={})).plain
    assert "Exit code 3: stopped before the end; nothing is lost" in text


@pytest.mark.parametrize("limit", ["--max-pages", "--max-pages-per-host", "--max-total-bytes"])
def test_after_a_limit_over_all_starts_the_command_that_goes_on_lifts_it(limit: str) -> None:
    text = lastscreen.summary(replace(FINISHED, reason=limit, queued=5)).plain
    assert f"coord crawl --out crawl1 {limit} none  " in text
    assert " none " not in lastscreen.summary(replace(FINISHED, reason="--max-time", queued=5)).plain


def test_pages_that_lost_their_items_are_told() -> None:
    lost = replace(FINISHED, unextracted=6, extract_error="https://a.test/: TypeError: boom")
    text = lastscreen.summary(lost).plain
    assert "Extractors failed on 6 pages: their items are lost\n  https://a.test/: TypeError: boom\n" in text
    assert "extractors failed on 6 pages" in progress.line(lost)
    assert any("items lost 6" in line for line in drawn(progress.table(lost, 100), 100))


def test_sitemaps_are_told_beside_the_outcomes_and_a_round_with_its_rounds() -> None:
    text = lastscreen.summary(replace(FINISHED, sitemaps=7)).plain
    assert "and 7 sitemaps, which are no pages" in text
    text = lastscreen.summary(replace(FINISHED, round=1, pages=12, pages_now=6)).plain
    assert "12 URLs in all, rounds 0 to 1:" in text


def test_nobody_says_there_was_no_seed_where_a_retry_failed_again() -> None:
    again = replace(FINISHED, outcomes={"REFUSED": 1}, pages=1, seeds=Seeds(), exit_code=1)
    assert "there was no seed" not in lastscreen.summary(again).plain
    nothing = replace(again, outcomes={}, pages=0, pages_now=0)
    assert "there was no seed" in lastscreen.summary(nothing).plain


def test_when_no_seed_gave_a_page_each_is_explained() -> None:
    nothing = replace(
        FINISHED,
        outcomes={"DNS": 1, "ROBOTS_DENIED": 1},
        seed_ends=(
            SeedEnd("https://exmaple.org/", "DNS", "Name or service not known"),
            SeedEnd("https://a.test/\x1b[2J", "ROBOTS_DENIED"),
        ),
        exit_code=1,
        reason="no seed gave a page",
    )
    text = lastscreen.summary(nothing).plain
    assert "No seed gave a page" in text
    assert "https://exmaple.org/  DNS: Name or service not known" in text
    assert "is it spelt right?" in text
    assert "yours? --ignore-robots" in text
    assert "\x1b" not in text
    assert "Exit code 1: no seed gave a page" in text
    assert "warc/" not in text


def test_the_table_of_coord_status_has_workers_and_outcomes() -> None:
    many = replace(STATUS, workers=tuple(WorkerStatus("n\x07", number) for number in range(30)))
    lines = drawn(progress.table(many, 100, 60), 100)
    text = "\n".join(lines)
    assert "OK 6,000 · REDIRECT 120" in text
    assert "and 10 more" in text
    assert "\x07" not in text
    assert all(len(line) <= 100 for line in lines)


def test_the_table_is_one_screen_and_tells_what_else_holds() -> None:
    full = replace(
        STATUS,
        waiting=(
            Waiting("politeness", LIMIT),
            Waiting("robots", "robots.txt of 1 host could not be read, a.test is asked for again in 55 s"),
            Waiting("retries", "1 URL waits for a retry, next in 6.1 s (b\x1b.test)"),
        ),
        refused={"scope": 5},
        guarded={"calendar": 2},
        round=1,
        again={"new": 1, "changed": 0, "unchanged": 3, "vanished": 0},
        retried=4,
        relinked=2,
        workers=tuple(
            WorkerStatus("a-machine-with-a-very-long-name.example", number, 1000, 9, 1.0, 0.3, 97, 1 << 27)
            for number in range(30)
        ),
        long_queues=tuple(HostStatus(f"h{number}.test", 900, 1.0, 1, 900.0) for number in range(10)),
        recent_errors=tuple(
            FailedTry("2026-05-01T12:00:00.000Z", f"https://a.test/{'x' * 90}", "DNS", "no such host")
            for _ in range(20)
        ),
        workers_died=2,
        commits_rate=18.0,
        commit_seconds=0.004,
        cpu_percent=12,
        memory_bytes=80 << 20,
    )
    lines = drawn(progress.table(full, 80, 24), 80)
    assert len(lines) <= 24
    assert all(len(line) <= 80 for line in lines)
    text = "\n".join(lines)
    for part in (
        "also: robots.txt of 1 host could not be read",
        "also: 1 URL waits for a retry",
        "set aside: calendar 2",
        "round 1: new 1 · unchanged 3",
        "also seen: links again 2 · retried 4",
        "CPU 12% · 18 commits/s of 4 ms",
        "more (--json has all)",
        "queue  h0.test: 900 queued × 1 s, alone 15 min 00 s",
        "97%",
    ):
        assert part in text, text
    assert "\x1b" not in text
    tall = drawn(progress.table(full, 80, 60), 80)
    assert "error  12:00:00 DNS https://a.test/xxx" in "\n".join(tall)


def test_a_status_is_read_back_and_a_newer_one_too() -> None:
    read = STATUS.to_json()
    assert Status.from_json(read) == STATUS
    read["invented_later"] = 1
    read["hosts"]["invented_later"] = 1
    del read["disk_free_bytes"]
    assert Status.from_json(read) == replace(STATUS, disk_free_bytes=0)
    for wrong in (None, {}, {"phase": "odd"}, read | {"hosts": 3}, read | {"workers": [3]}):
        with pytest.raises(ProtocolError):
            Status.from_json(wrong)


FACTS = Facts(
    phase=Phase.RUNNING,
    workers=4,
    capacity=4000,
    in_flight=10,
    queued=100,
    hosts_leased=3,
    disk_free=10 << 30,
    min_free=2 << 30,
)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (replace(FACTS, hosts_leased=1), LIMIT),
        (FACTS, "3 hosts × 1 s: at most 3 pages/s; more processes will not help; yours? --per-host 4 --delay 0"),
        (replace(FACTS, per_host=4, delay=0.0), "3 hosts × 4 at once: as fast as the servers answer"),
        (replace(FACTS, workers=0, worker_command="worker start -x"), "no workers: run `worker start -x`"),
        (replace(FACTS, workers=0), "the local workers are starting"),
        (
            replace(FACTS, in_flight=0, hosts_leased=0, hosts_waiting=30, next_due_seconds=0.84),
            "waiting for politeness: 30 hosts, next due in 0.8 s",
        ),
        (replace(FACTS, worker_cpu=0.97), "workers busy: CPU at 97%"),
        (replace(FACTS, in_flight=4000), "4,000 of 4,000; more processes or a larger --concurrency help"),
        (replace(FACTS, disk_free=1 << 30), "disk short: 1.0 GiB free, --min-free keeps 2.0 GiB"),
        (replace(FACTS, memory_short=("node0:1",)), "--memory"),
        (replace(FACTS, max_rate=10.0, rate=9.9), "--max-rate: at most 10 pages/s"),
        (replace(FACTS, in_flight=0, held_back=1234, budget="--max-pages"), "--max-pages is reached: 1,234 URLs"),
        (replace(FACTS, phase=Phase.PAUSED, directory="c1"), "paused by hand: `coord resume c1` goes on"),
        (replace(FACTS, hosts_ready=500), "500 hosts ready"),
        (replace(FACTS, in_flight=0, hosts_leased=0), "nothing queued"),
        (replace(FACTS, phase=Phase.SEEDING, in_flight=0, hosts_leased=0), "reading seeds"),
        (replace(FACTS, phase=Phase.FINISHED), ""),
    ],
)  # fmt: skip
def test_what_limits_the_crawl_is_said_with_what_would_change_it(facts: Facts, said: str) -> None:
    texts = [cause.text for cause in waiting(facts)]
    assert said in texts[0] if said else not texts


def test_the_pace_is_said_before_anything_was_fetched() -> None:
    assert pace(1, 1.0, 1) == LIMIT
    assert pace(200, 1.0, 1) == "200 hosts × 1 s: at most 200 pages/s; more processes will not help"
    assert pace(1, 5.0, 1).startswith("1 host × 5 s: at most 0.2 pages/s")


def test_an_estimate_is_made_only_where_it_can_be() -> None:
    ask = {"left": 1000, "rate": 10.0, "pages": 500, "growing": False}
    assert estimate(**ask) == 100  # type: ignore[arg-type]
    assert estimate(**ask | {"growing": True}) is None  # type: ignore[arg-type]
    assert estimate(**ask | {"growing": True, "max_pages": 600}) == 10  # type: ignore[arg-type]
    assert estimate(**ask | {"rate": 0.0}) is None  # type: ignore[arg-type]
    assert estimate(**ask | {"left": 0}) == 0  # type: ignore[arg-type]
    # One host holds the end back, however fast the others are.
    assert estimate(**ask | {"longest_queue": 900, "delay": 1.0}) == 900  # type: ignore[arg-type]


def test_a_rate_is_that_of_the_last_seconds() -> None:
    meter = Meter(window=10.0)
    assert meter.rate(0, 0.0) == 0
    for tenth in range(2000):
        now = tenth / 10
        meter.note(tenth * 10 if tenth < 1000 else 10_000, now)
    assert meter.rate(10_000, 199.9) == 0
    assert len(meter._samples) <= 50
    meter.note(10_500, 204.9)
    assert meter.rate(10_500, 204.9) == pytest.approx(35, abs=20)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.84, "0.8 s"),
        (59, "59 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 05 min"),
        (273_600, "3 d 4 h"),
    ],
)
def test_times_are_written_for_people(seconds: float, text: str) -> None:
    assert time_text(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**40 * 5000, "5,000.0 TiB")]
)
def test_sizes_are_written_for_people(count: int, text: str) -> None:
    assert size_text(count) == text
