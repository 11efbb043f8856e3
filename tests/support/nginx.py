"""nginx on loopback, serving a folder that nobody here wrote, with its access log read as it is written."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

_CONFIG: Final = """
daemon off; worker_processes 1; pid {scratch}/pid; error_log {scratch}/error.log;
events {{ worker_connections 1024; }}
http {{
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    charset utf-8;
    log_format line '$status $request_uri';
    access_log {scratch}/access line;
    client_body_temp_path {scratch}/body; proxy_temp_path {scratch}/proxy;
    fastcgi_temp_path {scratch}/fastcgi; uwsgi_temp_path {scratch}/uwsgi; scgi_temp_path {scratch}/scgi;
    gzip on; gzip_types text/css application/javascript;
    server {{ listen 127.0.0.1:{port}; server_name {host}; root {root}; index index.html; }}
}}
"""

_DOCUMENTATION: Final = (
    Path("/usr/share/doc/python3.11/html"),
    Path("/usr/share/doc/postgresql-doc-15/html"),
)


@dataclass(slots=True)
class Nginx:
    """A running server and what it was asked for."""

    host: str
    port: int
    hits: list[tuple[int, str]] = field(default_factory=list)
    """(status, path with query), in the order of their ends."""
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def url(self, target: str) -> str:
        return f"http://{self.host}:{self.port}{target}"

    def wait_for(self, hits: int, *, timeout: float = 60.0) -> None:
        """Return as soon as so many requests have been answered in all; TimeoutError if they are not."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.hits) >= hits, timeout):
                raise TimeoutError(f"{len(self.hits)} requests after {timeout} s, not {hits}")

    def read(self, log: Path) -> None:
        """Read the log, a pipe, until nginx has closed it; a thread's work."""
        with log.open() as lines:
            for line in lines:
                status, _, target = line.rstrip("\n").partition(" ")
                with self._changed:
                    self.hits.append((int(status), target))
                    self._changed.notify_all()


def documentation() -> Path:
    """A folder of HTML from a Debian package; skips the test where there is none."""
    for folder in _DOCUMENTATION:
        if folder.is_dir():
            return folder
    pytest.skip("no documentation of a Debian package here: apt-get install python3.11-doc")


@contextmanager
def serving(root: Path, scratch: Path, *, host: str) -> Iterator[Nginx]:
    """Serve a folder; skips the test where nginx is missing.

    The listening socket is ours and nginx inherits it, as it does in its own upgrades: so the port is free
    for sure, and connections wait in the socket until nginx is ready for them.
    """
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    log = scratch / "access"
    os.mkfifo(log)
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        listener.setblocking(False)  # nginx would wait in accept() for a second connection
        nginx = Nginx(host, listener.getsockname()[1])
        reader = threading.Thread(target=nginx.read, args=(log,), name="access log", daemon=True)
        reader.start()
        config = scratch / "nginx.conf"
        config.write_text(_CONFIG.format(scratch=scratch, port=nginx.port, host=host, root=root))
        process = subprocess.Popen(
            [program, "-p", str(scratch), "-e", str(scratch / "error.log"), "-c", str(config)],
            env=os.environ | {"NGINX": f"{listener.fileno()};"},
            pass_fds=(listener.fileno(),),
        )
        try:
            yield nginx
        finally:
            process.terminate()
            process.wait(10)
            reader.join(10)
