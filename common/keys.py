"""The key a worker needs to join a coordinator: one line of text, in `DIR/worker.key` or `SHOAL_KEY`.

It holds the coordinator's public key (so that the worker knows whom it talks to) and the one client key pair
that the coordinator admits. The keys are CURVE25519, 32 raw bytes each; making them is left to the socket
shells. The text is base64url, because Z85 is full of characters that shells interpret.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field

from common.errors import UsageError

_PREFIX = "shoal1-"
_BYTES = 32


@dataclass(frozen=True, slots=True)
class WorkerKey:
    """The three keys of a worker; the last is secret and never shown."""

    server_public: bytes
    client_public: bytes
    client_secret: bytes = field(repr=False)

    @property
    def text(self) -> str:
        """The key as people copy it: 135 characters, safe in any shell."""
        raw = self.server_public + self.client_public + self.client_secret
        return _PREFIX + base64.urlsafe_b64encode(raw).decode()

    @classmethod
    def parse(cls, text: str, where: str) -> WorkerKey:
        """The key in `text`; lines that start with # are remarks. `where` names its place in the
        `UsageError`."""
        lines = [line.strip() for line in text.splitlines()]
        found = [line for line in lines if line and not line.startswith("#")]
        if len(found) == 1 and re.fullmatch(_PREFIX + r"[A-Za-z0-9_-]{128}", found[0]):
            try:
                raw = base64.urlsafe_b64decode(found[0].removeprefix(_PREFIX))
            except binascii.Error:
                raw = b""
            if len(raw) == 3 * _BYTES:
                return cls(raw[:_BYTES], raw[_BYTES : 2 * _BYTES], raw[2 * _BYTES :])
        raise UsageError(
            f"{where}: not a worker's key; copy DIR/worker.key whole from the coordinator's machine"
        )
