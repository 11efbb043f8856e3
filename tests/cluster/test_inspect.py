"""`coord audit`, `why`, `tail` while real processes crawl, and afterwards."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.cluster import results, until
from tests.support.site import Site
from tests.support.terminal import Terminal


def test_a_running_crawl_is_audited_asked_and_followed(tmp_path: Path) -> None:
    with Site() as site, Terminal(tmp_path, site, delay=0.02) as terminal:
        host, target = site.grow(seed=4, hosts=4, pages=600)
        start = site.url(host, target)
        options = ["--scope", "any", "--procs", "2", *terminal.network]
        crawl = terminal.begin("coord", "crawl", start, "--out", "c", *options)
        site.wait_for(60)
        until(lambda: (tmp_path / "c" / "coord.json").exists(), "it listens")
        follower = terminal.begin("coord", "tail", "c", "--follow")
        audits = 0
        while crawl.is_running() and audits < 4:
            ended = terminal.coord("audit", "c", "--deep")
            assert ended.code == 0, ended.out + ended.said
            audits += 1
            told = json.loads(terminal.coord("why", "c", start, "--json").out)
            assert (told["state"], told["outcome"]) == ("FETCHED", "OK")
            told = json.loads(terminal.coord("why", "c", "ftp://nowhere.test/", "--json").out)
            assert (told["state"], told["refused_by"]) == ("NEVER_ADMITTED", "scheme")
        assert audits
        assert crawl.end().code == 0, crawl.said
        followed = follower.end()
        pages = results(tmp_path / "c")
        assert [json.loads(line)["url"] for line in followed.out.splitlines()] == list(pages)
        ended = terminal.coord("audit", "c", "--deep")
        assert ended.code == 0 and f"{len(pages):,} fetched" in ended.out, ended.out + ended.said
        assert terminal.coord("why", "c", start).out.startswith(f"{start}: FETCHED  OK 200\n")
