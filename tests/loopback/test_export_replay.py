"""CDXJ and WACZ, judged by those who read them: py-wacz validates, pywb replays a whole crawl page by page.

Both pin packages of long ago, so they live in an environment of their own, made once in the user's cache (half a
minute); where it cannot be made, or SHOAL_NO_INSTALL is set, these tests are skipped.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from common.errors import BadURL
from common.url import canonical
from coordinator.export.surt import surt
from shoal.demo.web import START, Web
from tests.support.cluster import check_records, results

ROOT = Path(__file__).parents[2]
SUITES = ROOT.parent / "shared" / "suites" / "url"
_TOOLS = ("pywb==2.10.0", "wacz==0.6.0")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

_SERVE = """
from gevent import monkey; monkey.patch_all()
from gevent.pywsgi import WSGIServer
from pywb.apps.frontendapp import FrontEndApp
server = WSGIServer(("127.0.0.1", 0), FrontEndApp(config_file="config.yaml"), log=None)
server.start()
print("port", server.server_port, flush=True)
server.serve_forever()
"""


class Tools:
    """The commands of pywb and py-wacz."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def run(self, name: str, *given: object, cwd: Path | None = None, typed: str = "") -> str:
        """What a command prints; it must succeed."""
        ended = subprocess.run(
            [self._folder / "bin" / name, *map(str, given)],
            cwd=cwd,
            env={key: value for key, value in os.environ.items() if not key.startswith("PYTHON")},
            input=typed,
            capture_output=True,
            text=True,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    @contextmanager
    def replaying(self, folder: Path) -> Iterator[int]:
        """pywb over the collections of a folder; its port."""
        with (folder / "pywb.log").open("w") as log:
            child = subprocess.Popen(
                [self._folder / "bin" / "python", "-W", "ignore", "-c", _SERVE],
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
            try:
                assert child.stdout is not None
                port = next((line for line in child.stdout if line.startswith("port ")), None)
                assert port is not None, (folder / "pywb.log").read_text()
                yield int(port.split()[1])
            finally:
                child.kill()
                child.communicate()


@pytest.fixture(scope="module")
def tools() -> Tools:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shoal-tests"
    folder = cache / f"{'-'.join(_TOOLS).replace('==', '-')}-py{sys.version_info[0]}.{sys.version_info[1]}"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # of two processes of one run, one installs
            if not (folder / "whole").exists():
                if os.environ.get("SHOAL_NO_INSTALL"):
                    pytest.skip("SHOAL_NO_INSTALL is set, and pywb is not in the cache")
                shutil.rmtree(folder, ignore_errors=True)
                venv.create(folder, with_pip=True)
                installing = [folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check"]
                said = subprocess.run([*installing, *_TOOLS], capture_output=True, text=True)
                if said.returncode:
                    pytest.skip(f"pywb and py-wacz cannot be installed: {said.stderr.strip()[-200:]}")
                (folder / "whole").touch()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no environment for pywb can be made: {error}")
    return Tools(folder)


class Crawled:
    """The demo web, crawled by real processes and exported."""

    def __init__(self, folder: Path) -> None:
        self.out = folder / "crawl"
        hosts = folder / "hosts"
        served = subprocess.Popen(
            [sys.executable, "-m", "shoal.demo", "--hosts-file", str(hosts)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert served.stdout is not None
            start = served.stdout.readline().strip()
            self.coord(
                *("crawl", start, "--out", self.out, "--scope", "domain", "--hosts-file", hosts),
                *("--allow-private", "--delay", "0", "--retries", "0", "--procs", "1"),
                *(
                    "--contact",
                    "tests@shoal.test",
                    "--deny",
                    r"//slow\.",
                    "--ignore-robots",
                    "--min-free",
                    "1MiB",
                ),
            )
        finally:
            served.kill()
            served.communicate()
        self.web = Web(urlsplit(start).port or 0)
        self.pages = results(self.out)
        self.cdxj, self.wacz = folder / "crawl.cdxj", folder / "crawl.wacz"
        for target in (self.cdxj, self.wacz):
            self.coord("export", self.out, "--to", target)

    @staticmethod
    def coord(*given: object) -> None:
        """`coord`, which succeeds."""
        command = [sys.executable, ROOT / "coordinator" / "__main__.py", *given]
        ended = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120)
        assert ended.returncode == 0, ended.stderr

    def body(self, url: str) -> bytes:
        """What the demo web serves there."""
        parts = urlsplit(url)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        return self.web.pages[parts.hostname or "", target].answer.body


@pytest.fixture(scope="module")
def crawled(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Crawled:
    return Crawled(tmp_path_factory.mktemp("replay"))


def replayed(port: int, collection: str, url: str, fetched_at: str) -> tuple[int, bytes]:
    """A page as pywb gives it back, untouched (`id_`)."""
    moment = re.sub(r"[-:T]", "", fetched_at[:19])
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", f"/{collection}/{moment}id_/{url}")
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_a_crawl_is_replayed_page_by_page(crawled: Crawled, tools: Tools, tmp_path: Path) -> None:
    """From the index beside the WARC files, and from the WACZ alone: every byte of every page that was OK."""
    (tmp_path / "config.yaml").write_text(
        f"collections:\n  index:\n    index_paths: {crawled.cdxj}\n    archive_paths: {crawled.out}/warc/\n"
    )
    tools.run("wb-manager", "init", "wacz", cwd=tmp_path)
    tools.run("wb-manager", "add", "--unpack-wacz", "wacz", crawled.wacz, cwd=tmp_path)
    wanted = [page for page in crawled.pages.values() if page["outcome"] == "OK"]
    assert len(wanted) > 200 and {page["record"] for page in wanted} == {"response", "revisit"}
    assert START in crawled.web.pages
    check_records(crawled.out, crawled.pages)
    with tools.replaying(tmp_path) as port:
        for page in wanted:
            said = crawled.body(page["url"])
            for collection in ("index", "wacz"):
                found = replayed(port, collection, page["url"], page["fetched_at"])
                assert found == (200, said), f"{page['url']}, a {page['record']}, from {collection}"


def test_the_index_is_sorted_and_complete(crawled: Crawled) -> None:
    lines = crawled.cdxj.read_bytes().splitlines(keepends=True)
    assert lines == sorted(lines)
    urls = {json.loads(line.split(b" ", 2)[2])["url"] for line in lines}
    assert urls == {url for url, page in crawled.pages.items() if page["warc"]}


def test_a_wacz_is_valid_to_its_makers(crawled: Crawled, tools: Tools) -> None:
    assert "is valid" in tools.run("wacz", "validate", "-f", crawled.wacz)


def test_keys_of_the_index_are_those_that_pywb_looks_for(tools: Tools) -> None:
    if not SUITES.is_dir():
        pytest.skip(f"no public test data at {SUITES}")
    texts = set(_MORE)
    for path in SUITES.glob("*.*"):
        texts.update(re.findall(r"https?:[^\s\"']+", path.read_text(errors="replace")))
    for case in json.loads((SUITES / "wpt-urltestdata.json").read_text()):
        if isinstance(case, dict):
            texts.add(case["input"])
    urls = set()
    for text in texts:
        for base in (None, "http://example.test/a/b?c"):
            try:
                urls.add(canonical(text, base))
            except BadURL:
                pass
    ordered = sorted(urls)
    theirs = json.loads(tools.run("python", "-W", "ignore", "-c", _KEYS, typed=json.dumps(ordered)))
    assert len(ordered) > 500
    wrong = [(url, surt(url), key) for url, key in zip(ordered, theirs, strict=True) if surt(url) != key]
    assert not wrong, wrong[:10]


_KEYS = """
import json, sys
from pywb.utils.canonicalize import canonicalize
print(json.dumps([canonicalize(url) for url in json.load(sys.stdin)]))
"""

_ID = "0123456789abcdef0123456789ABCDEF"
_MORE = (
    "http://www2.a.test/x//y/../../z//",
    "http://www.www.a.test./B/",
    "https://a.test/?b=1&a=2&a=1&",
    "http://a.test/?&&",
    "http://a.test/?a&a=&a=b",
    "http://a.test/%25%32%35%41",
    "http://a.test/..%2f..%2fx",
    "http://a.test/a//..//b",
    "http://a.test/a/%2e%2E",
    "http://a.test/a%23b?c%23d=%26&b",
    "http://a.test/中?q=中",
    "http://a.test/a+b%20c?d+e%20f",
    "http://a.test:443/",
    "https://a.test:80/",
    "http://[::1]:8080/a",
    "http://u:p@a.test/",
    f"http://a.test/?sid={_ID}",
    f"http://a.test/?a=b&jsessionid={_ID}&c=d",
    "http://a.test/?cfid=1&cftoken=2&x=1",
    "http://a.test/(a(4hqa0555fwsecu455xqckv45)S(4hqa0555fwsecu455xqckv45))/m.aspx",
    "http://a.test/(4hqa0555fwsecu455xqckv45)/m.aspx?x",
)
"""What the suites do not have: what the key forgets."""
