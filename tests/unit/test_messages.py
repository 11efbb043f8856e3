"""The protocol's bytes: they stay what they are, and nothing but them is taken.

The table below is the protocol on the wire, a line a class. A change of it is a change of the protocol: then
`VERSION` goes up, and the lines are made anew by `python -m tests.unit.test_messages`.
"""

from __future__ import annotations

import math
import sys
from dataclasses import fields, replace

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import messages as m
from common.errors import ProtocolError
from common.messages import LeaseId, Message, SessionId
from common.wire import MAX_BODY_BYTES, decode, encode, strictly, taker

SESSION = SessionId(bytes(range(16)))
LEASE = m.lease_id(2, 81, shard=1)
FORM = m.Form("POST", (("Accept", "*/*"),), b"q=1", 7, 1, -3, b"\x81\xa1a\x01")
PLAIN = m.Request("https://a.test/", 0, 0, 0, m.Flag.SEED, "a.test", None, None)
RICH = m.Request("https://a.test/search", 3, 1, 2, 0, "a.test", "https://a.test/", FORM, 1_790_000_000)
GROUP = m.LinkGroup("https://a.test/", "a.test", 1, 0, 0, ("https://a.test/b", "https://a.test/c"), None)
FORMS = m.LinkGroup("https://a.test/", "a.test", 1, 0, 0, ("https://a.test/search",), (FORM,), (None,))
FACTS = m.Facts(
    outcome=0,
    status=200,
    reason=None,
    error=None,
    redirect_to=None,
    content_type="text/html",
    charset="utf-8",
    length=5120,
    wire_length=1024,
    digest="sha1:3I42H3S6NNFQ2MSVX7XZKYAYSCX5QBYJ",
    title="Öl & more",
    noindex=False,
    etag='"5"',
    last_modified="Thu, 01 Jan 1970 00:00:00 GMT",
    fetched_at=1790000000.125,
    elapsed_ms=37,
    ip="192.0.2.7",
    truncated=None,
    simhash=0xFEDCBA9876543210,
)

SAMPLES: tuple[Message, ...] = (
    m.Hello(
        1,
        m.VERSION,
        SESSION,
        (SessionId(bytes(16)),),
        "box",
        4711,
        0,
        True,
        (LEASE,),
        ((SessionId(bytes(16)), LEASE, 3),),
    ),
    m.Heartbeat(2, SESSION, 2, (LEASE,), 500, 2064, 3, 1 << 20, 12, 4, True, 87, 1 << 28, 61),
    m.Release(3, SESSION, LEASE, 0.25),
    m.Want(5, SESSION, "b.test"),
    m.Goodbye(4, SESSION, ((LEASE, None), (LeaseId(5), 1.5))),
    m.Page(
        number=1,
        session=SESSION,
        lease=LEASE,
        ordinal=0,
        age=0.0,
        retry_after=None,
        facts=FACTS,
        links=(GROUP, FORMS),
        refused=(("scope", 4),),
        head=b"HTTP/1.1 200 OK\r\n\r\n",
        split=200,
        pieces=0,
        items=(("product", b'{"a":1}'),),
        cookies=b"\x80",
        file=m.File("p.jpg", 3, 1),
    ),
    m.Piece(2, SESSION, LEASE, 0, 3),
    m.Links(3, SESSION, (GROUP,)),
    m.Robots(
        4,
        SESSION,
        LEASE,
        "https://a.test",
        "rules",
        200,
        None,
        2.0,
        b"User-agent: *\n",
        0.5,
        180,
        "192.0.2.7",
        ("https://a.test/sitemap.xml",),
        "tls_expired",
    ),
    m.Welcome(
        session=SESSION,
        number=1,
        version=m.VERSION,
        crawl=bytes(16),
        store=9,
        shard=1,
        shards=2,
        epoch=2,
        ttl=30.0,
        heartbeat=5.0,
        slots=bytes((0, 1)),
        seed=0xFEDCBA9876543210,
        config=b"\x80",
        scope=b"\x80",
        scope_version=3,
    ),
    m.Denied(SESSION, 1, "install the same version on both", True),
    m.Alive(SESSION, 2, 2, (LeaseId(6),), (LEASE,), m.Phase.PAUSED, 3, (LEASE,)),
    m.Lease(
        session=SESSION,
        number=2,
        id=LEASE,
        host="a.test",
        delay=1.0,
        lanes=1,
        scope_version=3,
        robots=(m.RobotsRules("https://a.test", 4, "rules", None),),
        cookies=b"a=1",
        requests=(PLAIN, RICH),
        resumes=(m.Resume(1, 4, '"5"'),),
    ),
    m.Terms(SESSION, b"\x80", 4, b"\x80"),
    m.HelloAgain(SESSION),
    m.Answer(SESSION, (1, 2), ((3, "lease"),)),
    m.Poll(8),
    m.Report(8, 1, 2, 100, 60, 70, 5, 35),
    m.Close(8, 2, 100, 100, 120),
    m.Closed(8, 1, True),
    m.Cap(3, None),
    m.CapSet(3, 1, 100, 50),
    m.FilePiece(2, SESSION, LEASE, 0, 3, 3, 1, '"5"'),
)

GOLDEN = {
    "Hello": (
        "9b010103c410000102030405060708090a0b0c0d0e0f91c41000000000000000000000000000000000a3626f78cd1267"
        "00c391cf01000002000000519193c41000000000000000000000000000000000cf010000020000005103"
    ),
    "Heartbeat": (
        "9f0202c410000102030405060708090a0b0c0d0e0f0291cf0100000200000051cd01f4cd081003ce001000000c04c357"
        "ce100000003d"
    ),
    "Release": ("950303c410000102030405060708090a0b0c0d0e0fcf0100000200000051cb3fd0000000000000"),
    "Want": ("940505c410000102030405060708090a0b0c0d0e0fa6622e74657374"),
    "Goodbye": ("940404c410000102030405060708090a0b0c0d0e0f9292cf0100000200000051c09205cb3ff8000000000000"),
    "Page": (
        "dc00101001c410000102030405060708090a0b0c0d0e0fcf010000020000005100cb0000000000000000c0dc001300cc"
        "c8c0c0c0a9746578742f68746d6ca57574662d38cd1400cd0400d925736861313a33493432483353364e4e4651324d53"
        "565837585a4b594159534358355142594aaac3966c2026206d6f7265c2a3223522bd5468752c203031204a616e203139"
        "37302030303a30303a303020474d54cb41daac4ee008000025a93139322e302e322e37c0cffedcba98765432109298af"
        "68747470733a2f2f612e746573742fa6612e7465737401000092b068747470733a2f2f612e746573742f62b068747470"
        "733a2f2f612e746573742f63c0c098af68747470733a2f2f612e746573742fa6612e7465737401000091b56874747073"
        "3a2f2f612e746573742f7365617263689197a4504f53549192a6416363657074a32a2f2ac403713d310701fdc40481a1"
        "610191c09192a573636f706504c413485454502f312e3120323030204f4b0d0a0d0accc8009192a770726f64756374c4"
        "077b2261223a317dc4018093a5702e6a70670301"
    ),
    "Piece": ("961102c410000102030405060708090a0b0c0d0e0fcf01000002000000510003"),
    "Links": (
        "941203c410000102030405060708090a0b0c0d0e0f9198af68747470733a2f2f612e746573742fa6612e746573740100"
        "0092b068747470733a2f2f612e746573742f62b068747470733a2f2f612e746573742f63c0c0"
    ),
    "Robots": (
        "dc00101304c410000102030405060708090a0b0c0d0e0fcf0100000200000051ae68747470733a2f2f612e74657374a5"
        "72756c6573ccc8c0cb4000000000000000c40e557365722d6167656e743a202a0acb3fe0000000000000ccb4a9313932"
        "2e302e322e3791ba68747470733a2f2f612e746573742f736974656d61702e786d6cab746c735f65787069726564c0"
    ),
    "Welcome": (
        "dc001020c410000102030405060708090a0b0c0d0e0f0103c4100000000000000000000000000000000009010202cb40"
        "3e000000000000cb4014000000000000c4020001cffedcba9876543210c40180c4018003"
    ),
    "Denied": (
        "9521c410000102030405060708090a0b0c0d0e0f01d920696e7374616c6c207468652073616d652076657273696f6e20"
        "6f6e20626f7468c3"
    ),
    "Alive": ("9922c410000102030405060708090a0b0c0d0e0f0202910691cf0100000200000051010391cf0100000200000051"),
    "Lease": (
        "9c23c410000102030405060708090a0b0c0d0e0f02cf0100000200000051a6612e74657374cb3ff00000000000000103"
        "9194ae68747470733a2f2f612e7465737404a572756c6573c0c403613d319299af68747470733a2f2f612e746573742f"
        "00000001a6612e74657374c0c0c099b568747470733a2f2f612e746573742f73656172636803010200a6612e74657374"
        "af68747470733a2f2f612e746573742f97a4504f53549192a6416363657074a32a2f2ac403713d310701fdc40481a161"
        "01ce6ab13b8091930104a3223522"
    ),
    "Terms": ("9524c410000102030405060708090a0b0c0d0e0fc4018004c40180"),
    "HelloAgain": ("9225c410000102030405060708090a0b0c0d0e0f"),
    "Answer": ("9430c410000102030405060708090a0b0c0d0e0f920102919203a56c65617365"),
    "Poll": ("924008"),
    "Report": ("9941080102643c460523"),
    "Close": ("96420802646478"),
    "Closed": ("94430801c3"),
    "Cap": ("934403c0"),
    "CapSet": ("954503016432"),
    "FilePiece": ("991402c410000102030405060708090a0b0c0d0e0fcf010000020000005100030301a3223522"),
}

ALL = frozenset(m.TAGS.values())
named = pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)


def packed(message: Message) -> list[object]:
    """The header as plain values, to be spoiled."""
    values = msgpack.unpackb(encode(message), use_list=True)
    assert isinstance(values, list)
    return values


def taken(values: object, body: bytes | None = None) -> Message:
    header = msgpack.packb(values)
    return decode([header] if body is None else [header, body], ALL)[0]


# ------------------------------------------------------------------------------------------------------- golden bytes


def test_there_is_one_sample_of_each_class() -> None:
    assert sorted(type(message).__name__ for message in SAMPLES) == sorted(kind.__name__ for kind in ALL)


@named
def test_the_bytes_of_a_message_never_change(message: Message) -> None:
    assert encode(message).hex() == GOLDEN[type(message).__name__]


@named
def test_what_is_decoded_is_what_was_encoded(message: Message) -> None:
    again, body = decode([bytes.fromhex(GOLDEN[type(message).__name__])], ALL)
    assert again == message
    assert type(again) is type(message)
    assert body == b""


def test_values_come_back_as_the_named_tuples_that_they_were() -> None:
    lease = decode([encode(SAMPLES[12])], ALL)[0]
    assert isinstance(lease, m.Lease)
    assert lease.requests[1].form == FORM
    assert type(lease.requests[1].form) is m.Form
    assert type(lease.robots[0]) is m.RobotsRules


def test_every_class_belongs_to_one_direction_and_has_one_tag() -> None:
    assert not m.FROM_WORKER & m.TO_WORKER
    between = {m.Poll, m.Report, m.Close, m.Closed, m.Cap, m.CapSet}
    assert m.FROM_WORKER | m.TO_WORKER | between == ALL
    assert len(ALL) == len(m.TAGS)


def test_an_integer_stands_for_seconds() -> None:
    release = m.Release(3, SESSION, LEASE, 2.0)
    values = packed(release)
    values[4] = 2
    assert taken(values) == release


# ----------------------------------------------------------------------------------------------------- strict decoding


@named
def test_a_message_cut_short_anywhere_is_refused(message: Message) -> None:
    whole = encode(message)
    for end in range(len(whole)):
        with pytest.raises(ProtocolError):
            decode([whole[:end]], ALL)
    with pytest.raises(ProtocolError):
        decode([whole + b"\xc0"], ALL)


@named
def test_a_field_too_many_or_too_few_is_refused(message: Message) -> None:
    values = packed(message)
    for wrong in ([*values, 1], [*values, None], values[:-1]):
        with pytest.raises(ProtocolError, match="fields"):
            taken(wrong)


@named
def test_a_field_of_another_type_is_refused(message: Message) -> None:
    values = packed(message)
    for position in range(1, len(values)):
        for wrong in (
            {},
            [[[]]],
            b"\xff" * 70_000,
            "x" * 100_000,
            -1,
            2**64 - 1,
            True,
            1.5,
            math.nan,
            math.inf,
            None,
        ):
            if accepts(type(message), position - 1, wrong):
                continue
            with pytest.raises(ProtocolError, match=f"{fields(message)[position - 1].name}|a map"):
                taken([*values[:position], wrong, *values[position + 1 :]])


def accepts(kind: type[Message], position: int, value: object) -> bool:
    """Whether a value of the ones above is a good one for this field."""
    name = fields(kind)[position].name
    if value is True:
        return name in ("local", "ok", "final", "offline")
    if value is None:
        return name in (
            "age",
            "retry_after",
            "status",
            "error",
            "crawl_delay",
            "text",
            "cookies",
            "cap",
            "ip",
            "reason",
            "file",
            "validator",
        )
    if value == 1.5:
        return name in ("age", "retry_after", "crawl_delay", "delay", "ttl", "heartbeat")
    if value == 2**64 - 1:
        u64 = (
            "number",
            "round",
            "lease",
            "id",
            "began",
            "seed",
            "cap",
            "admitted",
            "done",
            "attempts",
            "leased",
            "lendable",
            "rss",
        )
        return name in (*u64, "charged", "held_bytes", "fetched")
    if isinstance(value, bytes):
        return name in ("head", "text", "config", "scope")
    return False


@pytest.mark.parametrize("wrong", [True, False, 1.0, "1", None, -1, 2**64], ids=repr)
def test_only_an_int_in_range_is_a_number(wrong: object) -> None:
    with pytest.raises(ProtocolError):
        taken([64, wrong]) if wrong != 2**64 else decode([b"\x92\x40\xcf" + b"\xff" * 9], ALL)


@pytest.mark.parametrize("wrong", [0, 1, "true", None], ids=repr)
def test_only_a_bool_is_a_flag(wrong: object) -> None:
    with pytest.raises(ProtocolError, match=r"Closed\.ok"):
        taken([67, 8, 1, wrong])


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf, -0.001, 2.0**41, True, "1", b"1"], ids=repr)
def test_only_a_finite_positive_number_is_a_time(wrong: object) -> None:
    values = packed(SAMPLES[2])
    values[4] = wrong
    with pytest.raises(ProtocolError, match=r"Release\.age"):
        taken(values)


def test_bytes_and_text_are_not_each_other() -> None:
    with pytest.raises(ProtocolError, match="str, bytes expected"):
        taken([37, "0123456789abcdef"])
    with pytest.raises(ProtocolError, match="bytes, str expected"):
        taken([33, bytes(SESSION), 1, b"reason", True])


@pytest.mark.parametrize(
    "message",
    [
        m.HelloAgain(SessionId(bytes(17))),
        m.Denied(SESSION, 1, "x" * 4097, True),
        m.Answer(SESSION, (1,) * 65_537, ()),
        m.Answer(SESSION, (), ((1, "x" * 256),)),
        replace(SAMPLES[12], host="x" * 256),
        replace(SAMPLES[12], requests=(PLAIN,) * 4097),
        replace(SAMPLES[12], requests=(PLAIN._replace(url="x" * 65_537),)),
        replace(SAMPLES[12], requests=(PLAIN._replace(depth=65_536),)),
        replace(SAMPLES[12], requests=(PLAIN._replace(depth=-1),)),
        replace(SAMPLES[12], requests=(RICH._replace(form=FORM._replace(priority=1001)),)),
        replace(SAMPLES[5], links=(GROUP,) * 65),
        replace(SAMPLES[5], facts=FACTS._replace(title="x" * 513)),
        replace(SAMPLES[5], facts=FACTS._replace(digest="x" * 256)),
        replace(SAMPLES[5], facts=FACTS._replace(noindex=1)),
        replace(SAMPLES[5], head=bytes((1 << 18) + 1)),
        replace(SAMPLES[9], slots=bytes(1025)),
        replace(SAMPLES[0], replaces=(SESSION,) * 65),
    ],
    ids=lambda message: type(message).__name__,
)
def test_what_is_over_its_bound_is_refused(message: Message) -> None:
    with pytest.raises(ProtocolError):
        decode([encode(message)], ALL)


@pytest.mark.parametrize(
    "values", [[], 64, None, "text", {}, {64: 8}, [None], ["64", 8], [True, 8], [-1, 8], [5, 8]]
)
def test_a_header_that_does_not_begin_with_a_known_tag_is_refused(values: object) -> None:
    with pytest.raises(ProtocolError):
        taken(values)


def test_a_message_that_may_not_come_here_is_refused() -> None:
    with pytest.raises(ProtocolError, match="unexpected tag 35"):
        decode([encode(SAMPLES[12])], m.FROM_WORKER)
    with pytest.raises(ProtocolError, match="unexpected tag 16"):
        decode([encode(SAMPLES[5])], m.TO_WORKER)


@pytest.mark.parametrize("count", [0, 3])
def test_a_message_of_another_number_of_frames_is_refused(count: int) -> None:
    with pytest.raises(ProtocolError, match="frames"):
        decode([encode(m.Poll(1))] * count, ALL)


def test_a_body_above_its_bound_is_refused() -> None:
    assert decode([encode(SAMPLES[6]), bytes(MAX_BODY_BYTES)], ALL)[1] == bytes(MAX_BODY_BYTES)
    with pytest.raises(ProtocolError, match="body"):
        decode([encode(SAMPLES[6]), bytes(MAX_BODY_BYTES + 1)], ALL)


def test_a_header_above_its_bound_is_refused_unread() -> None:
    with pytest.raises(ProtocolError, match="header of"):
        decode([b"\xdd" + bytes(m.MAX_HEADER_BYTES)], ALL)


@pytest.mark.parametrize("depth", [100, 100_000])
def test_arrays_that_are_nested_too_deep_are_refused(depth: int) -> None:
    with pytest.raises(ProtocolError):
        decode([b"\x91" * depth + b"\xc0"], ALL)


def test_an_error_names_the_field_and_is_short() -> None:
    values = packed(SAMPLES[12])
    values[10] = ["x" * 1_000_000]
    with pytest.raises(ProtocolError, match=r"Lease\.requests: str, array of 9 expected") as told:
        taken(values)
    assert len(str(told.value)) < 200


@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_but_a_protocol_error(frame: bytes) -> None:
    try:
        decode([frame], ALL)
    except ProtocolError:
        pass


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.binary(max_size=20)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=8)
        | st.dictionaries(st.text(max_size=3) | st.integers(0, 9), inner, max_size=3)
    ),
    max_leaves=30,
)


@given(st.sampled_from(sorted(m.TAGS)), st.lists(plain, max_size=20))
def test_random_values_raise_nothing_but_a_protocol_error(tag: int, values: list[object]) -> None:
    try:
        taken([tag, *values])
    except ProtocolError:
        pass


@given(st.sampled_from(SAMPLES), st.data())
def test_one_changed_byte_gives_a_good_message_or_a_protocol_error(
    message: Message, data: st.DataObject
) -> None:
    header = bytearray(encode(message))
    header[data.draw(st.integers(0, len(header) - 1))] = data.draw(st.integers(0, 255))
    try:
        again, _ = decode([bytes(header)], ALL)
    except ProtocolError:
        return
    assert decode([encode(again)], ALL)[0] == again


@named
def test_a_good_message_is_taken_at_once(message: Message) -> None:
    values = msgpack.unpackb(encode(message), use_list=False)
    assert taker(type(message))(values) == message


@given(st.sampled_from(SAMPLES), st.data())
def test_what_is_taken_at_once_is_what_the_checks_of_each_field_give(
    message: Message, data: st.DataObject
) -> None:
    header = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 3))):
        header[data.draw(st.integers(2, len(header) - 1))] = data.draw(st.integers(0, 255))
    try:
        values = msgpack.unpackb(header, use_list=False, strict_map_key=False)
    except ValueError:
        return
    kind = type(message)
    at_once = taker(kind)(values)
    try:
        checked = strictly(kind, values)
    except ProtocolError:
        assert at_once is None
        return
    if at_once is not None:
        assert repr(at_once) == repr(checked)


# ----------------------------------------------------------------------------------------------------------- lease ids


@given(st.integers(0, 255), st.integers(1, 2**24 - 1), st.integers(1, 2**32 - 1))
def test_a_lease_id_tells_its_shard_and_epoch(shard: int, epoch: int, counter: int) -> None:
    lease = m.lease_id(epoch, counter, shard)
    assert (m.lease_shard(lease), m.lease_epoch(lease), lease & 0xFFFFFFFF) == (shard, epoch, counter)
    assert lease < 2**64


def test_lease_ids_differ_between_epochs_and_shards() -> None:
    assert (
        len({m.lease_id(epoch, counter, shard) for shard in (0, 1) for epoch in (1, 2) for counter in (1, 2)})
        == 8
    )


if __name__ == "__main__":
    for sample in SAMPLES:
        text = encode(sample).hex()
        lines = "".join(f'        "{text[start : start + 96]}"\n' for start in range(0, len(text), 96))
        sys.stdout.write(f'    "{type(sample).__name__}": (\n{lines}    ),\n')
