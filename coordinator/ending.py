"""How a run ends: who says so first, with which exit code, and whether anything is still brought home.

Limits, a crawl that is over, workers that died, people and errors of our own all say it here; the first word counts.
A second signal, `coord stop --now` and an error of our own mean *at once*. What follows from it, in which order, is
app.py's.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterable
from typing import Any

from common.errors import ShoalError
from common.log import get_logger
from common.outcome import OUTCOMES
from coordinator.ledger import Counts

FINISHED, LOOK, USAGE, STOPPED, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes (contract, section 1): all is well; somebody should look; nothing could be begun; stopped; Ctrl-C."""

log = get_logger("coordinator.ending")


class Ending:
    """The end of one run, once it is known."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """`say`: tells people. Only within a running loop."""
        self._say = say
        self._loop = asyncio.get_running_loop()
        self._known: asyncio.Future[tuple[int, str]] = self._loop.create_future()
        self.at_once = asyncio.Event()
        """Nothing is brought home any more."""

    @property
    def begun(self) -> bool:
        """Whether somebody has said it."""
        return self._known.done()

    async def wait(self) -> tuple[int, str]:
        """(exit code, reason), as soon as they are known."""
        return await self._known

    def finish(self, code: int, reason: str) -> None:
        """It is to end; if that was said before, this changes nothing."""
        if not self._known.done():
            self._known.set_result((code, reason))

    def listen(self) -> None:
        """Signals, and errors that nobody caught, end the run from now on."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.add_signal_handler(number, self._signalled, number)
        self._loop.set_exception_handler(self._callback_failed)

    def stop_listening(self) -> None:
        """Signals do again what they do by themselves."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.remove_signal_handler(number)

    def task_ended(self, task: asyncio.Task[None]) -> None:
        """A task without which there are no commits is over; a callback for it."""
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("coordinator.failed", error=repr(error))
            self.at_once.set()
            what = str(error) if isinstance(error, ShoalError) else f"an error of Shoal's own, {error!r}"
            self._say(f"{what}; see DIR/logs. What was committed is whole: the same command goes on")
            self.finish(LOOK, what)

    def _signalled(self, number: int) -> None:
        if self.begun:
            self.at_once.set()
            return
        name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
        self._say(f"{name}: bringing home what is in flight; once more stops at once")
        self.finish(INTERRUPTED if number == signal.SIGINT else STOPPED, name)

    def _callback_failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An error in a callback must not be logged and forgotten: a crawl that goes on without a step may hang."""
        error = context.get("exception")
        log.error("callback.failed", message=context.get("message"), error=repr(error), exc_info=error)
        if error is not None and not isinstance(error, OSError):
            self.at_once.set()
            self.finish(LOOK, f"an error of Shoal's own, {error!r}")


def verdict(counts: Counts, fail_on: Iterable[str], *, bad_seeds: int) -> tuple[int, str] | None:
    """(exit code, reason) of a crawl that is over, if somebody should look; None: all is well."""
    met = {OUTCOMES[key].value for key, count in counts.done.items() if count}
    if failing := sorted(met & set(fail_on)):
        return LOOK, "--fail-on " + ",".join(failing)
    if "POISON" in met:
        return LOOK, "poison"
    if (counts.admitted or bad_seeds) and not counts.seeds_ok:
        return LOOK, "no seed gave a page"
    return None
