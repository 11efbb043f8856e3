"""Temporary: replaced by the page-path helper."""
from dataclasses import dataclass
from common.outcome import Outcome
@dataclass(frozen=True, slots=True)
class Kind:
    name: str
    charset: str | None
def media_type(v):
    if not v: return Kind("", None)
    n, _, p = v.partition(";")
    c = p.strip().lower()
    return Kind(n.strip().lower(), c[8:].strip('"') if c.startswith("charset=") else None)
def judge(status, redirect):
    if redirect: return Outcome.REDIRECT
    if status == 304: return Outcome.NOT_MODIFIED
    if status < 300: return Outcome.OK
    if status < 500: return Outcome.CLIENT_ERROR
    return Outcome.SERVER_ERROR
