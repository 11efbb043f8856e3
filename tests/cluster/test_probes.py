"""The probes (tests/probes), crawled as a user would: nothing missing, nothing extra, nobody hurried, on 1 and 3 processes.

docs/probes.md says what each of them is; this file only runs them. Crawls with other options run side by side.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.probes.manifest import CONTACT, DELAY, Crawl
from tests.probes.server import Servers
from tests.probes.web import CRAWLS, PROBES
from tests.support.terminal import Terminal


def wrong(name: str, folder: Path, procs: int) -> list[str]:
    """Run one crawl of the probes; all that is wrong with what it left."""
    folder.mkdir()
    with Servers() as servers, Terminal(folder) as terminal:
        crawl = Crawl.of(name, PROBES, servers)
        crawl.robots = CRAWLS[name].obeys
        assert servers.authority is not None
        servers.authority.cert_pem.write_to_path(folder / "authority.pem")
        crawl.hosts_file(folder / "hosts")
        (folder / "crawl.toml").write_text(crawl.config)
        options = ["--out", "c", "--procs", str(procs), "--delay", str(DELAY), "--contact", CONTACT, "--no-progress"]
        options += ["--config", "crawl.toml", "--hosts-file", "hosts", "--allow-private", "--min-free", "1MiB"]
        variables = [("SSL_CERT_FILE", str(folder / "authority.pem"))]
        running = terminal.begin("coord", "crawl", *crawl.seeds, *options, *CRAWLS[name].options, variables=variables)
        ended = running.end(75)
        if ended.code != 0:
            return [f"{name}: exit code {ended.code}: {ended.said[-2000:]}"]
        status = terminal.coord("status", "c", "--json")
        return [
            f"{name} on {procs}: {said}"
            for said in crawl.judge(folder / "c", guarded=json.loads(status.out)["guarded"])
        ]


@pytest.mark.slow
@pytest.mark.parametrize("procs", [1, 3])
def test_the_probes_are_found_as_the_manifest_says(tmp_path: Path, procs: int) -> None:
    said = wrong("main", tmp_path / "main", procs)
    assert not said, "\n" + "\n".join(said)


@pytest.mark.slow
def test_other_options_find_what_they_say(tmp_path: Path) -> None:
    """One crawl for each set of options, side by side."""
    names = [name for name in CRAWLS if name != "main"]
    with ThreadPoolExecutor(len(names)) as pool:
        results = pool.map(lambda name: wrong(name, tmp_path / name, 2 if name == "switched" else 1), names)
        said = [line for lines in results for line in lines]
    assert not said, "\n" + "\n".join(said)
