"""Open files: how many this process may have. Every connection is one, whoever opened it.

The soft limit is raised to the hard one at start, as far as that is of use. No configuration here.
"""

from __future__ import annotations

import resource


def raise_open_files(most: int) -> int:
    """Raise the soft limit on open files as far as allowed, to `most`; returns what is in force. Children inherit it.

    Some systems have no hard limit but refuse "infinite" as a soft one. A higher limit stays.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most if hard == resource.RLIM_INFINITY else min(hard, most)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return most if soft == resource.RLIM_INFINITY else soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):  # a sandbox may forbid even that; what is there has to do
        return soft
    return wanted
