"""The pages of the demo web, and what a correct crawl of them finds.

A dozen hosts under demo.test, some friendly, some not: redirects within and across hosts and in a circle,
404s, slow pages, a binary file, pages that are not in UTF-8, duplicates, a robots.txt that forbids a part,
a `base href`. Everything follows from the lists below: two runs serve the same bytes, but for the port in
links across hosts. Each page states its outlinks when it is made, so `expected()` knows what is to be found
without reading any HTML. The page sets of the examples (sets.py,
sites.py) are served besides.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from shoal.demo.server import Answer, Request, html, redirect
from shoal.demo.sets import sets
from shoal.demo.sites import sites

START: Final = ("www.demo.test", "/")

Place = tuple[str, str]
"""(host, path with query): where a page stands."""

_SUBJECTS: Final = (
    "tides",
    "lanterns",
    "orchards",
    "letters",
    "maps",
    "bridges",
    "winters",
    "clocks",
    "harbours",
)
_FORMS: Final = (
    "A History of {}",
    "The Book of {}",
    "On {}",
    "Notes from the {}",
    "{} and Other Stories",
    "Lost {}",
)
_TOPICS: Final = ("fiction", "travel", "science", "cooking", "poetry")
_SENTENCES: Final = (
    "The town keeps its archive in a former ropewalk, two hundred paces long.",
    "Nobody remembers who planted the lime trees along the canal.",
    "On clear mornings the far shore looks close enough to touch.",
    "The ferry leaves when it is full, and sometimes a little before.",
    "A bell was cast for the bicentenary and has been out of tune ever since.",
    "Fishermen still read the weather from the colour of the slate roofs.",
    "The library lends umbrellas on the same card as books.",
    "Every spring the bridge is painted, and every autumn it is grey again.",
    "The recipe calls for patience first and butter second.",
    "In the north the nights are short enough to be ignored.",
)


@dataclass(frozen=True, slots=True)
class Page:
    """One page: what is served, what a crawler's ledger says of it, and where it leads."""

    answer: Answer
    outcome: str = "OK"
    links: tuple[Place, ...] = ()


class Web:
    """All pages of the demo web as they look when served on `port`."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.pages: dict[Place, Page] = {}
        self._random = random.Random("shoal")
        self._books("books.demo.test")
        self._news("news.demo.test")
        self._wiki("wiki.demo.test")
        self._docs("docs.demo.test")
        self._mirror("mirror.demo.test", of="docs.demo.test")
        self._shop("shop.demo.test")
        self._photos("photos.demo.test")
        self._letters("zh.demo.test")
        self._slow("slow.demo.test")
        self._old("old.demo.test")
        self._broken("broken.demo.test")
        self._sets = dict(sets(port))
        """To which nothing leads, so they are none of `pages`."""
        self._sites = sites()
        self._home()

    def hosts(self) -> list[str]:
        """All names, for a hosts file."""
        return sorted({host for host, _ in (*self.pages, *self._sets)} | self._sites.keys())

    def url(self, place: Place) -> str:
        """The absolute URL of a place."""
        return f"http://{place[0]}:{self.port}{place[1]}"

    def respond(self, request: Request) -> Answer:
        """The answer to a request, whatever it is for."""
        page = self.pages.get((request.host, request.target))
        if page is not None:
            return page.answer
        if (request.host, request.target) in self._sets:
            return self._sets[request.host, request.target]
        if request.host in self._sites:
            return self._sites[request.host](request)
        return html("<!doctype html><title>Not found</title><p>There is no such page.", status=404)

    def expected(self) -> dict[str, str]:
        """URL → outcome of all that is to be found from the start, scope all of demo.test, robots obeyed."""
        found = {START: ""}
        waiting = [START]
        while waiting:
            place = waiting.pop()
            page = self.pages.get(place, Page(Answer(404), "CLIENT_ERROR"))
            found[place] = page.outcome
            for link in page.links:
                if link not in found:
                    found[link] = ""
                    waiting.append(link)
        return {self.url(place): outcome for place, outcome in sorted(found.items())}

    # -- the hosts ----------------------------------------------------------------------------------------

    def _home(self) -> None:
        fronts = [(host, "/") for host in sorted({host for host, _ in self.pages})]
        self._page(*START, "The demo web", "A small web to try a crawler on.", fronts)
        self._robots(START[0])

    def _books(self, host: str) -> None:
        """A shop of 90 books in five departments, each with its pages of ten."""
        self._page(
            host, "/", "Books", "Five departments, ninety books.", [(host, f"/{t}/1") for t in _TOPICS]
        )
        titles = [form.format(subject.title()) for subject in _SUBJECTS for form in _FORMS]
        books = [f"/book/{number}" for number in range(1, 91)]
        for number, path in enumerate(books):
            neighbours = [(host, books[number - 1]), (host, books[(number + 7) % 90])]
            title = f"{titles[number % len(titles)]}, volume {number // len(titles) + 1}"
            self._page(host, path, title, self._text(), [(host, "/"), *neighbours])
        for t, topic in enumerate(_TOPICS):
            for page in (1, 2):
                shelf = [(host, path) for path in books[t * 18 :][:18][(page - 1) * 9 :][:9]]
                more = [(host, f"/{topic}/{3 - page}")]
                self._page(host, f"/{topic}/{page}", f"{topic.title()}, page {page}", "", [*shelf, *more])
        self._robots(host)

    def _news(self, host: str) -> None:
        """Sixty articles behind `rel=next` pages; the last leads to a story that was taken down."""
        stories = [f"/2024/{month:02d}/{story}" for month in range(1, 13) for story in range(1, 6)]
        for number, path in enumerate(stories):
            text = f"{self._text()} {self._text()}"
            links = [
                (host, "/"),
                (host, stories[number - 1]),
                ("wiki.demo.test", f"/wiki/Article_{number % 40}"),
            ]
            self._page(host, path, f"Story {number + 1} of the year", text, links)
        for page in range(6):
            path = "/" if page == 0 else f"/?page={page}"
            links = [(host, story) for story in stories[page * 10 :][:10]]
            following = (host, f"/?page={page + 1}") if page < 5 else None
            if page == 5:
                links.append((host, "/2023/12/withdrawn"))
            self._page(host, path, f"News, page {page + 1}", "The year so far.", links, following=following)
        self._add(host, "/2023/12/withdrawn", Page(html("<title>Gone</title>", status=410), "CLIENT_ERROR"))
        self._robots(host)

    def _wiki(self, host: str) -> None:
        """Forty articles that link to each other at random, with anchors that are no pages of their own."""
        names = [f"/wiki/Article_{number}" for number in range(40)]
        self._page(host, "/", "Wiki", "Forty articles.", [(host, names[0])])
        for number, path in enumerate(names):
            links = [(host, names[(number + 1) % 40]), *((host, n) for n in self._random.sample(names, 6))]
            self._page(host, path, f"Article {number}", self._text(), links, anchor="#see-also")
        self._robots(host)

    def _docs(self, host: str) -> None:
        """A manual of 24 chapters below one `base href`."""
        chapters = [f"/manual/chapter-{number}.html" for number in range(1, 25)]
        self._page(host, "/", "Documentation", "One manual.", [(host, chapters[0])])
        for number, path in enumerate(chapters):
            links = [(host, chapters[(number + step) % 24]) for step in (1, 2, 5)]
            self._page(host, path, f"Chapter {number + 1}", self._text(), links, base="/manual/")
        self._robots(host)

    def _mirror(self, host: str, *, of: str) -> None:
        """The manual's first chapters again, byte for byte, at other addresses."""
        copies = []
        for number in range(1, 9):
            original = self.pages[of, f"/manual/chapter-{number}.html"]
            copies.append((host, f"/manual/chapter-{number}.html"))
            # The copied pages' relative links stay on this host, where most of what they name is missing.
            links = tuple((host, path) for _, path in original.links)
            self._add(*copies[-1], Page(original.answer, "OK", links))
        self._page(host, "/", "A mirror", "The same eight chapters.", copies)
        self._robots(host)

    def _shop(self, host: str) -> None:
        """Thirty offers told apart by query strings; baskets are nobody's business; half a second, please."""
        offers = [f"/offer?id={number}&lang=en" for number in range(30)]
        for number, path in enumerate(offers):
            links = [(host, "/"), (host, f"/basket/add?id={number}")]
            self._page(host, path, f"Offer {number}", f"Only {number + 3}.50, while stocks last.", links)
            forbidden = Page(html("<title>Basket</title><p>You should not be here."), "ROBOTS_DENIED")
            self._add(host, f"/basket/add?id={number}", forbidden)
        self._page(host, "/", "Shop", "Everything must go.", [(host, path) for path in offers])
        self._robots(host, "Disallow: /basket/\nCrawl-delay: 0.5\n")

    def _photos(self, host: str) -> None:
        """Links to files that are no pages: a picture and half a megabyte of noise."""
        picture = Page(Answer(200, {"Content-Type": "image/png"}, _png(64, 64)))
        noise = random.Random("noise").randbytes(512 * 1024)
        archive = Page(Answer(200, {"Content-Type": "application/octet-stream"}, noise))
        self._add(host, "/harbour.png", picture)
        self._add(host, "/all.bin", archive)
        self._page(host, "/", "Photos", "One picture.", [(host, "/harbour.png"), (host, "/all.bin")])
        self._robots(host)

    def _letters(self, host: str) -> None:
        """Pages in other charsets: said in the header, said in a meta tag, not said at all."""
        texts = {
            "/gbk": ("gbk", "春江花月夜", "春江潮水连海平，海上明月共潮生。滟滟随波千万里，何处春江无月明。"),
            "/sjis": (
                "shift_jis",
                "草枕",
                "山路を登りながら、こう考えた。智に働けば角が立つ。情に棹させば流される。",
            ),
            "/latin1": ("latin-1", "Curaçao", "Über den Wolken, à la carte, señor, smørrebrød."),
            "/koi8": (
                "koi8-r",
                "Зимнее утро",
                "Мороз и солнце; день чудесный! Ещё ты дремлешь, друг прелестный.",
            ),
        }
        for path, (charset, title, text) in texts.items():
            links = [(host, "/"), *((host, other) for other in texts)]
            body = self._html(host, title, text, links).encode(charset)
            self._add(host, path, Page(_typed(f"text/html; charset={charset}", body), "OK", tuple(links)))
        title, text = texts["/gbk"][1:]
        inside = f'<meta charset="gbk">{self._html(host, title, text, [])}'.encode("gbk")
        unsaid = self._html(host, title, text * 4, []).encode("gbk")
        self._add(host, "/gbk-meta", Page(_typed("text/html", inside)))
        self._add(host, "/gbk-unsaid", Page(_typed("text/html", unsaid)))
        pages = [(host, path) for path in [*texts, "/gbk-meta", "/gbk-unsaid"]]
        self._page(host, "/", "Letters: 文字, буквы, γράμματα", "In several alphabets.", pages)
        self._robots(host)

    def _slow(self, host: str) -> None:
        """Six pages that take their time, one of them byte by byte."""
        paths = [f"/{number}" for number in range(1, 7)]
        for number, path in enumerate(paths):
            page = html(self._html(host, f"Slow page {number + 1}", self._text(), [(host, "/")]))
            late = Answer(page.status, page.headers, page.body, wait=0.3 * number)
            if number == 5:
                late = Answer(page.status, page.headers, page.body, drips=(0.05, 50))
            self._add(host, path, Page(late, "OK", ((host, "/"),)))
        self._page(host, "/", "Slow", "It will be worth the wait.", [(host, path) for path in paths])
        self._robots(host)

    def _old(self, host: str) -> None:
        """A site that has moved: hops to a new host, a chain, a circle, a meta refresh."""
        books = [("books.demo.test", f"/book/{number}") for number in (3, 14, 15, 92)]
        moved = []
        for number, target in enumerate(books):
            moved.append((host, f"/catalogue/{number}.asp"))
            self._hop(*moved[-1], target, status=301)
        self._hop(host, "/chain/1", (host, "/chain/2"))
        self._hop(host, "/chain/2", (host, "/chain/3"), status=307)
        self._hop(host, "/chain/3", START, status=308)
        self._hop(host, "/circle/a", (host, "/circle/b"))
        self._hop(host, "/circle/b", (host, "/circle/a"))
        refresh = '<!doctype html><meta http-equiv="refresh" content="0; url=/now"><title>One moment</title>'
        self._add(host, "/refresh", Page(html(refresh), "OK", ((host, "/now"),)))
        self._page(host, "/now", "The new place", "Here it is.", [])
        links = [*moved, (host, "/chain/1"), (host, "/circle/a"), (host, "/refresh")]
        self._page(host, "/", "We have moved", "Please update your links.", links)
        self._robots(host)

    def _broken(self, host: str) -> None:
        """Links that lead nowhere, and a server that sometimes fails."""
        missing = [(host, f"/missing/{number}") for number in range(12)]
        self._add(host, "/teapot", Page(html("<title>Teapot</title>", status=418), "CLIENT_ERROR"))
        self._add(host, "/fails", Page(html("<title>Sorry</title>", status=500), "SERVER_ERROR"))
        links = [*missing, (host, "/teapot"), (host, "/fails")]
        self._page(host, "/", "Under construction", "Mind the gaps.", links)
        # No robots.txt here: that means everything is allowed.

    # -- how pages are made -------------------------------------------------------------------------------

    def _page(
        self,
        host: str,
        path: str,
        title: str,
        text: str,
        links: Sequence[Place],
        *,
        base: str | None = None,
        anchor: str = "",
        following: Place | None = None,
    ) -> None:
        head = f'<base href="{base}">' if base else ""
        if following:
            head += f'<link rel="next" href="{self._href(host, following)}">'
        text = self._html(host, title, text, links, head=head, base=base or "", anchor=anchor)
        every = (*links, following) if following else tuple(links)
        self._add(host, path, Page(html(text), "OK", every))

    def _hop(self, host: str, path: str, target: Place, *, status: int = 302) -> None:
        self._add(host, path, Page(redirect(self._href(host, target), status), "REDIRECT", (target,)))

    def _robots(self, host: str, rules: str = "Disallow:\n") -> None:
        """robots.txt is no page: a crawler fetches it for itself, and its ledger does not name it."""
        text = f"# Welcome to {host}\nUser-agent: *\n{rules}"
        self.pages[host, "/robots.txt"] = Page(_typed("text/plain; charset=utf-8", text.encode()))

    def _add(self, host: str, path: str, page: Page) -> None:
        assert (host, path) not in self.pages, (host, path)
        self.pages[host, path] = page

    def _html(
        self,
        host: str,
        title: str,
        text: str,
        links: Iterable[Place],
        *,
        head: str = "",
        base: str = "",
        anchor: str = "",
    ) -> str:
        entries = "\n".join(
            f'<li><a href="{escape(self._href(host, link, base) + anchor)}">{escape("".join(link))}</a></li>'
            for link in links
        )
        return (
            f"<!doctype html>\n<title>{escape(title)}</title>{head}\n"
            "<style>body{font:1.1em/1.6 Georgia,serif;max-width:38em;margin:3em auto;padding:0 1em}</style>\n"
            f"<h1>{escape(title)}</h1>\n<p>{escape(text)}</p>\n<ul>\n{entries}\n</ul>\n"
        )

    def _href(self, host: str, target: Place, base: str = "") -> str:
        """A link as it is written on a page of `host`: relative where it can be."""
        if target[0] != host:
            return self.url(target)
        return target[1].removeprefix(base) if base else target[1]

    def _text(self) -> str:
        return " ".join(self._random.sample(_SENTENCES, 5))


def _typed(content_type: str, body: bytes) -> Answer:
    return Answer(200, {"Content-Type": content_type}, body)


def _png(width: int, height: int) -> bytes:
    """A picture of the sea at dusk: the smallest PNG that is one."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    rows = b"".join(b"\0" + bytes((200 - 2 * y, 90 + y, 110 + 2 * y)) * width for y in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
