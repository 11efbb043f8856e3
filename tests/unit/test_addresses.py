"""Which addresses a worker may connect to."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UsageError
from common.url import canonical, host_key
from worker.addresses import NOTHING, parse_allowed, refusal

ALL = parse_allowed(["all"])

REFUSED = {
    "loopback": ["127.0.0.1", "127.255.255.254", "::1"],
    "unspecified": ["0.0.0.0", "0.1.2.3", "::"],
    "private": [
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "fc00::1",
        "fd12:3456::1",
        "fec0::1",
    ],
    "link_local": ["169.254.0.1", "169.254.255.255", "fe80::1", "fe80::1%eth0", "febf::1"],
    "metadata": [
        "169.254.169.254",
        "169.254.170.2",
        "100.100.100.200",
        "168.63.129.16",
        "fd00:ec2::254",
        "fd20:ce::254",
    ],
    "shared": ["100.64.0.1", "100.127.255.255"],
    "benchmark": ["198.18.0.1", "198.19.255.255", "2001:2::1"],
    "multicast": ["224.0.0.1", "239.255.255.255", "ff02::1"],
    "reserved": [
        "192.0.0.1",
        "192.0.2.1",
        "198.51.100.1",
        "203.0.113.1",
        "240.0.0.1",
        "255.255.255.255",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "64:ff9b:1::1",
    ],
    "invalid": ["", "a.test", "127.1", "0x7f000001", "2130706433", "1.2.3.4.5", "[::1]"],
}
PUBLIC = [
    "1.1.1.1",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "169.253.255.255",
    "172.15.255.255",
    "172.32.0.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2606:4700:4700::1111",
    "2a00:1450:4001:81b::200e",
]


@pytest.mark.parametrize(("kind", "ip"), [(kind, ip) for kind, ips in REFUSED.items() for ip in ips])
def test_what_is_not_public_is_refused_with_its_kind(kind: str, ip: str) -> None:
    assert refusal(ip) == kind


@pytest.mark.parametrize("ip", PUBLIC)
def test_public_addresses_may_be_connected_to(ip: str) -> None:
    assert refusal(ip) is None
    assert refusal(ip_address(ip)) is None
    assert refusal(ip, ALL) is None


@pytest.mark.parametrize("form", ["::ffff:{}", "::ffff:0:{}", "::{}", "64:ff9b::{}"])
@pytest.mark.parametrize(
    ("inner", "kind"),
    [("127.0.0.1", "loopback"), ("10.1.2.3", "private"), ("169.254.169.254", "metadata"), ("8.8.8.8", None)],
)
def test_an_ipv4_address_inside_an_ipv6_address_is_judged(form: str, inner: str, kind: str | None) -> None:
    assert refusal(form.format(inner)) == kind


def test_an_ipv4_address_inside_a_6to4_address_is_judged() -> None:
    assert refusal("2002:7f00:1::1") == "loopback"
    assert refusal("2002:a9fe:a9fe::") == "metadata"
    assert refusal("2002:808:808::1") is None
    assert refusal("::ffff:127.0.0.1", parse_allowed(["127.0.0.0/8"])) is None


@given(st.ip_addresses(v=4))
def test_wrapping_an_ipv4_address_never_opens_it(address: IPv4Address) -> None:
    number = int(address)
    for prefix, shift in (("::ffff:0:0", 0), ("64:ff9b::", 0), ("2002::", 80)):
        wrapped = IPv6Address(int(IPv6Address(prefix)) | number << shift)
        assert refusal(wrapped) == refusal(address)


@given(st.ip_addresses())
def test_what_python_calls_private_or_odd_is_never_let_through(address: IPv4Address | IPv6Address) -> None:
    if refusal(address) is None:
        assert not (address.is_loopback)
        assert not (address.is_link_local)
        assert not (address.is_multicast)
        assert not (address.is_unspecified)
        # Judged by the address within; older Pythons call all of 6to4 private.
        wrapping = (ip_network("::/95"), ip_network("2002::/16"))
        inner = isinstance(address, IPv6Address) and any(address in network for network in wrapping)
        assert inner or not address.is_private


def test_all_opens_private_networks_but_neither_link_local_nor_metadata() -> None:
    for kind in ("loopback", "private", "shared", "benchmark"):
        assert [ip for ip in REFUSED[kind] if refusal(ip, ALL)] == []
    for kind in ("link_local", "metadata", "multicast", "unspecified", "reserved", "invalid"):
        assert [ip for ip in REFUSED[kind] if refusal(ip, ALL) != kind] == []
    assert parse_allowed(["private"]) == ALL


def test_the_networks_of_a_bare_allow_private_open_neither() -> None:
    allowed = parse_allowed(
        ["127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "::1", "fc00::/7"]
    )
    assert refusal("10.0.0.1", allowed) is None
    assert refusal("127.0.0.1", allowed) is None
    assert refusal("fd12::1", allowed) is None
    assert refusal("169.254.0.1", allowed) == "link_local"
    for ip in REFUSED["metadata"]:
        assert refusal(ip, allowed) == "metadata"


def test_a_network_opens_what_lies_in_it_and_nothing_else() -> None:
    allowed = parse_allowed(["10.0.0.0/8", "192.168.1.7"])
    assert refusal("10.200.0.1", allowed) is None
    assert refusal("192.168.1.7", allowed) is None
    assert refusal("192.168.1.8", allowed) == "private"
    assert refusal("127.0.0.1", allowed) == "loopback"


def test_link_local_and_metadata_must_be_named_themselves() -> None:
    world = parse_allowed(["0.0.0.0/0", "::/0"])
    assert refusal("10.0.0.1", world) is None
    assert refusal("169.254.0.1", world) == "link_local"
    assert refusal("fe80::1", world) == "link_local"
    assert refusal("169.254.169.254", world) == "metadata"
    link_local = parse_allowed(["169.254.0.0/16"])
    assert refusal("169.254.0.1", link_local) is None
    assert refusal("169.254.169.254", link_local) == "metadata"
    assert refusal("169.254.169.254", parse_allowed(["169.254.169.254"])) is None
    assert refusal("fd00:ec2::254", parse_allowed(["fc00::/7"])) == "metadata"


def test_what_is_no_network_is_told() -> None:
    assert parse_allowed([]) == NOTHING
    for text in ("10.0.0.0/40", "intranet", ""):
        with pytest.raises(UsageError, match="allow-private"):
            parse_allowed([text])


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        ("2130706433", "loopback"),
        ("0x7f000001", "loopback"),
        ("0x7f.1", "loopback"),
        ("0177.0.0.1", "loopback"),
        ("127.1", "loopback"),
        ("0", "unspecified"),
        ("2852039166", "metadata"),
        ("0xA9.0376.43518", "metadata"),
        ("%31%36%39.254.169.254", "metadata"),
        ("\uff11\uff16\uff19\u3002254\uff0e169\uff61254", "metadata"),
        ("169.254.169.254.", "metadata"),
        ("[::FFFF:A9FE:A9FE]", "metadata"),
        ("[0:0:0:0:0:ffff:127.0.0.1]", "loopback"),
        ("[2001:0:7f00:1::80ff:fffe]", "reserved"),  # Teredo, whatever it carries
        ("[64:ff9b:1::a00:1]", "reserved"),  # NAT64 of the local network (RFC 8215)
    ],
)
def test_however_a_url_spells_it_an_address_is_judged_as_what_it_is(host: str, kind: str) -> None:
    name = host_key(canonical(f"http://{host}/"))
    assert refusal(name.strip("[]")) == kind
