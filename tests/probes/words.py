"""docs/probes.md, made of what the probes say of themselves."""

from __future__ import annotations

from tests.probes.manifest import DELAY
from tests.probes.registry import SECTIONS
from tests.probes.web import CRAWLS, ELSEWHERE, PROBES

_HEAD = """# Probes

A synthetic web with one probe or more for each line of "a thorough and polite crawler", crawled through the command
line. Each probe lives on hosts of its own, and its manifest (`tests/probes/`) says which lines of `pages` must come of
it, with outcome, reason, tries, depth and what else matters there, and which requests. The judge is the servers' own
access log: what is in the log or in `pages` and was not announced is a failure, as is what was announced and is
missing. That holds for all of these:

- no two fetches of a host nearer than its delay, robots.txt, redirects, retries and sitemaps among them, measured from
  the end of one to the arrival of the next by the servers' clock, over 1 and over 3 worker processes (`main`);
- robots.txt once for each authority; every URL as often as said, which is mostly once;
- every request names the product and its contact.

This page is made by `python -m tests.probes > docs/probes.md`; `tests/unit/test_probe_words.py` holds it to the
manifest. `tests/cluster/test_probes.py` runs it.

One thing is not held against the crawler: a request on a kept connection that breaks before anything came is made
again at once, on a new connection (RFC 9110, 9.2.2), for nobody can tell whether the server has seen it.

## The crawls

All have `--delay {delay}` and a contact. Probes belong to `main` unless the table says otherwise.

| crawl | options |
| --- | --- |
"""

_NETWORK = {
    "apart": "in a network namespace, with addresses beyond loopback and a name server",
    "proxied": "the same, with tinyproxy and microsocks",
    "again": "and then `--recrawl`",
    "later": "stopped; a day passes for what is known of robots.txt; it goes on with more seeds",
    "main": "on 1 and on 3 processes",
}


def page() -> str:
    """All of it."""
    lines = [_HEAD.format(delay=DELAY).rstrip("\n")]
    for name, options in CRAWLS.items():
        remark = f"; {_NETWORK[name]}" if name in _NETWORK else ""
        lines.append(f"| `{name}` | `{_cell(options.typed)}`{remark} |")
    for section in SECTIONS:
        lines += ["", f"## {section}", "", "| clause | probe | must be found | must not be touched |"]
        lines.append("| --- | --- | --- | --- |")
        for probe in PROBES:
            if probe.section == section:
                where = f"`{probe.name}`" + ("" if probe.crawl == "main" else f", `{probe.crawl}`")
                cells = (probe.clause, where, probe.finds, probe.spares)
                lines.append("| " + " | ".join(map(_cell, cells)) + " |")
        lines += [
            f"| {_cell(clause)} | | | elsewhere: {where} |"
            for own, clause, where in ELSEWHERE
            if own == section
        ]
    return "\n".join([*lines, ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
