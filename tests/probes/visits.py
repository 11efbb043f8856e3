"""What comes of a fetch: redirects, cookies, headers, retries. How to read it: registry.py."""

from __future__ import annotations

from tests.probes.manifest import Log, Plan
from tests.probes.registry import REDIRECTS, RETRIES, probe
from tests.probes.server import Answer, Request, html, redirect

# -- redirects, cookies, headers -------------------------------------------------------------------------


@probe(
    REDIRECTS,
    "301/302/303/307/308, relative, to other hosts",
    finds="each hop as REDIRECT, each target at the same depth; 300 without Location and 304 lead nowhere",
)
def redirects(p: Plan) -> None:
    other = f"other.{p.host}"
    p.seed()
    p.page(
        "/", ["/301", "/302", "/303", "/307", "/308", "/away", "/300", "/empty", "/deaf", "/bad", "/spaces"]
    )
    for status in (301, 302, 303, 307, 308):
        p.put(f"/{status}", redirect(f"to{status}?x#y", status))
        p.find(f"/{status}", "REDIRECT", redirect_to=p.url(f"/to{status}?x"), depth=1)
        p.page(f"/to{status}?x", depth=1, referrer=p.url(f"/{status}"))
    p.put("/away", redirect(p.url("/here", other)))
    p.find("/away", "REDIRECT", redirect_to=p.url("/here", other))
    p.page("/here", host=other, depth=1)
    p.put("/300", Answer(300, {"Content-Type": "text/html"}, b'<a href="/choice">x</a>'))
    p.find("/300", "REDIRECT", reason="no_location", redirect_to=None)
    p.page("/choice", depth=2)
    p.put("/empty", Answer(302, {"Location": " "}))
    p.find("/empty", "REDIRECT", reason="no_location")
    p.put("/deaf", Answer(304))
    p.find("/deaf", "NOT_MODIFIED")
    p.put("/bad", redirect("ftp://ftp.test/"))
    p.find("/bad", "REDIRECT", reason="bad_location")
    p.put("/spaces", redirect(" /with space "))
    p.find("/spaces", "REDIRECT", redirect_to=p.url("/with%20space"))
    p.page("/with%20space")


@probe(
    REDIRECTS,
    "loops, chains (10 hops)",
    finds="the page behind 10 redirects, both ends of a loop once; the 11th redirect is TOO_MANY_REDIRECTS",
    spares="the page behind 11",
)
def chains(p: Plan) -> None:
    p.seed()
    p.page("/", ["/ten/1", "/eleven/1", "/loop/a", "/self"])
    for name, hops in (("ten", 10), ("eleven", 11)):
        for hop in range(1, hops + 1):
            p.put(f"/{name}/{hop}", redirect(f"/{name}/{hop + 1}"))
            p.find(f"/{name}/{hop}", "TOO_MANY_REDIRECTS" if hop == 11 else "REDIRECT", depth=1)
    p.page("/ten/11", depth=1)
    p.page("/eleven/12", spared=True)
    p.put("/loop/a", redirect("/loop/b"))
    p.put("/loop/b", redirect("/loop/a"))
    p.find("/loop/a", "REDIRECT")
    p.find("/loop/b", "REDIRECT")
    p.put("/self", redirect("/self"))
    p.find("/self", "TOO_MANY_REDIRECTS", fetches=6, reason="self")


@probe(
    REDIRECTS,
    "to the same URL with a cookie (session cookies are host state when `--cookies`)",
    crawl="switched",
    finds="the page behind a door that opens for its own cookie; cookies of the front page with all later ones",
    spares="no cookie leaves for another host, path or scheme than it was set for",
)
def cookies(p: Plan) -> None:
    other = f"other.{p.host}"
    p.seed()
    targets = [f"/{number}" for number in range(4)]
    front = html(
        "".join(f'<a href="{link}">x</a>' for link in [*targets, "/door", "/deep/x", p.url("/", other)])
    )
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(front.body)}\r\nConnection: close\r\n"
    said = "Set-Cookie: sid=1; Path=/; HttpOnly\r\nSet-Cookie: deep=2; Path=/deep\r\nSet-Cookie: safe=3; Secure\r\n"
    said += "Set-Cookie: wide=4; Domain=test\r\nSet-Cookie: foreign=6; Domain=a.test\r\n"
    said += "Set-Cookie: old=5; Max-Age=0\r\n\r\n"
    p.put("/", Answer(raw=(head + said).encode() + front.body))
    p.find("/")
    p.pages(targets)
    p.page("/deep/x")

    def door(request: Request) -> Answer:
        if "in=1" in request.headers.get("cookie", ""):
            return html("<title>inside</title>")
        return Answer(302, {"Location": "/door", "Set-Cookie": "in=1"})

    p.put("/door", door)
    p.find("/door", fetches=2, title="inside")
    p.page("/", host=other)

    def check(log: Log) -> str | None:
        first = next(number for number, hit in enumerate(log) if (hit.host, hit.target) == (p.host, "/"))
        for number, hit in enumerate(log):
            sent = {pair.partition("=")[0] for pair in hit.headers.get("cookie", "").split("; ") if pair}
            expected: set[str] = set()
            if number > first and hit.host == p.host and hit.target != "/robots.txt":
                expected = {"sid", "wide"} | ({"deep"} if hit.target.startswith("/deep") else set())
            if sent - {"in"} != expected:
                return f"{hit.host}{hit.target} was sent {sent}, expected {expected}"
        return None

    p.check(check)


@probe(
    REDIRECTS,
    "no cookies without `--cookies`",
    finds="pages of a host that sets cookies, asked for without any but the operator's own",
)
def cookies_off(p: Plan) -> None:
    p.seed()
    p.page("/", ["/1", "/2"], headers={"Set-Cookie": "sid=1"})
    p.pages(["/1", "/2"])
    p.check(
        lambda log: next(
            (f"{hit.target} was sent a cookie" for hit in log if "sid" in hit.headers.get("cookie", "")), None
        )
    )


@probe(
    REDIRECTS,
    "HTTP auth headers per host",
    finds="the header of a `[[host]]` rule with every request to its host, those of `--header` to hosts of seeds",
    spares="no header leaves for a host that it is not for; Cookie and Authorization never cross hosts",
)
def headers(p: Plan) -> None:
    other = f"other.{p.host}"
    p.rule('header = ["Authorization: Basic bm9ib2R5OmtuZXc="]')
    p.seed()

    def guarded(request: Request) -> Answer:
        if request.headers.get("authorization") != "Basic bm9ib2R5OmtuZXc=":
            return Answer(401, {"WWW-Authenticate": "Basic"}, b"who?")
        return html(f'<a href="/1">x</a><a href="{p.url("/", other)}">x</a><a href="/away">x</a>')

    for target in ("/", "/1"):
        p.put(target, guarded)
        p.find(target)
    p.put("/away", redirect(p.url("/2", other)))
    p.find("/away", "REDIRECT")
    p.page("/", host=other)
    p.page("/2", host=other)

    def check(log: Log) -> str | None:
        for hit in log:
            own = hit.host == p.host
            if hit.host == other and {"authorization", "cookie", "x-tour"} & hit.headers.keys():
                return f"{other} was sent {dict(hit.headers)}"
            if own and "authorization" not in hit.headers:
                return f"{hit.target} was asked for without its header"
            if own and hit.target != "/robots.txt" and hit.headers.get("x-tour") != "yes":
                return f"{hit.target} was asked for without --header"
        return None

    p.check(check)


# -- retries ---------------------------------------------------------------------------------------------


@probe(
    RETRIES,
    "a table from outcome to tries: 5xx",
    finds="what fails once in the second try; what fails always with its outcome after `--retries`; 404 after one",
)
def retries(p: Plan) -> None:
    p.seed()
    p.page("/", ["/500", "/502", "/gone", "/501"])
    p.put("/500", Answer(500), html("<title>well</title>"))
    p.find("/500", fetches=2, attempts=2, status=200)
    for status in (501, 502):
        p.put(f"/{status}", Answer(status, {}, b"x"))
        p.find(f"/{status}", "SERVER_ERROR", fetches=2, attempts=2, status=status)
    p.find("/gone", "CLIENT_ERROR", attempts=1, status=404)


@probe(
    RETRIES,
    "a table from outcome to tries: time-outs",
    finds="a host that is silent once, one that stays silent: TIMEOUT after `--retries`",
)
def retries_silent(p: Plan) -> None:
    for name, answers in {
        "once": (Answer(200, wait=20.0), html("<title>well</title>")),
        "always": (Answer(200, wait=20.0),),
    }.items():
        host = f"{name}.{p.host}"
        p.seed(host=host)
        p.put("/", *answers, host=host)
        if name == "once":
            p.find("/", host=host, fetches=2, attempts=2)
        else:
            p.find("/", "TIMEOUT", host=host, fetches=2, attempts=2, reason="read_timeout")


@probe(
    RETRIES,
    "a table from outcome to tries: resets, what is no HTTP",
    finds="a page whose connection is reset once, in the second try; one that never speaks HTTP as PROTOCOL",
)
def retries_broken(p: Plan) -> None:
    p.seed()
    p.page("/", ["/reset", "/broken"], headers={"Connection": "close"})
    p.put("/reset", Answer(200, stop_after=0), html("<title>well</title>"))
    p.find("/reset", fetches=2, attempts=2)
    p.put("/broken", Answer(raw=b"this is not HTTP\r\n\r\n"))
    p.find("/broken", "PROTOCOL", fetches=2, attempts=2, reason="bad_http")


@probe(
    RETRIES,
    "a page that is short of its Content-Length is TRUNCATED and kept as such",
    finds="such a page after two tries, with its record, and what it links to; one that came whole the second time",
)
def truncated(p: Plan) -> None:
    page = html('<title>half</title><a href="/1">x</a>' + "y" * 5000)
    head = len(page.wire()[0])
    cut = Answer(200, page.headers, page.body, stop_after=head + 1000)
    p.seed()
    p.page("/", ["/half", "/once"])
    p.put("/half", cut)
    p.find(
        "/half",
        "TRUNCATED",
        fetches=2,
        attempts=2,
        title="half",
        record="response",
        reason="disconnect",
        length=1000,
    )
    p.put("/once", cut, html("<title>whole</title>"))
    p.find("/once", fetches=2, attempts=2, title="whole")
    p.page("/1")


@probe(
    RETRIES,
    "refused connections",
    finds="a page on a port where nobody listens: REFUSED, for that is what its robots.txt came to",
)
def refused(p: Plan) -> None:
    p.seed(door="shut")
    p.find(door="shut", outcome="REFUSED", fetches=0, reason="connection_refused")
    p.ask("/robots.txt", 0, door="shut")
    p.seed()
    p.page("/")
