"""The configuration of a crawl: every option with its unit, default and reason, defined once.

From the fields of `CrawlConfig` come the flags of the command line, the keys of crawl.toml, the `SHOAL_*`
variables, what `coord init` writes and the reference in the docs; an option added here is in all of them.
This file is that table and what is read off it at a glance; it is as long as there are options.

Built once, then frozen. It reads no file and no environment, and writes none: options come from where
`common/configfile.py` finds them, go to workers as `common/configwire.py` says and to people as
`common/configtext.py` says, secrets masked (`common/masking.py`).

Read next: `common/options.py` (kinds of values), `common/tuning.py` (numbers that are no flags),
`common/hostrules.py` (what is said about single hosts).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from common.extractors import Code, ExtractRule
from common.hostrules import HostPolicy, HostRule, header_pairs, policy_for
from common.options import (
    ALL_PRIVATE,
    BYTES,
    EXTRACTOR,
    HEADERS,
    NETWORKS,
    PARAMETERS,
    PATH,
    PATTERNS,
    PROXIES,
    RATE,
    REGEXES,
    SECONDS,
    SHARE,
    SWITCH,
    TEXT,
    USUAL_TRACKING,
    Option,
    above_zero,
    choice,
    names_of,
    option,
    options_of,
    whole,
)
from common.outcome import OUTCOMES
from common.tuning import Tuning
from common.version import version

_POLICIES_REMEMBERED = 65_536
"""Host policies kept by `for_host`: about 10 MB; when full they are all forgotten, which costs 2 µs a rule
each."""


@dataclass(frozen=True, slots=True)
class CrawlConfig:
    """Every option of a crawl, in canonical values: seconds, bytes, tuples. Groups are the sections of the
    help."""

    # -- which URLs
    scope: str = option(
        "host",
        choice("host", "domain", "prefix", "any"),
        "Scope",
        wire=True,
        help="how far from the seeds links are followed",
        why="the site that was named, and not the whole web by accident",
    )
    allow: tuple[str, ...] = option(
        (),
        REGEXES,
        "Scope",
        wire=True,
        help="only URLs in which one of these is found, within the scope",
        why="none given: all of the scope",
    )
    deny: tuple[str, ...] = option(
        (),
        REGEXES,
        "Scope",
        wire=True,
        help="no URL in which one of these is found",
        why="none given: nothing is cut out",
    )
    no_follow: bool = option(
        False,
        SWITCH,
        "Scope",
        flags="--no-follow/--follow",
        wire=True,
        help="fetch the seeds alone, redirects included, whatever the scope",
        why="a crawl follows links",
    )
    skip_nofollow_links: bool = option(
        False,
        SWITCH,
        "Scope",
        flags="--skip-nofollow-links/--take-nofollow-links",
        wire=True,
        help="drop links marked rel=nofollow",
        why="the mark is about ranking, not about access; a page's own nofollow is always obeyed",
    )
    sitemaps: bool = option(
        True,
        SWITCH,
        "Scope",
        flags="--sitemaps/--no-sitemaps",
        wire=True,
        help="read the sitemaps that robots.txt names; what they list is one link away from a seed",
        why="they list pages that no link leads to; not read with --no-follow",
    )
    max_url_length: int = option(
        2048,
        whole(),
        "Scope",
        wire=True,
        help="longest URL taken, in characters of its canonical form",
        why="longer ones are traps more often than pages",
    )
    guards: bool = option(
        True,
        SWITCH,
        "Scope",
        flags="--guards/--no-guards",
        help="set aside URLs that look like a trap: calendars without end, repeated path segments, and the like",
        why="one such site holds a crawl for ever; what is set aside is listed as TRAP, with the rule",
    )

    # -- one page, one URL
    sort_query: bool = option(
        False,
        SWITCH,
        "Canonical form",
        flags="--sort-query/--keep-query-order",
        wire=True,
        fixed=True,
        help="sort the parameters of a query by name",
        why="the order matters to some servers",
    )
    strip_tracking: tuple[str, ...] = option(
        (),
        PARAMETERS,
        "Canonical form",
        wire=True,
        fixed=True,
        bare=USUAL_TRACKING,
        help="drop these query parameters (utm_* is all that begin so), or the usual tracking ones",
        why="a URL is what its site says it is",
    )
    strip_session_ids: bool = option(
        False,
        SWITCH,
        "Canonical form",
        flags="--strip-session-ids/--keep-session-ids",
        wire=True,
        fixed=True,
        help="drop session ids from queries and paths",
        why="a URL is what its site says it is",
    )
    strip_www: bool = option(
        False,
        SWITCH,
        "Canonical form",
        flags="--strip-www/--keep-www",
        wire=True,
        fixed=True,
        help="take www.example.org for example.org",
        why="they may be two sites",
    )

    # -- how much
    max_pages: int | None = option(
        None,
        whole(),
        "Limits",
        help="never more pages than this, exactly; what is left stays queued",
        why="a crawl ends by itself",
    )
    max_depth: int | None = option(
        None,
        whole(minimum=0),
        "Limits",
        wire=True,
        help="links away from a seed; 0 is the seeds alone",
        why="the scope is the limit",
    )
    max_pages_per_host: int | None = option(
        None, whole(), "Limits", help="pages of one host", why="the scope is the limit"
    )
    max_time: float | None = option(
        None, above_zero(SECONDS), "Limits", help="stop after this time", why="a crawl ends by itself"
    )
    max_total_bytes: int | None = option(
        None,
        above_zero(BYTES),
        "Limits",
        help="stop after this much was received",
        why="--min-free guards the disk",
    )
    max_rate: float | None = option(
        None,
        RATE,
        "Limits",
        help="pages a second over all hosts and workers",
        why="each host has its own limit already",
    )
    max_bytes: int = option(
        16 << 20,
        above_zero(BYTES),
        "Limits",
        wire=True,
        help="longest body, counted while reading and while inflating; the rest is cut off",
        why="holds any page and most documents; a decompression bomb stops here",
    )

    # -- politeness
    delay: float = option(
        1.0,
        SECONDS,
        "Politeness",
        wire=True,
        help="time from the end of one fetch of a host to the start of the next; 0: not even for slow hosts",
        why="what an unknown site can be asked without asking",
    )
    per_host: int = option(
        1,
        whole(),
        "Politeness",
        wire=True,
        help="fetches of one host at once, each with its own delay",
        why="as one visitor who waits for the page before the next click",
    )
    per_ip: int = option(
        32,
        whole(),
        "Politeness",
        wire=True,
        help="hosts of one address fetched at once; loopback is exempt",
        why="shared hosting: thousands of names, one machine",
    )
    jitter: float = option(
        0.1,
        SHARE,
        "Politeness",
        wire=True,
        help="share of the delay that is added at random, from 0 to this",
        why="thousands of hosts that answer at the same pace are not asked in step",
    )
    obey_robots: bool = option(
        True,
        SWITCH,
        "Politeness",
        flags="--obey-robots/--ignore-robots",
        wire=True,
        help="obey robots.txt and a page's own robots directives, or do not",
        why="RFC 9309; ignore it only on sites that are yours",
    )
    robots_token: str = option(
        "shoal",
        TEXT,
        "Politeness",
        wire=True,
        help="the name by which robots.txt addresses this crawler",
        why="the product's own name",
    )
    user_agent: str | None = option(
        None,
        TEXT,
        "Politeness",
        wire=True,
        help="the User-Agent header; none: Shoal/VERSION (+CONTACT)",
        why="whoever reads the log should know what came by",
    )
    contact: str | None = option(
        None,
        TEXT,
        "Politeness",
        wire=True,
        help="address or web page for the owners of sites, shown in the User-Agent",
        why="only you know it; without one there is a warning",
    )

    # -- fetching
    concurrency: int = option(
        1000,
        whole(),
        "Fetching",
        wire=True,
        help="fetches in flight in one worker process",
        why="enough to wait for slow servers with; a process is busy before that with fast ones",
    )
    timeout: float = option(
        300.0,
        above_zero(SECONDS),
        "Fetching",
        wire=True,
        help="time for a whole fetch",
        why="16 MiB at 55 KB/s",
    )
    connect_timeout: float = option(
        10.0,
        above_zero(SECONDS),
        "Fetching",
        wire=True,
        help="time for looking up, connecting and the TLS handshake",
        why="three lost SYN packets are 7 s",
    )
    silence_timeout: float = option(
        20.0,
        above_zero(SECONDS),
        "Fetching",
        wire=True,
        help="time without a byte while a response is awaited or read",
        why="servers that answer at all mostly answer within 20 s",
    )
    retries: int = option(
        2,
        whole(minimum=0),
        "Fetching",
        help="further tries for outcomes that may pass, such as TIMEOUT and SERVER_ERROR",
        why="most short failures are over at the third try",
    )
    memory: int = option(
        512 << 20,
        above_zero(BYTES),
        "Fetching",
        wire=True,
        help="bodies held at once in one worker process; when it is used up, fetching waits",
        why="32 of the longest bodies, ten thousand of the usual ones",
    )
    min_free: int = option(
        2 << 30,
        BYTES,
        "Fetching",
        help="disk space that is left alone; below it, fetching waits",
        why="a full disk hurts everything else on the machine",
    )
    head: bool = option(
        False,
        SWITCH,
        "Fetching",
        flags="--head/--get",
        wire=True,
        fixed=True,
        help="ask for headers only (HEAD)",
        why="pages have bodies",
    )
    media: bool = option(
        False,
        SWITCH,
        "Fetching",
        flags="--media/--no-media",
        wire=True,
        help="also follow images, video, audio, styles and scripts",
        why="a crawl is of pages; media are most of the bytes",
    )
    accept: tuple[str, ...] = option(
        (),
        PATTERNS,
        "Fetching",
        wire=True,
        help="only these content types (text/html, image/*); others end as TYPE_REJECTED",
        why="none given: all",
    )
    reject: tuple[str, ...] = option(
        (),
        PATTERNS,
        "Fetching",
        wire=True,
        help="not these content types",
        why="none given: none",
    )
    download: tuple[str, ...] = option(
        (),
        PATTERNS,
        "Fetching",
        wire=True,
        help="keep answers of these content types (image/*, application/pdf) as files in DIR/files, not in WARC",
        why="none given: none",
    )
    max_file_bytes: int = option(
        4 << 30,
        above_zero(BYTES),
        "Fetching",
        wire=True,
        help="longest file that is downloaded; a longer one ends as TOO_LARGE, and nothing of it is kept",
        why="a DVD; a stream without end stops here",
    )
    cookies: bool = option(
        False,
        SWITCH,
        "Fetching",
        flags="--cookies/--no-cookies",
        wire=True,
        help="keep each host's cookies and send them back",
        why="sessions make many URLs for one page",
    )
    header: tuple[str, ...] = option(
        (),
        HEADERS,
        "Fetching",
        wire=True,
        help="a header for requests to the hosts of seeds; Authorization and Cookie are never kept on disk",
        why="none needed",
    )

    # -- network
    allow_private: tuple[str, ...] = option(
        (),
        NETWORKS,
        "Network",
        wire=True,
        bare=ALL_PRIVATE,
        help="fetch from private addresses too, all or those named; remote workers must allow it as well",
        why="a link on a public page must not reach into your own network",
    )
    insecure: tuple[str, ...] = option(
        (),
        PATTERNS,
        "Network",
        wire=True,
        help="hosts whose TLS certificate is not verified",
        why="certificates are verified",
    )
    hosts_file: str | None = option(
        None,
        PATH,
        "Network",
        help="names and addresses as in /etc/hosts, used before DNS by every worker",
        why="DNS answers",
    )
    proxy: tuple[str, ...] = option(
        (),
        PROXIES,
        "Network",
        wire=True,
        help="URL of a proxy (http, https, socks5), several share the hosts; it decides which addresses are reached",
        why="direct connections",
    )

    # -- results
    store: tuple[str, ...] = option(
        ("warc", "pages"),
        names_of("warc", "pages", "text", "links", metavar="warc,pages,text,links"),
        "Results",
        wire=True,
        help="what is written to DIR: records, lines of pages (always), each page's text, each link with its anchor",
        why="what was said by the server, and one line about it",
    )
    simhash: bool = option(
        False,
        SWITCH,
        "Results",
        flags="--simhash/--no-simhash",
        wire=True,
        help="write a 64-bit SimHash of each page's text into its line",
        why="it costs time for every page; pages that are equal to the byte are found without it",
    )
    near_duplicates: int | None = option(
        None,
        whole(minimum=0),
        "Results",
        wire=True,
        help="do not follow the links of a page whose SimHash differs in at most N bits from an earlier page's "
        "of its host",
        why="all pages count; 4 to 6 are usual distances",
    )
    extract: str | None = option(
        None,
        EXTRACTOR,
        "Results",
        wire=True,
        help="FILE.py:FUNCTION or package.module:function that yields items and requests from pages",
        why="pages are kept, nothing is taken out of them",
    )
    allow_code: bool = option(
        False,
        SWITCH,
        "Results",
        flags="",  # a flag of `worker start`; SHOAL_ALLOW_CODE says it to all workers of a machine
        help="for workers on other machines: run the extractor's file that their coordinator sends",
        why="a worker runs code only where its owner said so; those of `coord crawl` always do",
    )
    fail_on: tuple[str, ...] = option(
        (),
        names_of(*(outcome.value for outcome in OUTCOMES), metavar="OUTCOME,..."),
        "Results",
        help="exit 1 if any page ended with one of these outcomes",
        why="outcomes of single URLs are results, not failures of the crawl",
    )

    # -- this terminal
    progress: bool | None = option(
        None,
        SWITCH,
        "Terminal",
        flags="--progress/--no-progress",
        kept=False,
        help="a bar on a terminal, a line now and then elsewhere, both on standard error; or neither",
        why="none: as long as -q is not given",
    )
    quiet: bool = option(
        False,
        SWITCH,
        "Terminal",
        flags="-q",
        kept=False,
        help="say nothing but errors",
        why="people want to see what goes on",
    )
    verbose: int = option(
        0,
        whole(minimum=0),
        "Terminal",
        flags="-v",
        kept=False,
        help="say more; -vv says everything",
        why="warnings and milestones are enough",
    )
    log_format: str = option(
        "text",
        choice("text", "json"),
        "Terminal",
        kept=False,
        help="how log lines are written",
        why="people read first, tools when asked",
    )

    # -- no options: rules, numbers, and what was read from files
    host: tuple[HostRule, ...] = ()
    """The `[[host]]` tables, in the order of the file."""
    tuning: Tuning = field(default_factory=Tuning)
    hosts: tuple[tuple[str, str], ...] = ()
    """What --hosts-file said: (name, address) pairs, in its order."""
    extractors: tuple[ExtractRule, ...] = ()
    """The `[extract.NAME]` tables, in the order of the file."""
    code: Code | None = None
    """The file that --extract names, as it was read at the start; None: it names none, or a module."""
    _policies: dict[str, HostPolicy] = field(default_factory=dict, init=False, repr=False, compare=False)

    def for_host(self, host_key: str) -> HostPolicy:
        """The delay and lanes configured for a host. Remembered, so cheap to ask per lease."""
        known = self._policies.get(host_key)
        if known is not None:
            return known
        policy = policy_for(host_key, self.host, HostPolicy(self.delay, self.per_host, proxies=self.proxy))
        if len(self._policies) >= _POLICIES_REMEMBERED:
            self._policies.clear()
        self._policies[host_key] = policy
        return policy

    @property
    def agent(self) -> str:
        """The User-Agent header as sent."""
        if self.user_agent is not None:
            return self.user_agent
        return f"Shoal/{version()} (+{self.contact})" if self.contact else f"Shoal/{version()}"

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """`header` as (name, value) pairs."""
        return header_pairs(self.header)

    @property
    def hosts_table(self) -> dict[str, tuple[str, ...]]:
        """`hosts` by name; a name may have several addresses."""
        table: dict[str, tuple[str, ...]] = {}
        for name, address in self.hosts:
            table[name] = (*table.get(name, ()), address)
        return table

    def warnings(self, *, at_home: bool = False) -> list[str]:
        """What a person should be told once at the start, a line each. `at_home`: only their own machine is crawled."""
        said = []
        if self.contact is None and self.user_agent is None and not at_home:
            said.append(
                "no --contact: owners of the sites you crawl cannot reach you; give a web page or an address"
            )
        if not self.obey_robots:
            said.append("robots.txt is ignored: do this only on sites that are yours or whose owner agreed")
        if self.proxy:
            said.append(
                "behind a proxy: the proxy decides which addresses are reached; --allow-private has no say"
            )
        return said


OPTIONS: dict[str, Option] = options_of(CrawlConfig)
"""Every option by its key, in the order of the help."""
