"""WARC records, with warcio as the judge of every one."""

from __future__ import annotations

import base64
import gzip
import io
import random
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from warcio.archiveiterator import ArchiveIterator

from common import warc
from common.warc import (
    compressed_already,
    digest_text,
    payload_digest,
    record_id,
    request_record,
    response_head,
    response_record,
    revisit_record,
    warc_date,
    warcinfo_record,
)

URL = "https://a.test/p?q=1"
NOW = 1_767_323_045.678
ID = record_id(bytes(range(16)))
OTHER_ID = record_id(bytes(16))
RAW_HEADERS = (
    (b"Server", b"nginx"),
    (b"Content-Type", b"text/html"),
    (b"Transfer-Encoding", b"chunked"),
    (b"Set-Cookie", b"a=1"),
    (b"Set-Cookie", b"b=2"),
)
HEAD = response_head("1.1", 200, "OK", RAW_HEADERS)
REQUEST = b"GET /p?q=1 HTTP/1.1\r\nHost: a.test\r\nAuthorization: Basic c2VjcmV0\r\ncookie: s=secret\r\n\r\n"


class Read(NamedTuple):
    """A record as warcio understood it."""

    type: str
    headers: dict[str, str]
    http: Any
    content: bytes
    offset: int
    length: int


def read(stream: bytes) -> list[Read]:
    found = []
    records = ArchiveIterator(io.BytesIO(stream), check_digests=True)
    for record in records:
        content = record.raw_stream.read()
        assert record.digest_checker.passed is not False, record.digest_checker.problems
        headers = dict(record.rec_headers.headers)
        assert len(headers) == len(record.rec_headers.headers)
        found.append(
            Read(
                record.rec_type,
                headers,
                record.http_headers,
                content,
                records.get_record_offset(),
                records.get_record_length(),
            )
        )
    return found


def response(payload: bytes, head: bytes = HEAD, **changes: Any) -> bytes:
    values: dict[str, Any] = {
        "record_id": ID,
        "url": URL,
        "date": NOW,
        "ip": "192.0.2.1",
        "head": head,
        "payload": payload,
        "digest": digest_text(payload_digest(payload)),
    }
    return response_record(**(values | changes))


def test_a_response_is_read_back_with_its_headers_and_digests() -> None:
    (record,) = read(response(b"<html>hello</html>", truncated="length"))
    assert record.type == "response"
    assert record.content == b"<html>hello</html>"
    assert record.headers["WARC-Target-URI"] == URL
    assert record.headers["WARC-Date"] == "2026-01-02T03:04:05.678Z"
    assert record.headers["WARC-IP-Address"] == "192.0.2.1"
    assert record.headers["WARC-Truncated"] == "length"
    assert record.headers["WARC-Record-ID"] == ID == "<urn:uuid:00010203-0405-4607-8809-0a0b0c0d0e0f>"
    assert record.headers["Content-Type"] == "application/http; msgtype=response"
    assert record.headers["WARC-Payload-Digest"] == digest_text(payload_digest(b"<html>hello</html>"))
    assert record.http.get_statuscode() == "200"


def test_transfer_encoding_is_kept_under_another_name() -> None:
    (record,) = read(response(b"not chunked"))
    assert record.http.get_header("X-Shoal-Transfer-Encoding") == "chunked"
    assert record.http.get_header("Transfer-Encoding") is None
    assert b"\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n" in HEAD


def test_a_request_is_read_back_without_its_secrets() -> None:
    (record,) = read(
        request_record(record_id=ID, url=URL, date=NOW, ip=None, head=REQUEST, concurrent_to=OTHER_ID)
    )
    assert record.type == "request"
    assert record.headers["WARC-Concurrent-To"] == OTHER_ID
    assert record.http.get_header("Authorization") == "***"
    assert record.http.get_header("cookie") == "***"
    assert record.http.get_header("Host") == "a.test"


def test_a_revisit_refers_to_the_record_that_has_the_payload() -> None:
    (record,) = read(
        revisit_record(
            record_id=ID,
            url=URL,
            date=NOW,
            ip="2001:db8::1",
            head=HEAD,
            profile=warc.IDENTICAL_PAYLOAD,
            digest=digest_text(payload_digest(b"x")),
            refers_to_url="https://b.test/",
            refers_to_date=NOW - 60,
            concurrent_to=OTHER_ID,
        )
    )
    assert record.type == "revisit"
    assert record.headers["WARC-Refers-To-Target-URI"] == "https://b.test/"
    assert record.headers["WARC-Refers-To-Date"] == "2026-01-02T03:03:05.678Z"
    assert record.headers["WARC-Payload-Digest"] == digest_text(payload_digest(b"x"))
    assert record.headers["WARC-Profile"].endswith("identical-payload-digest")
    assert record.content == b""
    assert record.http.get_statuscode() == "200"


def test_warcinfo_holds_fields() -> None:
    (info,) = read(
        warcinfo_record(record_id=ID, date=NOW, filename="a.warc.gz", fields={"software": "Shoal"})
    )
    assert info.headers["WARC-Filename"] == "a.warc.gz"
    assert info.content == b"software: Shoal\r\n"


@given(st.lists(st.tuples(st.binary(max_size=3000), st.booleans()), max_size=6))
def test_any_payload_comes_back_and_every_member_stands_alone(
    payloads: list[tuple[bytes, bool]],
) -> None:
    members = [response(payload, compressed=compressed) for payload, compressed in payloads]
    records = read(b"".join(members))
    assert [record.content for record in records] == [payload for payload, _ in payloads]
    offset = 0
    for member, record in zip(members, records, strict=True):
        assert (record.offset, record.length) == (offset, len(member))
        offset += len(member)


@pytest.mark.parametrize("size", [0, 1, 256, 257, 0xFFFE, 0xFFFF, 0x10000, 3 * 0xFFFF, 1 << 20])
def test_a_stored_payload_of_any_size_is_read_by_any_gzip_reader(size: int) -> None:
    payload = random.Random(size).randbytes(size)
    member = response(payload, compressed=True)
    (record,) = read(member)
    assert record.content == payload
    assert gzip.decompress(member).endswith(payload + b"\r\n\r\n")
    assert len(member) < size + 1000


def test_what_is_compressed_already_is_stored_and_html_is_not() -> None:
    assert compressed_already("text/html", "gzip")
    assert compressed_already("image/png", None)
    assert compressed_already("application/zip", "identity")
    assert not compressed_already("text/html", "identity")
    assert not compressed_already("image/svg+xml", None)
    assert not compressed_already(None, None)
    assert len(response(b"<p>hello</p>" * 1000)) < 1200


@pytest.mark.parametrize(
    "changes",
    [
        {"url": "https://a.test/\r\nWARC-Type: warcinfo"},
        {"url": "https://a.test/\nX: y"},
        {"ip": "192.0.2.1\r\n"},
        {"truncated": "length\r\n\r\n"},
        {"record_id": "<urn:uuid:x>\r"},
    ],
)
def test_no_argument_can_add_a_header(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="line break"):
        response(b"", **changes)


def test_no_field_can_add_another() -> None:
    with pytest.raises(ValueError, match="line break"):
        warcinfo_record(record_id=ID, date=NOW, filename="x", fields={"operator": "me\r\nrobots: ignore"})


@given(st.text(), st.lists(st.tuples(st.binary(min_size=1), st.binary())))
def test_a_head_has_one_line_a_header_whatever_the_server_sent(
    reason: str, headers: list[tuple[bytes, bytes]]
) -> None:
    reason = reason.encode("utf-8", "replace").decode()
    head = response_head("1.1", 200, reason, headers)
    assert head.count(b"\n") == len(headers) + 2
    assert head.count(b"\r") == len(headers) + 2
    assert head.endswith(b"\r\n\r\n")


def test_a_reason_that_was_not_utf_8_is_kept_as_it_came() -> None:
    reason = b"Non trouv\xe9".decode("utf-8", "surrogateescape")
    assert response_head("1.0", 404, reason, ()) == b"HTTP/1.0 404 Non trouv\xe9\r\n\r\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1_767_323_045.9999, "2026-01-02T03:04:05.999Z"),
        (1_767_323_046.0, "2026-01-02T03:04:06.000Z"),
    ],
)
def test_dates_have_milliseconds_and_are_never_in_the_future(seconds: float, text: str) -> None:
    assert warc_date(seconds) == text


@given(st.binary(min_size=20, max_size=20))
def test_digests_are_written_in_base_32(digest: bytes) -> None:
    assert digest_text(digest) == "sha1:" + base64.b32encode(digest).decode()
