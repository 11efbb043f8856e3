"""The synthetic web: pages that look and weigh like real ones, the same for the same numbers.

HTML sizes are log-normal with median 28 KB and mean 42 KB, about 65 links a page, gzip on the wire at the
ratio of real pages (3 to 4). Every page can be reached from page 0: pages form a tree (eight children each)
under the random links. Most links stay on their host, some leave it, a few leave the web or are no http at
all.

All responses are written to one file, ready to be sent, so that the server has nothing to do but send them.
Links across hosts name the port, so a file belongs to the port that was free when it was made.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import math
import os
import random
import socket
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Final

VERSION: Final = 1
"""Raised with every change of what is generated: figures of two versions are not to be compared."""

DOMAIN: Final = "bench.test"

_MEDIAN: Final = 28_000
_MEAN: Final = 42_000
_SIGMA: Final = math.sqrt(2 * math.log(_MEAN / _MEDIAN))
_SMALLEST, _LARGEST = 5_000, 600_000
_CHILDREN: Final = 8
_GZIP_LEVEL: Final = 6
_CHUNK: Final = 250
"""Pages that one task of the generator's pool makes."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a web is made from."""

    pages: int
    hosts: int
    seed: int
    port: int

    def host(self, number: int) -> str:
        return f"h{number % self.hosts:03d}.{DOMAIN}"

    def target(self, number: int) -> str:
        """Path and query of a page."""
        index = number // self.hosts
        if index == 0:
            return "/"
        section = _SECTIONS[index % len(_SECTIONS)]
        if index % 7 == 3:
            return f"/{section}/view?id={index}&lang=en"
        return f"/{section}/{2000 + index % 25}/{_WORDS[index * 13 % len(_WORDS)]}-{index}.html"

    def url(self, number: int) -> str:
        return f"http://{self.host(number)}:{self.port}{self.target(number)}"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a generated web came to."""

    version: int
    pages: int
    hosts: int
    seed: int
    port: int
    html_bytes: int
    wire_bytes: int
    links: int
    median: int

    def plan(self) -> Plan:
        return Plan(self.pages, self.hosts, self.seed, self.port)


def made(pages: int, hosts: int, seed: int) -> tuple[Path, Facts]:
    """The web of these numbers: from the cache if its port is still free, else made now (half a minute)."""
    folder = Path(tempfile.gettempdir()) / f"shoal-bench-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    path = folder / f"web-{VERSION}-{pages}-{hosts}-{seed}"
    facts_file = path.with_suffix(".json")
    if facts_file.exists():
        facts = Facts(**json.loads(facts_file.read_text()))
        if _free(facts.port):
            return path, facts
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    facts = _write(Plan(pages, hosts, seed, port), path)
    facts_file.write_text(json.dumps(asdict(facts)))
    return path, facts


def read(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """(host + target, response) of every page of a file."""
    content = path.read_bytes()
    at = 0
    for line in path.with_suffix(".index").read_bytes().splitlines():
        key, length = line.rsplit(b" ", 1)
        yield key, content[at : at + int(length)]
        at += int(length)


# -- making it ----------------------------------------------------------------------------------------


def _write(plan: Plan, path: Path) -> Facts:
    print(f"bench: making a web of {plan.pages:,} pages ...", flush=True)
    html_bytes = wire_bytes = links = 0
    sizes: list[int] = []
    part = path.with_suffix(".part")
    starts = range(0, plan.pages, _CHUNK)
    with (
        ProcessPoolExecutor() as pool,
        part.open("wb") as responses,
        path.with_suffix(".index").open("wb") as index,
    ):
        for chunk in pool.map(_chunk, itertools.repeat(plan), starts):
            for number, size, count, response in chunk:
                responses.write(response)
                index.write(f"{plan.host(number)}{plan.target(number)} {len(response)}\n".encode())
                sizes.append(size)
                html_bytes += size
                wire_bytes += len(response)
                links += count
    part.rename(path)
    median = sorted(sizes)[len(sizes) // 2]
    return Facts(VERSION, plan.pages, plan.hosts, plan.seed, plan.port, html_bytes, wire_bytes, links, median)


def _chunk(plan: Plan, start: int) -> list[tuple[int, int, int, bytes]]:
    """(number, bytes of HTML, links, response) of some pages."""
    made = []
    for number in range(start, min(start + _CHUNK, plan.pages)):
        text, links = page(plan, number)
        html = text.encode()
        body = gzip.compress(html, _GZIP_LEVEL, mtime=0)
        head = (
            "HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: text/html; charset=utf-8\r\n"
            f'Content-Encoding: gzip\r\nContent-Length: {len(body)}\r\nETag: "{number:x}"\r\n'
            "Vary: Accept-Encoding\r\nCache-Control: max-age=600\r\n\r\n"
        )
        made.append((number, len(html), links, head.encode() + body))
    return made


def page(plan: Plan, number: int) -> tuple[str, int]:
    """The HTML of a page, and how many links it has."""
    rng = random.Random(f"{plan.seed}:{number}")
    size = min(max(rng.lognormvariate(math.log(_MEDIAN), _SIGMA), _SMALLEST), _LARGEST)
    sentences = _sentences(plan.seed)
    hrefs = _hrefs(plan, number, rng)
    title = rng.choice(sentences)[:60]
    host = number % plan.hosts
    entries = [plan.target(other) for other in range(host, plan.pages, plan.hosts)[:_MENU]]
    menu = "\n".join(
        f'      <li class="menu__entry"><a class="menu__link" href="{entry}">{section.title()}</a></li>'
        for entry, section in zip(entries, _SECTIONS, strict=False)
    )
    parts = [_HEAD.format(title=title, host=plan.host(number), menu=menu)]
    length = len(parts[0]) + len(_FOOT)
    # The text is spread over the blocks that carry the links, so that a large page has longer blocks.
    share = max((size - length) / len(hrefs), 40)
    due = 0.0
    for position, href in enumerate(hrefs):
        due += share
        words = _WORDS[rng.randrange(len(_WORDS))]
        if position % 3 == 0:
            block = [
                f'<div class="card"><h3><a class="card__link" href="{href}">{title[:20]} {words}</a></h3>'
            ]
            closing = "</div>\n"
        elif position % 3 == 1:
            block = [f'<p class="lead">{rng.choice(sentences)} <a href="{href}" title="{words}">{words}</a> ']
            closing = "</p>\n"
        else:
            block = [f'<ul class="list"><li><a href="{href}" rel="bookmark"><span>{words}</span></a></li>']
            closing = "</ul>\n"
        grown = len(block[0]) + len(closing)
        while grown < due:
            sentence = rng.choice(sentences)
            if position % 3 == 2:
                inline = f'<li class="entry"><span class="label">{words}</span> <b>{sentence}</b></li>\n'
            elif grown % 5 == 0:
                inline = f'<p class="text quote"><em>{words}</em> {sentence} <strong>{words}</strong></p>\n'
            else:
                inline = f'<div class="row"><p class="text">{sentence}</p></div>\n'
            block.append(inline)
            grown += len(inline)
        due -= grown
        parts += [*block, closing]
    parts.append(_FOOT)
    return "".join(parts), len(hrefs) + len(entries) + _FOOT.count("<a ")


def _hrefs(plan: Plan, number: int, rng: random.Random) -> list[str]:
    """The links in the text of a page, as they are written there."""
    host = number % plan.hosts
    on_host = (plan.pages - host + plan.hosts - 1) // plan.hosts
    first = number * _CHILDREN + 1
    others = [*range(first, min(first + _CHILDREN, plan.pages)), rng.randrange(plan.pages)]
    hrefs = [plan.url(other) for other in others]
    for _ in range(rng.randint(30, 70)):
        other = host + plan.hosts * min(int(rng.expovariate(3.0) * on_host), on_host - 1)
        href = plan.target(other) if rng.random() < 0.85 else plan.url(other)
        hrefs.append(href + "#comments" if rng.random() < 0.05 else href)
    hrefs.append(f"https://www.example.org/{_WORDS[number % len(_WORDS)]}")
    hrefs.append(f"mailto:editor@{plan.host(number)}")
    rng.shuffle(hrefs)
    return [href.replace("&", "&amp;") for href in hrefs]


@cache
def _sentences(seed: int) -> list[str]:
    """Twenty thousand sentences of words as frequent as in a language (Zipf's law), for gzip to find."""
    rng = random.Random(seed)
    weights = list(itertools.accumulate(1 / (rank + 2.7) ** 1.1 for rank in range(len(_WORDS))))
    made = []
    for _ in range(20_000):
        words = rng.choices(_WORDS, cum_weights=weights, k=rng.randint(4, 14))
        made.append(" ".join(words).capitalize() + rng.choice((".", ".", ".", "?", ", again.")))
    return made


def _words(count: int) -> list[str]:
    rng = random.Random("words")
    onsets = (
        "b",
        "br",
        "c",
        "ch",
        "d",
        "f",
        "g",
        "gr",
        "h",
        "l",
        "m",
        "n",
        "p",
        "pl",
        "r",
        "s",
        "st",
        "t",
        "v",
        "w",
    )
    nuclei = ("a", "e", "i", "o", "u", "ea", "ou", "ie")
    codas = ("", "", "n", "r", "s", "t", "l", "nd", "ck")
    words: dict[str, None] = {}
    while len(words) < count:
        syllables = 1 if len(words) < 150 else rng.choice((1, 2, 2, 3))
        words[
            "".join(rng.choice(onsets) + rng.choice(nuclei) + rng.choice(codas) for _ in range(syllables))
        ] = None
    return list(words)


_WORDS: Final = _words(12_000)
_SECTIONS: Final = ("news", "culture", "science", "travel", "money", "sport", "weather", "archive")
_MENU: Final = 8
"""Links that all pages of a host share: its first so many pages."""

_HEAD: Final = """<!DOCTYPE html>
<html lang="en" class="no-js">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>{title}</title>
  <meta property="og:title" content="{title}">
  <meta property="og:site_name" content="{host}">
  <link rel="preload" as="style" href="/static/css/main.3f9a7c.css">
  <link rel="stylesheet" href="/static/css/main.3f9a7c.css">
  <style>
    :root {{ --accent: #0b5fff; --ink: #1c1d1f; --gap: 1.25rem; }}
    body {{ margin: 0; color: var(--ink); font: 16px/1.6 system-ui, sans-serif; }}
    .menu {{ display: flex; gap: var(--gap); list-style: none; padding: 0 var(--gap); }}
    .card {{ border: 1px solid #ddd; border-radius: 6px; padding: var(--gap); margin: var(--gap) 0; }}
    @media (max-width: 600px) {{ .menu {{ flex-wrap: wrap; }} .card {{ padding: .5rem; }} }}
  </style>
  <script>
    window.site = {{"host": "{host}", "locale": "en", "features": {{"comments": true, "dark": false}}}};
    document.documentElement.classList.replace("no-js", "js");
  </script>
</head>
<body>
  <header class="top"><a class="top__logo" href="/"><img src="/static/logo.svg" alt="{host}" width="120"></a>
    <nav aria-label="Main"><ul class="menu">
{menu}
    </ul></nav>
    <form class="search" action="/search"><input name="q" type="search"><button>Go</button></form>
  </header>
  <main id="content">
"""

_FOOT: Final = """  </main>
  <footer class="foot"><p>All rights reserved. <a href="/">Home</a> <a href="#content">Back to top</a></p>
    <script async src="/static/js/app.91be02.js"></script>
  </footer>
</body>
</html>
"""


def _free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make a web, or show what one is made of.")
    parser.add_argument("--pages", type=int, default=20_000)
    parser.add_argument("--hosts", type=int, default=200)
    given = parser.parse_args()
    print(made(given.pages, given.hosts, seed=1))
