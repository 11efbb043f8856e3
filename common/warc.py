"""Temporary: replaced by the page-path helper."""
from __future__ import annotations
import base64, os, uuid, gzip
from hashlib import sha1
from collections.abc import Callable, Mapping
from common.clock import rfc3339
Identifier = Callable[[], str]
def record_ids() -> Identifier:
    return lambda: f"<urn:uuid:{uuid.UUID(bytes=os.urandom(16), version=4)}>"
def digest_text(d: bytes) -> str: return "sha1:" + base64.b32encode(d).decode()
def _rec(headers, block):
    h = b"WARC/1.1\r\n" + b"".join(f"{k}: {v}\r\n".encode() for k, v in headers if v) + f"Content-Length: {len(block)}\r\n\r\n".encode()
    return gzip.compress(h + block + b"\r\n\r\n", 1)
def warcinfo_record(wall, file, fields: Mapping[str, str], record_id):
    block = "".join(f"{k}: {v}\r\n" for k, v in fields.items()).encode()
    return _rec([("WARC-Type", "warcinfo"), ("WARC-Record-ID", record_id), ("WARC-Date", rfc3339(wall)), ("WARC-Filename", file), ("Content-Type", "application/warc-fields")], block)
def response_head(version, status, reason, raw_headers):
    return f"HTTP/{version} {status} {reason}\r\n".encode() + b"".join((b"X-Shoal-Transfer-Encoding" if n.lower()==b"transfer-encoding" else n) + b": " + v + b"\r\n" for n, v in raw_headers) + b"\r\n"
def response_record(url, wall, head, payload, *, payload_digest, record_id, ip, truncated):
    b = head + payload
    return _rec([("WARC-Type", "response"), ("WARC-Record-ID", record_id), ("WARC-Date", rfc3339(wall)), ("WARC-Target-URI", url), ("WARC-IP-Address", ip), ("WARC-Payload-Digest", payload_digest), ("WARC-Block-Digest", digest_text(sha1(b).digest())), ("WARC-Truncated", truncated), ("Content-Type", "application/http; msgtype=response")], b)
def request_record(url, wall, head, *, record_id, concurrent_to):
    return _rec([("WARC-Type", "request"), ("WARC-Record-ID", record_id), ("WARC-Date", rfc3339(wall)), ("WARC-Target-URI", url), ("WARC-Concurrent-To", concurrent_to), ("Content-Type", "application/http; msgtype=request")], head)
def revisit_record(url, wall, head, *, payload_digest, record_id, ip, refers_to_uri, refers_to_date):
    return _rec([("WARC-Type", "revisit"), ("WARC-Record-ID", record_id), ("WARC-Date", rfc3339(wall)), ("WARC-Target-URI", url), ("WARC-IP-Address", ip), ("WARC-Profile", "http://netpreserve.org/warc/1.1/revisit/identical-payload-digest"), ("WARC-Payload-Digest", payload_digest), ("WARC-Refers-To-Target-URI", refers_to_uri), ("WARC-Refers-To-Date", rfc3339(refers_to_date)), ("Content-Type", "application/http; msgtype=response")], head)
