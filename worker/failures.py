"""What aiohttp, asyncio and ssl raise, in our own words: an outcome and a stable reason.

The one place where foreign exceptions are translated. Reasons are codes for ledgers and filters; they never
change. `error` texts are for people and may.
"""

from __future__ import annotations

import errno
import re

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from common.outcome import Outcome
from worker.connection import TooMuch, TotalTimeout
from worker.connector import NO_SOCKETS, AddressRefused
from worker.proxies import ProxyFailed
from worker.resolver import LookupFailed

FOREIGN = (aiohttp.ClientError, OSError, HttpProcessingError)
"""All that a fetch may raise. (asyncio.TimeoutError and ssl.SSLError are OSErrors.)"""

_UNREACHABLE = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN})

_CERTIFICATE = {  # X509_V_ERR_*, openssl/x509_vfy.h
    2: "tls_unknown_issuer",
    9: "tls_not_yet_valid",
    10: "tls_expired",
    18: "tls_self_signed",
    19: "tls_self_signed",
    20: "tls_unknown_issuer",
    21: "tls_unknown_issuer",
    23: "tls_revoked",
    62: "tls_hostname",
    64: "tls_hostname",
    66: "tls_weak",
    67: "tls_weak",
    68: "tls_weak",
}

# Parts of OpenSSL's reasons, first match; versions differ in how they begin (SSLV3_ALERT_, SSL/TLS_ALERT_).
_HANDSHAKE = (
    ("PROTOCOL_VERSION", "tls_version"),
    ("UNSUPPORTED_PROTOCOL", "tls_version"),
    ("CERTIFICATE_REQUIRED", "tls_client_certificate"),
    ("UNRECOGNIZED_NAME", "tls_unrecognized_name"),
    ("HANDSHAKE_FAILURE", "tls_handshake"),
    ("INSUFFICIENT_SECURITY", "tls_handshake"),
    ("NO_SHARED_CIPHER", "tls_handshake"),
    ("INTERNAL_ERROR", "tls_handshake"),
    ("KEY_TOO_SMALL", "tls_weak"),
    ("UNEXPECTED_EOF", "tls_cut"),
)


def translate(error: BaseException, written: bool) -> tuple[Outcome | None, str]:
    """Outcome and reason. Outcome None: the fault is this machine's, and the request was not `written`."""
    match error:
        case TotalTimeout():
            return Outcome.TIMEOUT, "total_timeout"
        case ProxyFailed():
            return Outcome.PROXY, f"proxy_{error.reason}"
        case aiohttp.ClientConnectorCertificateError():
            code = getattr(error.certificate_error, "verify_code", 0)
            return Outcome.TLS, _CERTIFICATE.get(code, "tls_certificate")
        case aiohttp.ClientConnectorSSLError():
            return Outcome.TLS, _handshake(getattr(error.os_error, "reason", None) or "")
        case aiohttp.ClientConnectorError():
            return _system(error.os_error, written)
        case TooMuch():
            return Outcome.PROTOCOL, "header_too_large"
        case aiohttp.ServerDisconnectedError():
            return Outcome.RESET, "disconnected"
        case TimeoutError() if not isinstance(error, aiohttp.ClientOSError):
            return Outcome.TIMEOUT, "read_timeout" if written else "connect_timeout"
        case HttpProcessingError() | aiohttp.ClientResponseError():
            cause = error.__cause__ or error
            too_large = isinstance(cause, LineTooLong) or "Too many headers" in str(cause)
            return Outcome.PROTOCOL, "header_too_large" if too_large else "bad_http"
        case aiohttp.InvalidURL():
            return Outcome.UNSUPPORTED, "bad_request"
        case OSError():
            return _system(error, written)
        case _:
            return Outcome.PROTOCOL, "bad_http"


def prose(error: BaseException) -> str:
    """One line about it for people, at most 300 characters."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    text = str(cause) or str(error.__cause__ or "") or type(error).__name__
    text = re.sub(r"^\[Errno -?\d+\] ", "", text)  # the words that follow say it; programs have `reason`
    return " ".join(text.split())[:300]


def _handshake(openssl: str) -> str:
    """The reason for a handshake that failed before the certificate could be blamed."""
    for part, reason in _HANDSHAKE:
        if part in openssl:
            return reason
    return "tls_protocol"


def _system(error: OSError, written: bool) -> tuple[Outcome | None, str]:
    match error:
        case AddressRefused():
            return Outcome.PRIVATE_ADDRESS, f"address_{error.kind}"
        case LookupFailed():
            return Outcome.DNS, error.reason
        case ConnectionRefusedError():
            return Outcome.REFUSED, "connection_refused"
        case _ if error.errno in _UNREACHABLE:
            return Outcome.REFUSED, "host_unreachable"
        case _ if error.errno in NO_SOCKETS and not written:
            return None, "no_sockets"
        case _ if error.errno == errno.ETIMEDOUT:
            return Outcome.TIMEOUT, "read_timeout" if written else "connect_timeout"
        case _ if written or isinstance(error, ConnectionError):
            return Outcome.RESET, "reset"
        case _:
            return Outcome.REFUSED, "connection_failed"
