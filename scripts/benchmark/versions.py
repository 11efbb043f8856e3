"""Pages of real texts in edited versions, each with a label: which are the same page, and which only look alike.

The texts are those that come with Python: the topics of its language reference and the docstrings of its standard
library, some 390 articles. They stand in the templates of six made-up sites. The same for the same interpreter.

One page, several versions (near-duplicates of one another):
  - `chrome`: other date, counters, advertisements and headlines in the margin;
  - `navigation`: other menu and path as well;
  - `edit`: a word in fifty of the article changed, a sentence added, and all of the above;
  - `print`: the article alone, without menu, margin and advertisements.

Not the same page, however alike:
  - another article in the same template, down to thirty words of it in two hundred of template (a shop);
  - `half`: the article with every other sentence from elsewhere;
  - lists of headlines, page 2, page 3: a crawler that takes those for one loses what they link to.
"""

from __future__ import annotations

import ast
import random
from dataclasses import dataclass
from html import escape
from pathlib import Path
from pydoc_data.topics import topics
from typing import Final

VERSIONS: Final = ("chrome", "navigation", "edit", "print")
_SITES: Final = 6
_LEAST: Final = 30
"""Words of the shortest article."""


@dataclass(frozen=True, slots=True)
class Version:
    """A page as a crawler meets it. Versions of one `page` of a site are near-duplicates, all others are not."""

    site: str
    page: str
    kind: str
    html: str


def versions(seed: int = 1) -> list[Version]:
    """All versions of all pages, site by site, in an order as a crawl would meet them: none."""
    rng = random.Random(seed)
    texts = _texts()
    rng.shuffle(texts)
    made: list[Version] = []
    for number in range(_SITES):
        site = _Site(number, texts, random.Random(f"{seed}:{number}"))
        own = site.pages(texts[number::_SITES])
        rng.shuffle(own)
        made += own
    return made


class _Site:
    """A site: its template, and pages made in it."""

    def __init__(self, number: int, texts: list[list[str]], rng: random.Random) -> None:
        self._name = f"site{number}.test"
        self._shop = number % 3 == 2  # short articles, much template
        self._rng = rng
        self._sentences = [
            sentence for text in texts for sentence in text if 5 <= len(sentence.split()) <= 30
        ]
        self._menu = [self._headline() for _ in range(rng.randint(6, 25))]
        self._about = " ".join(rng.choice(self._sentences) for _ in range(12 if self._shop else 3))

    def pages(self, texts: list[list[str]]) -> list[Version]:
        """Each text as a page in some versions, a `half` of it beside it, and lists of headlines."""
        made = []
        for index, text in enumerate(texts):
            article = self._cut(text)
            title = " ".join(article[0].split()[:8])
            page = f"{index}"
            made.append(self._version(page, "first", title, article))
            kinds = self._rng.sample(VERSIONS, self._rng.randint(1, 3))
            made += [self._version(page, kind, title, article) for kind in kinds]
            if index % 4 == 0:
                mixed = [
                    self._rng.choice(self._sentences) if at % 2 else each for at, each in enumerate(article)
                ]
                if len(mixed) > 3:
                    made.append(self._version(f"{page}-half", "half", title, mixed))
            if index % 6 == 0:
                headlines = [f"{self._headline()}: {self._rng.choice(self._sentences)}" for _ in range(10)]
                made.append(self._version(f"list-{index}", "list", f"News, page {index // 6 + 1}", headlines))
        return made

    def _cut(self, text: list[str]) -> list[str]:
        """The beginning of a text, as long as articles are: half of them between 100 and 600 words."""
        words = self._rng.randint(_LEAST, 90) if self._shop else int(self._rng.lognormvariate(5.5, 1.0))
        article: list[str] = []
        left = min(max(words, _LEAST), 3000)
        for sentence in text:
            if left <= 0:
                break
            article.append(sentence)
            left -= len(sentence.split())
        return article

    def _version(self, page: str, kind: str, title: str, article: list[str]) -> Version:
        rng = self._rng
        if kind == "edit":
            article = [self._edited(sentence) for sentence in article]
            article.insert(rng.randint(0, len(article)), rng.choice(self._sentences))
        body = "\n".join(f"<p>{escape(sentence)}</p>" for sentence in article)
        head = f"<!doctype html><html><head><meta charset=utf-8><title>{escape(title)}</title></head><body>"
        day = f"{rng.randint(1, 28)} {rng.choice(_MONTHS)} {rng.randint(2001, 2026)}"
        date = f"{day}, {rng.randint(0, 23)}:{rng.randint(10, 59)}"
        if kind == "print":
            return Version(
                self._name,
                page,
                kind,
                f"{head}<h1>{escape(title)}</h1><p>Printed {date}</p>{body}</body></html>",
            )
        menu = list(self._menu)
        if kind in ("navigation", "edit"):
            menu = [self._headline() if rng.random() < 0.5 else entry for entry in menu]
            menu.insert(0, f"Home / {self._headline()} / {escape(title)}")
        entries = "".join(f"<li><a href='/{at}'>{escape(entry)}</a></li>" for at, entry in enumerate(menu))
        margin = "".join(f"<li><a href='/n/{at}'>{escape(self._headline())}</a></li>" for at in range(5))
        html = f"""{head}<header><nav><ul>{entries}</ul></nav></header>
<main><h1>{escape(title)}</h1><p class=date>{date} · {rng.randint(0, 99999)} views · {rng.randint(0, 300)} comments</p>
<div class=ad>{escape(rng.choice(self._sentences))} <b>Only {rng.randint(1, 99)}.99!</b></div>
{body}</main><aside><h3>Most read today</h3><ul>{margin}</ul></aside>
<footer><p>{escape(self._about)}</p><p>© {rng.randint(2001, 2026)}. Served in {rng.random():.4f} s</p></footer>
<script>window.visit = {rng.randint(0, 10**9)}</script></body></html>"""
        return Version(self._name, page, kind, html)

    def _edited(self, sentence: str) -> str:
        words = [
            self._headline().split()[0] if self._rng.random() < 0.02 else word for word in sentence.split()
        ]
        return " ".join(words)

    def _headline(self) -> str:
        return " ".join(self._rng.choice(self._sentences).split()[: self._rng.randint(2, 7)])


def _texts() -> list[list[str]]:
    """Articles as lists of sentences, each of at least eighty words; sentences that two of them share are dropped."""
    whole = [topics[name] for name in sorted(topics)]
    library = Path(ast.__file__).parent
    for path in sorted([*library.glob("*.py"), *library.glob("*/*.py")]):
        if not {"test", "site-packages", "idlelib", "lib2to3"}.isdisjoint(path.parts):
            continue
        nodes = ast.walk(ast.parse(path.read_bytes()))
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        whole.append("\n\n".join(ast.get_docstring(node) or "" for node in nodes if isinstance(node, kinds)))
    seen: set[str] = set()
    texts = []
    for text in whole:
        sentences = []
        for piece in text.replace("\n\n", ". ").replace("*", "").split(". "):
            sentence = " ".join(piece.split())
            if len(sentence.split()) > 2 and sentence not in seen:
                seen.add(sentence)
                sentences.append(sentence + ".")
        if sum(len(sentence.split()) for sentence in sentences) >= 80:
            texts.append(sentences)
    return texts


_MONTHS: Final = ("January", "March", "April", "June", "July", "September", "October", "December")
