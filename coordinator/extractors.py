"""Whether the extractors of a crawl can be run, asked before anything is written: for `coord crawl`.

A child imports them as the local workers will; nothing of worker/ is imported here, and nothing of the author's. That
costs about half a second, and spares a crawl whose workers all refuse. `coord start` does not ask: its workers are
elsewhere, and so may be what the extractor imports; each says at its own start what is missing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from common.config import CrawlConfig
from common.configtext import config_to_toml
from common.errors import UsageError

_PATIENCE_SECONDS: Final = 60.0
"""For imports; some libraries take seconds."""


def check(config: CrawlConfig) -> None:
    """Raises UsageError with the line that the child said."""
    if config.extract is None and not config.extractors:
        return
    own = str(Path(__file__).resolve().parent.parent)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SHOAL_")}
    paths = [own, *filter(None, [environ.get("PYTHONPATH")])]
    with tempfile.NamedTemporaryFile("w", suffix=".toml", encoding="utf-8") as file:
        file.write(config_to_toml(config))
        file.flush()
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-m", "worker", "try", "--check", "--config", file.name],
                env=environ | {"PYTHONPATH": os.pathsep.join(paths)},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_PATIENCE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise UsageError(f"--extract: not imported after {_PATIENCE_SECONDS:g} s") from None
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("worker: ")]
        raise UsageError(said[-1].removeprefix("worker: ") if said else done.stderr.strip()[-500:])
