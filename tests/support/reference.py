"""docs/reference.md, made from the code: every command, option, variable, file, key, outcome and exit code.

What the code says is taken from it: click's commands and their texts, `common.config.OPTIONS` with defaults and
reasons, `[tuning]`, outcomes with the table of tries. What it cannot say (what a key of a line means, what a file is
for) stands here, and `tests/unit/test_reference.py` fails when a key, a file or a variable is missing or too many.

    scripts/reference           write the page
    scripts/reference --check   write nothing; exit code 1 if the page is not current
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import click

from common.commandline import Flag
from common.config import OPTIONS, CrawlConfig
from common.hostrules import RULE_OPTIONS
from common.options import Option
from common.outcome import OUTCOMES, Outcome, State
from common.tuning import TUNING, Tuning
from coordinator import policy, traps
from coordinator.changing import RESTART
from coordinator.cli import coord
from tests.support.generated import write_or_check
from worker.cli import worker

PAGE: Final = Path(__file__).parents[2] / "docs" / "reference.md"

EXIT_CODES: Final = {
    0: "finished, or a limit that was asked for was reached",
    1: "a person must look: no seed gave a page, a page is POISON, an outcome of `--fail-on`, storage or the local "
    "workers failed, `coord audit` found something, a dry run found nothing to fetch",
    2: "usage or configuration; nothing was begun",
    3: "stopped before the end (`coord stop`, SIGTERM); the same command goes on",
    130: "Ctrl-C; the same command goes on",
}

VARIABLES: Final = {
    "SHOAL_CONFIG": "a file of options, as `--config`",
    "SHOAL_KEY": "the workers' key as one line, instead of `worker start --key FILE`; `coord key DIR` prints it",
    "SHOAL_TOKEN": "the token of a coordinator that is named by address: `token` in its `DIR/coord.json`",
}
"""Those that are no options."""

OTHER_VARIABLES: Final = {
    "NO_COLOR": "no colours on a terminal (elsewhere there are none anyway)",
    "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL": "for "
    "`coord export --to s3://...`",
    "_COORD_COMPLETE, _WORKER_COMPLETE": "completion, below",
}

FILES: Final = {
    "FORMAT": "the version of everything here",
    "crawl.toml": "the configuration in force, secrets masked",
    "summary.json": "what the last screen said, for `coord status`",
    "coord.json": "addresses and token of the running coordinator; mode 0600, gone when it ends",
    "worker.key": "what workers on other machines need; mode 0600",
    "coord.key": "the coordinator's own secret; mode 0600; stays here",
    "lock, workers.lock": "held by the one coordinator, and by its local workers",
    "pages/pages-SHARD-SERIAL.jsonl": "one line for each request that ended",
    "warc/NAME-UTC17-SHARD-SERIAL.warc.gz": "requests and responses, WARC 1.1",
    "items/NAME-SHARD-SERIAL.jsonl": "what extractors took out",
    "text/, links/": "with `--store text,links`: the text of each page, and each link with its anchor",
    "seeds/seeds-SERIAL.jsonl": "one line for each line of input: line, given, url, state, reason",
    "frontier/": "the store: every URL that is known, what is queued, what has ended",
    "frontier-parts/": "big bodies on their way in",
    "files/HOST/xx/NAME": "downloads; docs/downloads.md",
    "files/.parts/": "downloads that are not whole",
    "logs/": "coord.log, and those of local workers; rotated, four kept",
}

KEYS: Final = {
    "url": "the URL in canonical form",
    "method": "GET, HEAD, or what an extractor asked for; DOWNLOAD: it asked for a file",
    "round": "0, then one more with each recrawl",
    "outcome": "what the fetch came to: the table below",
    "status": "HTTP status; null: no response",
    "reason": "a stable code that says more: below",
    "error": "the same in words, for people",
    "depth": "links from a seed",
    "referrer": "the page that led here; null for a seed",
    "seed": "the seed it came from, as given",
    "redirect_to": "where a redirect leads",
    "content_type": "media type, lower case, without parameters",
    "charset": "the charset that the page was read in",
    "length": "bytes of the body, decoded",
    "wire_length": "bytes of the body as received",
    "digest": "`sha1:BASE32` of the body as received (WARC-Payload-Digest)",
    "title": "of HTML, at most 512 characters",
    "noindex": "whether the page asks not to be indexed",
    "etag": "ETag, as sent",
    "last_modified": "Last-Modified, as sent",
    "fetched_at": "when the request was sent; UTC, milliseconds; equals WARC-Date",
    "elapsed_ms": "from then to the last byte",
    "ip": "the address it came from",
    "attempts": "tries that were made",
    "record": "`response` or `revisit`: the kind of its WARC record",
    "warc": "where that stands: `file` (relative to DIR), `offset`, `length`",
    "lastmod": "what a sitemap said of it",
    "simhash": "16 hexadecimal digits, with `--simhash`",
    "file": "where a download is kept, relative to DIR; `length` and `digest` are the file's; null: it is none",
}

TOLD: Final = {
    Outcome.OK: "2xx",
    Outcome.REDIRECT: "3xx; its target is a request of its own, at the same depth",
    Outcome.NOT_MODIFIED: "304, in a recrawl",
    Outcome.CLIENT_ERROR: "4xx",
    Outcome.SERVER_ERROR: "5xx, and what is no status at all",
    Outcome.TRUNCATED: "the body ended early; kept as far as it came, its links are followed; no file of a download",
    Outcome.TOO_LARGE: "longer than `--max-bytes`; kept as far as that, its links are followed; "
    "of a download, longer than `--max-file-bytes`: no file",
    Outcome.TIMEOUT: "one of the three times of `--timeout`, `--connect-timeout`, `--silence-timeout` was over",
    Outcome.DNS: "the name has no address, or none could be had",
    Outcome.TLS: "no connection that can be trusted",
    Outcome.REFUSED: "nobody listens there, or no way leads there",
    Outcome.RESET: "the connection broke before a response",
    Outcome.PROTOCOL: "what came is not HTTP",
    Outcome.PROXY: "the proxy failed",
    Outcome.TOO_MANY_REDIRECTS: "more than 10 in a row, or 5 to the page itself",
    Outcome.HOST_UNREACHABLE: f"never tried: its host had failed {policy.HOST_FAILURES} times in a row",
    Outcome.ROBOTS_UNREACHABLE: "its robots.txt could not be had in five tries over an hour",
    Outcome.POISON: f"{policy.POISON_DEATHS} worker processes died reading it",
    Outcome.ROBOTS_DENIED: "robots.txt forbids it",
    Outcome.PRIVATE_ADDRESS: "its name leads to an address that `--allow-private` does not allow",
    Outcome.TYPE_REJECTED: "its type is none of `--accept`, or one of `--reject`; the body was not read",
    Outcome.UNSUPPORTED: "no request can be made of it",
    Outcome.TRAP: "a guard took it for a trap; `reason` says which",
    Outcome.LIMIT: "reserved: no request ends so; what a limit holds back stays queued",
    Outcome.OPERATOR: "`coord block`",
}

REASONS: Final = {
    "OK": ("encoding", "near_duplicate", "extract", "parsed_in_part"),
    "REDIRECT": ("no_location", "use_proxy"),
    "SERVER_ERROR": ("bad_status",),
    "TRUNCATED": ("disconnect", "time", "range", "encoding"),
    "TOO_LARGE": ("length", "inflated"),
    "TIMEOUT": ("connect_timeout", "read_timeout", "total_timeout"),
    "DNS": (
        "nxdomain",
        "no_address",
        "servfail",
        "dns_refused",
        "dns_timeout",
        "dns_unreachable",
        "bad_name",
        "bad_answer",
    ),
    "TLS": (
        "tls_unknown_issuer",
        "tls_self_signed",
        "tls_expired",
        "tls_not_yet_valid",
        "tls_hostname",
        "tls_revoked",
        "tls_weak",
        "tls_version",
        "tls_handshake",
        "tls_certificate",
        "tls_client_certificate",
        "tls_unrecognized_name",
        "tls_cut",
        "tls_protocol",
    ),
    "REFUSED": ("connection_refused", "host_unreachable", "connection_failed"),
    "RESET": ("reset", "disconnected"),
    "PROTOCOL": ("bad_http", "header_too_large"),
    "PROXY": (policy.PROXY_SAYS_HOST, "proxy_..."),
    "TOO_MANY_REDIRECTS": ("self",),
    "HOST_UNREACHABLE, OPERATOR": ("host",),
    "ROBOTS_DENIED, ROBOTS_UNREACHABLE": ("robots",),
    "POISON": ("poison",),
    "TYPE_REJECTED": ("type",),
    "UNSUPPORTED": ("bad_request",),
    "TRAP": traps.RULES,
}


def page() -> str:
    """The whole page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield from (
        "# Reference",
        "",
        "Every command, option, variable, file, key, outcome and exit code. Made by `scripts/reference` from the code:",
        "do not edit. How to use them: [tutorial.md](tutorial.md), [operations.md](operations.md).",
        "",
        "- [Commands](#commands) · [Options of a crawl](#options-of-a-crawl) · [Rules for hosts](#rules-for-hosts)",
        "  · [Tuning](#tuning) · [Variables](#variables) · [Completion](#completion)",
        "- [Exit codes](#exit-codes) · [Files of DIR](#files-of-dir) · [Lines of pages](#lines-of-pages)",
        "  · [Outcomes](#outcomes) · [Reasons](#reasons)",
        "",
        "## Commands",
    )
    for group in (coord, worker):
        for name, command in group.commands.items():
            if not command.hidden:
                yield from _command(f"{group.name} {name}", command)
    yield from _options()
    yield from _rest()


def _command(name: str, command: click.Command) -> Iterator[str]:
    own = [param for param in command.params if not isinstance(param, Flag) or param.name not in OPTIONS]
    shared = [param for param in command.params if isinstance(param, Flag) and param.name in OPTIONS]
    arguments = " ".join(param.metavar or "" for param in own if isinstance(param, click.Argument))
    yield from ("", f"### {name}", "", f"    {name} [OPTIONS] {arguments}".rstrip(), "")
    yield from _text(inspect.cleandoc(command.help or ""))
    rows = [_own_row(param) for param in own if isinstance(param, click.Option) and not param.hidden]
    if rows:
        yield from ("", *_table(("option", "default", "what it does"), rows))
    if len(shared) > 10:
        yield from ("", "And all [options of a crawl](#options-of-a-crawl).")
    elif shared:
        names = ", ".join(f"`{_long(param)}`" for param in shared)
        yield from ("", f"And of the [options of a crawl](#options-of-a-crawl): {names}.")


def _text(help_text: str) -> Iterator[str]:
    """A command's help in Markdown: a block that click must not wrap begins with \\b."""
    for place, paragraph in enumerate(help_text.split("\n\n")):
        if place:
            yield ""
        lines = paragraph.splitlines()
        if lines and lines[0].strip() == "\b":
            yield from (f"    {line.removeprefix('  ')}" for line in lines[1:])
        else:
            yield _cell(" ".join(line.strip() for line in lines), code=False)


def _own_row(param: click.Option) -> tuple[str, ...]:
    name = ", ".join(param.opts)
    value = "" if param.is_flag else f" {param.metavar or ''}"
    if isinstance(param, Flag) and param.bare is not None:
        value = f"[={param.metavar}]"
    text = param.help or ""
    default = str(param.default) if param.show_default and isinstance(param.default, str) else ""
    found = re.search(r" \[default: (.*)\]$", text)
    if found is not None:
        text, default = text[: found.start()], found[1]
    return f"`{name}{value}`", f"`{default}`" if param.show_default and default else default, text


def _options() -> Iterator[str]:
    yield from (
        "",
        "## Options of a crawl",
        "",
        "Each is a flag, a key of a `--config` file, and a variable: `--max-pages 9`, `max_pages = 9`,",
        "`SHOAL_MAX_PAGES=9`. The flag goes before the variable, that before the file, that before `DIR/crawl.toml`",
        "of a crawl that goes on, that before the default. Sizes: `65536`, `512KiB`, `16MiB`, `2GiB`. Times: `1.5`,",
        "`30s`, `5m`, `2h`, `7d`. No limit: `none`. A list: its flag several times, or commas where the table",
        "has them.",
        "",
        "*begin*: must stay as it was when the crawl began. *start*: may differ at each start. All others can also be",
        "changed while the crawl runs: `coord set DIR KEY=VALUE`.",
    )
    group = ""
    rows: list[tuple[str, ...]] = []
    head = ("flag", "default", "what it sets", "why that default", "fixed")
    for name, of in OPTIONS.items():
        if of.group != group:
            if rows:
                yield from ("", *_table(head, rows))
            group, rows = of.group, []
            yield from ("", f"### {group}")
        rows.append(_option_row(name, of))
    yield from ("", *_table(head, rows))


def _option_row(name: str, of: Option) -> tuple[str, ...]:
    default = getattr(CrawlConfig(), name)
    shown = "" if default is None or default == () else of.to_toml(default).strip('"')
    if isinstance(default, tuple) and default:
        shown = ",".join(default)
    if of.kind.name == "time" and shown:
        shown += " s"
    if of.kind.switch:
        shown = {True: "on", False: "off", None: ""}[default]
    fixed = "begin" if of.fixed else "start" if name in RESTART or not of.kept or of.flags == "" else ""
    return f"`{_spelled(name, of)}`", shown, of.help, of.why, fixed


def _spelled(name: str, of: Option) -> str:
    long = "--" + name.replace("_", "-")
    if of.flags == "":
        return f"SHOAL_{name.upper()}"
    if of.kind.switch or of.flags == "-v":
        both = of.flags or long
        return both if "--" in both else f"{both}, {long}"
    return f"{long}[={of.kind.metavar}]" if of.bare is not None else f"{long} {of.kind.metavar}"


def _rest() -> Iterator[str]:
    yield from (
        "",
        "## Rules for hosts",
        "",
        "In a file of options; of all whose `match` (a shell pattern for the whole host name) fits, the last one that",
        "says something about a key counts. `coord set DIR --host PATTERN KEY=VALUE` and `coord block` write them too.",
        "",
        "    [[host]]",
        '    match = "*.gov.uk"',
        "    delay = 5",
        "",
        f"Keys: {', '.join(f'`{name}` ({kind.name})' for name, kind in RULE_OPTIONS.items())}.",
        "",
        "## Tuning",
        "",
        "Section `[tuning]` of a file of options. Nobody should need them.",
        "",
    )
    yield from _table(
        ("key", "default", "what it sets", "why", "fixed"),
        [
            (
                f"`{name}`",
                of.to_toml(getattr(Tuning(), name)).strip('"'),
                of.help,
                of.why,
                "begin" if of.fixed else "",
            )
            for name, of in TUNING.items()
        ],
    )
    yield from (
        "",
        "## Variables",
        "",
        "`SHOAL_` and the name of an option in capitals, for every option above; and:",
        "",
    )
    yield from _table(
        ("variable", "what it is"),
        [
            (", ".join(f"`{one}`" for one in name.split(", ")), text)
            for name, text in (VARIABLES | OTHER_VARIABLES).items()
        ],
    )
    yield from (
        "",
        "A `SHOAL_*` variable that looks like a misspelt option is refused; others are not ours and are left alone.",
        "",
        "## Completion",
        "",
        "Commands, flags, words such as outcomes, and files are completed by the shell, after one of:",
        "",
        '    eval "$(_COORD_COMPLETE=bash_source coord)"             # in ~/.bashrc; worker: _WORKER_COMPLETE, worker',
        '    eval "$(_COORD_COMPLETE=zsh_source coord)"              # in ~/.zshrc',
        "    _COORD_COMPLETE=fish_source coord | source              # in ~/.config/fish/config.fish",
        "",
        "## Exit codes",
        "",
    )
    yield from _table(("code", "means"), [(str(code), text) for code, text in EXIT_CODES.items()])
    yield from (
        "",
        "What becomes of single URLs never makes 1, unless `--fail-on` names it.",
        "",
        "## Files of DIR",
        "",
    )
    yield from _table(("file", "what it is"), [(f"`{name}`", text) for name, text in FILES.items()])
    yield from (
        "",
        "SHARD is `00` as long as there is one; SERIAL counts from `00000`, the file with the highest one grows.",
        "",
        "## Lines of pages",
        "",
        "One JSON object a line for each request that came to an end. Every key is always there, null where it says",
        "nothing. Of several lines with the same `url`, `method` and `round` the last one counts (`coord retry`).",
        "",
    )
    yield from _table(("key", "what it is"), [(f"`{name}`", text) for name, text in KEYS.items()])
    yield from (
        "",
        "## Outcomes",
        "",
        "A request is QUEUED or LEASED until it has one. FETCHED ones have a WARC record. *Tried again*: up to",
        "`--retries` times, after 10, 30, 90 s and so on. *Host*: it counts against the host, which then rests for",
        f"2, 4, 8, ... at most {policy.MAX_HOST_BACKOFF:g} s.",
        "",
    )
    yield from _table(
        ("outcome", "state", "tried again", "host", "when"), [_outcome_row(outcome) for outcome in OUTCOMES]
    )
    yield from (
        "",
        "429 and 503 are tried again whatever their outcome, count against the host, and their Retry-After is obeyed,",
        f"up to {policy.MAX_RETRY_DELAY / 60:g} minutes.",
        "",
        "## Reasons",
        "",
    )
    yield from _table(
        ("outcome", "`reason`"),
        [(outcome, ", ".join(f"`{reason}`" for reason in reasons)) for outcome, reasons in REASONS.items()],
    )


def _outcome_row(outcome: Outcome) -> tuple[str, ...]:
    rule = policy.RULES.get(outcome)
    again, host = ("yes" if rule and rule.again else "", "yes" if rule and rule.host else "")
    return f"`{outcome.value}`", State(outcome.state).value, again, host, TOLD[outcome]


def _long(param: click.Parameter) -> str:
    return max(param.opts, key=len)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    head = tuple(head)
    yield f"| {' | '.join(head)} |"
    yield f"| {' | '.join('---' for _ in head)} |"
    for row in rows:
        yield "| " + " | ".join(_cell(text, code=text.startswith("`")) for text in row) + " |"


def _cell(text: str, *, code: bool) -> str:
    text = text.replace("|", "\\|")
    return text if code else text.replace("<", "&lt;").replace("*", "\\*")


if __name__ == "__main__":
    write_or_check(PAGE, page, program="reference", why="Write docs/reference.md from the code.")
