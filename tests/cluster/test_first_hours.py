"""What a person tries in the first hours, judged by exit codes, words, files and the site's own access log."""

from __future__ import annotations

import gzip
import io
import json
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import brotli
import pytest
from warcio.archiveiterator import ArchiveIterator

from common.processors import processors
from tests.support.cluster import check_records, results, until
from tests.support.proxy import free_pair
from tests.support.site import Answer, Site, html
from tests.support.terminal import Ended, Terminal, apart

try:
    from compression import zstd
except ModuleNotFoundError:
    from backports import zstd

KEYS = (  # noqa: SIM905  the contract's list, to be read beside it
    "url method round outcome status reason error depth referrer seed redirect_to content_type charset length "
    "wire_length digest title noindex etag last_modified fetched_at elapsed_ms ip attempts record warc "
    "lastmod simhash file"
).split()


@pytest.fixture
def terminal(tmp_path: Path, site: Site) -> Iterator[Terminal]:
    with Terminal(tmp_path, site) as terminal:
        yield terminal


def seeds_told(out: Path) -> list[dict[str, Any]]:
    """All lines of DIR/seeds, file after file."""
    return [
        json.loads(line)
        for path in sorted((out / "seeds").glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]


# ------------------------------------------------------------------------------------ one crawl with all there is

PACKED = {
    "/gzip": ("gzip", lambda body: gzip.compress(body)),
    "/br": ("br", brotli.compress),
    "/zstd": ("zstd", zstd.compress),
    "/deflate": ("deflate", zlib.compress),
}


def noise(size: int) -> bytes:
    """Bytes that do not compress."""
    state, out = 1, bytearray()
    while len(out) < size:
        state = (state * 6364136223846793005 + 1442695040888963407) & (2**64 - 1)
        out += state.to_bytes(8, "big")[:4]
    return bytes(out[:size])


class Tour:
    """A site with a page of every kind, and what a crawl of it left."""

    def __init__(self, site: Site, terminal: Terminal, ended: Ended) -> None:
        self.site = site
        self.terminal = terminal
        self.ended = ended
        self.out = terminal.folder / "tour"
        self.pages = results(self.out)

    def page(self, target: str, host: str = "a.test") -> dict[str, Any]:
        """The line of a place."""
        return self.pages[self.site.url(host, target)]

    def record(self, target: str) -> tuple[str, bytes]:
        """Type and content of the record that a line names, as it stands in the file."""
        place = self.page(target)["warc"]
        with (self.out / place["file"]).open("rb") as file:
            file.seek(place["offset"])
            member = file.read(place["length"])
        for record in ArchiveIterator(io.BytesIO(member), no_record_parse=True):
            return record.rec_type, record.raw_stream.read()
        raise AssertionError(f"nothing stands at {place}")


DELAY = 0.1
LATE = 0.05
"""Seconds after which the pages of lanes.test answer."""


@pytest.fixture(scope="module")
def tour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tour]:
    with Site() as site, Terminal(tmp_path_factory.mktemp("tour"), site, delay=DELAY) as terminal:
        plain = [
            "/one",
            "/missing",
            "/hop",
            "/same",
            "/same-again",
            "/big",
            "/latin",
            "/private/x",
            "/private/ok",
        ]
        site.page("a.test", "/", links=[*plain, *PACKED, "http://b.test/", "http://far.test/"])
        site.robots("a.test", "User-agent: *\nDisallow: /private/\nAllow: /private/ok\n")
        site.page("a.test", "/one", title="Eins & <zwei>")
        site.hop("a.test", "/hop", "/landed")
        site.page("a.test", "/landed")
        site.page("a.test", "/private/x")
        site.page("a.test", "/private/ok")
        for target in ("/same", "/same-again"):
            site.answer("a.test", target, html("<title>one payload</title>"))
        site.answer("a.test", "/big", Answer(200, {"Content-Type": "application/x-noise"}, noise(3 << 20)))
        site.answer("a.test", "/latin", html("<title>caf\xe9</title>", charset="iso-8859-1"))
        for target, (coding, pack) in PACKED.items():
            body = f"<title>{coding}</title><p>{coding * 50}".encode()
            site.answer(
                "a.test",
                target,
                Answer(200, {"Content-Type": "text/html", "Content-Encoding": coding}, pack(body)),
            )
        site.page("b.test", "/")
        site.page("far.test", "/")
        site.page("lanes.test", "/", links=[f"/{number}" for number in range(24)])
        for number in range(24):
            site.page("lanes.test", f"/{number}", wait=LATE)
        (terminal.folder / "tour.toml").write_text(
            '[[host]]\nmatch = "lanes.test"\nper_host = 3\n[tuning]\nlease_ttl = 20\n'
        )
        ended = terminal.coord(
            *(
                "crawl",
                site.url("a.test"),
                site.url("lanes.test"),
                site.url("b.test", "/nothing"),
                "--out",
                "tour",
            ),
            *("--config", "tour.toml", "--procs", "3"),
            *terminal.network,
        )
        yield Tour(site, terminal, ended)


def test_a_crawl_ends_by_itself_with_a_summary_and_nobody_left(tour: Tour) -> None:
    assert tour.ended.code == 0, tour.ended.said
    assert "Finished" in tour.ended.said and "Where it is" in tour.ended.said
    assert "Traceback" not in tour.ended.said
    assert tour.ended.out == ""
    assert tour.terminal.left() == {}
    summary = json.loads((tour.out / "summary.json").read_text())
    assert (summary["phase"], summary["exit_code"], summary["pages"]) == ("finished", 0, len(tour.pages))
    assert (tour.out / "FORMAT").read_text() == "1\n"
    assert not (tour.out / "coord.json").exists()


def test_every_place_in_scope_was_found_and_fetched_once(tour: Tour) -> None:
    wanted = tour.site.reachable(("a.test", "/"), ("lanes.test", "/"), ("b.test", "/nothing"))
    wanted -= {("far.test", "/")}
    assert set(tour.pages) == {tour.site.url(*place) for place in wanted}
    fetched = [(hit.host, hit.target) for hit in tour.site.log]
    assert len(fetched) == len(set(fetched))
    assert set(fetched) - {(host, "/robots.txt") for host in tour.site.hosts()} == wanted - {
        ("a.test", "/private/x")
    }


def test_what_robots_txt_denies_is_said_and_never_requested(tour: Tour) -> None:
    page = tour.page("/private/x")
    assert (page["outcome"], page["status"], page["warc"], page["attempts"]) == (
        "ROBOTS_DENIED",
        None,
        None,
        0,
    )
    assert ("a.test", "/private/x") not in tour.site.fetched()
    assert tour.page("/private/ok")["outcome"] == "OK"
    first = {hit.host: hit.target for hit in reversed(tour.site.log)}
    assert set(first.values()) == {"/robots.txt"}


def test_no_two_fetches_of_a_lane_are_closer_than_the_delay_robots_txt_included(tour: Tour) -> None:
    assert apart(tour.site, "a.test") >= DELAY
    assert apart(tour.site, "lanes.test", lanes=3) >= DELAY
    # From the end of one to the start of the next: these answer after LATE. A sleep may end a millisecond early.
    assert (
        apart(tour.site, "lanes.test", lanes=3, but=frozenset({"/robots.txt", "/"})) >= DELAY + LATE - 0.001
    )
    assert 1 < tour.site.most_at_once("lanes.test") <= 3


def test_a_line_of_pages_has_every_key_of_the_contract(tour: Tour) -> None:
    for page in tour.pages.values():
        assert list(page) == KEYS
    page = tour.page("/one")
    assert page["title"] == "Eins & <zwei>"
    assert page["referrer"] == page["seed"] == tour.site.url("a.test")
    assert (page["depth"], page["attempts"], page["ip"], page["charset"]) == (1, 1, "127.0.0.1", "utf-8")
    assert tour.page("/latin")["title"] == "caf\xe9"
    hop, landed = tour.page("/hop"), tour.page("/landed")
    assert (hop["outcome"], hop["redirect_to"]) == ("REDIRECT", landed["url"])
    assert hop["depth"] == landed["depth"] == 1
    assert tour.page("/missing")["outcome"] == "CLIENT_ERROR"
    assert tour.page("/private/x")["title"] is None


def test_every_record_passes_and_stands_where_its_line_says(tour: Tour) -> None:
    assert check_records(tour.out, tour.pages) > 2 * len(tour.pages) - 4


def test_bodies_are_stored_as_they_were_sent(tour: Tour) -> None:
    for target, (coding, _) in PACKED.items():
        page = tour.page(target)
        sent = tour.site._answers["a.test", target][0].body
        kind, record = tour.record(target)
        head, _, body = record.partition(b"\r\n\r\n")
        assert (kind, body) == ("response", sent), target
        assert f"content-encoding: {coding}".encode() in head.lower()
        assert page["title"] == coding
        assert page["wire_length"] == len(sent) and page["length"] > 50


def test_a_page_above_a_mebibyte_travels_in_pieces_and_is_whole(tour: Tour) -> None:
    kind, record = tour.record("/big")
    assert kind == "response"
    assert record.partition(b"\r\n\r\n")[2] == noise(3 << 20)
    assert tour.page("/big")["length"] == 3 << 20


def test_an_identical_payload_becomes_a_revisit(tour: Tour) -> None:
    same = [tour.page("/same"), tour.page("/same-again")]
    assert sorted(page["record"] for page in same) == ["response", "revisit"]
    assert same[0]["digest"] == same[1]["digest"]


# ------------------------------------------------------------------------------------------------- seeds of all kinds


@contextmanager
def plain_http(address: str, port: int) -> Iterator[tuple[int, list[str]]]:
    """A site without TLS at an address of its own; its port and what was asked of it."""
    asked: list[str] = []

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            found = self.path == "/"
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    try:
        server = ThreadingHTTPServer((address, port), Pages)
    except PermissionError:
        pytest.skip("port 80 is not for everybody here")
    with server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_port, asked
        server.shutdown()
        thread.join()


def test_two_crawls_side_by_side_a_bare_host_and_a_seed_that_moved(site: Site, terminal: Terminal) -> None:
    site.hop("old.test", "/", "http://new.test/")
    site.page("new.test", "/", links=["/deep"])
    site.page("new.test", "/deep", links=["http://third.test/"])
    network = terminal.network
    with (
        Path(network[1]).open("a") as hosts,
        plain_http("127.0.0.77", 80) as (_, asked),
        plain_http("127.0.0.78", 0) as (port, asked_there),
    ):
        hosts.write("127.0.0.77 bare.test\n127.0.0.78 port.test\n")
        hosts.flush()
        seeds = ["bare.test", f"port.test:{port}"]
        bare = terminal.begin("coord", "crawl", *seeds, "--out", "bare", "--procs", "1", *network)
        moved = terminal.begin("coord", "crawl", site.url("old.test"), "--out", "moved", *network)
        one, other = bare.end(), moved.end()
    assert (one.code, other.code) == (0, 0), one.said + other.said
    assert asked == asked_there == ["/robots.txt", "/"]
    pages = results(terminal.folder / "bare")
    assert {url: page["outcome"] for url, page in pages.items()} == {
        "https://bare.test/": "REFUSED",
        "http://bare.test/": "OK",
        f"https://port.test:{port}/": "TLS",
        f"http://port.test:{port}/": "OK",
    }
    assert one.seconds < 30, "https is not tried again and again before http is"
    # The other one: the host where the seed ends is in scope from then on, and that is said.
    assert site.fetched() == {("old.test", "/"), ("new.test", "/"), ("new.test", "/deep")}
    assert f"redirects to {site.url('new.test')[:-1]}: its host joins the scope" in other.said
    workers = list((terminal.folder / "moved" / "logs").glob("worker-*-*.log"))
    assert len(workers) == processors(), "without --procs: the processors there are"


def test_a_list_is_fetched_as_it_stands_redirects_out_of_scope_included(
    site: Site, terminal: Terminal
) -> None:
    site.page("a.test", "/1", links=["/not-in-the-list"])
    site.hop("a.test", "/2", "http://elsewhere.test/landed")
    site.page("elsewhere.test", "/landed", links=["/not-either"])
    for page in (0, 30, 60):
        site.page("a.test", f"/list?page={page}")
    lines = [
        "# a remark",
        site.url("a.test", "/1"),
        "",
        "http://[broken/",
        "no url at all",
        site.url("a.test", "/2"),
        site.url("a.test", "/1#again"),
    ]
    (terminal.folder / "list.txt.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    seeds = ["list.txt.gz", site.url("a.test", "/list?page=[0-60:30]")]
    ended = terminal.coord("crawl", *seeds, "--no-follow", "--out", "list", "--procs", "1", *terminal.network)
    assert ended.code == 0, ended.said
    assert site.fetched() == {
        ("a.test", "/1"),
        ("a.test", "/2"),
        ("elsewhere.test", "/landed"),
        *(("a.test", f"/list?page={page}") for page in (0, 30, 60)),
    }
    told = seeds_told(terminal.folder / "list")
    assert [(seed["line"], seed["state"]) for seed in told[:5]] == [
        (2, "admitted"),
        (4, "refused"),
        (5, "refused"),
        (6, "admitted"),
        (7, "known"),
    ]
    assert all(seed["reason"] for seed in told if seed["state"] == "refused")
    assert [list(seed)[:5] for seed in told] == [["line", "given", "url", "state", "reason"]] * len(told)
    assert "skipped: list.txt.gz, line 4: " in ended.said and "skipped: list.txt.gz, line 5: " in ended.said
    assert "2 bad seeds of 8" in ended.said
    assert results(terminal.folder / "list")[site.url("elsewhere.test", "/landed")]["seed"] == lines[5]


def test_a_long_list_is_streamed_and_memory_stays_flat(terminal: Terminal) -> None:
    size = 50_000
    with gzip.open(terminal.folder / "long.txt.gz", "wt", compresslevel=1) as file:
        for number in range(size):
            file.write(f"http://h{number % 500}.test/a/long/path/to/page/{number}\n")
    common = ["--out", "long", "--no-follow", "--http", "127.0.0.1:0", "--contact", "tests@shoal.test"]
    listen = ["--listen", f"tcp://127.0.0.1:{free_pair()}"]
    running = terminal.begin("coord", "start", "long.txt.gz", *listen, *common)

    def status() -> dict[str, Any]:
        ended = terminal.coord("status", "long", "--json")
        return json.loads(ended.out) if ended.code == 0 else {"queued": 0}

    running.says("worker start")
    until(lambda: bool(status()["queued"]), "the first lines are in")
    early = status()
    until(lambda: status()["queued"] == size, "all lines are in")
    late = status()
    assert late["seeds"] == {"read": size, "bad": 0, "reading": False}
    assert late["memory_bytes"] - early["memory_bytes"] < 64 << 20
    ended = terminal.coord("stop", "long")
    assert ended.code == 0, ended.said
    assert running.end().code == 3
    assert len(seeds_told(terminal.folder / "long")) == size


# ---------------------------------------------------------------------------------------- limits, and going on after


def test_max_pages_is_exact_a_larger_one_goes_on_and_a_finished_crawl_says_so(
    site: Site, terminal: Terminal
) -> None:
    site.page("a.test", "/", links=[f"/{number}" for number in range(9)])
    for number in range(9):
        site.page("a.test", f"/{number}")
    crawl = ["crawl", site.url("a.test"), "--out", "c", "--procs", "1", *terminal.network]
    ended = terminal.coord(*crawl, "--max-pages", "4")
    assert ended.code == 0 and "Finished (--max-pages)" in ended.said and "still queued" in ended.said
    assert len(site.fetched()) == len(results(terminal.folder / "c")) == 4
    ended = terminal.coord(*crawl, "--max-pages", "6")
    assert ended.code == 0 and len(site.fetched()) == len(results(terminal.folder / "c")) == 6
    ended = terminal.coord(*crawl, "--max-pages", "none")
    assert ended.code == 0 and len(site.fetched()) == len(results(terminal.folder / "c")) == 10
    ended = terminal.coord(*crawl)
    assert ended.code == 0 and "c is finished: the seeds bring nothing new" in ended.said
    # New seeds go on where it was.
    site.page("b.test", "/")
    ended = terminal.coord("crawl", site.url("b.test"), "--out", "c", "--procs", "1", *terminal.network)
    assert ended.code == 0 and "is finished" not in ended.said
    assert len(results(terminal.folder / "c")) == 11
    fetched = [(hit.host, hit.target) for hit in site.log if hit.target != "/robots.txt"]
    assert len(fetched) == len(set(fetched)) == 11
    assert apart(site, "a.test") >= 0.05, "also from one start to the next"


def test_depth_pages_a_host_deny_and_fail_on(site: Site, terminal: Terminal) -> None:
    site.page("deep.test", "/", links=["/1", "/denied/1", "/gone"])
    site.page("deep.test", "/1", links=["/2", "http://deep.test/2?denied"])
    site.page("deep.test", "/2", links=["/3"])
    site.page("deep.test", "/3")
    site.page("wide.test", "/", links=[f"/{number}" for number in range(9)])
    seeds = [site.url("deep.test"), site.url("wide.test")]
    limits = ["--max-depth", "2", "--max-pages-per-host", "5", "--deny", "/denied/", "--deny", "[?]denied"]
    ended = terminal.coord(
        *("crawl", *seeds, "--out", "c", "--procs", "1", *limits, "--fail-on", "CLIENT_ERROR,DNS"),
        *terminal.network,
    )
    assert ended.code == 1 and "--fail-on CLIENT_ERROR" in ended.said, ended.said
    fetched = site.fetched()
    assert {target for host, target in fetched if host == "deep.test"} == {"/", "/1", "/2", "/gone"}
    assert len({target for host, target in fetched if host == "wide.test"}) == 5
    assert "links left out: " in ended.said
    summary = json.loads((terminal.folder / "c" / "summary.json").read_text())
    assert summary["refused"] == {"deny": 2, "depth": 1}


def test_max_time_ends_in_good_order_and_the_rest_stays_queued(site: Site, terminal: Terminal) -> None:
    site.page("a.test", "/", links=[f"/{number}" for number in range(200)])
    for number in range(200):
        site.page("a.test", f"/{number}", wait=0.2)
    site.robots("b.test", "", status=503)
    site.page("b.test", "/")
    seeds = [site.url("a.test"), site.url("b.test")]
    ended = terminal.coord(
        "crawl", *seeds, "--max-time", "5s", "--out", "c", "--procs", "1", *terminal.network
    )
    assert ended.code == 0 and "Stopped (--max-time)" in ended.said, ended.said
    pages = results(terminal.folder / "c")
    fetched = [hit.target for hit in site.log if hit.target != "/robots.txt"]
    assert len(pages) == len(fetched) == len(set(fetched)), "what was in flight was brought home"
    assert ("b.test", "/") not in site.fetched(), "a host whose robots.txt fails is not fetched"
    assert 0 < len(pages) < 100


# ----------------------------------------------------------------------------------------------- stopping, going on


def test_ctrl_c_stops_cleanly_and_the_same_command_goes_on(site: Site, terminal: Terminal) -> None:
    start = site.grow(seed=3, hosts=2, pages=40)
    crawl = ["crawl", site.url(*start), "--scope", "any", "--out", "c", "--procs", "2", *terminal.network]
    running = terminal.begin("coord", *crawl)
    site.wait_for(12)
    running.interrupt()
    ended = running.end(15)
    assert ended.code == 130, ended.said
    assert "Stopped (Ctrl-C)" in ended.said and "Exit code 130" in ended.said
    assert terminal.left() == {}
    before = results(terminal.folder / "c")
    assert 0 < len(before) < 40
    ended = terminal.coord(*crawl)
    assert ended.code == 0, ended.said
    pages = results(terminal.folder / "c")
    assert set(pages) == {site.url(*place) for place in site.reachable(start)}
    fetched = [(hit.host, hit.target) for hit in site.log if hit.target != "/robots.txt"]
    assert len(fetched) == len(set(fetched)), "nothing was fetched twice"
    check_records(terminal.folder / "c", pages)


def test_a_second_ctrl_c_stops_at_once(site: Site, terminal: Terminal) -> None:
    site.page("a.test", "/", links=["/slow"])
    site.page("a.test", "/slow", wait=60.0)
    crawl = ["crawl", site.url("a.test"), "--out", "c", "--procs", "1", *terminal.network]
    running = terminal.begin("coord", *crawl)
    site.wait_for(3)
    running.interrupt()
    running.says("once more stops at once")
    assert running.is_running(), "it waits for what is in flight"
    running.interrupt()
    ended = running.end(4)
    assert ended.code == 130, ended.said
    assert terminal.left() == {}
    assert site.url("a.test", "/slow") not in results(terminal.folder / "c")


def test_a_killed_crawl_leaves_nobody_and_goes_on(site: Site, terminal: Terminal) -> None:
    start = site.grow(seed=5, hosts=2, pages=30)
    crawl = ["crawl", site.url(*start), "--scope", "any", "--out", "c", "--procs", "2", *terminal.network]
    running = terminal.begin("coord", *crawl)
    site.wait_for(10)
    running.signal(9)
    running.end()
    assert terminal.left(3) == {}
    ended = terminal.coord("status", "c")
    assert ended.code == 0 and "ended without a word" in ended.out, ended
    ended = terminal.coord(*crawl)
    assert ended.code == 0, ended.said
    pages = results(terminal.folder / "c")
    assert set(pages) == {site.url(*place) for place in site.reachable(start)}
    check_records(terminal.folder / "c", pages)


def test_a_running_crawl_is_watched_paused_fed_and_stopped(site: Site, terminal: Terminal) -> None:
    site.page("a.test", "/", links=[f"/{number}" for number in range(100)])
    for number in range(100):
        site.page("a.test", f"/{number}")
    site.page("b.test", "/added")
    crawl = ["crawl", site.url("a.test"), "--out", "c", "--procs", "1", *terminal.network, "--delay", "0.2"]
    running = terminal.begin("coord", *crawl)
    site.wait_for(3)
    assert terminal.coord(*crawl).is_one_line(2, "c is in use by process", "coord status c", "coord stop c")
    status = terminal.coord("status", "c")
    assert status.code == 0 and "running" in status.out and "1 host × 0.2 s" in status.out, status
    assert json.loads(terminal.coord("status", "c", "--json").out)["workers"][0]["pid"]
    assert terminal.coord("pause", "c").code == 0

    def paused() -> bool:
        read = json.loads(terminal.coord("status", "c", "--json").out)
        return read["phase"] == "paused" and not read["in_flight"]

    until(paused, "nothing is in flight")
    hits = len(site.log)
    added = terminal.coord("add", "c", site.url("b.test", "/added"), "nothing at all")
    assert added.code == 2, added
    added = terminal.coord("add", "c", site.url("b.test", "/added"))
    assert added.code == 0 and "added 1" in added.out, added
    assert len(site.log) == hits, "a paused crawl fetches nothing"
    assert terminal.coord("resume", "c").code == 0
    until(lambda: ("b.test", "/added") in site.fetched(), "what was added is fetched")
    stopped = terminal.coord("stop", "c")
    assert stopped.code == 0 and "stopped" in stopped.out and stopped.seconds < 12
    ended = running.end()
    assert ended.code == 3 and "stopped by hand" in ended.said, ended.said
    assert terminal.left() == {}
    assert terminal.coord("pause", "c").is_one_line(2, "c", "not running")
    status = terminal.coord("status", "c")
    assert status.code == 0 and "Stopped (stopped by hand)" in status.out
    assert apart(site, "a.test") >= 0.2


def test_few_open_files_lower_the_concurrency_and_that_is_said(site: Site, terminal: Terminal) -> None:
    site.page("a.test", "/")
    ended = terminal.begin(
        *("coord", "crawl", site.url("a.test"), "--out", "c", "--procs", "1", *terminal.network),
        open_files=256,
    ).end()
    assert ended.code == 0, ended.said
    assert "open files are limited to 256: 128 fetches at once instead of 1000" in ended.said
    assert "ulimit -n" in ended.said
