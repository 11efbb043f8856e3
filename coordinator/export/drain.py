"""A file that others write to and we read from: what turns a library that writes into a stream of chunks."""

from __future__ import annotations

from collections.abc import Iterator


class Drain:
    """Takes what is written, until it is taken. It cannot seek, so writers stream."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._size = 0
        self.closed = False

    def write(self, content: bytes | bytearray | memoryview) -> int:
        """Keep a copy."""
        self._chunks.append(bytes(content))
        self._size += len(content)
        return len(content)

    def tell(self) -> int:
        """Bytes written so far."""
        return self._size

    def flush(self) -> None:
        """Nothing lies in between."""

    def seekable(self) -> bool:
        """Never."""
        return False

    def close(self) -> None:
        """No more will be written; what was can still be taken."""
        self.closed = True

    def take(self) -> Iterator[bytes]:
        """What was written since the last time."""
        chunks, self._chunks = self._chunks, []
        return iter(chunks)
