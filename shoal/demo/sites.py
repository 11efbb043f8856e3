"""Sites of the demo web that answer by what is asked of them, each for an example and on a host of its own.

    oracle.demo.test/ask?n=1       any question is answered, after three seconds
    club.demo.test/login           a form; behind it, with the session's cookie alone, the members' pages
    shop-0.demo.test/firm/1 ...    ten hosts with a page for every number; some have moved, some are gone

Nothing is kept between two requests: a session's cookie proves itself. Pages that are the same for everybody are in
sets.py.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

from shoal.demo.server import Answer, Request, html, redirect

ORACLE_SECONDS: Final = 3.0

MEMBER: Final = ("ada", "lovelace")
"""Name and password of the club's one member."""

MINUTES: Final = 5
"""Members' pages of the club, beside its list of them."""

SHOPS: Final = 10
"""Hosts that the firms are spread over."""

Site = Callable[[Request], Answer]


def sites() -> Mapping[str, Site]:
    """The sites by their hosts."""
    return {
        "oracle.demo.test": _oracle,
        "club.demo.test": _club,
        **{f"shop-{number}.demo.test": _shop for number in range(SHOPS)},
    }


def write_csv(path: Path, port: int, rows: int) -> None:
    """A table of so many firms with their websites, to be checked."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("name", "website", "motto"))
        writer.writerows(_firms(port, rows))


def _firms(port: int, rows: int) -> Iterator[tuple[str, str, str]]:
    for number in range(1, rows + 1):
        website = f"http://shop-{number % SHOPS}.demo.test:{port}/firm/{number}"
        yield f"Firm {number}, Ltd.", website, f'"{number} reasons"\nto come'


def firm_status(number: int) -> int:
    """What the site of a firm answers: one in fifty has moved, one in fifty is gone."""
    return {10: 301, 35: 404}.get(number % 50, 200)


def _shop(request: Request) -> Answer:
    _, kind, number = (request.target.split("/") + [""] * 3)[:3]
    if kind not in ("firm", "new") or not number.isdecimal():
        return _missing()
    status = firm_status(int(number)) if kind == "firm" else 200
    if status == 301:
        return redirect(f"/new/{number}", 301)
    return html(f"<!doctype html><title>Firm {number}</title><p>Welcome." * (status == 200), status=status)


def _oracle(request: Request) -> Answer:
    asked = urlsplit(request.target)
    (question,) = parse_qs(asked.query).get("n", [""])[:1]
    if asked.path != "/ask" or not question.isdecimal():
        return _missing()
    known = html(f"<!doctype html><title>Question {question}</title><p class=answer>{int(question) ** 2}")
    return Answer(known.status, known.headers, known.body, wait=ORACLE_SECONDS)


def _club(request: Request) -> Answer:
    cookies = {name: each.value for name, each in SimpleCookie(request.headers.get("cookie", "")).items()}
    visit = cookies.get("visit", "")
    if request.target == "/login":
        if request.method != "POST":
            return _login()
        given = {name: values[0] for name, values in parse_qs(request.body.decode("latin-1")).items()}
        if not visit or given.get("token") != _proof("token", visit):
            return html("<!doctype html><title>Expired</title><p>Begin again.", status=403)
        if (given.get("name"), given.get("password")) != MEMBER:
            return _login("<p>Wrong name or password.")
        return _setting("session", _proof("session", visit), redirect("/members", 303))
    if not request.target.startswith("/members"):
        return _missing()
    if not visit or cookies.get("session") != _proof("session", visit):
        return redirect("/login")
    if request.target == "/members":
        rows = "".join(f'<li><a href="/members/{n}">Meeting {n}</a>' for n in range(1, MINUTES + 1))
        return html(f"<!doctype html><title>Members</title><ul>{rows}</ul>")
    number = request.target.removeprefix("/members/")
    if not number.isdecimal() or not 1 <= int(number) <= MINUTES:
        return _missing()
    return html(f"<!doctype html><title>Meeting {number}</title><h1>Minutes of meeting {number}</h1>")


def _login(said: str = "") -> Answer:
    visit = "guest"  # a real site would draw one for everybody who comes
    form = html(
        f"<!doctype html><title>The club</title>{said}<form method=post action=/login>"
        f'<input type=hidden name=token value="{_proof("token", visit)}">'
        "<input name=name><input name=password type=password><button>Come in</button></form>"
    )
    return _setting("visit", visit, form)


def _setting(name: str, value: str, answer: Answer) -> Answer:
    headers = {**answer.headers, "Set-Cookie": f"{name}={value}; Path=/; HttpOnly"}
    return Answer(answer.status, headers, answer.body)


def _proof(kind: str, visit: str) -> str:
    return sha256(f"{kind} of {visit}".encode()).hexdigest()[:16]


def _missing() -> Answer:
    return html("<!doctype html><title>Not found</title>", status=404)
