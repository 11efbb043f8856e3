"""Answers that break HTTP's framing as many servers do, put right as browsers do: a change of a few bytes.

aiohttp's parser is strict where a lax one could be made to take one answer for two, which endangers whoever shares
a connection. We do not share: a connection on which something was mended serves for no other request. What is put
right:

- more bytes than Content-Length says, or a body where there can be none (HEAD, 204, 304): the excess is cut off;
- the same Content-Length twice: the second is renamed to X-Shoal-Content-Length;
- Content-Length beside `Transfer-Encoding: chunked`: it is renamed likewise, the chunks count (RFC 9112, 6.3).

Anything else stays an error. Pure.
"""

from __future__ import annotations

import re

_LENGTH = re.compile(rb"^(content-length:[ \t]*(\d{1,15})[ \t]*\r?)$", re.I | re.M)
_CHUNKED = re.compile(rb"^transfer-encoding:[ \t]*chunked[ \t]*\r?$", re.I | re.M)
_EMPTY = re.compile(rb"HTTP/\d\.\d (204|304)\b")
_RENAMED = rb"X-Shoal-\1"


def mended(answer: bytes, *, head_only: bool) -> bytes | None:
    """The beginning of an answer that could not be parsed, put right; None: nothing to be put right is found.

    `answer` holds the whole head, or None comes back. `head_only`: the request was HEAD.
    """
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return None
    lengths = {length for _, length in _LENGTH.findall(head)}
    if head_only or _EMPTY.match(head):
        return head + end if body else None
    if _CHUNKED.search(head):
        return _LENGTH.sub(_RENAMED, head) + end + body if lengths else None
    if len(lengths) != 1:
        return None
    first = _LENGTH.search(head)
    assert first is not None
    right = (
        head[: first.end()] + _LENGTH.sub(_RENAMED, head[first.end() :]) + end + body[: int(lengths.pop())]
    )
    return right if right != answer else None
