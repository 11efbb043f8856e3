"""`page.download`: what an extractor can ask for as a file, and what becomes of a redirect of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.messages import DOWNLOAD, Form, Request
from common.scope import HeldSites, Scope
from shoal import Crawl, Page
from worker.extractfollow import follow_group
from worker.outgoing import after_redirect, is_download, method_of
from worker.trial import _shown

PAGE = Page(
    "https://a.test/talks/1",
    headers={"Content-Type": "text/html"},
    body=b'<a href="/v/1.mp4">v</a><video src=2.mp4></video><img src="//cdn.test/p.png"><p>none',
)
PLAIN = Form(DOWNLOAD, (), None, None, 0, 0, None)


def test_an_address_or_an_element() -> None:
    assert PAGE.download("3.mp4").url == "https://a.test/talks/3.mp4"
    assert PAGE.download(PAGE.css("a")[0]).url == "https://a.test/v/1.mp4"
    assert PAGE.download(PAGE.css("video")[0]).url == "https://a.test/talks/2.mp4"
    assert PAGE.download(PAGE.css("img::attr(src)")[0]).url == "https://cdn.test/p.png"
    assert PAGE.download("https://a.test/v").form == PLAIN
    with pytest.raises(TypeError, match="expected an address"):
        PAGE.download(PAGE.css("p")[0])
    assert PAGE.download("mailto:x").bad == "invalid"


def test_name_headers_and_priority_go_along() -> None:
    follow = PAGE.download("/v", name="größe.mp4", headers={"Referer": PAGE.url}, priority=5)
    assert follow.form == Form(DOWNLOAD, (("Referer", PAGE.url),), None, None, 0, 5, "größe.mp4".encode())
    assert len(PAGE.download("/v", name="x" * 9000).form.carry or b"") <= 255  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="priority"):
        PAGE.download("/v", priority=5000)


def test_it_passes_the_scope() -> None:
    refused: dict[str, int] = {}
    parent = Request(PAGE.url, 0, 0, 0, 0, "a.test", None, None)
    scope = Scope("host", HeldSites(["a.test"]))
    follows = [PAGE.download("/v"), PAGE.download("https://cdn.test/v")]
    group = follow_group(parent, follows, 1, scope, 1, refused)
    assert group is not None and group.urls == ("https://a.test/v",)
    assert refused == {"scope": 1}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_of_it_is_one_too(status: int) -> None:
    form = PLAIN._replace(carry=b"name.mp4", headers=(("Cookie", "a=1"), ("If-None-Match", '"x"')))
    target = after_redirect(form, status, same_host=False, usual=None)
    assert target == PLAIN._replace(carry=b"name.mp4")
    assert method_of(target) == "GET"
    assert is_download(Request("https://cdn.test/", 0, 1, 0, 0, "", None, target))


def test_a_script_gets_its_path_and_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.bin").write_bytes(b"x" * 2000)
    line = {"url": "https://a.test/v", "status": 200, "depth": 0, "outcome": "OK", "digest": "sha1:X"}
    crawl = Crawl("https://a.test/", out=tmp_path, max_bytes="1KiB")
    page = crawl._page(line | {"file": "files/a.bin", "warc": None, "record": None})
    assert (page.file, page.body) == (tmp_path / "files" / "a.bin", b"x" * 1024)
    assert crawl._page(line | {"file": None, "warc": None, "record": None}).file is None


def test_worker_try_shows_it() -> None:
    follow = PAGE.download("/v", name="name.mp4")
    assert _shown(follow.url, follow.form, None) == {
        "url": "https://a.test/v",
        "method": DOWNLOAD,
        "name": "name.mp4",
    }
