"""Guards against traps: nothing real is refused, every trap is caught within a stated number of URLs.

A site that is hurt is worse than a trap that takes its time: the list of what is real is the longer one. It holds real
URLs (documentation on this machine, what installed packages name, the public sitemaps) and shapes known to be real.
"""

from __future__ import annotations

import calendar
import itertools
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import BadURL
from common.url import CanonicalURL, canonical, host_key
from coordinator import traps
from coordinator.traps import RULES, Counted, check, refusal

NOW = 1_795_219_200.0
"""21 November 2026."""

SITEMAPS = Path(__file__).parents[3] / "shared" / "suites" / "sitemaps"
PYTHON_DOCS = Path("/usr/share/doc/python3.11/html")


class Counts(Counter[bytes]):
    """The counters of one host, as the shard's store keeps them."""

    def get(self, key: bytes, /) -> int:  # type: ignore[override]
        return self[key]

    def add(self, key: bytes, /) -> None:
        self[key] += 1


def refused(urls: Iterable[str]) -> dict[str, str]:
    """The URLs that are refused, in the order in which they are met: each is asked about once."""
    hosts: dict[str, Counts] = {}
    found = {}
    for text in dict.fromkeys(urls):
        try:
            url = canonical(text)
        except BadURL:
            continue
        rule = refusal(url, NOW, hosts.setdefault(host_key(url), Counts()))
        if rule is not None:
            found[text] = rule
    return found


# ------------------------------------------------------------------------------------------- what is real: lists

_urls = re.compile(r"https?://[^\s\"'<>()\[\]{}|\\^`*,]+").findall


def test_no_url_that_installed_packages_name_is_refused() -> None:
    found: set[str] = set()
    for each in metadata.distributions():
        found.update(url.rstrip(".:;") for url in _urls(each.read_text("METADATA") or ""))
    assert len(found) > 200
    assert refused(sorted(found)) == {}


@pytest.mark.skipif(not PYTHON_DOCS.is_dir(), reason=f"no documentation of Python at {PYTHON_DOCS}")
def test_no_page_of_a_real_documentation_site_and_no_link_of_it_is_refused() -> None:
    pages = sorted(PYTHON_DOCS.rglob("*.html"))
    assert len(pages) > 400
    links: dict[str, None] = {}
    for path in pages:
        page = canonical(f"https://docs.test/{path.relative_to(PYTHON_DOCS)}")
        links[page] = None
        for href in set(re.findall(r'href="([^"]+)"', path.read_text("utf-8"))):
            try:
                links[canonical(href.replace("&amp;", "&"), page)] = None
            except BadURL:
                pass
    assert len(links) > 2000
    assert refused(links) == {}


@pytest.mark.skipif(not SITEMAPS.is_dir(), reason=f"no public test data at {SITEMAPS}")
def test_no_url_of_the_public_sitemaps_is_refused() -> None:
    found = [
        url for path in sorted(SITEMAPS.rglob("*.xml")) for url in _urls(path.read_text("utf-8", "replace"))
    ]
    assert len(found) > 30
    assert refused(found) == {}


# ------------------------------------------------------------------------------------------ what is real: shapes


@pytest.mark.parametrize(
    "path",
    [
        "/en/en/",
        "/fr/fr/fr/index.html",
        "/2011/11/11/11/",
        "/tiles/7/7/7.png",
        "/tiles/1/1/1/1/1/1/1/0.png",
        "/media/a/a/a/a/aaaa12.jpg",
        "/media/0/0/0/0/1/4711.pdf",
        "/1/2/1/2/1/2/",
        "/src/test/java/org/test/test/test/TestCase.java",
        "/games/nintendo-switch/nintendo-switch/",
        "/pub/a/b/pub/a/b/index.html",
        "/platform/frameworks/base/+/refs/heads/main/services/core/java/com/android/server/am/psc/annotation/R.java",
        "/web/20100101000000/http://www.example.org/a/b/http://www.example.net/c/d",
        "/" + "/".join(f"level{n}" for n in range(30)) + "/",
        "/issues/1785/01/01/",
        "/history/1066/10/14/",
        "/on-this-day/1492-10-12",
        "/calendar/",
        "/calendar/2026/11/",
        "/calendar/2031-05/",
        "/events/2026-11-21/",
        "/events/2050/11",
        "/events/1450",
        "/event/4711-3-day-festival",
        "/archives/3021-10-things-to-know",
        "/archives/2050-11-questions-and-answers",
        "/archives/1785/01/01/",
        "/catalog/2050/10/",
        "/bonds/2050-06-30",
        "/eclipse/solar/2045-august-12",
        "/spec/ISO-8601-2019/2099.html",
        "/d/1FAIpQLSedi778KA_QpFW-6VseK02w_qghyAY4KrmhVAHDl-qBzUQytg/viewform",
        "/wiki/" + "%E3%81%82" * 85,
        "/documents/" + "a" * 700 + ".pdf",
        "/index.php?title=Special:Log&type=&user=&page=&wpdate=&tagfilter=&subtype=&wpFormIdentifier=logeventslist",
        "/search?q=a&fq=b&fq=c&fq=d&fq=e&fq=f&fq=g&fq=h&fq=i&fq=j",
        "/shop?" + "&".join(f"brand[]={n}" for n in range(40)),
        "/form?" + "&".join(f"field{n}=" for n in range(45)),
        "/a?x=1&x=1&x=1",
        "/?a&&&&&&b",
        "/login?return=%2Flogin%3Freturn%3D%252Fadmin%253Fa%253Db",
        "/url?to=http://a.test/?b=http://c.test/?d=e",
        "/conference?session=1204&session_id=c56a4180-65aa-42ec-a945-5fd21dec0538",
        "/cal?year=2026&month=12",
        "/cal?y=2030&m=1&d=31",
    ],
)
def test_shapes_that_are_real_are_not_refused(path: str) -> None:
    assert refused([f"http://h.test{path}"]) == {}


def days(first: int, last: int) -> Iterator[tuple[int, int, int]]:
    return itertools.product(range(first, last + 1), range(1, 13), range(1, 32))


def a_news_archive() -> Iterator[str]:
    """175 years of days, as the oldest papers have, with articles."""
    for year, month, day in days(1851, 2026):
        yield f"http://news.test/{year}/{month:02}/{day:02}/"
        yield f"http://news.test/{year}/{month:02}/{day:02}/politics/an-article-{year * day}.html"


def a_calendar_of_a_town() -> Iterator[str]:
    for year, month, day in days(1998, 2031):
        yield f"http://town.test/calendar/{year}/{month:02}/{day:02}/"
        yield f"http://town.test/events/{year}-{month:02}-{day:02}/council-meeting-{day}/"
        yield f"http://town.test/month.php?year={year}&month={month}"


def a_forum() -> Iterator[str]:
    for topic in range(15_000):
        yield f"http://forum.test/viewtopic.php?f={topic % 40}&t={topic}"
        yield f"http://forum.test/viewtopic.php?f={topic % 40}&t={topic}&start=20"
        yield f"http://forum.test/viewtopic.php?f={topic % 40}&t={topic}&start=40&sort=date"
        yield f"http://forum.test/posting.php?mode=reply&f={topic % 40}&t={topic}"
        yield f"http://forum.test/memberlist.php?mode=viewprofile&u={topic}"


def a_shop() -> Iterator[str]:
    """Facets up to a point: eight filters, three of them at once at most, each with a page and an order."""
    filters = ["brand", "colour", "size", "price", "rating", "material", "gender", "stock"]
    for chosen in itertools.combinations(filters, 3):
        for values in itertools.product(range(4), repeat=3):
            query = "&".join(f"{name}={value}" for name, value in zip(chosen, values, strict=True))
            yield f"http://shop.test/shoes?{query}"
            yield f"http://shop.test/shoes?{query}&page=2"
            yield f"http://shop.test/shoes?{query}&sort=price"
    for product in range(20_000):
        yield f"http://shop.test/product/{product}-a-shoe.html?ref=list&pos={product % 40}"


def a_library() -> Iterator[str]:
    """An old catalogue: all its pages are one script, with five parameters each."""
    for record in range(30_000):
        yield f"http://opac.test/opac.asp?action=view&lang=en&db=books&id={record}&format=full"


def a_site_with_session_ids() -> Iterator[str]:
    """Every page under an id of its own, but each once."""
    for page in range(5000):
        yield f"http://bank.test/page{page}.jsf;jsessionid={page:032X}.node1"


def stories_by_digest() -> Iterator[str]:
    """`sid` is the story here."""
    for story in range(900):
        yield f"http://old.test/article.pl?sid={story:031x}a"


def a_source_tree() -> Iterator[str]:
    names = ["src", "main", "java", "org", "example", "core", "impl", "test", "util", "model"]
    chance = random.Random(1)
    for _ in range(20_000):
        yield (
            "http://git.test/r/tree/+/main/"
            + "/".join(chance.sample(names, 9))
            + f"/File{chance.random()}.java"
        )


def javadoc() -> Iterator[str]:
    for version, package, name in itertools.product(range(8, 18), range(100), range(20)):
        yield f"http://java.test/javase/{version}/docs/api/java.base/java/p{package}/Class{name}.html?is-external=true"


@pytest.mark.parametrize(
    "site",
    [
        a_news_archive,
        a_calendar_of_a_town,
        a_forum,
        a_shop,
        a_library,
        a_site_with_session_ids,
        stories_by_digest,
        a_source_tree,
        javadoc,
    ],
)
def test_no_page_of_a_large_real_site_is_refused(site: object) -> None:
    assert callable(site)
    assert refused(site()) == {}


# ------------------------------------------------------------------------------------------------------- traps


def a_broken_relative_link() -> Iterator[str]:
    """`<a href="news/list/">` on a page whose server shows it under any path."""
    for n in itertools.count(1):
        yield "http://h.test/" + "news/list/" * n


def a_segment_again_and_again() -> Iterator[str]:
    for n in itertools.count(1):
        yield "http://h.test/" + "index/" * n


def short_segments_again_and_again() -> Iterator[str]:
    for n in itertools.count(1):
        yield "http://h.test/" + "a/b/" * n


def a_segment_between_others() -> Iterator[str]:
    path = "http://h.test"
    for n in itertools.count(1):
        path += f"/gallery/{n}"
        yield path


def empty_segments() -> Iterator[str]:
    for n in itertools.count(1):
        yield "http://h.test" + "/" * n


def ever_deeper() -> Iterator[str]:
    path = "http://h.test"
    for n in itertools.count(1):
        path += f"/x{n}"
        yield path


def many_deep_pages() -> Iterator[str]:
    """Not deep enough for a bound, but there are ever more of them."""
    for n in itertools.count(1):
        yield "http://h.test/" + "/".join(f"{n}x{level}" for level in range(30))


def parameters_added_to_those_there() -> Iterator[str]:
    for n in itertools.count(1):
        yield "http://h.test/list?" + "&".join(["page=2"] * n)


def one_more_parameter_each_time() -> Iterator[str]:
    for n in itertools.count(1):
        yield "http://h.test/list?" + "&".join(f"p{m}={m}" for m in range(n))


def one_name_with_ever_more_values() -> Iterator[str]:
    for n in itertools.count(1):
        yield "http://h.test/list?" + "&".join(f"from={m}" for m in range(n))


def months(step: int = 1) -> Iterator[tuple[int, int]]:
    for year in itertools.count(2026, step):
        for month in range(1, 13)[::step]:
            yield year, month


def months_to_come() -> Iterator[str]:
    for year, month in months():
        yield f"http://h.test/events/{year}-{month:02}/"


def months_to_come_by_parameters() -> Iterator[str]:
    for year, month in months():
        yield f"http://h.test/index.php?option=com_jevents&year={year}&month={month}"


def months_by_name() -> Iterator[str]:
    for year, month in months():
        yield f"http://h.test/calendar/{calendar.month_name[month].lower()}-{year}"


def days_to_come() -> Iterator[str]:
    for year, month in months():
        for day in range(1, 32):
            yield f"http://h.test/{year}/{month:02}/{day:02}/"


def american_days_to_come() -> Iterator[str]:
    for year, month in months():
        for day in range(1, 32):
            yield f"http://h.test/week.aspx?date={month}%2F{day}%2F{year}"


def months_gone_by() -> Iterator[str]:
    for year, month in months(-1):
        yield f"http://h.test/calendar/{year:04}/{month:02}/"


def every_hour_of_a_calendar() -> Iterator[str]:
    for hour in itertools.count(0):
        yield f"http://h.test/calendar?time={1_700_000_000 + hour * 3600}"


def a_session_id_for_every_visit() -> Iterator[str]:
    for n in itertools.count(1):
        yield f"http://h.test/cart.php?PHPSESSID={n:032x}&id=4"


def a_session_id_in_the_path() -> Iterator[str]:
    for n in itertools.count(1):
        yield f"http://h.test/cart.jsf;jsessionid={n:032X}.node{n % 3}?id=4"


def a_doubtful_session_id() -> Iterator[str]:
    for n in itertools.count(1):
        yield f"http://h.test/viewtopic.php?t=4&sid={n:031x}a"


def a_doubtful_session_id_alone() -> Iterator[str]:
    for n in itertools.count(1):
        yield f"http://h.test/index.php?sid={n:031x}a"


def filters_on_and_off() -> Iterator[str]:
    names = [f"filter{n}" for n in range(14)]
    for size in range(1, 15):
        for chosen in itertools.combinations(names, size):
            yield "http://h.test/shoes?" + "&".join(f"{name}=1" for name in chosen)


def filters_in_any_order() -> Iterator[str]:
    for chosen in itertools.permutations("abcdefghi", 5):
        yield "http://h.test/shoes?" + "&".join(f"{name}=1" for name in chosen)


def filters_in_a_list() -> Iterator[str]:
    names = [f"filter{n}" for n in range(14)]
    for size in range(1, 15):
        for chosen in itertools.combinations(names, size):
            yield "http://h.test/shoes?" + "&".join(f"f[{n}]={name}:1" for n, name in enumerate(chosen))


def all_filters_with_all_values() -> Iterator[str]:
    for values in itertools.product(range(8), repeat=6):
        yield "http://h.test/shoes?" + "&".join(f"f{n}={value}" for n, value in enumerate(values))


def a_way_back_that_holds_the_way_back() -> Iterator[str]:
    query = ""
    for _ in itertools.count(1):
        yield f"http://h.test/login?return={query}"
        query = f"%2Flogin%3Freturn%3D{query.replace('%', '%25')}"


def a_way_back_unescaped() -> Iterator[str]:
    for n in itertools.count(0):
        yield "http://h.test/login" + "?return=/login" * n


def ever_longer_queries() -> Iterator[str]:
    for n in itertools.count(1):
        yield "http://h.test/search?q=" + "ab" * n


@pytest.mark.parametrize(
    ("trap", "rule", "within"),
    [
        (a_broken_relative_link, "repeated", 3),
        (a_segment_again_and_again, "repeated", 4),
        (short_segments_again_and_again, "repeated", 5),
        (a_segment_between_others, "repeated", 7),
        (empty_segments, "repeated", 10),
        (ever_deeper, "segments", 41),
        (many_deep_pages, "growing", 1001),
        (parameters_added_to_those_there, "parameters", 4),
        (one_more_parameter_each_time, "parameters", 65),
        (one_name_with_ever_more_values, "parameters", 25),
        (months_to_come, "calendar", 11 * 12 + 1),
        (months_to_come_by_parameters, "calendar", 11 * 12 + 1),
        (months_by_name, "calendar", 11 * 12 + 1),
        (days_to_come, "calendar", 11 * 372 + 1),
        (american_days_to_come, "calendar", 11 * 372 + 1),
        (months_gone_by, "calendar", 527 * 12 + 1),
        (every_hour_of_a_calendar, "calendar", 15_001),
        (a_session_id_for_every_visit, "session", 4),
        (a_session_id_in_the_path, "session", 4),
        (a_doubtful_session_id, "session", 4),
        (a_doubtful_session_id_alone, "session", 1001),
        (filters_on_and_off, "facets", 14 + 91 + 300 + 1),
        (filters_in_any_order, "facets", 301),
        (filters_in_a_list, "facets", 14 + 91 + 300 + 1),
        (all_filters_with_all_values, "facets", 50_001),
        (a_way_back_that_holds_the_way_back, "growing", 5),
        (a_way_back_unescaped, "growing", 8),
        (ever_longer_queries, "growing", 255 + 1000 + 1),
    ],
)
def test_a_trap_is_caught_within_so_many_urls(trap: object, rule: str, within: int) -> None:
    assert callable(trap)
    counts = Counts()
    for number, text in enumerate(trap(), 1):
        said = refusal(canonical(text, max_length=10_000), NOW, counts)
        if said is not None:
            assert (said, number) == (rule, within)
            return
        assert number < within, "not caught"


def test_what_was_met_before_a_combination_was_one_too_many_stays_open() -> None:
    """The combinations known at the bound may have further values; only new ones are refused."""
    counts = Counts()
    known = [f"http://h.test/a?x{n}=1&y=1&z=1" for n in range(traps.ARRANGEMENTS)]
    for url in known:
        assert refusal(canonical(url), NOW, counts) is None
    assert refusal(canonical("http://h.test/a?x=1&y=1&new=1"), NOW, counts) == "facets"
    assert refusal(canonical("http://h.test/a?x7=2&y=2&z=3"), NOW, counts) is None
    assert refusal(canonical("http://h.test/other?x=1&y=1&new=1"), NOW, counts) is None


def test_what_is_refused_is_not_counted() -> None:
    counts = Counts()
    urls = [canonical(f"http://h.test/a?PHPSESSID={n}") for n in range(10)]
    for url in urls:
        refusal(url, NOW, counts)
    assert sum(counts.values()) == traps.SESSIONS


def test_a_page_under_http_and_https_and_any_port_is_counted_as_one() -> None:
    counts = Counts()
    for n, start in enumerate(("http://h.test", "https://h.test", "http://h.test:8080")):
        assert refusal(canonical(f"{start}/a?PHPSESSID={n}"), NOW, counts) is None
    assert refusal(canonical("http://h.test/a?PHPSESSID=4"), NOW, counts) == "session"


def test_most_urls_have_no_counter() -> None:
    for path in (
        "/",
        "/a/b/c.html",
        "/wiki/Page?action=edit",
        "/2024/05/06/slug",
        "/t?f=1&t=1234",
        "/x?id=20241231",
    ):
        assert check(canonical(f"http://h.test{path}"), NOW) is None


scraps = st.sampled_from(
    [
        "/",
        "a",
        "b/",
        "/calendar",
        "2026",
        "-",
        "11",
        "/0",
        "?",
        "&",
        "=",
        "sid=",
        "f[0]",
        ":",
        "%25",
        "%2F",
        ";",
        "(S(",
    ]
    + [
        "jsessionid=",
        "year=",
        "month=",
        "12345678901234567890abcdef",
        "9999",
        "may",
        "...",
        "%E9",
        "date",
        "%",
    ]
)


@given(st.lists(scraps, max_size=60).map("".join), st.floats(0, 1e12))
def test_every_url_has_a_verdict_and_every_counter_its_form(text: str, wall: float) -> None:
    url = canonical(f"http://h.test/{text}")
    verdict = check(url, wall)
    assert verdict == check(url, wall)
    if isinstance(verdict, str):
        assert verdict in RULES
    elif verdict is not None:
        assert verdict
        assert len({counted.key for counted in verdict}) == len(verdict)
        for counted in verdict:
            assert isinstance(counted, Counted)
            assert len(counted.key) == 9 and counted.limit > 0 and counted.rule in RULES
            assert counted.member is None or len(counted.member) == 8


def test_no_url_makes_the_rules_slow() -> None:
    """Each of these takes microseconds, or the time limit of the test: patterns that backtrack would not end."""
    for evil in (
        "/a" * 30_000,
        "/" + "sess" * 15_000,
        "/?" + "sess" * 15_000,
        "/?" + "1-" * 30_000 + "calendar",
        "/?" + "2026" * 15_000,
        "/calendar/" + "2026-11-" * 7000,
        "/?year=" + "may-" * 15_000,
        "/2026/11" * 7000,
        "/?" + "a&" * 30_000,
        "/?" + "[0" * 30_000 + "&b&c",
        "/;" + "(" * 60_000,
        "/" + "/(A(" * 15_000,
    ):
        check(CanonicalURL(f"http://h.test{evil}"), NOW)
