"""An event loop in a thread beside the test: where servers run while the test waits for a process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")

_PATIENCE = 30.0
"""Seconds for what only has to pass through the loop, and for the loop to end; longer means that it hangs."""


class Aside:
    """The loop and its thread. A context: at its end all tasks are cancelled and the loop is closed."""

    def __init__(self, name: str) -> None:
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = self._runner.get_loop()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_PATIENCE)
        assert not self._thread.is_alive(), f"the loop of {self._thread.name!r} does not end"

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Have it done there; what it returned or raised."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_PATIENCE)

    def _run(self) -> None:
        with self._runner:
            self._loop.run_forever()
