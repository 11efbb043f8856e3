"""Nobody is let in: a real crawl beside addresses it must not touch, each with a listener that notes a connection."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.canary import CANARIES, LITERALS, SITE

ROOT = Path(__file__).parents[2]
NEVER_BY_ALL = {"169.254.1.1", "169.254.169.254", "100.100.100.200", "168.63.129.16", "fd00:ec2::254"}
"""Link-local and metadata addresses: a bare --allow-private does not open them."""
TRANSLATED = ("[64:ff9b:", "[2002:", "[::a9fe:")
"""Addresses that carry another one; there is no translator here, so nothing can come of them even if allowed."""

_IN_NAMESPACE = ("unshare", "--map-root-user", "--net")


@pytest.fixture(scope="module")
def crawls(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    """Three crawls: with the site's address alone, with a bare --allow-private, and with one metadata address named."""
    if (
        shutil.which("ip") is None
        or subprocess.run([*_IN_NAMESPACE, "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("no network namespace can be made here (unshare --map-root-user --net, ip)")
    command = [
        *_IN_NAMESPACE,
        sys.executable,
        "-m",
        "tests.support.canary",
        str(tmp_path_factory.mktemp("canary")),
    ]
    command += [SITE, "all", f"{SITE},169.254.169.254"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, object]] = json.loads(done.stdout.splitlines()[-1])
    return found


def outcomes(crawl: dict[str, object]) -> dict[str, str]:
    found = crawl["outcomes"]
    assert isinstance(found, dict)
    return found


def test_only_what_is_allowed_is_connected_to(crawls: list[dict[str, object]]) -> None:
    alone = crawls[0]
    assert alone["reached"] == [], alone["said"]
    ends = outcomes(alone)
    assert ends["http://site.test:8080/"] == "OK"
    hops = {url: end for url, end in ends.items() if url.startswith("http://site.test:8080/hop")}
    assert len(hops) == len(LITERALS)
    assert set(hops.values()) == {"REDIRECT"}
    literal = {url: end for url, end in ends.items() if ".test:8080" not in url}
    assert set(literal.values()) == {"PRIVATE_ADDRESS"}
    assert len(literal) >= len(LITERALS) - 2  # some are spellings of one URL


def test_a_bare_allow_private_opens_neither_link_local_nor_metadata(crawls: list[dict[str, object]]) -> None:
    bare = crawls[1]
    assert bare["reached"] == sorted(set(CANARIES) - NEVER_BY_ALL), bare["said"]
    ends = outcomes(bare)
    assert ends["http://10.1.2.3/"] == "OK"
    assert {end for url, end in ends.items() if "169.254" in url or "a9fe" in url} == {"PRIVATE_ADDRESS"}


def test_a_metadata_address_that_is_named_is_opened_and_no_other(crawls: list[dict[str, object]]) -> None:
    named = crawls[2]
    assert named["reached"] == ["169.254.169.254"], named["said"]
    ends = outcomes(named)
    assert ends["http://169.254.169.254/latest/meta-data/"] == "OK"
    assert ends["http://meta.test/name"] == "OK"
    assert ends["http://100.100.100.200/"] == "PRIVATE_ADDRESS"
    assert all(end != "OK" for url, end in ends.items() if any(part in url for part in TRANSLATED))
