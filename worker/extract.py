"""Extraction: what the crawl's extractors make of a page, without harm to the process whatever they do.

    page -> its function, and the [extract] tables -> items (lines of items/NAME) and requests

Plain functions run beside the event loop, in the thread that big sitemaps are read in, one at a time; one that has
shown to take less than QUICK_SECONDS runs on the loop, which is quicker, until it takes longer. Coroutines and
asynchronous generators run on the loop; what they wait for others do not wait for. Whatever runs has its mark set
(worker/mark.py): a page on which a function hangs or fills the memory ends as POISON, and never the crawl.

A function that raises, yields what is no item, or yields too much costs its page its items, all of them; the requests
that it had yielded stand. The traceback goes into the log, once for each place in the code.
"""

from __future__ import annotations

import asyncio
import inspect
import time
import traceback
import types
from collections.abc import (
    AsyncIterable,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Mapping,
)
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from common import clock
from common.config import CrawlConfig
from common.errors import ProtocolError
from common.log import escaped, get_logger
from common.messages import Request
from common.normalization import Normalizer
from common.warc import warc_date
from common.wire import unpack
from worker.exchange import Exchange
from worker.extracted import Extracted
from worker.extractfollow import Follow
from worker.extractitems import NotAnItem, line_of
from worker.extractload import load_functions
from worker.extractpage import Page
from worker.extractrules import Rules
from worker.inflate import inflate
from worker.mark import Slot

MAX_ITEMS: Final = 10_000
"""Of one page: as many as a message takes."""

MAX_ITEM_BYTES: Final = 1 << 20
MAX_ITEMS_BYTES: Final = 4 << 20
"""Of a page's items together: they travel in its header, of which this is half."""

MAX_FOLLOWS: Final = 10_000
MAX_FOLLOW_BYTES: Final = 4 << 20
"""Requests of one page, and their addresses, bodies and what they carry together."""

QUICK_SECONDS: Final = 0.002
"""A function that takes less on average runs on the loop: handing a page to the thread and back costs 0.1 ms, and a
worker's other fetches wait no longer than for a parse."""

SLOW_SECONDS: Final = 0.020
"""One page that takes as long sends the function back to the thread at once."""

WAIT_SECONDS: Final = 60.0
"""How long a coroutine may take for a page, its waiting included."""

SHARE_SECONDS: Final = 10.0
"""Over how long the share of time that extractors take is measured."""

_SHARE_TOLD: Final = 50
"""Percent of a process's time; from there on the log says so."""

_TRACEBACKS: Final = 100

log = get_logger("worker.extract")

Functions = Mapping[str, Callable[..., Any]]


class TooMuch(Exception):
    """More than one page may give."""


class Pace:
    """Where a function runs, by how long it took: begins beside the loop."""

    def __init__(self) -> None:
        self._average = 10 * QUICK_SECONDS

    @property
    def quick(self) -> bool:
        """Whether it may run on the loop."""
        return self._average < QUICK_SECONDS

    def took(self, seconds: float) -> None:
        """It was done with a page."""
        if seconds >= SLOW_SECONDS:
            self._average = max(self._average, 10 * QUICK_SECONDS)
        else:
            self._average += (seconds - self._average) / 8


class Extraction:
    """The extractors of one crawl in one worker process."""

    def __init__(
        self,
        config: CrawlConfig,
        functions: tuple[str, Functions] | None,
        *,
        page: Slot,
        aside: Slot,
        thread: ThreadPoolExecutor,
    ) -> None:
        """`functions`: of `load_functions`. `page` and `aside`: the marks of the loop and of the `thread`.

        Raises UsageError where a table cannot be.
        """
        self._config = config
        self._first, self._functions = functions or ("", {})
        self._rules = Rules(config.extractors) if config.extractors else None
        self._page, self._aside = page, aside
        self._thread = thread
        self._paces: dict[str, Pace] = {}
        self._told: set[tuple[str, int]] = set()
        self.traceback = ""
        """Of the last function that raised, from the author's code on."""
        self._normalizer = Normalizer(
            config.sort_query, config.strip_tracking, config.strip_session_ids, config.strip_www
        )
        self.seconds = 0.0
        """That functions took in all, waiting not counted for those that wait on the loop."""
        self._measured_from, self._measured = clock.now(), 0.0

    @classmethod
    def of(
        cls,
        config: CrawlConfig,
        *,
        allow_code: bool,
        page: Slot,
        aside: Slot,
        thread: ThreadPoolExecutor,
    ) -> Extraction | None:
        """The extractors that a configuration names; None: none. Raises UsageError."""
        if config.extract is None and not config.extractors:
            return None
        functions = load_functions(config, allow_code=allow_code)
        return cls(config, functions, page=page, aside=aside, thread=thread)

    @property
    def waits(self) -> bool:
        """Whether the first function is one that waits: it may take WAIT_SECONDS."""
        first = self._functions.get(self._first)
        return first is not None and _waits(first)

    async def run(self, lease: int, ordinal: int, request: Request, came: Exchange) -> Extracted:
        """What they make of a response. Raises nothing for what they do."""
        found = Extracted()
        try:
            name, carry = carried(request)
            page = self._page_of(request, came, carry)
            function = self._function(name)
        except LookupError as error:
            found.error = str(error.args[0])
            return found
        taken = _Taking(found, request.url, warc_date(came.started_at))
        if function is not None and _waits(function):
            await self._on_the_loop(function, page, taken, lease, ordinal)
            function = None
            if self._rules is None:
                return found
        pace = self._paces.setdefault(name or "", Pace())
        if pace.quick:
            with self._page.parsing(lease, ordinal, page.url):
                self._call(function, page, taken, pace)
        else:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(
                self._thread, self._call_aside, function, page, taken, pace, lease, ordinal
            )
        return found

    # ------------------------------------------------------------------------------------------------ before

    def _page_of(self, request: Request, came: Exchange, carry: Any) -> Page:
        limit, codings = self._config.max_bytes, came.header("Content-Encoding")
        return Page(
            request.url,
            status=came.status,
            headers=tuple(
                (name.decode("latin-1"), value.decode("utf-8", "replace")) for name, value in came.raw_headers
            ),
            body=lambda: inflate(came.payload, codings, limit).body,
            depth=request.depth,
            carry=carry,
            fetched_at=came.started_at,
            functions=self._functions,
            max_url_length=self._config.max_url_length,
            normalizer=self._normalizer or None,
        )

    def _function(self, name: str | None) -> Callable[..., Any] | None:
        if not self._functions:
            return None
        function = self._functions.get(name or self._first)
        if function is None:
            raise LookupError(f"the extractor has no function {name!r} any more, which the request asks for")
        return function

    # ------------------------------------------------------------------------------------------------ plain functions

    def _call_aside(
        self,
        function: Callable[..., Any] | None,
        page: Page,
        taken: _Taking,
        pace: Pace,
        lease: int,
        ordinal: int,
    ) -> None:
        """In the thread."""
        with self._aside.parsing(lease, ordinal, page.url):
            self._call(function, page, taken, pace)

    def _call(self, function: Callable[..., Any] | None, page: Page, taken: _Taking, pace: Pace) -> None:
        began, cpu = clock.now(), time.thread_time()
        try:
            if function is not None:
                taken.all_of(function(page))
            if self._rules is not None:
                taken.all_of(self._rules.items(page))
        except (Exception, SystemExit) as error:  # noqa: BLE001  the author's code; the crawl goes on
            self._failed(page, taken, error)
        took, used = clock.now() - began, time.thread_time() - cpu
        # Others had their turns meanwhile; only if it was long, it may itself have waited for something.
        pace.took(used if took < SLOW_SECONDS else took)
        self._count(took)

    # ------------------------------------------------------------------------------------------- those that wait

    async def _on_the_loop(
        self, function: Callable[..., Any], page: Page, taken: _Taking, lease: int, ordinal: int
    ) -> None:
        def counted(seconds: float) -> None:
            self.seconds += seconds

        work = self._collect(function, page, taken)
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await _Marked(work, lambda: self._page.parsing(lease, ordinal, page.url), counted)
        except TimeoutError:
            taken.lose(f"not done after {WAIT_SECONDS:g} s")
        self._count(0.0)

    async def _collect(self, function: Callable[..., Any], page: Page, taken: _Taking) -> None:
        try:
            made = function(page)
            if isinstance(made, AsyncIterable):
                iterator = aiter(made)
                try:
                    async for value in iterator:
                        taken.one(value)
                finally:
                    if isinstance(iterator, types.AsyncGeneratorType):
                        await iterator.aclose()
            else:
                taken.all_of(await made if isinstance(made, Awaitable) else made)
        except (Exception, SystemExit) as error:  # noqa: BLE001  as above
            self._failed(page, taken, error)

    # ------------------------------------------------------------------------------------------------ what went wrong

    def _failed(self, page: Page, taken: _Taking, error: BaseException) -> None:
        self.traceback = _from_the_author(error)
        plain = isinstance(error, NotAnItem | TooMuch)
        text = " ".join(escaped(str(error)).split())[:500]
        taken.lose(text if plain else f"{type(error).__name__}{': ' if text else ''}{text}")
        place = _place(error)
        if place in self._told or len(self._told) >= _TRACEBACKS:
            log.debug("extract.failed", url=page.url, error=taken.found.error)
            return
        self._told.add(place)
        log.warning("extract.failed", url=page.url, error=taken.found.error, exc_info=error)

    def _count(self, seconds: float) -> None:
        self.seconds += seconds

    def share(self) -> int | None:
        """Percent of the time that functions took, since the look before; None: that was less than SHARE_SECONDS ago.

        From _SHARE_TOLD on the log says so.
        """
        now = clock.now()
        passed = now - self._measured_from
        if passed < SHARE_SECONDS:
            return None
        percent = round(100 * (self.seconds - self._measured) / passed)
        self._measured_from, self._measured = now, self.seconds
        if percent >= _SHARE_TOLD:
            log.warning("extract.slow", percent=percent, why="extractors take most of this process's time")
        return percent


class _Taking:
    """Takes what a function yields, within the bounds of a page."""

    __slots__ = ("_bytes", "_fetched_at", "_follow_bytes", "_lost", "_url", "found")

    def __init__(self, found: Extracted, url: str, fetched_at: str) -> None:
        self.found = found
        self._url = url
        self._fetched_at = fetched_at
        self._bytes = self._follow_bytes = 0
        self._lost = False

    def all_of(self, made: object) -> None:
        """What a function returned: nothing, one item or request, or many. Raises NotAnItem, TooMuch."""
        if made is None:
            return
        single = isinstance(made, Follow | Mapping | str | bytes) or hasattr(made, "model_dump")
        if isinstance(made, Iterable) and not single:  # pydantic's objects can be iterated over, too
            for value in made:
                self.one(value)
        else:
            self.one(made)

    def one(self, value: object) -> None:
        """One thing that was yielded; None is nothing."""
        if isinstance(value, Follow):
            form = value.form
            self._follow_bytes += len(value.url)
            if form is not None:
                self._follow_bytes += len(form.body or b"") + len(form.carry or b"")
                self._follow_bytes += sum(len(name) + len(text) for name, text in form.headers)
            if len(self.found.follows) >= MAX_FOLLOWS or self._follow_bytes > MAX_FOLLOW_BYTES:
                raise TooMuch(f"more than {MAX_FOLLOWS:,} requests, or {MAX_FOLLOW_BYTES >> 20} MiB of them")
            self.found.follows.append(value)
        elif value is not None and not self._lost:
            name, line = line_of(value, self._url, self._fetched_at)
            self._bytes += len(line)
            if len(line) > MAX_ITEM_BYTES:
                raise TooMuch(f"an item of {len(line):,} bytes, at most {MAX_ITEM_BYTES:,}")
            if len(self.found.items) >= MAX_ITEMS:
                raise TooMuch(f"more than {MAX_ITEMS:,} items of one page")
            if self._bytes > MAX_ITEMS_BYTES:
                raise TooMuch(f"more than {MAX_ITEMS_BYTES >> 20} MiB of items of one page")
            self.found.items.append((name, line))

    def lose(self, error: str) -> None:
        """All items of the page are lost."""
        self._lost = True
        self.found.items.clear()
        self.found.error = self.found.error or error


class _Marked:
    """A coroutine whose every step has its mark set, and is counted."""

    def __init__(
        self, work: Coroutine[Any, Any, None], mark: Callable[[], Slot], counted: Callable[[float], None]
    ) -> None:
        self._work = work
        self._mark = mark
        self._counted = counted

    def __await__(self) -> Generator[Any, Any, None]:
        work, given, thrown = self._work, None, None
        while True:
            began = clock.now()
            failed: BaseException | None = None
            # An error that leaves the mark would end the process; what leaves here is a cancellation.
            with self._mark():
                try:
                    waits = work.send(given) if thrown is None else work.throw(thrown)
                except StopIteration:
                    return
                except BaseException as error:  # noqa: BLE001  raised again at once
                    failed, waits = error, None
            self._counted(clock.now() - began)
            if failed is not None:
                raise failed
            given = thrown = None
            try:
                given = yield waits
            except BaseException as error:  # noqa: BLE001  the coroutine's to see: a cancellation, mostly
                thrown = error


def carried(request: Request) -> tuple[str | None, Any]:
    """(function, carry) that a request brings along. Raises LookupError if they do not read."""
    packed = None if request.form is None else request.form.carry
    if packed is None:
        return None, None
    try:
        name, carry = unpack(packed)
    except (ProtocolError, TypeError, ValueError):
        raise LookupError("what the request carries does not read") from None
    return name, _with_lists(carry)


def _with_lists(value: Any) -> Any:
    """What was carried as it was given: a list is one again."""
    if isinstance(value, tuple | list):
        return [_with_lists(each) for each in value]
    if isinstance(value, dict):
        return {key: _with_lists(each) for key, each in value.items()}
    return value


def _waits(function: Callable[..., Any]) -> bool:
    if not inspect.isfunction(function) and not inspect.ismethod(function) and not inspect.isclass(function):
        call = type(function).__call__
        return inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call)
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def _from_the_author(error: BaseException) -> str:
    """The traceback without our own frames at its begin."""
    own, trace = str(Path(__file__).parent), error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(own):
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace))


def _place(error: BaseException) -> tuple[str, int]:
    """Where it was raised: the last line of the traceback."""
    trace = error.__traceback__
    place = (type(error).__name__, 0)
    while trace is not None:
        place = (f"{type(error).__name__} {trace.tb_frame.f_code.co_filename}", trace.tb_lineno)
        trace = trace.tb_next
    return place
