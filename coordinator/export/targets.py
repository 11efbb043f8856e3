"""Where an export goes: a file, standard output, or an object in S3 and what speaks like it.

A target is there whole or not at all. A file is written under another name beside it, fsynced, renamed. An object is
uploaded in parts, which become it when the last one was sent; the upload is aborted when anything fails. obstore, the
only library that speaks to stores, is an extra, `s3` (ADR 0017). What exists is not replaced
unless that is asked for.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from common.errors import DiskFull, StorageError, UsageError
from common.nearest import hint
from coordinator.export.formats import FORMATS, TEXTUAL
from coordinator.sink import fsync_folder

_GATHERED: Final = 1 << 20
"""Bytes written at once."""

_PART_BYTES: Final = 8 << 20
_MOST_PARTS: Final = 9_000
"""S3 takes 10,000."""
_PARTS_AT_ONCE: Final = 4

_ROLE_SERVICE: Final = "169.254.169.254"
"""Where a machine of Amazon's asks for its role; obstore does where no key is given."""


class Target(Protocol):
    """A place for an export."""

    name: str
    """For people."""

    def check(self, force: bool) -> None:
        """Raises UsageError where nothing can or may be written; `force`: what is there may be replaced."""

    def scratch_beside(self) -> Path | None:
        """A folder on the disk it will lie on, for what is sorted; None: the system's."""

    def write(self, chunks: Iterable[bytes], expected: int) -> int:
        """Take all chunks, about `expected` bytes; returns how many they were."""


def target_of(text: str, format: str | None) -> tuple[Target, str]:
    """The target and the format that were asked for: by `format`, else by how the target's name ends.

    Raises UsageError where there is no such format, or the target cannot take it.
    """
    chosen = format or ("jsonl" if text == "-" else text.rpartition("/")[2].rpartition(".")[2].lower())
    if chosen not in FORMATS:
        option = f"--format {format}" if format else f"--to {text}"
        raise UsageError(
            f"{option}: the name must end in {', '.join('.' + each for each in FORMATS)}, or --format says which"
            + hint(chosen, FORMATS)
        )
    if text == "-":
        if chosen not in TEXTUAL:
            raise UsageError(f"--to -: {chosen} is no text; standard output takes {', '.join(TEXTUAL)}")
        return StandardOutput(), chosen
    if "://" not in text:
        return File(Path(text)), chosen
    found = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(.*[^/])", text)
    if found is None:
        raise UsageError(f"--to {text}: a file, or s3://BUCKET/KEY")
    return StoredObject(found[1], found[2]), chosen


@dataclass
class StandardOutput:
    """Standard output."""

    name: str = "standard output"

    def check(self, force: bool) -> None:
        """Always possible."""

    def scratch_beside(self) -> Path | None:
        """None."""
        return None

    def write(self, chunks: Iterable[bytes], expected: int) -> int:
        """As they come. A reader that has enough ends the command."""
        size = 0
        try:
            for piece in gathered(chunks):
                sys.stdout.buffer.write(piece)
                size += len(piece)
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise StorageError(f"{self.name}: {error.strerror or error}") from None
        return size


class File:
    """A file of this machine."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = str(path)

    def check(self, force: bool) -> None:
        """See `Target`."""
        if self._path.is_dir():
            raise UsageError(f"--to {self._path} is a folder: name a file in it")
        if not self._path.parent.is_dir():
            raise UsageError(f"--to {self._path}: there is no folder {self._path.parent}")
        if not os.access(self._path.parent, os.W_OK | os.X_OK):
            raise UsageError(f"--to {self._path}: {self._path.parent} may not be written")
        if self._path.exists() and not force:
            raise UsageError(f"{self._path} exists: give another name, or --force to replace it")

    def scratch_beside(self) -> Path | None:
        """Its folder."""
        return self._path.parent

    def write(self, chunks: Iterable[bytes], expected: int) -> int:
        """See `Target`. DiskFull, StorageError: nothing is left."""
        aside = self._path.with_name(f".{self._path.name}.{os.getpid()}.new")
        size = 0
        try:
            with aside.open("xb") as out:
                for piece in gathered(chunks):
                    out.write(piece)
                    size += len(piece)
                out.flush()
                os.fsync(out.fileno())
            aside.replace(self._path)
            fsync_folder(self._path.parent)
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise (DiskFull if full else StorageError)(f"{self._path}: {error.strerror or error}") from None
        finally:
            aside.unlink(missing_ok=True)
        return size


class StoredObject:
    """An object in a bucket. Who we are, the region and the endpoint come from the usual `AWS_*` variables."""

    def __init__(self, bucket: str, key: str) -> None:
        self._bucket = bucket
        self._key = key
        self.name = f"s3://{bucket}/{key}"

    def check(self, force: bool) -> None:
        """See `Target`. Asks the store whether there is such an object."""
        try:
            import obstore
        except ImportError:
            raise UsageError(
                f"{self.name} needs obstore, which is not installed: pip install obstore"
            ) from None
        if force:
            return
        try:
            obstore.head(self._store(), self._key)
        except FileNotFoundError:
            return
        except (obstore.exceptions.BaseError, OSError) as error:
            raise UsageError(f"{self.name}: {_in_short(error)}") from None
        raise UsageError(f"{self.name} exists: give another name, or --force to replace it")

    def scratch_beside(self) -> Path | None:
        """None."""
        return None

    def write(self, chunks: Iterable[bytes], expected: int) -> int:
        """See `Target`. Memory: a few parts, of 8 MiB each up to 72 GB, beyond that of a 9,000th of it."""
        import obstore

        size = 0

        def counted() -> Iterator[bytes]:
            nonlocal size
            for piece in gathered(chunks):
                size += len(piece)
                yield piece

        try:
            obstore.put(
                self._store(),
                self._key,
                counted(),
                use_multipart=True,
                chunk_size=max(_PART_BYTES, expected // _MOST_PARTS + 1),
                max_concurrency=_PARTS_AT_ONCE,
            )
        except (obstore.exceptions.BaseError, OSError) as error:
            raise StorageError(f"{self.name}: {_in_short(error)}") from None
        return size

    def _store(self) -> Any:
        from obstore.store import S3Store

        endpoint = os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT") or ""
        # An endpoint without TLS was named by hand, so it is meant: a store in the same rack, or a test.
        return S3Store(self._bucket, client_options={"allow_http": endpoint.startswith("http://")})


def gathered(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of at least a mebibyte, but for the last."""
    some: list[bytes] = []
    size = 0
    for chunk in chunks:
        some.append(chunk)
        size += len(chunk)
        if size >= _GATHERED:
            yield b"".join(some)
            some, size = [], 0
    if some:
        yield b"".join(some)


def _in_short(error: Exception) -> str:
    """The first line of what the library says; more follows, for its own makers."""
    said = str(error).partition("\n")[0].strip().rstrip(":")[:300]
    if _ROLE_SERVICE in said:
        return (
            "no key: set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, and AWS_ENDPOINT_URL if it is not Amazon's"
        )
    return said
