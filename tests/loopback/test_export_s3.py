"""`coord export --to s3://...` against moto's server, which speaks as S3 does: whole objects, or none."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from coordinator.cli import main
from coordinator.store.rows import output_row, pack
from tests.loopback.test_export import Crawl, crawl, page, table

__all__ = ["crawl"]

_SERVER = """
import threading
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
threading.Event().wait()
"""


_WHO = "AWS4-HMAC-SHA256 Credential=test/20260501/us-east-1/s3/aws4_request"


class Bucket:
    """A bucket of that server, asked over plain HTTP."""

    def __init__(self, port: int) -> None:
        self.port = port
        assert self.ask("PUT", "/bucket")[0] == 200

    def ask(self, method: str, path: str) -> tuple[int, bytes]:
        """Status and body."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, headers={"Authorization": _WHO})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def holds(self, key: str) -> bool:
        """Whether there is such an object."""
        return self.ask("HEAD", f"/bucket/{key}")[0] == 200

    def has_uploads(self) -> bool:
        """Whether one was begun, and neither completed nor aborted."""
        return b"<Upload>" in self.ask("GET", "/bucket?uploads")[1]


@pytest.fixture(scope="module")
def server() -> Iterator[Bucket]:
    child = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _SERVER],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert child.stdout is not None
        # It announces itself on the first line, in words.
        port = next((line for line in child.stdout if line.strip().isdecimal()), None)
        assert port is not None, "moto's server did not start"
        yield Bucket(int(port))
    finally:
        child.kill()
        child.communicate()


@pytest.fixture
def bucket(server: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    for name, value in (
        ("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.port}"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    return server


def test_an_object_holds_what_a_file_would(bucket: Bucket, crawl: Crawl, tmp_path: Path) -> None:
    for name in ("pages.jsonl", "deep/er/pages.csv", "pages.parquet", "pages.cdxj"):
        assert main(["export", str(crawl.path), "--to", f"s3://bucket/{name}"]) == 0
        status, content = bucket.ask("GET", f"/bucket/{name}")
        (copy := tmp_path / Path(name).name).write_bytes(content)
        assert status == 200
        assert content == crawl.export(to=f"same{copy.suffix}").read_bytes()
    assert len(table(tmp_path / "pages.parquet")) == 3
    assert not bucket.has_uploads()


def test_many_parts_make_one_object(bucket: Bucket, crawl: Crawl) -> None:
    lines = [page(number, error="x" * 10_000) for number in range(2_500)]
    crawl.add("pages/pages-00-00000.jsonl", lines)
    crawl.commit()
    assert main(["export", str(crawl.path), "--to", "s3://bucket/big.jsonl"]) == 0
    assert bucket.ask("GET", "/bucket/big.jsonl")[1] == b"".join(lines)


def test_an_object_that_exists_is_kept_unless_forced(
    bucket: Bucket, crawl: Crawl, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["export", str(crawl.path), "--to", "s3://bucket/kept.jsonl"]
    assert main(command) == 0
    crawl.add("pages/pages-00-00000.jsonl", [page(9)])
    crawl.commit()
    capsys.readouterr()
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "--force" in said and said.count("\n") == 1
    assert main([*command, "--force"]) == 0
    assert bucket.ask("GET", "/bucket/kept.jsonl")[1] == page(9)


def test_an_export_that_fails_half_way_leaves_no_object_and_no_parts(
    bucket: Bucket, crawl: Crawl, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [page(number, error="x" * 10_000) for number in range(2_000)]
    crawl.add("pages/pages-00-00000.jsonl", lines)
    (crawl.path / "pages/pages-00-00001.jsonl").write_bytes(b"torn")
    crawl.rows[output_row("pages/pages-00-00001.jsonl")] = pack(4)
    crawl.commit()
    assert main(["export", str(crawl.path), "--to", "s3://bucket/half.jsonl"]) == 1
    said = capsys.readouterr().err
    assert "the line is torn" in said and said.count("\n") == 1
    assert not bucket.holds("half.jsonl") and not bucket.has_uploads()


def test_a_bucket_that_is_not_there_is_one_line(
    bucket: Bucket, crawl: Crawl, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(crawl.path), "--to", "s3://nobody-has-it/x.jsonl"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("coord: s3://nobody-has-it/x.jsonl: ") and said.count("\n") == 1
