"""DIR, the folder of one crawl: what lies where, who may write there, and how its small files are written.

    FORMAT        version of everything here          crawl.toml    configuration in force
    coord.json    0600: the running coordinator       summary.json  what the last screen said
    worker.key    0600: copied to workers             coord.key     0600: the coordinator's own secret key
    lock          held by the one coordinator         workers.lock  held, shared, by its local workers
    frontier/ pages/ warc/ items/ files/ seeds/ text/ links/ logs/    each written by its own module

A `CrawlDirectory` that was `acquire`d is the only writer, by `flock` on `lock`; `look` opens one without it,
to read. Small files are replaced whole: written aside, fsynced, renamed, the folder fsynced; a reader never
sees half of one. The locks are the kernel's, so they end with the process that holds them, however it ends.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from common.errors import DiskFull, StorageError, UsageError
from common.keys import WorkerKey

FORMAT = 1
"""The version of all files in DIR that this Shoal writes; a newer one is refused, an older one migrated."""

_LOOKERS = 10
"""Tries, 10 ms apart, to lock a DIR that somebody may only be looking at."""

_NO_ROOM = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE))
"""What may be over when the same write is tried again."""

_PARTS = ("frontier", "pages", "warc", "items", "files", "seeds", "text", "links", "logs")


@dataclass(frozen=True, slots=True)
class Running:
    """What coord.json says of the running coordinator. It may be stale: only the lock tells who runs."""

    pid: int
    host: str
    """Name of the machine."""
    started_at: str
    """RFC 3339."""
    http: str
    """`HOST:PORT` of the REST interface, reachable from this machine."""
    token: str = field(repr=False)
    """What every change needs."""
    control: str = ""
    """ZeroMQ endpoint of shard 0's control socket: what workers are given as --coord."""
    version: str = ""


class CrawlDirectory:
    """One DIR. Made by `acquire` (to write; use as context, or `release`) or `look` (to read)."""

    def __init__(self, path: Path, *, is_new: bool = False, lock: int | None = None) -> None:
        self.path = path
        self.is_new = is_new
        """Created by this very call: nothing has been crawled into it."""
        self._lock = lock

    # -- opening

    @classmethod
    def acquire(cls, path: Path) -> Self:
        """DIR for writing, made if it is missing or empty.

        Raises `UsageError` if another process holds it, if it holds something that is no crawl, or if a newer
        Shoal wrote it.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
            content = {entry.name for entry in os.scandir(path)}
        except FileExistsError:
            raise UsageError(f"{path} is a file: --out names a folder") from None
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}: choose another --out") from None
        # Before FORMAT is written only the lock and what is written aside can be there.
        if "FORMAT" not in content and content - {"lock", "FORMAT.new"}:
            raise UsageError(f"{path} is not empty and holds no crawl: choose another --out")
        lock = _take_lock(path)
        try:
            directory = cls(path, is_new="FORMAT" not in content, lock=lock)
            if directory.is_new:
                directory.write("FORMAT", f"{FORMAT}\n")
            else:
                directory._check_format()
            for part in ("frontier", "pages", "warc", "seeds", "logs"):
                (path / part).mkdir(exist_ok=True)
        except BaseException:
            os.close(lock)
            raise
        return directory

    @classmethod
    def look(cls, path: Path) -> Self:
        """DIR for reading, whether a coordinator runs on it or not; `UsageError` if it holds no crawl."""
        if not (path / "FORMAT").is_file():
            if str(path).startswith("tcp:/"):
                raise UsageError(f"{path}: workers speak there; give DIR, or the HOST:PORT of --http")
            what = (
                "holds no crawl" if path.is_dir() else "is no folder" if path.exists() else "does not exist"
            )
            raise UsageError(f"{path} {what}: name the folder that was given as --out")
        directory = cls(path)
        directory._check_format()
        return directory

    def release(self) -> None:
        """Let others have it; coord.json goes first, so that nobody knocks where nobody is."""
        if self._lock is not None:
            (self.path / "coord.json").unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<CrawlDirectory {self.path} {'held' if self._lock is not None else 'read only'}>"

    # -- places

    def folder(self, part: str) -> Path:
        """One of the folders in DIR, made on first use (`pages`, `warc`, `frontier`, ...)."""
        if part not in _PARTS:
            raise ValueError(f"{part} is no folder of a crawl")
        folder = self.path / part
        if self._lock is not None and not folder.is_dir():
            folder.mkdir(exist_ok=True)
            _sync_folder(self.path)
        return folder

    @property
    def config_path(self) -> Path:
        return self.path / "crawl.toml"

    @property
    def worker_key_path(self) -> Path:
        return self.path / "worker.key"

    @property
    def workers_lock_path(self) -> Path:
        return self.path / "workers.lock"

    # -- small files

    def write(self, name: str, text: str, mode: int = 0o644) -> None:
        """Replace a small file whole and durably. `DiskFull` and `StorageError` leave the old one as it
        was."""
        target, aside = self.path / name, self.path / f"{name}.new"
        try:
            aside.unlink(missing_ok=True)
            # The mode is given at creation: a secret is never readable, not even for a moment.
            with open(
                os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8"
            ) as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            aside.rename(target)
            _sync_folder(self.path)
        except OSError as error:
            try:
                aside.unlink(missing_ok=True)
            except OSError:
                pass  # the first error is the one to tell
            kind = DiskFull if error.errno in _NO_ROOM else StorageError
            raise kind(f"{target}: {error.strerror}") from error

    def write_running(self, running: Running) -> None:
        """coord.json, readable by its owner alone: it holds the token."""
        self.write("coord.json", json.dumps(asdict(running), indent=1) + "\n", 0o600)

    def running(self) -> Running | None:
        """The coordinator that runs on this DIR; None if none does, whatever an old coord.json says."""
        try:
            text = (self.path / "coord.json").read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UsageError(
                f"{self.path / 'coord.json'}: {error.strerror}: run it as the crawl's owner"
            ) from None
        try:
            running = Running(**json.loads(text))
        except (TypeError, ValueError):
            return None
        # The lock of another machine may not be seen here (NFS without locks): then coord.json is believed.
        return running if running.host != socket.gethostname() or self.holder() is not None else None

    def holder(self) -> int | None:
        """The process that holds DIR; None if nobody does. 0: somebody who did not leave a number."""
        try:
            lock = os.open(self.path / "lock", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            # Shared is enough to find out, and does not keep another reader from finding out.
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return _pid_in(lock)
        else:
            return None
        finally:
            os.close(lock)

    def write_summary(self, summary: dict[str, Any]) -> None:
        """summary.json: what `coord status` says while no coordinator runs."""
        self.write("summary.json", json.dumps(summary, indent=1, ensure_ascii=False) + "\n")

    def summary(self) -> dict[str, Any] | None:
        """What summary.json says; None if there is none that can be read."""
        try:
            read = json.loads((self.path / "summary.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return read if isinstance(read, dict) else None

    # -- keys

    def write_keys(self, server_secret: bytes, worker: WorkerKey) -> None:
        """coord.key and worker.key. Workers that hold an earlier key are strangers from the next start on."""
        self.write("coord.key", server_secret.hex() + "\n", 0o600)
        remark = "# The key of this crawl's workers: whoever has it can take part. Copy it over ssh.\n"
        self.write("worker.key", remark + worker.text + "\n", 0o600)

    def keys(self) -> tuple[bytes, WorkerKey] | None:
        """The coordinator's secret key and the workers' key; None before `write_keys`."""
        secret, public = self.path / "coord.key", self.worker_key_path
        try:
            server_secret = bytes.fromhex(secret.read_text(encoding="ascii").strip())
            text = public.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UsageError(f"{error.filename}: {error.strerror}: run it as the crawl's owner") from None
        except ValueError:
            server_secret, text = b"", ""
        if len(server_secret) != 32:
            raise UsageError(f"{secret}: damaged; make new keys with: coord key {self.path} --new")
        return server_secret, WorkerKey.parse(text, str(public))

    # -- local workers

    def local_workers_gone(self) -> bool:
        """Whether no local worker of an earlier coordinator is left (PROTOCOL rule 12).

        Each holds `workers.lock` shared for as long as it lives; whoever gets it exclusively knows that they
        are gone.
        """
        lock = os.open(self.workers_lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            os.close(lock)  # and with it the lock
        return True

    # -- within

    def _check_format(self) -> None:
        text = (self.path / "FORMAT").read_text(encoding="utf-8", errors="replace").strip()
        if not text.isdecimal():
            raise UsageError(f"{self.path} holds no crawl: its FORMAT says {text[:40]!r}")
        if int(text) > FORMAT:
            formats = f"its format is {text}, this one knows {FORMAT}"
            raise UsageError(f"{self.path} was written by a newer Shoal ({formats}): upgrade Shoal")


def _take_lock(path: Path) -> int:
    try:
        lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}: choose another --out") from None
    try:
        # Not a pid file that is believed: the kernel lets go when its holder dies, however it dies.
        _lock_soon(lock)
    except BlockingIOError:
        pid = _pid_in(lock)
        os.close(lock)
        by = f"process {pid}" if pid else "another process"
        raise UsageError(
            f"{path} is in use by {by}: look with `coord status {path}`, end it with `coord stop {path}`"
        ) from None
    except OSError as error:
        os.close(lock)
        raise UsageError(f"{path}: cannot be locked ({error.strerror}): put --out on a local disk") from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def _lock_soon(lock: int) -> None:
    """Take the lock exclusively; somebody who only looks (`holder`) has it for microseconds and is waited
    out."""
    for _ in range(_LOOKERS):
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.01)
    return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _pid_in(lock: int) -> int:
    text = os.pread(lock, 20, 0).decode("ascii", "replace").strip()
    return int(text) if text.isdecimal() else 0


def _sync_folder(path: Path) -> None:
    """Make the names in a folder durable; fsync of a file alone does not."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
