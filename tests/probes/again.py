"""What was seen before: duplicates and recrawls. How to read it: registry.py."""

from __future__ import annotations

from collections.abc import Callable

from tests.probes.manifest import Log, Plan
from tests.probes.registry import DUPLICATES, RECRAWL, probe
from tests.probes.server import Answer, Request, html

# -- near-duplicates -------------------------------------------------------------------------------------


@probe(
    DUPLICATES,
    '"skip near-duplicates of this host" at a stated distance',
    crawl="switched",
    finds="an article, its copy with another date (named a near-duplicate), another article; links of both articles",
    spares="what only the copy links to",
)
def near_duplicates(p: Plan) -> None:
    words = [
        f"{a}{b}"
        for a in ("bel", "cor", "dan", "fil", "gor", "hul", "jam")
        for b in ("ora", "ition", "wick", "est")
    ]
    article = " ".join(words * 6)
    other = " ".join(word[::-1] for word in words * 6)
    p.seed()
    p.page("/", ["/article"])
    p.page("/article", ["/copy", "/1"], body=f"<p>12 May 2024</p><p>{article}</p>", reason=None)
    p.page("/1", ["/other"])
    p.page("/copy", ["/2"], body=f"<p>13 May 2025</p><p>{article}</p>", reason="near_duplicate")
    p.page("/other", ["/3"], body=f"<p>{other}</p>", reason=None)
    p.page("/3")
    p.page("/2", spared=True)


@probe(
    DUPLICATES,
    "exact duplicates as WARC revisits across the whole crawl",
    finds="one page under two addresses and on two hosts: one response, two revisits of the same digest",
)
def duplicates(p: Plan) -> None:
    other = f"other.{p.host}"
    p.pace(3.0, host=other)  # so that it comes last
    p.seed(host=other)
    p.page("/", ["/1"], host=other)
    p.seed()
    p.page("/", ["/1"])
    same = html('<title>same</title><p>The same to the byte.<a href="/next">x</a>')
    for target, host in (("/1", None), ("/next", None), ("/1", other)):
        p.put(target, same, host=host)
    p.find("/1", record="response")
    p.find("/next", record="revisit")
    p.find("/1", host=other, record="revisit")
    p.page("/next", host=other)


# -- recrawl ---------------------------------------------------------------------------------------------


@probe(
    RECRAWL,
    "known URLs again with If-None-Match/If-Modified-Since; 304 becomes a revisit; what vanished is "
    "reported; new pages are new",
    crawl="again",
    finds="in round 1 all pages: 304 by ETag and by date, changed, unchanged, vanished, failed before, a new one",
    spares="robots.txt, which is fresh; nothing is fetched twice in a round",
)
def recrawl(p: Plan) -> None:
    date = "Wed, 12 Feb 2025 10:00:00 GMT"
    html_type = {"Content-Type": "text/html"}
    p.seed()
    then = p.next()
    targets = ["/etag", "/dated", "/changed", "/same", "/gone", "/ill"]
    p.page("/", targets)
    then.find("/", record="revisit", round=1)

    def unchanged(name: str, header: str, validator: str) -> Callable[[Request], Answer]:
        def answer(request: Request) -> Answer:
            if request.headers.get(name) == validator:
                return Answer(304, {header: validator})
            return Answer(200, html_type | {header: validator}, b"<title>once</title><a href=/behind>x</a>")

        return answer

    p.put("/etag", unchanged("if-none-match", "ETag", '"one"'))
    p.find("/etag", etag='"one"')
    then.find("/etag", "NOT_MODIFIED", status=304, record="revisit")
    p.put("/dated", unchanged("if-modified-since", "Last-Modified", date))
    p.find("/dated", last_modified=date)
    then.find("/dated", "NOT_MODIFIED", record="revisit")
    p.put(
        "/changed",
        Answer(200, html_type | {"ETag": '"a"'}, b"<title>old</title>"),
        Answer(200, html_type | {"ETag": '"b"'}, b"<title>new</title><a href=/new>x</a>"),
    )
    p.find("/changed", title="old", record="response")
    then.find("/changed", title="new", record="response")
    then.page("/new", record="response")
    p.page("/same")
    then.find("/same", record="revisit")
    p.page("/behind")
    then.find("/behind", record="revisit")
    p.put("/gone", html("<title>here</title>"), Answer(410))
    p.find("/gone")
    then.find("/gone", "CLIENT_ERROR", status=410)
    p.put("/ill", Answer(500), html("<title>well</title>"))
    p.find("/ill", "SERVER_ERROR")
    then.find("/ill", title="well")
    then.ask("/robots.txt", 0)

    def check(log: Log) -> str | None:
        sent = {
            hit.target: (hit.headers.get("if-none-match"), hit.headers.get("if-modified-since"))
            for hit in log
        }
        expected = {"/etag": ('"one"', None), "/dated": (None, date), "/changed": ('"a"', None)}
        wrong = {
            target: sent.get(target) for target in sent if sent[target] != expected.get(target, (None, None))
        }
        return f"conditions sent: {wrong}" if wrong else None

    then.check(check)
    # What failed before and is there now is new, too.
    then.again.update(new=2, changed=1, unchanged=5, vanished=1)
