"""The dashboard in a real Chromium: what a person sees and clicks, on a real crawl and in states that are rare.

Skipped where no Chromium is installed; scripts/test installs one where it may.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import pytest

from coordinator.calling import dashboard_url
from coordinator.control import ControlServer
from coordinator.history import History, Totals
from coordinator.status import (
    FailedTry,
    HostCounts,
    HostStatus,
    Phase,
    Seeds,
    Status,
    Waiting,
    WorkerStatus,
)
from tests.support.browser import Browser, Page, PageError, chromium
from tests.support.cluster import until
from tests.support.site import Answer, Site
from tests.support.terminal import Terminal

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(
        chromium() is None, reason="no Chromium is installed (Debian: apt-get install chromium)"
    ),
]

ROOT: Final = Path(__file__).parents[2]

TOKEN: Final = "a-token-for-tests"

HURT: Final = '"><img src=x onerror="alert(1)"><script>alert(2)</script><b id=hurt>'
"""What a page, a host or a server may call itself."""

LIVE: Final = "document.documentElement.dataset.link === 'live'"

BUSY: Final = Status(
    phase=Phase.RUNNING,
    directory="crawl1",
    started_at="2026-05-01T12:00:00.000Z",
    elapsed_seconds=90.0,
    pages=1200,
    pages_now=1200,
    outcomes={"OK": 1100, "REDIRECT": 40, "CLIENT_ERROR": 30, "TIMEOUT": 20, "ROBOTS_DENIED": 10},
    rate=31.5,
    rate_average=13.3,
    bytes_received=7 << 20,
    bytes_rate=150_000.0,
    in_flight=12,
    admitted=5000,
    queued=3700,
    leased=100,
    hosts=HostCounts(30, 3, 20, 7),
    errors=20,
    workers=(WorkerStatus("alpha", 4711, 1000, 12, 31.5, 0.4, 55, 80 << 20, 3, False, 1 << 20, 1500),),
    refused={"scope": 900},
    items={"products": 12},
    files=3,
    file_bytes=5 << 20,
    seeds=Seeds(3, 1),
    eta_seconds=280.0,
    limits="30 hosts × 1 s: at most 30 pages/s; more processes will not help; yours? --per-host 4 --delay 0",
    waiting=(
        Waiting("politeness", "30 hosts × 1 s", 30),
        Waiting("retries", "4 failed requests wait to be tried again", 4),
    ),
    recent_errors=(
        FailedTry("2026-05-01T12:01:20.000Z", "http://a.test/slow", "TIMEOUT", "no answer", True),
    ),
    long_queues=(HostStatus("a.test", 900, 1.0, 1, 900.0, 0.2, 0, 60),),
    slow_hosts=(HostStatus("b.test", 10, 1.0, 1, 10.0, 2.5, 0, 6),),
    failing_hosts=(HostStatus("c.test", 10, 1.0, 1, 10.0, None, 4, 0, "given up"),),
    commits=99,
    commits_rate=2.0,
    commit_seconds=0.004,
    workers_joined=1,
    cpu_percent=12,
    disk_free_bytes=200 << 30,
    memory_bytes=70 << 20,
    command="coord crawl",
)


class Shown:
    """A crawl that is in whatever state a test wants; it notes what it is told."""

    def __init__(self) -> None:
        self.now = BUSY
        self.told: list[object] = []
        self.known: dict[str, Any] = {"url": "http://a.test/", "state": "QUEUED", "due_in_seconds": 2.0}
        self.past = History()
        for second in range(120):
            self.past.note(
                Totals(
                    second * 10, second * 50_000, 10, 4000 - second, {"OK": second * 9, "TIMEOUT": second}
                ),
                float(second),
                1_777_636_680.0 + second,
            )

    def status(self) -> Status:
        self.now = replace(self.now, pages=self.now.pages + 7, elapsed_seconds=self.now.elapsed_seconds + 1)
        return self.now

    def history(self) -> dict[str, Any]:
        return self.past.to_json()

    def options(self) -> dict[str, Any]:
        return {"scope": "host", "options": {"delay": 1.0, "deny": ["/a"]}, "hosts": [], "rules": 0}

    async def add(self, lines: list[str]) -> dict[str, Any]:
        self.told.append(("add", lines))
        return {"read": 1, "added": 1, "known": 0, "bad": 0}

    async def stop(self, now: bool) -> None:
        self.told.append(("stop", now))

    async def pause(self) -> None:
        self.told.append("pause")
        self.now = replace(
            self.now, phase=Phase.PAUSED, limits="paused by hand: `coord resume crawl1` goes on"
        )

    async def resume(self) -> None:
        self.told.append("resume")
        self.now = replace(self.now, phase=Phase.RUNNING)

    async def set_options(self, options: Mapping[str, object], host: str | None) -> dict[str, Any]:
        self.told.append(("set", dict(options), host))
        return {"changed": ["delay: 1 → 2"]}

    async def block(self, hosts: list[str], undo: bool) -> dict[str, Any]:
        self.told.append(("block", hosts, undo))
        return {"changed": [], "ending": 3}

    async def retry(self, outcomes: list[str], host: str | None) -> dict[str, Any]:
        self.told.append(("retry", outcomes, host))
        return {"queued": 20}

    async def why(self, url: str) -> dict[str, Any] | None:
        return self.known | {"url": url}


class Serving:
    """The real interface over a `Shown`, on a thread of its own; it may go and come back at the same address."""

    def __init__(self, shown: Shown, address: str = "127.0.0.1:0") -> None:
        self.shown = shown
        self.address = address
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="dashboard", daemon=True)
        self._server: ControlServer | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def start(self, token: str = TOKEN) -> None:
        async def begin() -> tuple[ControlServer, str]:
            server = ControlServer(self.shown, token)
            return server, await server.start(self.address)

        self._server, self.address = asyncio.run_coroutine_threadsafe(begin(), self._loop).result(20)

    def stop(self) -> None:
        """End as a coordinator ends: its listeners hear of it."""
        assert self._server is not None
        asyncio.run_coroutine_threadsafe(self._server.close(), self._loop).result(20)
        self._server = None

    def cut(self) -> None:
        """Be gone without a word."""
        assert self._server is not None
        asyncio.run_coroutine_threadsafe(self._server._runner.cleanup(), self._loop).result(20)

    def url(self, token: str | None = TOKEN) -> str:
        return dashboard_url(self.address, token)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One for all: to start it costs more than a test."""
    with Browser(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.page()
    yield page
    page.close()


@pytest.fixture
def served() -> Iterator[Serving]:
    with Serving(Shown()) as served:
        yield served


def stayed_at_home(page: Page, origin: str) -> None:
    """Nothing was asked of anybody else, no script of a stranger ran, and the console is clean."""
    assert {url for url in page.asked if not url.startswith(f"http://{origin}/")} <= {"about:blank"}
    assert page.dialogs == []
    assert page.errors == []


def figure(page: Page, tile: str) -> float:
    """The number in a tile."""
    return float(page.text(f"#tile-{tile} b").replace(",", "") or "nan")


def on_a_terminal(*args: str) -> str:
    """What `coord` prints where its standard output is a terminal, plain."""
    here, there = os.openpty()
    command = [sys.executable, str(ROOT / "coordinator" / "__main__.py"), *args]
    ran = subprocess.Popen(
        command, stdout=there, stdin=subprocess.DEVNULL, env=os.environ | {"NO_COLOR": "1"}
    )
    os.close(there)
    said = b""
    with open(here, "rb", buffering=0) as read:
        while True:
            try:
                piece = read.read(4096)
            except OSError:  # what a terminal says when nobody writes to it any more
                break
            if not piece:
                break
            said += piece
    assert ran.wait(30) == 0
    return said.decode()


# ----------------------------------------------------------------------------------------------- a crawl under load


def test_a_crawl_is_watched_and_steered_by_clicking(browser: Browser, page: Page, tmp_path: Path) -> None:
    with Site(delay=0.02) as site:
        start = site.grow(seed=5, hosts=6, pages=3000, links=4)
        site.page("h0.test", "/named", title=HURT)
        site.answer("h0.test", "/odd", Answer(404, {"Content-Type": f"text/html; {HURT}"}, b"missing"))
        site.answer("h1.test", "/busy", Answer(503, {}, b"later"))
        site.page("late.test", "/")
        seeds = [site.url(*start), *(site.url("h0.test", f"/{name}") for name in ("named", "odd"))]
        seeds.append(site.url("h1.test", "/busy"))
        with Terminal(tmp_path, site, delay=0.1) as terminal:
            out = terminal.folder / "c"
            network = [*terminal.network, "--procs", "1", "--scope", "any", "--per-host", "2"]
            running = terminal.begin("coord", "crawl", *seeds, "--out", "c", *network)
            until(lambda: (out / "coord.json").exists(), "it serves", 60)
            there = json.loads((out / "coord.json").read_text())
            origin, token = there["http"], there["token"]
            kept = out / "crawl.toml"

            # Its address is told, with the token on a terminal alone.
            assert (
                terminal.coord("status", "c").out.splitlines()[-1]
                == f"dashboard: {dashboard_url(origin, None)}"
            )
            assert (
                on_a_terminal("status", str(out)).splitlines()[-1]
                == f"dashboard: {dashboard_url(origin, token)}"
            )

            # It is watched without a token, and moves.
            page.go(dashboard_url(origin, None))
            page.until("document.getElementById('phase').textContent === 'Running'", 60)
            page.until("parseFloat(document.querySelector('#tile-rate b').textContent) > 1", 60)
            before = figure(page, "pages")
            page.until(
                f"parseFloat(document.querySelector('#tile-pages b').textContent.replace(',', '')) > {before}"
            )
            page.until("document.querySelectorAll('#hosts tbody tr').length >= 5")
            assert page.eval("document.querySelectorAll('.plot canvas').length") == 5
            page.until("parseFloat(document.querySelector('#chart-pages .figures b').textContent) > 0")
            page.until("document.getElementById('errors').textContent.includes('status 503')")
            assert "h1.test" in page.text("#errors")
            assert {"OK", "SERVER_ERROR"} <= set(page.text("#outcomes").split())
            assert page.text("#workers tbody tr").split()[-1] in ("now", "ago")
            assert page.text("#limits")
            assert page.text("#machine").count("\n") >= 4

            # A change asks for the token, and goes on when it has it.
            page.click("#pause")
            page.until("document.getElementById('token-dialog').open")
            page.type("#token-text", dashboard_url(origin, token))
            page.press("Enter")
            page.until("document.getElementById('phase').textContent === 'Paused'")
            assert "paused by hand" in page.text("#limits")
            page.until("document.getElementById('pause').textContent === 'Resume'")
            page.click("#pause")
            page.until("['Running', 'Waiting'].includes(document.getElementById('phase').textContent)")

            # Seeds, delay, scope, one host.
            page.click("#add")
            page.type("#add-text", site.url("late.test"))
            page.click("#add-form button.main")
            until(lambda: ("late.test", "/") in site.fetched(), "the new seed is fetched")
            page.until("document.getElementById('toasts').textContent.includes('1 added')")
            page.click("#change")
            page.until("document.getElementById('change-dialog').open")
            assert page.eval("document.forms['change-form'].elements.delay.value") == "0.1"
            page.type("#change-form [name=delay]", "0.15")
            page.type("#change-form [name=deny]", "/calendar/\n[?&]print=")
            page.click("#change-form button.main")
            page.until("document.getElementById('toasts').textContent.includes('delay: 0.1 → 0.15')")
            assert "delay = 0.15\n" in kept.read_text()
            assert "/calendar/" in kept.read_text() and "print=" in kept.read_text()
            page.click("#hosts tbody button")
            page.until("document.getElementById('host-dialog').open")
            blocked = page.eval("document.forms['host-form'].elements.host.value")
            page.click("#host-block")
            page.until("!document.getElementById('host-dialog').open")
            assert f'match = "{blocked}"\nblocked = true' in kept.read_text()

            # A URL, whose page calls itself something that is not to be believed.
            page.press("/")
            page.type("#why-url", site.url("h0.test", "/named"))
            page.press("Enter")
            page.until("document.getElementById('why-answer').textContent.includes('Fetched: OK')")
            assert HURT in page.eval("document.getElementById('why-answer').textContent")
            assert (
                page.eval("document.querySelectorAll('#hurt, main img, dialog img, body script').length") == 0
            )
            page.press("Escape")
            page.until("!document.querySelector('dialog[open]')")

            # It is stopped, and says so.
            page.click("#stop")
            page.click("#stop-form button.danger")
            page.until("document.getElementById('phase').textContent === 'Stopped'", 60)
            page.until("document.documentElement.dataset.link === 'ended'")
            assert "nothing is lost" in page.text("#limits")
            assert "The coordinator has ended" in page.text("#banner")
            assert running.end().code == 3
            page.errors = [
                said for said in page.errors if "ERR_CONNECTION_REFUSED" not in said and "401" not in said
            ]
            stayed_at_home(page, origin)
            assert not [url for url in page.asked if token in url]


# ------------------------------------------------------------------------------------------------- what is not so easy


def test_hostile_names_are_shown_as_they_are_everywhere(served: Serving, page: Page) -> None:
    shown = served.shown
    host = HostStatus(HURT, 9, 1.0, 1, 9.0, 1.0, 3, 1, HURT)
    shown.now = replace(
        BUSY,
        directory=HURT,
        outcomes={HURT: 5, "OK": 3},
        limits=f"{HURT} `{HURT}` --delay 0",
        waiting=(Waiting("a", HURT), Waiting(HURT, HURT)),
        recent_errors=(FailedTry(HURT, HURT, HURT, HURT), FailedTry(HURT, HURT, HURT, HURT, True)),
        long_queues=(host,),
        slow_hosts=(host,),
        failing_hosts=(host,),
        workers=(WorkerStatus(HURT, 1),),
        refused={HURT: 1},
        items={HURT: 1},
        poison=(HURT, HURT),
        guarded={HURT: 1},
        command=HURT,
    )
    shown.known = {
        "state": HURT,
        "outcome": HURT,
        "title": HURT,
        HURT: HURT,
        "tries": [{"outcome": HURT, "at": HURT}],
        "host": {HURT: HURT},
    }
    page.go(served.url())
    page.until(LIVE)
    page.until("document.querySelectorAll('#errors tbody tr').length === 2")
    for choice in ("slow_hosts", "failing_hosts"):
        page.click(f"[data-hosts={choice}]")
    page.click("#stop")
    page.press("Escape")
    page.click("#errors tbody button")
    page.until("document.getElementById('why-answer').textContent.includes('alert(1)')")
    page.press("Escape")
    page.click("#hosts tbody button")
    page.until("document.getElementById('host-dialog').open")
    assert page.eval("document.forms['host-form'].elements.host.value") == HURT
    said = page.eval("document.body.textContent")
    assert said.count("alert(2)") >= 15
    assert page.eval("document.querySelectorAll('#hurt, main img, dialog img, body script').length") == 0
    stayed_at_home(page, served.address)


def test_even_a_slip_could_not_make_html_of_a_text(served: Serving, page: Page) -> None:
    page.go(served.url())
    page.until(LIVE)
    for slip in (
        "document.body.innerHTML = '<b>'",
        "document.body.insertAdjacentHTML('beforeend', '<b>')",
        "document.write('<b>')",
    ):
        with pytest.raises(PageError, match="TrustedHTML"):
            page.eval(slip)
    page.eval(
        "{const node = document.createElement('style'); node.textContent = 'main { display: none }';"
        " document.head.append(node)}"
    )
    page.eval("{const node = new Image(); node.src = 'http://127.0.0.1:9/x'; document.body.append(node)}")
    assert page.eval("getComputedStyle(document.querySelector('main')).display") == "grid"
    page.until("true")
    assert any("style-src" in said for said in page.errors)
    assert any("img-src" in said for said in page.errors)


def test_the_token_comes_behind_the_hash_and_goes_nowhere_else(served: Serving, page: Page) -> None:
    page.go(served.url())
    page.until(LIVE)
    assert page.eval("location.href") == f"http://{served.address}/"
    assert page.text("#token-button") == "Can steer"
    page.reload()
    page.until(LIVE)
    page.click("#pause")
    page.until("document.getElementById('phase').textContent === 'Paused'")
    assert served.shown.told == ["pause"]
    assert page.eval("Object.keys(localStorage).length + document.cookie.length") == 0
    assert not [url for url in page.asked if TOKEN in url]
    stayed_at_home(page, served.address)


def test_beyond_loopback_it_asks_for_the_token_and_then_shows_everything(page: Page) -> None:
    with Serving(Shown(), "0.0.0.0:0") as served:
        page.go(served.url(None))
        page.until("document.getElementById('token-dialog').open")
        assert page.text("#link-text") == "needs the token"
        page.type("#token-text", "wrong")
        page.press("Enter")
        page.until("document.getElementById('token-why').textContent.includes('not right')")
        page.type("#token-text", TOKEN)
        page.press("Enter")
        page.until(LIVE)
        page.until("document.querySelectorAll('#hosts tbody tr').length === 1")
        assert all("401" in said for said in page.errors)
        page.errors.clear()
        stayed_at_home(page, served.address)


def test_a_lost_connection_is_told_and_comes_back_by_itself(served: Serving, page: Page) -> None:
    page.go(served.url())
    page.until(LIVE)
    served.cut()
    page.until("document.documentElement.dataset.link === 'lost'")
    assert "does not answer" in page.text("#banner")
    assert page.eval("[...document.querySelectorAll('.controls button')].every((button) => button.disabled)")
    served.stop()
    served.start()
    page.until(LIVE)
    assert page.eval("document.getElementById('banner').hidden")
    page.until("!document.getElementById('pause').disabled")
    assert page.text("#tile-pages b")


def test_an_end_is_told_as_an_end_and_a_new_start_is_found(served: Serving, page: Page) -> None:
    page.go(served.url())
    page.until(LIVE)
    served.shown.now = replace(
        BUSY, phase=Phase.FINISHED, limits="", waiting=(), workers=(), exit_code=0, reason="finished"
    )
    served.stop()
    page.until("document.documentElement.dataset.link === 'ended'")
    assert (page.text("#phase"), page.text("#link-text")) == ("Finished", "ended")
    assert page.text("#limits").startswith("All is done. ")
    assert "They have left" in page.text("#workers")
    assert page.eval("document.getElementById('stop').disabled")
    served.shown.now = BUSY
    served.start("another token")
    page.until(LIVE)
    page.click("#pause")
    page.until("document.getElementById('token-why').textContent.includes('a new one with each start')")


def test_before_anything_has_happened_it_says_what_to_do(served: Serving, page: Page) -> None:
    served.shown.now = Status(
        phase=Phase.WAITING,
        directory="c",
        started_at="2026-05-01T12:00:00.000Z",
        limits="no workers: run `worker start --coord tcp://a:7777`",
        worker_command="worker start --coord tcp://a:7777",
    )
    served.shown.past = History()
    page.go(served.url())
    page.until(LIVE)
    page.until("document.getElementById('phase').textContent === 'Waiting'")
    assert "Nothing has ended yet." in page.text("#outcomes")
    assert "No fetch has failed" in page.text("#errors")
    assert "worker start --coord tcp://a:7777" in page.text("#workers")
    assert "NaN" not in page.text("body") and "undefined" not in page.text("body")
    stayed_at_home(page, served.address)


def test_every_change_is_what_was_clicked(served: Serving, page: Page) -> None:
    page.go(served.url())
    page.until(LIVE)
    page.click("#outcomes [data-outcome=TIMEOUT]")
    page.until("document.getElementById('toasts').textContent.includes('20 requests queued again')")
    page.click("#change")
    page.until("document.getElementById('change-dialog').open")
    page.click("#change-form button.main")
    page.until("document.querySelector('#change-dialog .wrong').textContent.includes('Nothing is different')")
    page.type("#change-form [name=delay]", "2")
    page.type("#change-form [name=max_pages]", "100")
    page.type("#change-form [name=deny]", "/a\n/b")
    page.press("Tab")
    page.click("#change-form button.main")
    page.until("!document.querySelector('dialog[open]')")
    page.click("#hosts tbody button")
    page.until("document.getElementById('host-dialog').open")
    page.type("#host-form [name=delay]", "5")
    page.press("Enter")
    page.until("!document.querySelector('dialog[open]')")
    page.click("#stop")
    page.click("#stop-now")
    page.until("!document.querySelector('dialog[open]')")
    assert served.shown.told == [
        ("retry", ["TIMEOUT"], None),
        ("set", {"delay": "2", "max_pages": "100", "deny": ["/a", "/b"]}, None),
        ("set", {"delay": "5"}, "a.test"),
        ("stop", True),
    ]
    stayed_at_home(page, served.address)


# ------------------------------------------------------------------------------------------------------ how it looks


def test_no_width_makes_it_scroll_sideways(served: Serving, page: Page) -> None:
    long = "http://" + "very-long-" * 12 + ".test/" + "x" * 300
    served.shown.now = replace(
        BUSY,
        directory="d" * 200,
        limits="w" * 300,
        recent_errors=(FailedTry("2026-05-01T12:01:20.000Z", long, "TIMEOUT", "e" * 300, True),),
        long_queues=(HostStatus("h" * 250, 10**7, 12345.678, 64, 1e9, 30.0, 99, 10**7),),
        workers=tuple(
            WorkerStatus("w" * 80, 10**6 + n, 1000, 999, 123.4, 99.0, 100, 1 << 33) for n in range(60)
        ),
        worker_command="x" * 300,
    )
    page.go(served.url())
    page.until(LIVE)
    for width in (320, 390, 768, 1024, 1440):
        page.size(width, 800, phone=width < 500)
        page.until("document.querySelectorAll('#workers tbody tr').length === 50")
        assert page.eval("document.documentElement.scrollWidth") <= width
        for dialog in ("add", "change"):
            page.click(f"#{dialog}")
            page.until(f"document.getElementById('{dialog}-dialog').open")
            assert (
                page.eval(f"document.getElementById('{dialog}-dialog').getBoundingClientRect().right")
                <= width
            )
            page.press("Escape")
            page.until("!document.querySelector('dialog[open]')")
    stayed_at_home(page, served.address)


CONTRAST: Final = """(() => {
    const colours = getComputedStyle(document.documentElement);
    const light = (name) => {
        const [r, g, b] = colours.getPropertyValue(`--${name}`).trim().match(/[0-9a-f]{2}/gi)
            .map((part) => parseInt(part, 16) / 255)
            .map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const pairs = ["ink card", "ink page", "ink sunk", "muted card", "muted page", "muted sunk", "accent card",
        "danger card", "danger bad-sunk", "warn warn-sunk", "on-accent accent", "on-danger danger", "page ink"];
    return pairs.map((pair) => {
        const [low, high] = pair.split(" ").map(light).sort((a, b) => a - b);
        return [pair, (high + 0.05) / (low + 0.05)];
    }).filter(([pair, ratio]) => ratio < 4.5);
})()"""


def test_light_and_dark_follow_the_system_until_switched_and_can_be_read(served: Serving, page: Page) -> None:
    page.scheme("dark")
    page.go(served.url())
    page.until(LIVE)
    background = "getComputedStyle(document.documentElement).backgroundColor"
    dark = page.eval(background)
    assert page.eval(CONTRAST) == []
    page.scheme("light")
    page.until(f"{background} !== '{dark}'")
    assert page.eval(CONTRAST) == []
    page.click("#theme-button")
    page.until(f"{background} === '{dark}'")
    page.reload()
    page.until(LIVE)
    assert page.eval(background) == dark
    page.click("#theme-button")
    page.until(f"{background} !== '{dark}'")
    assert page.eval("localStorage.length") == 0  # as the system has it: followed again
    stayed_at_home(page, served.address)


def test_everything_that_can_be_used_has_a_name_and_is_reached_by_keys(served: Serving, page: Page) -> None:
    page.go(served.url())
    page.until(LIVE)
    page.until("document.querySelectorAll('#hosts tbody tr').length === 1")
    nodes = page.ask("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "textbox", "link", "progressbar", "table", "dialog", "image", "main", "heading"}
    used = [node for node in nodes if not node["ignored"] and node["role"]["value"] in roles - {"main"}]
    assert len(used) > 30
    assert [node["role"]["value"] for node in used if not node.get("name", {}).get("value")] == []
    reached = set()
    for _ in range(40):
        page.press("Tab")
        reached.add(page.eval("document.activeElement.id"))
    assert reached >= {"why-url", "token-button", "theme-button", "pause", "add", "change", "stop"}
    page.eval("document.getElementById('stop').focus()")
    page.press("Enter")
    page.until("document.getElementById('stop-dialog').open")
    assert page.text(":focus") == "Cancel"  # what does no harm
    page.press("Escape")
    page.until("document.activeElement.id === 'stop'")


def test_the_charts_hold_what_the_history_holds(served: Serving, page: Page) -> None:
    page.go(served.url())
    page.until(LIVE)
    page.until("document.querySelector('#chart-pages .figures b').textContent !== '–'")
    with urllib.request.urlopen(f"http://{served.address}/api/v1/history", timeout=30) as answer:
        seconds = json.loads(answer.read())["seconds"]
    assert seconds["pages"][-1] == 10.0
    page.click("[data-range=minutes]")
    page.until("document.querySelector('#chart-outcomes .figures').innerText.includes('failed 1.0')")
    page.click("[data-range=seconds]")
    where = page.eval(
        "(() => {const box = document.querySelector('#chart-queued .u-over').getBoundingClientRect();"
        " return [box.x + box.width / 2, box.y + box.height / 2]})()"
    )
    page.eval(
        "document.querySelector('#chart-queued').scrollIntoView({block: 'center', behavior: 'instant'})"
    )
    where = page.eval(
        "(() => {const box = document.querySelector('#chart-queued .u-over').getBoundingClientRect();"
        " return [box.x + box.width / 4, box.y + box.height / 2]})()"
    )
    page.ask("Input.dispatchMouseEvent", type="mouseMoved", x=where[0], y=where[1], button="none")
    page.until("document.querySelector('#chart-pages .when').textContent.length === 8")
    assert page.text("#chart-pages .when") == page.text("#chart-queued .when")
    stayed_at_home(page, served.address)
