"""The manifest of the probes: what the docs say of it, and that its judge sees what it is there to see."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.probes.manifest import CONTACT, Crawl, Pace, Plan, Probe, hurried
from tests.probes.server import Hit, Servers
from tests.probes.web import CRAWLS, ELSEWHERE, PROBES
from tests.probes.words import page

ROOT = Path(__file__).parents[2]


def test_the_docs_are_what_the_manifest_says() -> None:
    written = (ROOT / "docs" / "probes.md").read_text()
    assert written == page(), "python -m tests.probes > docs/probes.md"


def test_every_probe_belongs_to_a_crawl_and_has_a_name_of_its_own() -> None:
    assert {probe.crawl for probe in PROBES} == set(CRAWLS)
    assert len({probe.name for probe in PROBES}) == len(PROBES)


def test_what_is_tested_elsewhere_is_there() -> None:
    for _, _, where in ELSEWHERE:
        for path in where.split(", "):
            assert (ROOT / path).is_file(), path


def _hit(target: str, arrived: float, free: float, **more: Any) -> Hit:
    agent = {"user-agent": f"Shoal/1 (+{CONTACT})"}
    hit = Hit("web", "p.test", target, "GET", agent, "", "", arrived, 200, free)
    return replace(hit, **more)


class _Log(Servers):
    """Servers that were never opened, with a log that is made up."""

    def __init__(self, log: list[Hit]) -> None:
        super().__init__()
        self.ports["web"] = 1
        self._hits = log


def _line(target: str, **more: object) -> dict[str, object]:
    url = f"http://p.test:1{target}"
    plain = {
        "round": 0,
        "url": url,
        "outcome": "OK",
        "status": 200,
        "reason": None,
        "error": None,
        "referrer": None,
    }
    return plain | more


def _build(p: Plan) -> None:
    p.page("/", depth=0)
    p.spare("/no")


def judged(tmp_path: Path, lines: list[dict[str, object]], log: list[Hit]) -> list[str]:
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "pages-00-00000.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines)
    )
    crawl = Crawl.of("x", [Probe("p", "", "", "x", "", "", _build)], _Log(log))
    return crawl.judge(tmp_path)


ROBOTS = _hit("/robots.txt", 1.0, 1.0)
FRONT = _hit("/", 1.2, 1.2)


def test_what_is_as_announced_is_right(tmp_path: Path) -> None:
    assert judged(tmp_path, [_line("/", depth=0)], [ROBOTS, FRONT]) == []


@pytest.mark.parametrize(
    ("lines", "log", "said"),
    [
        ([], [ROBOTS, FRONT], "missing: http://p.test:1/"),
        ([_line("/", depth=0), _line("/x")], [ROBOTS, FRONT], "extra: http://p.test:1/x"),
        ([_line("/", depth=0)] * 2, [ROBOTS, FRONT], "two lines"),
        ([_line("/", depth=1)], [ROBOTS, FRONT], "depth is 1, expected 0"),
        ([_line("/", depth=0, outcome="TIMEOUT")], [ROBOTS, FRONT], "ended as TIMEOUT"),
        ([_line("/", depth=0)], [ROBOTS], "0 requests for http://p.test:1/, expected 1"),
        ([_line("/", depth=0)], [FRONT], "0 requests for http://p.test:1/robots.txt"),
        ([_line("/", depth=0)], [ROBOTS, FRONT, _hit("/x", 2.0, 2.0)], "1 requests for http://p.test:1/x"),
        ([_line("/", depth=0)], [ROBOTS, FRONT, _hit("/no", 2.0, 2.0)], "/no must not be touched"),
        ([_line("/", depth=0)], [ROBOTS, _hit("/", 1.05, 1.05)], "/ came 0.050 s after /robots.txt"),
        ([_line("/", depth=0)], [ROBOTS, replace(FRONT, headers={})], "asked for as None"),
        ([_line("/", depth=0)], [ROBOTS, replace(FRONT, host="q.test")], "nobody's: http://q.test"),
    ],
)
def test_what_is_wrong_is_seen(
    tmp_path: Path, lines: list[dict[str, object]], log: list[Hit], said: str
) -> None:
    assert any(said in line for line in judged(tmp_path, lines, log))


def test_each_lane_has_its_delay() -> None:
    log = [_hit("/1", 0.0, 0.5), _hit("/2", 0.0, 0.1), _hit("/3", 0.2, 0.2)]
    assert hurried(log, Pace(0.1, 2)) == []
    assert len(hurried(log, Pace(0.15, 2))) == 1
    assert len(hurried(log, Pace(0.1, 1))) == 2
