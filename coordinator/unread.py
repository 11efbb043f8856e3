"""Seeds that were not read to their end, so that the next start reads them again.

A list of millions of lines takes minutes to be read, and the crawl may be stopped or killed meanwhile. What was given
stands in DIR/seeds/unread.json from before its first line is admitted until after its last one is durable. Whatever
is read twice meets the seen-set.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from common.log import get_logger
from coordinator.seeds import absolute

MAX_KEPT = 10_000
"""Arguments; a command line holds fewer."""

log = get_logger("coordinator.unread")


class Unread:
    """The sources of a crawl that are being read, or that a stop or a crash cut short."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._left = _read(path)

    def __contains__(self, argument: str) -> bool:
        return absolute(argument) in self._left

    def begin(self, arguments: Sequence[str]) -> None:
        """These will be read now."""
        self._keep([*self._left, *map(absolute, arguments)])

    def end(self, arguments: Sequence[str]) -> None:
        """These were read, and all of it is durable."""
        done = set(map(absolute, arguments))
        self._keep([argument for argument in self._left if argument not in done])

    def resume(self, given: Sequence[str], say: Callable[[str], None]) -> list[str]:
        """What a start has to read: what is given now, and what an earlier one did not come to the end of."""
        again, names = [], set(map(absolute, given))
        for argument in self._left:
            if argument in names:
                continue
            if argument == "-":
                say(
                    "standard input was not read to its end last time: give the same list once more, or what is left"
                )
            elif os.path.isabs(argument) and not os.path.exists(argument.partition("#")[0]):
                say(f"{argument} was not read to its end last time, and is not there any more")
            else:
                say(f"{argument} was not read to its end last time: it is read again")
                again.append(argument)
        return [*given, *again]

    def forget(self) -> None:
        """A person was told of what cannot be read again; it is not said twice."""
        self._keep([])

    def _keep(self, arguments: Iterable[str]) -> None:
        self._left = list(dict.fromkeys(arguments))[:MAX_KEPT]
        try:
            if not self._left:
                self._path.unlink(missing_ok=True)
                return
            new = self._path.with_suffix(".new")
            new.write_text(json.dumps(self._left, ensure_ascii=False, indent=0), "utf-8", "surrogateescape")
            os.replace(new, self._path)
        except OSError as error:  # seeds wait where there is no room; this is a note for the next start
            log.warning("seeds.unread", error=str(error))


def _read(path: Path) -> list[str]:
    try:
        kept = json.loads(path.read_text("utf-8", "surrogateescape"))
    except (OSError, ValueError):
        return []
    return [argument for argument in kept if isinstance(argument, str)] if isinstance(kept, list) else []
