"""The tests' own sites can be trusted: what they log is what happened."""

from __future__ import annotations

import gc
import http.client
import socket
import time

import pytest

from shoal.demo.server import serve
from shoal.demo.web import START, Web
from tests.support.site import Answer, Site, html


def get(site: Site, host: str, target: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=10)
    try:
        connection.request("GET", target, headers={"Host": f"{host}:{site.port}"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_hosts_are_told_apart_by_their_name(site: Site) -> None:
    site.answer("a.test", "/", html("one"))
    site.answer("b.test", "/", html("two"))
    assert [get(site, host, "/")[1] for host in ("a.test", "b.test")] == [b"one", b"two"]
    assert get(site, "a.test", "/none")[0] == 404


def test_answers_come_in_their_order_and_the_last_one_stays(site: Site) -> None:
    site.answer("a.test", "/", Answer(503), Answer(503), html("well again"))
    assert [get(site, "a.test", "/")[0] for _ in range(4)] == [503, 503, 200, 200]


def test_the_log_holds_when_a_fetch_arrived_and_when_it_ended(site: Site) -> None:
    site.answer("a.test", "/", Answer(200, body=b"late", wait=0.05))
    before = time.monotonic()
    get(site, "a.test", "/")
    get(site, "a.test", "/")
    first, second = site.log
    assert first.ended is not None
    assert before <= first.arrived <= first.ended - 0.05
    assert first.ended <= second.arrived
    assert 0 <= site.closest("a.test") == second.arrived - first.ended
    assert site.most_at_once() == 1


def test_what_can_be_reached_follows_from_the_declared_links_alone(site: Site) -> None:
    site.page("a.test", "/", links=["/1", "http://b.test/", "http://c.test/x"])
    site.hop("a.test", "/1", "/2")
    site.page("b.test", "/", links=[("a.test", "/")])
    everything = {("a.test", "/"), ("a.test", "/1"), ("a.test", "/2"), ("b.test", "/"), ("c.test", "/x")}
    assert site.reachable(("a.test", "/")) == everything
    assert site.reachable(("a.test", "/"), within={"a.test"}) == {p for p in everything if p[0] == "a.test"}


def test_all_of_a_grown_web_can_be_reached(site: Site) -> None:
    start = site.grow(seed=1, hosts=7, pages=300)
    assert len(site.reachable(start)) == 300


def test_a_connection_is_reset_where_the_answer_says_so(site: Site) -> None:
    site.answer("a.test", "/", Answer(200, body=b"x" * 10_000, stop_after=1000))
    with pytest.raises((ConnectionError, http.client.IncompleteRead)):
        get(site, "a.test", "/")
    assert site.log[0].ended is not None


def test_a_site_that_was_down_comes_back_on_its_port(site: Site) -> None:
    site.page("a.test", "/")
    port = site.port
    site.stop()
    with pytest.raises(ConnectionRefusedError):
        get(site, "a.test", "/")
    site.start()
    assert site.port == port
    assert get(site, "a.test", "/")[0] == 200


def test_a_site_that_ends_while_somebody_connects_leaves_nothing_open() -> None:
    with Site() as site:
        callers = [socket.create_connection(("127.0.0.1", site.port)) for _ in range(3)]
    for caller in callers:
        caller.close()
    gc.collect()  # what is still open warns, and a warning is an error here


async def test_the_demo_web_serves_what_it_expects_to_be_found() -> None:
    server = await serve(lambda request: web.respond(request))
    web = Web(server.port)
    await server.close()
    expected = web.expected()
    assert expected[web.url(START)] == "OK"
    assert len(web.hosts()) >= 15
    linked = {web.url(place) for place in web.pages if place[1] != "/robots.txt"}
    assert linked <= expected.keys(), "a page that nothing links to"


@pytest.mark.parametrize("port", [1234])
def test_the_demo_web_is_the_same_every_time(port: int) -> None:
    assert Web(port).pages == Web(port).pages
