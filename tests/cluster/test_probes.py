"""The probes (tests/probes), crawled as a user would: nothing missing, nothing extra, nobody hurried.

docs/probes.md says what each of them is; this file only runs them. Crawls with other options run side by side.
"""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.probes.crawling import can_be_apart, wrong, wrong_again, wrong_apart, wrong_later

pytestmark = pytest.mark.slow


def right(said: list[str]) -> None:
    """Nothing is wrong."""
    assert not said, "\n" + "\n".join(said)


@pytest.mark.parametrize("procs", [1, 3])
def test_the_probes_are_found_as_the_manifest_says(tmp_path: Path, procs: int) -> None:
    right(wrong("main", tmp_path, procs))


def test_other_options_find_what_they_say(tmp_path: Path) -> None:
    """One crawl for each set of options, side by side."""
    names = {"switched": 2, "loose": 1, "host": 1, "domain": 1, "prefix": 1, "list": 1}
    with ThreadPoolExecutor(len(names)) as pool:
        results = pool.map(lambda name: wrong(name, tmp_path / name, names[name]), names)
        right([line for lines in results for line in lines])


def test_names_and_addresses_beyond_loopback(tmp_path: Path) -> None:
    if not can_be_apart():
        pytest.skip("no network namespace can be made here")
    right(wrong_apart("apart", tmp_path))


def test_hosts_behind_proxies(tmp_path: Path) -> None:
    if not can_be_apart():
        pytest.skip("no network namespace can be made here")
    for program in ("tinyproxy", "microsocks"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    right(wrong_apart("proxied", tmp_path))


def test_a_recrawl_asks_only_for_what_changed(tmp_path: Path) -> None:
    right(wrong_again(tmp_path))


def test_hosts_without_a_robots_txt_for_now_wait_and_a_day_later_it_is_asked_for_again(
    tmp_path: Path,
) -> None:
    right(wrong_later(tmp_path))
