"""Did you mean: the known name that an unknown one is most like, for errors about names that people type."""

from __future__ import annotations

from collections.abc import Iterable


def closest(name: str, known: Iterable[str], alike: float = 0.5) -> str | None:
    """The known name most like `name`; None where none is. `alike`: from 0, anything will do, to 1, the same."""
    import difflib  # only on the way to an error

    return next(iter(difflib.get_close_matches(name, list(known), 1, alike)), None)


def hint(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """The end of an error about an unknown name: which one may be meant; `otherwise` where none is like it."""
    near = closest(name, known)
    return otherwise if near is None else f"; did you mean {near}?"
