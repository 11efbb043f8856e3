"""A real Chromium without a window, driven by its DevTools protocol over a pipe: clicks and keys as a person's are.

    with Browser(tmp_path) as browser:
        page = browser.page()
        page.go("http://127.0.0.1:7700/")
        page.until("document.querySelector('#phase').textContent === 'Running'")
        page.click("#pause")
        assert page.errors == []

The browser is the system's own (Debian: the package `chromium`); nothing is downloaded, and no driver beside it is
needed. What the page said on its console, what it threw and every address it asked for is kept. `until` is the only
wait there is, and it is a wait for something that shows.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

_ANSWER: Final = 60.0
"""Seconds for one command: the machine may be busy with other tests."""

_LOOK: Final = 0.05

_FLAGS: Final = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",  # tests run as root in containers; the only pages shown are ours
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--disable-features=Translate,MediaRouter,OptimizationHints",
    "--mute-audio",
    "--no-first-run",
    "--no-default-browser-check",
    "--password-store=basic",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "about:blank",
)


def chromium() -> str | None:
    """The system's Chromium; None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class PageError(AssertionError):
    """What was evaluated in a page threw, or the browser refused."""


class Browser:
    """One browser process with a profile of its own; leaving it kills it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = 0
        self._held = b""
        self._pid = 0
        self._write = self._read = -1
        self._pages: dict[str, Page] = {}

    def __enter__(self) -> Self:
        program = chromium()
        assert program is not None, "no Chromium is installed"
        there_read, here_write = (_high(fd) for fd in os.pipe())
        here_read, there_write = (_high(fd) for fd in os.pipe())
        log = os.open(self._folder / "chromium.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        actions = [
            (os.POSIX_SPAWN_DUP2, there_read, 3),
            (os.POSIX_SPAWN_DUP2, there_write, 4),
            (os.POSIX_SPAWN_DUP2, log, 1),
            (os.POSIX_SPAWN_DUP2, log, 2),
        ]
        arguments = [program, f"--user-data-dir={self._folder / 'profile'}", *_FLAGS]
        home = os.environ | {"HOME": str(self._folder), "TZ": "UTC"}
        self._pid = os.posix_spawn(program, arguments, home, file_actions=actions, setpgroup=0)
        for fd in (there_read, there_write, log):
            os.close(fd)
        self._write, self._read = here_write, here_read
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.killpg(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._write)
        os.close(self._read)

    def page(self, *, width: int = 1280, height: int = 900) -> Page:
        """A new page in a context of its own: no storage is shared with another."""
        context = self.ask("Target.createBrowserContext")["browserContextId"]
        given = {"url": "about:blank", "browserContextId": context}
        target = self.ask("Target.createTarget", given)["targetId"]
        session = self.ask("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        page = self._pages[session] = Page(self, session, target)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.ask(f"{domain}.enable")
        page.size(width, height)
        return page

    def ask(
        self, method: str, parameters: dict[str, Any] | None = None, *, session: str | None = None
    ) -> dict[str, Any]:
        """One command and its answer; what happens meanwhile goes to its page. PageError: refused."""
        self._number += 1
        number = self._number
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters or {}}
        if session is not None:
            message["sessionId"] = session
        sent = json.dumps(message).encode() + b"\0"
        while sent:
            sent = sent[os.write(self._write, sent) :]
        until = time.monotonic() + _ANSWER
        while True:
            read = self._next(until)
            if read is None:
                raise TimeoutError(f"Chromium did not answer {method} in {_ANSWER} s")
            if read.get("id") == number:
                if "error" in read:
                    raise PageError(f"{method}: {read['error'].get('message')}")
                answer: dict[str, Any] = read["result"]
                return answer
            self._happened(read)

    def listen(self, seconds: float) -> None:
        """Take what happens in the pages for so long."""
        until = time.monotonic() + seconds
        while (read := self._next(until)) is not None:
            self._happened(read)

    def _next(self, until: float) -> dict[str, Any] | None:
        while b"\0" not in self._held:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self._read], [], [], left)[0]:
                return None
            piece = os.read(self._read, 1 << 16)
            if not piece:
                told = (self._folder / "chromium.log").read_text(errors="replace")[-2000:]
                raise PageError(f"Chromium has ended: {told}")
            self._held += piece
        message, _, self._held = self._held.partition(b"\0")
        read: dict[str, Any] = json.loads(message)
        return read

    def _happened(self, read: dict[str, Any]) -> None:
        page = self._pages.get(read.get("sessionId", ""))
        if page is not None:
            page.happened(read["method"], read["params"])


class Page:
    """One page."""

    def __init__(self, browser: Browser, session: str, target: str) -> None:
        self._browser = browser
        self._session = session
        self._target = target
        self.errors: list[str] = []
        """What it threw, and what stands in its console as a warning or an error."""
        self.asked: deque[str] = deque(maxlen=10_000)
        """Every address that it asked for."""
        self.dialogs: list[str] = []
        """Alerts: the sign that a script of somebody else ran."""

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the protocol."""
        return self._browser.ask(method, parameters, session=self._session)

    def close(self) -> None:
        """Close it."""
        self._browser.ask("Target.closeTarget", {"targetId": self._target})

    # -- what is shown

    def go(self, url: str) -> None:
        """Open an address; returns when its scripts have been loaded."""
        told = self.ask("Page.navigate", url=url)
        assert not told.get("errorText"), f"{url}: {told['errorText']}"
        self.until("document.readyState === 'complete'")

    def reload(self) -> None:
        """As F5 does."""
        self.eval("window.before = true")
        self.ask("Page.reload")
        self.until("!window.before && document.readyState === 'complete'")

    def size(self, width: int, height: int, *, phone: bool = False, scale: float = 1.0) -> None:
        """The window's size, in CSS pixels; `phone`: with a touch screen."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=phone,
        )

    def scheme(self, name: str) -> None:
        """What the system prefers: `light` or `dark`."""
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """What is seen, as PNG; `whole`: all of the page, however long."""
        given: dict[str, Any] = {"format": "png", "captureBeyondViewport": whole}
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot", **given)["data"]))

    # -- what it holds

    def eval(self, script: str) -> Any:
        """The value of an expression, a promise awaited."""
        told = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in told:
            details = told["exceptionDetails"]
            raise PageError(f"{script}: {details.get('exception', {}).get('description', details['text'])}")
        return told["result"].get("value")

    def text(self, selector: str) -> str:
        """The text of the first element that matches, as it is seen."""
        return str(self.eval(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    def until(self, script: str, timeout: float = 30.0) -> Any:
        """Wait until an expression is true, in JavaScript's sense; its value, which of an element is `{}`."""
        end = time.monotonic() + timeout
        while (value := self.eval(script)) in (None, False, 0, ""):
            if time.monotonic() > end:
                shown = self.eval("document.body?.innerText ?? ''")
                raise TimeoutError(f"not in {timeout} s: {script}\n{self.errors}\n{shown}")
            self._browser.listen(_LOOK)
        return value

    # -- what a person does

    def click(self, selector: str) -> None:
        """With the mouse, in the middle of what is seen of it; waits until it can be clicked."""
        where = self.until(
            f"""(() => {{
                const node = document.querySelector({json.dumps(selector)});
                if (!node || node.disabled) return null;
                node.scrollIntoView({{block: "center", behavior: "instant"}});
                const box = node.getBoundingClientRect();
                const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
                const there = document.elementFromPoint(x, y);
                return box.width && (node === there || node.contains(there)) ? [x, y] : null;
            }})()"""
        )
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.ask(
                "Input.dispatchMouseEvent",
                type=kind,
                x=where[0],
                y=where[1],
                button="none" if kind == "mouseMoved" else "left",
                clickCount=0 if kind == "mouseMoved" else 1,
            )

    def type(self, selector: str, text: str) -> None:
        """Click into a field and write over what stands there."""
        self.click(selector)
        self.eval(f"document.querySelector({json.dumps(selector)}).select()")
        self.ask("Input.insertText", text=text)

    def press(self, key: str) -> None:
        """A key, by the name that events have for it: `Enter`, `Tab`, `Escape`, `/`."""
        codes = {"Enter": 13, "Tab": 9, "Escape": 27, "/": 191}
        given: dict[str, Any] = {"key": key, "windowsVirtualKeyCode": codes[key]}
        typed = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        self.ask("Input.dispatchKeyEvent", type="keyDown", **given, **({"text": typed} if typed else {}))
        self.ask("Input.dispatchKeyEvent", type="keyUp", **given)

    # -- what it says

    def happened(self, name: str, told: dict[str, Any]) -> None:
        """An event of the protocol."""
        match name:
            case "Runtime.consoleAPICalled" if told["type"] in ("warning", "error", "assert"):
                said = [str(each.get("value", each.get("description"))) for each in told["args"]]
                self.errors.append(f"console.{told['type']}: {' '.join(said)}")
            case "Runtime.exceptionThrown":
                details = told["exceptionDetails"]
                thrown = details.get("exception", {}).get("description", "")
                self.errors.append(f"thrown: {details['text']} {thrown}")
            case "Log.entryAdded" if told["entry"]["level"] in ("warning", "error"):
                entry = told["entry"]
                self.errors.append(f"{entry['source']}: {entry['text']} {entry.get('url', '')}")
            case "Network.requestWillBeSent":
                self.asked.append(told["request"]["url"])
            case "Network.webSocketCreated":
                self.asked.append(told["url"])
            case "Page.javascriptDialogOpening":
                self.dialogs.append(told["message"])
                self._browser.ask("Page.handleJavaScriptDialog", {"accept": True}, session=self._session)


def _high(fd: int) -> int:
    """The same pipe end at a number that is not 3 or 4, which are the browser's."""
    high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(fd)
    return high
