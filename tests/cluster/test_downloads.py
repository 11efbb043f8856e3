"""Downloads in real processes that are really killed: the right bytes, exactly one file, nothing left over."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from base64 import b32encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, audited, coord, let_pass, results, until
from tests.support.filehost import FileHost
from tests.support.smalldisk import mounted_disk

MIB = 1 << 20

SLOWLY = (0.02, 256 << 10)
"""As drips: a second and a half from the 32nd MiB, at which what has come is synced, to the 52nd, so that it is."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
def host() -> Iterator[FileHost]:
    with FileHost() as host:
        yield host


def made(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def digest(body: bytes) -> str:
    return "sha1:" + b32encode(hashlib.sha1(body).digest()).decode()


def files(out: Path) -> list[str]:
    """Every file below DIR/files, parts too."""
    return sorted(path.relative_to(out).as_posix() for path in (out / "files").rglob("*") if path.is_file())


def received(out: Path) -> int:
    """Bytes of downloads that are not whole yet."""
    return sum(path.stat().st_size for path in (out / "files").glob(".parts/*/*"))


def kept_once(out: Path, url: str, body: bytes) -> None:
    """The file is there, with its line, and nothing else is."""
    line = results(out)[url]
    assert (line["outcome"], line["length"], line["digest"]) == ("OK", len(body), digest(body))
    assert files(out) == [line["file"]]
    assert (out / line["file"]).read_bytes() == body
    assert line["warc"] is None and line["record"] is None
    audited(out)


@pytest.mark.parametrize("ranges", [True, False], ids=["with-range", "without"])
def test_a_worker_that_is_killed_in_the_middle(host: FileHost, tmp_path: Path, ranges: bool) -> None:
    body = made(64 * MIB)
    host.put("/film.bin", body, ranges=ranges, drips=(0.004, 256 << 10))
    options = ("--download", "application/*", "--no-follow")
    with Cluster(tmp_path, host, ("/film.bin",), lease_ttl=2.0, heartbeat=0.4, options=options) as cluster:
        cluster.coordinate("start")
        cluster.work(procs=1)
        until(lambda: received(cluster.out) >= 24 * MIB, "24 MiB have come")
        cluster.kill(cluster.workers()[0])
        cluster.finish()
    asked = host.asked("/film.bin")
    assert asked[0] is None and len(asked) == 2
    if ranges:
        assert asked[1] is not None and int(asked[1][6:-1]) >= 20 * MIB
        assert host.if_ranges("/film.bin")[1] == '"one"'
    else:
        assert asked[1] is None or asked[1].startswith("bytes=")
    kept_once(cluster.out, host.url("/film.bin"), body)


@pytest.mark.parametrize("ranges", [True, False], ids=["with-range", "without"])
def test_a_coordinator_that_is_killed_in_the_middle(host: FileHost, tmp_path: Path, ranges: bool) -> None:
    body = made(64 * MIB)
    host.put("/film.bin", body, ranges=ranges, drips=SLOWLY)
    options = ("--download", "application/*", "--no-follow")
    with Cluster(tmp_path, host, ("/film.bin",), lease_ttl=2.0, heartbeat=0.4, options=options) as cluster:
        cluster.coordinate("start")
        cluster.work(procs=1)
        until(lambda: received(cluster.out) >= 52 * MIB, "52 MiB have come")
        assert cluster.coordinator is not None
        cluster.kill(cluster.coordinator.pid)
        cluster.coordinate("start")
        cluster.finish()
    asked = host.asked("/film.bin")
    assert asked[0] is None and len(asked) >= 2
    if ranges:
        assert f"bytes={32 * MIB}-" in asked, asked
    kept_once(cluster.out, host.url("/film.bin"), body)


def test_everybody_is_killed_and_the_same_command_goes_on(host: FileHost, tmp_path: Path) -> None:
    body = made(64 * MIB)
    host.put("/film.bin", body, drips=SLOWLY)
    options = ("--download", "application/*", "--no-follow")
    with Cluster(tmp_path, host, ("/film.bin",), options=options) as cluster:
        cluster.coordinate("crawl", procs=1)
        until(lambda: received(cluster.out) >= 52 * MIB, "52 MiB have come")
        for seen in cluster.processes():
            cluster.kill(seen.pid)
        cluster.coordinate("crawl", procs=1)
        cluster.finish()
    assert host.asked("/film.bin") == [None, f"bytes={32 * MIB}-"]
    kept_once(cluster.out, host.url("/film.bin"), body)


def test_a_crawl_that_is_stopped_goes_on_where_its_download_was(host: FileHost, tmp_path: Path) -> None:
    body = made(24 * MIB)
    host.put("/film.bin", body, drips=(0.1, 256 << 10))
    options = ("--download", "application/*", "--no-follow")
    with Cluster(tmp_path, host, ("/film.bin",), options=options) as cluster:
        cluster.coordinate("crawl", procs=1)
        until(lambda: received(cluster.out) >= 3 * MIB, "3 MiB have come")
        assert coord("stop", str(cluster.out)).returncode == 0
        cluster.finish(expected=3)
        host.put("/film.bin", body)
        cluster.coordinate("crawl", procs=1)
        cluster.finish()
    first, second = host.asked("/film.bin")
    assert first is None and second is not None and int(second[6:-1]) >= 3 * MIB
    kept_once(cluster.out, host.url("/film.bin"), body)


GALLERY = """
def parse(page):
    yield page.download("/asked/", name="../The report: 2026.pdf")
    yield page.download("/away")
    yield page.download("/missing.png")
    yield page.download(page.css("img")[0])
    yield page.download("/named")
    yield page.download("/long.bin")
    yield page.download("/coded.svg")
    yield page.download("/archive.tar.gz")
    yield page.download("/nothing")
    yield page.follow("/page.html")
"""


def test_names_types_and_ends(host: FileHost, tmp_path: Path) -> None:
    """What extractors ask for: each in its file, with the name that it has, and what is no file is a page."""
    picture, coded = made(5000, seed=2), b"<svg/>" * 9999
    put = host.put
    put("/", b"<img src=/a.png><a href=/page.html>x</a>", headers={"Content-Type": "text/html"})
    put("/page.html", b"<title>Page</title>", headers={"Content-Type": "text/html"})
    put("/asked/", made(3 * MIB, seed=3), headers={"Content-Type": "application/pdf"})
    put("/away", b"", status=302, headers={"Location": f"http://elsewhere.test:{host.port}/there"})
    put("/there", b"there", headers={"Content-Type": "text/plain"})
    put("/a.png", picture, headers={"Content-Type": "image/png"})
    named = "attachment; filename*=UTF-8''na%C3%AFve%20file.png; filename=naive.png"
    put("/named", picture, headers={"Content-Type": "image/png", "Content-Disposition": named})
    put("/long.bin", made(5 * MIB), headers={"Transfer-Encoding": "chunked"})
    svg = {"Content-Type": "image/svg+xml", "Content-Encoding": "gzip"}
    put("/coded.svg", gzip.compress(coded), headers=svg)
    archive = gzip.compress(made(2 * MIB, seed=4))
    put(
        "/archive.tar.gz", archive, headers={"Content-Type": "application/x-gzip", "Content-Encoding": "gzip"}
    )
    put("/nothing", b"", status=204)
    (tmp_path / "gallery.py").write_text(GALLERY)
    options = ("--extract", f"{tmp_path}/gallery.py:parse", "--max-file-bytes", "4MiB", "--delay", "0")
    with Cluster(tmp_path, host, ("/",), options=options, scope="host") as cluster:
        cluster.coordinate("crawl", procs=1)
        cluster.finish()
    lines = {url.partition(str(host.port))[2]: line for url, line in results(cluster.out).items()}
    kept = {target: line["file"] for target, line in lines.items() if line["file"] is not None}

    def stem(target: str) -> tuple[str, str]:
        name = Path(kept[target]).name
        return name[: name.rindex("-")], name[name.rindex("-") + 13 :]

    assert stem("/asked/") == ("_The report_ 2026", ".pdf")
    assert stem("/there") == ("there", ".txt")
    assert kept["/there"].startswith("files/elsewhere.test/")
    assert kept["/a.png"] == kept["/named"]
    assert stem("/a.png") in (("a", ".png"), ("naïve file", ".png"))
    assert (cluster.out / kept["/coded.svg"]).read_bytes() == coded
    assert (cluster.out / kept["/archive.tar.gz"]).read_bytes() == archive
    assert stem("/archive.tar.gz") == ("archive", ".tar.gz")
    assert (lines["/away"]["outcome"], lines["/away"]["method"]) == ("REDIRECT", "DOWNLOAD")
    assert (lines["/missing.png"]["outcome"], lines["/missing.png"]["status"]) == ("CLIENT_ERROR", 404)
    assert lines["/missing.png"]["warc"] is not None
    assert (lines["/long.bin"]["outcome"], lines["/long.bin"]["file"]) == ("TOO_LARGE", None)
    assert lines["/nothing"]["file"] is None and lines["/page.html"]["file"] is None
    assert sorted(set(kept.values())) == files(cluster.out)
    for target, line in lines.items():
        if line["file"] is not None:
            body = (cluster.out / line["file"]).read_bytes()
            assert (line["length"], line["digest"]) == (len(body), digest(body)), target
    audited(cluster.out)
    for target in ("/a.png", "/named"):
        why = coord("why", str(cluster.out), host.url(target))
        assert f"file       {kept['/a.png']}\n" in why.stdout, why.stdout


def test_a_list_of_images_is_fetched_once(host: FileHost, tmp_path: Path) -> None:
    """`--download TYPES` on a list: run again, nothing is asked for again; what was added is."""
    pictures = {f"/{number}.jpg": made(1000 + number, seed=number) for number in range(40)}
    for target, body in pictures.items():
        host.put(target, body, headers={"Content-Type": "image/jpeg"})
    host.put("/no.html", b"<p>none", headers={"Content-Type": "text/html"})
    seeds = tmp_path / "images.txt"
    seeds.write_text("".join(f"{host.url(target)}\n" for target in (*pictures, "/no.html")))
    options = ("--no-follow", "--download", "image/*", "--per-host", "4")
    with Cluster(tmp_path, host, ("/",), delay=0.0, seeds=seeds, options=options) as cluster:
        cluster.coordinate("crawl", procs=1)
        cluster.finish()
        host.put("/new.jpg", b"new", headers={"Content-Type": "image/jpeg"})
        with seeds.open("a") as file:
            file.write(f"{host.url('/new.jpg')}\n")
        cluster.coordinate("crawl", procs=1)
        cluster.finish()
    lines = results(cluster.out)
    assert [host.asked(target) for target in (*pictures, "/new.jpg")] == [[None]] * 41
    assert len(files(cluster.out)) == 41
    for target, body in pictures.items():
        assert (cluster.out / lines[host.url(target)]["file"]).read_bytes() == body
    assert lines[host.url("/no.html")]["file"] is None
    summary = json.loads((cluster.out / "summary.json").read_text())
    assert summary
    audited(cluster.out)


def test_a_full_disk_makes_downloads_wait_and_nothing_is_torn(host: FileHost, tmp_path: Path) -> None:
    """The kernel refuses, in the middle of pieces and of small files; for longer than leases last."""
    body = made(40 * MIB)
    host.put("/film.bin", body, drips=(0.004, 256 << 10))
    small = {f"/{number}.bin": made(200_000, seed=number) for number in range(40)}
    for target, content in small.items():
        host.put(target, content)
    seeds = tmp_path / "seeds.txt"
    seeds.write_text("".join(f"{host.url(target)}\n" for target in ("/film.bin", *small)))
    options = ("--download", "application/*", "--no-follow", "--min-free", "0", "--per-host", "2")
    with (
        mounted_disk(tmp_path / "disk", 96) as disk,
        Cluster(
            tmp_path,
            host,
            ("/",),
            seeds=seeds,
            delay=0.02,
            lease_ttl=1.5,
            heartbeat=0.3,
            out=disk.folder / "crawl",
            options=options,
        ) as cluster,
    ):
        cluster.coordinate("start")
        cluster.work(procs=1)
        until(lambda: received(cluster.out) >= 10 * MIB, "10 MiB have come")
        disk.leave(0)
        until(lambda: "disk.full" in cluster.tail(), "it says so")
        let_pass(4.0)
        disk.relieve()
        cluster.finish()
        lines = results(cluster.out)
        for target, content in {"/film.bin": body, **small}.items():
            line = lines[host.url(target)]
            assert (line["outcome"], line["digest"]) == ("OK", digest(content)), target
            assert (cluster.out / line["file"]).read_bytes() == content
        assert len(files(cluster.out)) == 41
        audited(cluster.out)


def test_a_worker_that_is_frozen_past_its_lease_adds_nothing(host: FileHost, tmp_path: Path) -> None:
    """Another process goes on with its download; thawed, it finds that nobody wants its pieces."""
    body = made(32 * MIB)
    host.put("/film.bin", body, drips=(0.02, 256 << 10))
    options = ("--download", "application/*", "--no-follow")
    with Cluster(tmp_path, host, ("/film.bin",), lease_ttl=1.5, heartbeat=0.3, options=options) as cluster:
        cluster.coordinate("start")
        cluster.work(procs=2)
        until(lambda: received(cluster.out) >= 4 * MIB, "4 MiB have come")
        frozen = cluster.workers()
        for pid in frozen:
            cluster.freeze(pid)
        let_pass(3.0)
        for pid in frozen:
            cluster.thaw(pid)
        cluster.finish()
    assert len(host.asked("/film.bin")) == 2
    kept_once(cluster.out, host.url("/film.bin"), body)


def test_what_breaks_again_and_again_gets_there(host: FileHost, tmp_path: Path) -> None:
    """A server that cuts every answer after a MiB and a half; and one whose file changes meanwhile."""
    body, other = made(4 * MIB + 7), made(5 * MIB, seed=9)
    host.put("/film.bin", body, breaks=[MIB + MIB // 2] * 2)
    changing = host.put("/news.bin", made(3 * MIB), breaks=[2 * MIB + 9000])
    options = ("--download", "application/*", "--no-follow", "--retries", "1", "--per-host", "2")
    seeds = tmp_path / "seeds.txt"
    seeds.write_text(f"{host.url('/film.bin')}\n{host.url('/news.bin')}\n")
    with Cluster(tmp_path, host, ("/",), delay=0.0, seeds=seeds, options=options) as cluster:
        cluster.coordinate("crawl", procs=1)
        host.wait_for("/news.bin", 1)
        changing.body, changing.etag = other, '"two"'
        cluster.finish()
    asked = host.asked("/film.bin")
    assert asked == [None, f"bytes={MIB}-", f"bytes={2 * MIB}-"]
    assert host.asked("/news.bin") == [None, f"bytes={2 * MIB}-"], "it asked for the rest of what is gone"
    lines = results(cluster.out)
    for target, content, tries in (("/film.bin", body, 2), ("/news.bin", other, 2)):
        line = lines[host.url(target)]
        assert (line["outcome"], line["digest"], line["attempts"]) == ("OK", digest(content), tries)
        assert (cluster.out / line["file"]).read_bytes() == content
    assert len(files(cluster.out)) == 2
    audited(cluster.out)
