"""The downloads that a process has under way: their pieces go to the agent, and no faster than they are answered.

A fetch hands on a piece and waits while FILE_WINDOW of its pieces are without an answer; meanwhile its socket fills
up, and so the server waits. What is held counts in the process's budget for bodies (worker/bodies.py), until the shard
has it. Shell: it decides nothing of what a download is (download.py) or what an answer means (visits.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from common.config import CrawlConfig
from common.messages import FILE_WINDOW, PIECE_BYTES
from worker import download
from worker.bodies import Hold
from worker.download import Download
from worker.fetcher import BeginDownload
from worker.mark import Slot
from worker.receiving import SendPiece
from worker.steps import PieceCame, PieceKept
from worker.visit import Fetch


class _Flow:
    """One download whose pieces are on their way."""

    __slots__ = ("began", "hold", "window")

    def __init__(self, began: int, hold: Hold) -> None:
        self.began = began
        self.hold = hold
        self.window = asyncio.Semaphore(FILE_WINDOW)


class Downloading:
    """Those of one process."""

    def __init__(self, handle: Callable[[PieceCame], None], mark: Slot) -> None:
        """`handle`: gives the agent an event. `mark`: of the loop."""
        self._handle = handle
        self._mark = mark
        self._begun = 0
        self._flows: dict[tuple[int, int], _Flow] = {}

    def begin(self, step: Fetch, config: CrawlConfig) -> tuple[BeginDownload, SendPiece]:
        """For a fetch that may become a download: what begins it, and who takes its pieces. `end` it."""

        def started(status: int, headers: Mapping[str, str]) -> Download | None:
            return download.begin(
                config,
                step.request,
                step.resume,
                status,
                headers,
                lambda: self._mark.parsing(step.lease, step.ordinal, step.request.url),
            )

        async def piece(file: Download, body: bytes, hold: Hold) -> None:
            await self._send(step, file, body, hold)

        return started, piece

    def kept(self, kept: PieceKept) -> None:
        """A piece was answered."""
        flow = self._flows.get((kept.lease, kept.ordinal))
        if flow is not None and flow.began == kept.began:
            flow.hold.shrink(PIECE_BYTES)
            flow.window.release()

    def end(self, step: Fetch) -> None:
        """The fetch is over, however it ended."""
        self._flows.pop((step.lease, step.ordinal), None)

    async def _send(self, step: Fetch, file: Download, body: bytes, hold: Hold) -> None:
        flow = self._flows.get((step.lease, step.ordinal))
        if flow is None:
            self._begun += 1
            file.began = self._begun
            flow = self._flows[step.lease, step.ordinal] = _Flow(self._begun, hold)
        await flow.window.acquire()
        self._handle(
            PieceCame(step.lease, step.ordinal, file.pieces - 1, file.began, file.first, file.validator, body)
        )
