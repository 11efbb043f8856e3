"""Steering a crawl from another terminal, and visiting it again: what people type, judged by the site's log and DIR."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from warcio.archiveiterator import ArchiveIterator

from shoal.demo.server import Answer, Request, serve
from tests.support.aside import Aside
from tests.support.cluster import until
from tests.support.proxy import free_pair
from tests.support.site import Site, html
from tests.support.terminal import Running, Terminal

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

FAST = ["--delay", "0", "--per-host", "4"]


@pytest.fixture
def terminal(tmp_path: Path, site: Site) -> Iterator[Terminal]:
    with Terminal(tmp_path, site, delay=0.2) as terminal:
        yield terminal


def pages(terminal: Terminal, out: str = "c") -> list[dict[str, Any]]:
    """Every line of `pages`, oldest first."""
    found = []
    for path in sorted((terminal.folder / out).glob("pages/*.jsonl")):
        found += [json.loads(line) for line in path.read_bytes().splitlines()]
    return found


def outcomes(terminal: Terminal, out: str = "c") -> dict[str, str]:
    """How each URL ended at last."""
    return {line["url"]: line["outcome"] for line in pages(terminal, out)}


def agrees(terminal: Terminal, out: str = "c") -> None:
    """Everything on disk adds up."""
    ended = terminal.coord("audit", out)
    assert ended.code == 0, ended.out + ended.said


def begin(terminal: Terminal, *args: str) -> Running:
    """`coord crawl` in the background."""
    options = [*terminal.network, "--scope", "any", "--procs", "1"]
    return terminal.begin("coord", "crawl", *args, "--out", "c", *options)


def arrived(site: Site, host: str, after: float, before: float) -> int:
    """Fetches of a host that began in a span of time."""
    return sum(hit.host == host and after < hit.arrived < before for hit in site.log)


def wide(site: Site, host: str, count: int) -> str:
    """A site with so many pages, all linked from its first."""
    targets = [f"/{number}" for number in range(1, count)]
    for target in targets:
        site.page(host, target)
    site.page(host, "/", links=targets)
    return site.url(host)


# ------------------------------------------------------------------------------------------------- set, block, retry


def test_options_change_while_it_runs_and_stay_changed(site: Site, terminal: Terminal) -> None:
    seed = wide(site, "a.test", 300)
    running = begin(terminal, seed)
    site.wait_for(4)
    slower = terminal.coord("set", "c", "--host", "*.test", "delay=60")
    assert (slower.code, slower.out) == (0, "*.test: delay: not set → 60\n"), slower.said
    told = time.monotonic()
    until(lambda: time.monotonic() > told + 2.5, "the new delay was in force for a while")
    assert arrived(site, "a.test", told + 1, told + 2.5) == 0
    faster = terminal.coord("set", "c", "--host", "*.test", "delay=0", "per_host=4")
    assert faster.code == 0, faster.said
    denied = terminal.coord("set", "c", r"deny=/2\d\d$", "max_pages=1000", "fail_on=TIMEOUT")
    assert 'max_pages: "none" → 1000' in denied.out, denied.said
    # What was admitted before a scope changed is fetched: all were found on the first page.
    ended = running.end()
    assert ended.code == 0, ended.said
    assert set(outcomes(terminal)) == {site.url(*place) for place in site.reachable(("a.test", "/"))}
    kept = (terminal.folder / "c" / "crawl.toml").read_text()
    assert "max_pages = 1000" in kept and 'match = "*.test"\ndelay = 0\nper_host = 4\n' in kept
    assert not list((terminal.folder / "c").glob("*.new"))
    agrees(terminal)


def test_what_cannot_be_set_is_one_line_and_changes_nothing(site: Site, terminal: Terminal) -> None:
    running = begin(terminal, wide(site, "a.test", 1000))
    site.wait_for(2)
    before = (terminal.folder / "c" / "crawl.toml").read_bytes()
    for args, said in (
        (["dely=1"], "did you mean delay?"),
        (["scope=domain"], "stop it, and start it again with --scope domain"),
        (["head=true"], "choose another --out"),
        (["delay"], "expected KEY=VALUE"),
        (["delay=1", "max_pages=few"], "max_pages: expected a whole number"),
        (["--host", "*.test", "per_hots=1"], "did you mean per_host?"),
        (["--host", "a b", "delay=1"], "expected a host"),
    ):
        assert terminal.coord("set", "c", *args).is_one_line(2, said), args
    assert terminal.coord("block", "c", "b.test", "--undo").is_one_line(2, "is not blocked")
    assert terminal.coord("retry", "c", "--outcome", "TIMEOUTS").is_one_line(2, "did you mean TIMEOUT?")
    assert terminal.coord("retry", "c").is_one_line(2, "--outcome TIMEOUT")
    assert terminal.coord("retry", "nothing", "--outcome", "DNS").is_one_line(2, "does not exist")
    assert (terminal.folder / "c" / "crawl.toml").read_bytes() == before
    running.interrupt()
    assert running.end().code == 130
    for args, said in ((["dely=1"], "did you mean delay?"), (["header=Cookie: a=b"], "never kept on disk")):
        assert terminal.coord("set", "c", *args).is_one_line(2, said), args
    assert (terminal.folder / "c" / "crawl.toml").read_bytes() == before
    assert (
        terminal.coord("set", "c", "delay=0", "scope=host").out == 'scope: "any" → "host"\ndelay: 0.2 → 0\n'
    )
    agrees(terminal)


def test_a_larger_number_of_pages_lets_a_held_crawl_go_on(site: Site, terminal: Terminal) -> None:
    seed = wide(site, "a.test", 400)
    running = begin(terminal, seed, "--max-pages", "1000")
    site.wait_for(3)
    assert "max_pages: 1000 → 200" in terminal.coord("set", "c", "max_pages=200", "delay=0").out
    ended = running.end()
    assert ended.code == 0, ended.said
    assert len(site.fetched()) == 200
    assert "c: 200 requests of *.test end as OPERATOR" in terminal.coord("block", "c", "*.test").out
    assert terminal.coord("block", "c", "*.test", "--undo").code == 0
    assert terminal.coord("set", "c", "max_pages=250").out == "max_pages: 200 → 250\n"
    assert terminal.coord("crawl", "--out", "c", "--no-progress").code == 0
    assert len(site.fetched()) == 250
    agrees(terminal)


def test_a_blocked_host_is_left_within_a_second_and_what_it_had_can_be_had_again(
    site: Site, terminal: Terminal
) -> None:
    a, b = 300, 200  # more than there is time for meanwhile, on any machine
    seeds = [wide(site, "a.test", a), wide(site, "b.test", b)]
    running = begin(terminal, *seeds)
    until(lambda: arrived(site, "a.test", 0, time.monotonic()) > 3, "a.test is crawled")
    blocked = terminal.coord("block", "c", "http://A.test/whatever")
    assert blocked.code == 0, blocked.said
    assert blocked.out.startswith("a.test: blocked: not set → true\n")
    told = time.monotonic()
    until(lambda: time.monotonic() > told + 2.5, "it was blocked for a while")
    assert arrived(site, "a.test", told + 1, told + 2.5) == 0
    assert arrived(site, "b.test", told, told + 2.5) > 5
    assert terminal.coord("set", "c", "delay=0").code == 0
    assert running.end().code == 0
    counts = Counter(outcome for url, outcome in outcomes(terminal).items() if "//a." in url)
    assert f"c: {counts['OPERATOR']} requests" in blocked.out, (blocked.out, counts)
    assert counts["OPERATOR"] + counts["OK"] == a
    agrees(terminal)
    undone = terminal.coord("block", "c", "a.test", "--undo")
    assert "coord retry c --outcome OPERATOR --host a.test" in undone.out, undone
    again = terminal.coord("retry", "c", "--outcome", "OPERATOR", "--host", "a.test")
    assert (
        again.out
        == f"c: {counts['OPERATOR']} requests of a.test are queued again; `coord crawl --out c` goes on\n"
    )
    agrees(terminal)
    assert terminal.coord("crawl", "--out", "c", "--no-progress").code == 0
    assert Counter(outcomes(terminal).values()) == {"OK": a + b}
    # But for what was under way when it was blocked: that was broken off, and fetched again.
    assert len(site.fetched()) == a + b
    assert len([hit for hit in site.log if hit.target != "/robots.txt"]) <= a + b + 1
    agrees(terminal)


def test_failures_are_tried_anew_on_a_running_crawl_and_on_a_stopped_one(
    site: Site, terminal: Terminal
) -> None:
    failing = [f"/bad/{number}" for number in range(600)]
    for target in failing:
        site.answer("a.test", target, Answer(404), Answer(410), html("there after all"))
    slow = [f"/slow/{number}" for number in range(30)]
    for target in slow:
        site.page("b.test", target)
    site.page("b.test", "/", links=slow)
    site.page("a.test", "/", links=failing)
    running = begin(terminal, site.url("a.test"), site.url("b.test"))
    site.wait_for(1)
    assert terminal.coord("set", "c", "--host", "a.test", "delay=0", "per_host=8").code == 0
    assert terminal.coord("set", "c", "--host", "b.test", "delay=8").code == 0

    def ended_so(outcome: str) -> int:
        told = terminal.coord("status", "c", "--json")
        return int(json.loads(told.out)["outcomes"].get(outcome, 0)) if told.code == 0 else 0

    until(lambda: ended_so("CLIENT_ERROR") == 600, "all have failed", 60)
    agrees(terminal)
    again = terminal.coord("retry", "c", "--outcome", "client_error", "--host", "*.test")
    assert again.out == "c: 600 requests of *.test are queued again\n", again.said
    agrees(terminal)
    until(lambda: ended_so("CLIENT_ERROR") == 600, "all have failed again", 60)
    assert terminal.coord("set", "c", "--host", "b.test", "delay=0").code == 0
    assert running.end().code == 0
    agrees(terminal)
    again = terminal.coord("retry", "c", "--outcome", "CLIENT_ERROR,TIMEOUT")
    assert again.out == "c: 600 requests are queued again; `coord crawl --out c` goes on\n", again.said
    agrees(terminal)
    assert terminal.coord("crawl", "--out", "c", "--no-progress").code == 0
    assert set(outcomes(terminal).values()) == {"OK"}
    assert Counter(hit.target[:5] for hit in site.log)["/bad/"] == 3 * 600
    nothing = terminal.coord("retry", "c", "--outcome", "CLIENT_ERROR")
    assert nothing.out == "c: nothing ended so in this round\n"
    agrees(terminal)


# ------------------------------------------------------------------------------------------------------------- seeds


def test_a_sitemap_is_a_seed_on_the_command_line_in_a_file_and_in_add(site: Site, terminal: Terminal) -> None:
    def listing(host: str, *targets: str) -> None:
        locations = "".join(f"<url><loc>{site.url(host, target)}</loc></url>" for target in targets)
        body = f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{locations}</urlset>'
        site.answer(host, "/map.xml", Answer(200, {"Content-Type": "application/xml"}, body.encode()))

    for host in ("a.test", "b.test", "d.test"):
        listing(host, "/1", "/2")
        site.page(host, "/1", links=["/3"])
        site.page(host, "/2")
        site.page(host, "/3")
    (terminal.folder / "seeds.txt").write_text(f"sitemap:{site.url('b.test', '/map.xml')}\n")
    options = [*terminal.network, *FAST, "--http", "127.0.0.1:0"]
    port = free_pair()
    listen = ["--listen", f"tcp://127.0.0.1:{port}", "--stay"]
    running = terminal.begin(
        "coord",
        "start",
        f"sitemap:{site.url('a.test', '/map.xml')}",
        "seeds.txt",
        *("--out", "c", *options, *listen),
    )
    running.says("\n  worker start ")
    added = terminal.coord("add", "c", f"sitemap:{site.url('d.test', '/map.xml')}")
    assert added.out == "c: read 1, added 1, known 0, bad 0\n", added.said
    worker = terminal.begin("worker", "start", "--coord", f"tcp://127.0.0.1:{port}", "--procs", "1")
    wanted = {site.url(host, f"/{n}") for host in ("a.test", "b.test", "d.test") for n in (1, 2, 3)}
    until(lambda: set(outcomes(terminal)) >= wanted, "all that they list is fetched")
    assert terminal.coord("stop", "c").code == 0
    assert running.end().code == 3
    worker.interrupt()
    worker.end()
    assert set(outcomes(terminal)) == wanted, "a sitemap has no line of its own"
    agrees(terminal)


def test_seeds_and_why_know_a_url_by_its_normal_form(site: Site, terminal: Terminal) -> None:
    site.page("a.test", "/p?a=1&b=2", links=["/q?b=2&a=1&utm_source=x"])
    site.page("a.test", "/q?a=1&b=2")
    typed = site.url("a.test", "/p?b=2&utm_campaign=y&a=1")
    options = [*terminal.network, *FAST, "--sort-query", "--strip-tracking", "--procs", "1"]
    assert terminal.coord("crawl", typed, "--out", "c", *options).code == 0
    assert site.fetched() == {("a.test", "/p?a=1&b=2"), ("a.test", "/q?a=1&b=2")}
    (line,) = (terminal.folder / "c" / "seeds" / "seeds-00000.jsonl").read_text().splitlines()
    assert json.loads(line)["url"] == site.url("a.test", "/p?a=1&b=2")
    assert ": FETCHED  OK 200" in terminal.coord("why", "c", typed).out
    refused = terminal.coord("set", "c", "sort_query=false")
    assert refused.is_one_line(2, "sort_query was true and cannot become false")


# ------------------------------------------------------------------------------------------------------------ recrawl


class Library:
    """A server with ETag and Last-Modified whose pages change from round to round."""

    def __init__(self, pages: int) -> None:
        self.pages = pages
        self.round = 0
        self.wait = 0.0
        self.hits: list[tuple[int, str, int, str | None, str | None]] = []
        """(round, target, status, If-None-Match, If-Modified-Since)"""

    def version(self, target: str) -> int | None:
        """Of a page in this round; None: it is not there."""
        if target == "/vanishes":
            return None if self.round else 0
        if target == "/new":
            return 0 if self.round else None
        if target in ("/changes", "/index"):
            return self.round
        name = target.removeprefix("/p/")
        return 0 if target in ("/weak", "/bare") or (name.isdecimal() and int(name) < self.pages) else None

    def respond(self, request: Request) -> Answer:
        target = request.target
        version = self.version(target)
        headers = {name.lower(): value for name, value in request.headers.items()}
        tag, since = headers.get("if-none-match"), headers.get("if-modified-since")
        etag = {"/weak": f'W/"w{version}"', "/bare": None}.get(target, f'"{target}-{version}"')
        if version is None:
            answer = Answer(404, {"Content-Type": "text/plain"}, b"missing\n", wait=self.wait)
        elif etag is not None and tag == etag:
            answer = Answer(304, {"ETag": etag}, b"", wait=self.wait)
        else:
            links = []
            if target == "/index":
                links = [f"/p/{number}" for number in range(self.pages)] + ["/changes", "/weak", "/bare"]
                links += ["/new"] if self.round else ["/vanishes"]
            anchors = "".join(f'<a href="{link}">{link}</a>' for link in links)
            page = html(f"<title>{target}, version {version}</title>{anchors}")
            named = {"ETag": etag} if etag is not None else {}
            named["Last-Modified"] = f"Thu, 0{version + 1} Jan 2026 00:00:00 GMT"
            answer = Answer(200, dict(page.headers) | named, page.body, wait=self.wait)
        if target != "/robots.txt":
            self.hits.append((self.round, target, answer.status, tag, since))
        return answer

    def of_round(self, number: int) -> dict[str, list[tuple[int, str | None, str | None]]]:
        """What was fetched in a round: (status, If-None-Match, If-Modified-Since), by target."""
        found: dict[str, list[tuple[int, str | None, str | None]]] = {}
        for round_number, target, status, tag, since in self.hits:
            if round_number == number:
                found.setdefault(target, []).append((status, tag, since))
        return found


@pytest.fixture
def library(site: Site) -> Iterator[tuple[Library, str]]:
    """A library, and the URL of its index; served by a thread of its own."""
    shelf = Library(600)
    with Aside("library") as aside:
        server = aside.wait(serve(shelf.respond))
        yield shelf, f"http://127.0.0.1:{server.port}/index"
        aside.wait(server.close())


def revisits(out: Path) -> list[tuple[str, str | None, str | None, str]]:
    """(URL, refers-to URL, refers-to date, status line) of each server-not-modified revisit, by warcio."""
    found = []
    for path in sorted(out.glob("warc/*.warc.gz")):
        with path.open("rb") as file:
            for record in ArchiveIterator(file, check_digests="raise"):
                head = record.rec_headers
                record.raw_stream.read()
                if "server-not-modified" in (head.get_header("WARC-Profile") or ""):
                    found.append(
                        (
                            head.get_header("WARC-Target-URI"),
                            head.get_header("WARC-Refers-To-Target-URI"),
                            head.get_header("WARC-Refers-To-Date"),
                            record.http_headers.statusline,
                        )
                    )
    return found


def test_three_rounds_of_which_two_are_killed(terminal: Terminal, library: tuple[Library, str]) -> None:
    shelf, seed = library
    here = seed.removesuffix("/index")
    options = ["--allow-private", *FAST, "--retries", "0", "--contact", "t@shoal.test", "--procs", "1"]
    options += ["--out", "c", "--no-progress"]
    first = terminal.coord("crawl", seed, *options, "--recrawl")
    assert first.code == 0, first.said
    total = shelf.pages + 5
    assert len(shelf.hits) == len(outcomes(terminal)) == total

    # The second round is killed in its midst, and goes on by the same command.
    shelf.round = 1
    shelf.wait = 0.005
    running = terminal.begin("coord", "crawl", *options, "--recrawl")
    until(lambda: len(shelf.of_round(1)) > 300, "the second round is under way")
    running.signal(signal.SIGKILL)
    running.end()
    until(lambda: not terminal.processes(), "the workers have left", 20)
    agrees(terminal)
    shelf.wait = 0.0
    ended = terminal.coord("crawl", *options, "--recrawl")
    assert ended.code == 0, ended.said
    assert "round 1 is not over: this goes on with it" in ended.said
    assert "round 1: new 1, changed 2, unchanged 602, vanished 1" in ended.said, ended.said
    agrees(terminal)
    lines = [line for line in pages(terminal) if line["round"] == 1]
    assert len(lines) == len({line["url"] for line in lines}) == total + 1, "one line for each URL of a round"
    seen = shelf.of_round(1)
    assert set(seen) == {line["url"].removeprefix(here) for line in lines}
    for target, fetches in seen.items():
        status, tag, since = fetches[-1]
        wanted: tuple[int, str | None, str | None] = (304, f'"{target}-0"', "Thu, 01 Jan 2026 00:00:00 GMT")
        match target:
            case "/weak":
                wanted = (304, 'W/"w0"', wanted[2])
            case "/bare":
                wanted = (200, None, wanted[2])
            case "/changes" | "/index":
                wanted = (200, *wanted[1:])
            case "/vanishes":
                wanted = (404, *wanted[1:])
            case "/new":
                wanted = (200, None, None)
        assert (status, tag, since) == wanted, target
    by_url = {line["url"]: line for line in lines}
    same = by_url[f"{here}/p/0"]
    assert (same["outcome"], same["record"], same["etag"]) == ("NOT_MODIFIED", "revisit", '"/p/0-0"')
    unmodified = revisits(terminal.folder / "c")
    assert len(unmodified) == len({url for url, *_ in unmodified}) == 601
    fetched = {line["url"]: line["fetched_at"] for line in pages(terminal) if line["round"] == 0}
    for url, refers, date, status_line in unmodified:
        assert (refers, date[:19] if date else None) == (url, fetched[url][:19])
        assert status_line.startswith("304")

    # The third asks with what the second learnt. Killed at its begin, it goes on without being asked for.
    shelf.round = 2
    running = terminal.begin("coord", "crawl", *options, "--recrawl")
    until(lambda: bool(shelf.of_round(2)), "the third round has begun")
    running.signal(signal.SIGKILL)
    running.end()
    until(lambda: not terminal.processes(), "the workers have left", 20)
    agrees(terminal)
    ended = terminal.coord("crawl", *options)
    assert "round 2: new 0, changed 2, unchanged 603, vanished 0" in ended.said, ended.said
    seen = shelf.of_round(2)
    assert set(seen["/changes"]) == {(200, '"/changes-1"', "Thu, 02 Jan 2026 00:00:00 GMT")}
    assert set(seen["/p/0"]) == {(304, '"/p/0-0"', "Thu, 01 Jan 2026 00:00:00 GMT")}
    assert set(seen["/vanishes"]) == {(404, None, None)}
    assert set(seen["/new"]) == {(304, '"/new-0"', "Thu, 01 Jan 2026 00:00:00 GMT")}
    assert len(seen) == len([line for line in pages(terminal) if line["round"] == 2]) == total + 1
    agrees(terminal)
    status = json.loads(terminal.coord("status", "c", "--json").out)
    assert (status["round"], status["again"]["unchanged"]) == (2, 603)

    # What was fetched lately is left alone; without --recrawl the round that there is goes on.
    shelf.round = 3
    lately = terminal.coord("crawl", *options, "--recrawl=1h")
    assert "no page is old enough to be visited again" in lately.said, lately.said
    assert terminal.coord("crawl", *options).code == 0
    assert shelf.of_round(3) == {}
    assert terminal.coord("crawl", *options, "--recrawl=soon").is_one_line(
        2, "--recrawl=soon: expected a time"
    )
    agrees(terminal)
    why = terminal.coord("why", "c", f"{here}/p/0")
    assert ": FETCHED  NOT_MODIFIED 304" in why.out, why.out


# --------------------------------------------------------------------------------------------------------------- keys


def test_a_new_key_shuts_out_the_old_one(site: Site, terminal: Terminal) -> None:
    seed = wide(site, "a.test", 200)
    port = free_pair()

    def start() -> Running:
        options = [*terminal.network, "--http", "127.0.0.1:0", "--out", "c"]
        running = terminal.begin("coord", "start", seed, "--listen", f"tcp://0.0.0.0:{port}", *options)
        running.says("\n  worker start ")
        return running

    worker = ["worker", "start", "--coord", f"tcp://127.0.0.1:{port}", "--procs", "1", "--allow-private"]
    running = start()
    (terminal.folder / "old.key").write_bytes((terminal.folder / "c" / "worker.key").read_bytes())
    (terminal.folder / "old.key").chmod(0o600)
    held = terminal.begin(*worker, "--key", "old.key")
    site.wait_for(4)
    assert terminal.coord("key", "c", "--new").is_one_line(2, "in use by process")
    assert terminal.coord("stop", "c").code == 0
    assert running.end().code == 3
    # The worker waits for its coordinator; the new key is made meanwhile.
    made = terminal.coord("key", "c", "--new")
    assert made.code == 0 and "the old one no longer works" in made.said
    running = start()
    before = len(site.log)
    shut_out = terminal.begin(*worker, "--key", "old.key").end()
    assert shut_out.code == 2 and "wrong key, or not a coordinator" in shut_out.said, shut_out.said
    # Nor does one that was in before get in: it hears so, and says it.
    left = held.end()
    assert left.code == 2 and "coord key DIR --new" in left.said, left.said
    assert len(site.log) == before, "nothing was lent to either"
    let_in = terminal.begin(*worker, "--key", "c/worker.key")
    site.wait_for(before + 4)
    assert terminal.coord("set", "c", "delay=0", "per_host=8").code == 0
    assert running.end().code == 0
    assert let_in.end().code == 0
    joined = (terminal.folder / "c" / "logs" / "coord.log").read_text().count("worker.joined")
    assert joined == 2, "the first one once, and the one with the new key"
    assert len(outcomes(terminal)) == 200
    agrees(terminal)
