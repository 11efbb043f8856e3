"""DNS, TLS, proxies. How to read it: registry.py."""

from __future__ import annotations

from typing import Final

from tests.probes.manifest import DELAY, Log, Plan
from tests.probes.registry import CANONICAL, DNS, HERE, HERE_V6, NOBODY, SOCKS_SIDE, TLS, probe

# -- DNS -------------------------------------------------------------------------------------------------


def _asked(p: Plan, host: str, kind: int) -> int:
    return p.servers.questions.count((host, kind))


_A: Final = 1
_KINDS: Final = frozenset({"address_private", "address_loopback", "address_metadata", "address_mapped"})
_AAAA: Final = 28


@probe(
    DNS,
    "one lookup per host however many coroutines want it",
    crawl="apart",
    finds="a host with 8 lanes and 20 pages; one question of each family for it",
)
def dns_once(p: Plan) -> None:
    p.pace(DELAY, 8)
    targets = [f"/{number}" for number in range(20)]
    p.seed()
    p.page("/", targets, ip=HERE)
    p.pages(targets)
    p.check(
        lambda log: (
            None
            if (_asked(p, p.host, _A), _asked(p, p.host, _AAAA)) == (1, 1)
            else f"asked for {_asked(p, p.host, _A)} and {_asked(p, p.host, _AAAA)} times"
        )
    )


@probe(
    DNS,
    "negative caching",
    crawl="apart",
    finds="five pages on two ports of a host that does not exist, each as DNS; one question for it",
)
def dns_missing(p: Plan) -> None:
    missing = f"missing.{p.host}"
    p.addresses[missing] = ()
    p.seed()
    p.page("/", [p.url(f"/{number}", missing, "alt" if number % 2 else "web") for number in range(5)])
    for number in range(5):
        p.find(
            f"/{number}",
            "DNS",
            host=missing,
            door="alt" if number % 2 else "web",
            fetches=0,
            reason="nxdomain",
        )
    p.ask("/robots.txt", 0, host=missing)
    p.ask("/robots.txt", 0, host=missing, door="alt")
    p.check(lambda log: None if _asked(p, missing, _A) == 1 else f"asked for {_asked(p, missing, _A)} times")


@probe(
    DNS,
    "both families",
    crawl="apart",
    finds="a host that has an IPv6 address alone; one whose IPv4 address does not answer",
)
def dns_families(p: Plan) -> None:
    six, both = f"six.{p.host}", f"both.{p.host}"
    p.addresses[six] = (HERE_V6,)
    p.addresses[both] = (NOBODY, HERE_V6)
    for host in (six, both):
        p.seed(host=host)
        p.page("/", host=host, ip=HERE_V6)


@probe(
    DNS,
    "private addresses are refused at connect time",
    crawl="apart",
    finds="links to names and numbers of private addresses that nobody allowed: PRIVATE_ADDRESS, and which kind",
    spares="all of them, a server that listens on loopback among them",
)
def dns_private(p: Plan) -> None:
    named = {
        "inner": "10.88.0.1",
        "meta": "169.254.169.254",
        "loop": "127.0.0.1",
        "mapped": "::ffff:127.0.0.1",
    }
    hosts = [f"{name}.{p.host}" for name in named]
    p.addresses.update({host: (address,) for host, address in zip(hosts, named.values(), strict=True)})
    hosts += ["127.0.0.1", "192.168.1.1"]
    p.seed()
    p.page("/", [*(p.url("/", host) for host in hosts), "http://0x7f000001/", "http://2130706433/"])
    for host in hosts:
        p.find("/", "PRIVATE_ADDRESS", host=host, fetches=0, reason=_KINDS)
        p.ask("/robots.txt", 0, host=host)


@probe(
    CANONICAL,
    "default ports",
    crawl="apart",
    finds="one fetch of a page by http and one by https, with and without the port",
)
def default_ports(p: Plan) -> None:
    p.servers.certify(p.host)
    p.seed()
    plain = [f"http://{p.host}:80/a", f"http://{p.host}/a", f"http://{p.host}:080/a", f"http://{p.host}:/a"]
    p.page("/", [*plain, f"https://{p.host}:443/b", f"https://{p.host}/b"])
    p.page("/a")
    p.page("/b", door="tls")


# -- TLS -------------------------------------------------------------------------------------------------


@probe(
    TLS,
    "verified; failure reasons kept (expired, wrong host, self-signed, protocol); `--insecure` per host pattern only",
    finds="a good host; each bad one as TLS with its reason; one that `--insecure` names",
    spares="no request reaches a host whose certificate is not good",
)
def tls_reasons(p: Plan) -> None:
    good, expired, wrong = f"good.{p.host}", f"expired.{p.host}", f"wrong.{p.host}"
    signed, let_in = f"signed.{p.host}", f"x.let-in.{p.host}"
    p.servers.certify(good)
    p.servers.certify(expired, expired=True)
    p.servers.certify(wrong, "another.test")
    p.servers.certify(signed, self_signed=True)
    p.servers.certify(let_in, self_signed=True)
    for host in (good, let_in):
        p.seed(door="tls", host=host)
        p.page("/", door="tls", host=host)
    reasons = {
        expired: "tls_expired",
        wrong: "tls_hostname",
        signed: "tls_unknown_issuer",
    }
    p.seed(door="plain", host=good)
    p.find(door="plain", host=good, outcome="TLS", fetches=0, reason="tls_protocol")
    p.ask("/robots.txt", 0, door="plain", host=good)
    for host, reason in reasons.items():
        p.seed(door="tls", host=host)
        p.find("/", "TLS", door="tls", host=host, fetches=0, reason=reason)
        p.ask("/robots.txt", 0, door="tls", host=host)


@probe(
    TLS,
    "proxies: HTTP(S) and SOCKS, a list, per host pattern",
    crawl="proxied",
    finds="all requests for a host through the proxy of its pattern (tinyproxy, microsocks); a dead one as PROXY",
    spares="no request for such a host comes by another way",
)
def proxies(p: Plan) -> None:
    direct, http, socks, dead = (f"{name}.{p.host}" for name in ("direct", "http", "socks", "dead"))
    shared = [f"list-{number}.{p.host}" for number in range(20)]  # by hash: both are used
    via = {http: ["http"], socks: ["socks"], dead: ["dead"], f"list-*.{p.host}": ["http", "socks"]}
    for match, names in via.items():
        listed = ", ".join(f'"{p.servers.proxies[name]}"' for name in names)
        p.rule(f"proxy = [{listed}]", host=match)
    for host in (direct, http, socks, *shared):
        p.seed(host=host)
        p.page("/", ["/1"], host=host)
        p.page("/1", host=host)
    p.seed(host=dead)
    p.find("/", "PROXY", host=dead, fetches=0, reason="proxy_unreachable")
    p.ask("/robots.txt", 0, host=dead)

    def check(log: Log) -> str | None:
        ways: dict[str, set[str]] = {}
        for hit in log:
            way = "http" if "via" in hit.headers else "socks" if hit.client == SOCKS_SIDE else "direct"
            ways.setdefault(hit.host, set()).add(way)
        expected = {direct: {"direct"}, http: {"http"}, socks: {"socks"}}
        for host, only in expected.items():
            if ways.get(host) != only:
                return f"{host} was fetched by {ways.get(host)}"
        used = set().union(*(ways.get(host, set()) for host in shared))
        return None if used == {"http", "socks"} else f"the hosts of a list came by {used}"

    p.check(check)
