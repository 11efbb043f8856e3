"""What tests counted, for the page of figures: one line of JSON each, into the file that SHOAL_FIGURES names.

Without that variable nothing is written. A figure is written when what it counts has held, never before.
"""

from __future__ import annotations

import json
import os


def figure(name: str, **counts: float) -> None:
    """Note counts under a name; the same name again adds to them (scripts/reliability)."""
    if path := os.environ.get("SHOAL_FIGURES"):
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"figure": name} | counts) + "\n")
