"""Who may import whom: read from the source, so that no lazy import gets by."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("common", "coordinator", "worker", "shoal")

MAY_IMPORT = {
    "common": {"common"},
    "coordinator": {"coordinator", "common"},
    "worker": {"worker", "common"},
    # The public face: its entry points call the two command lines, nobody calls it.
    "shoal": {"shoal", "common", "coordinator", "worker"},
}

ONLY_IN = {
    # State and socket never in one class: the two shells own the sockets.
    "zmq": {"coordinator/server.py", "worker/link.py"},
    "aiohttp": {
        "worker/connection.py",
        "worker/connector.py",
        "worker/failures.py",
        "worker/fetcher.py",
        "worker/receiving.py",
        "worker/resolver.py",
        "coordinator/control.py",
        "coordinator/dashboard/routes.py",
        "coordinator/watching.py",
    },
    "msgpack": {"common/wire.py", "coordinator/store/"},
    # Its Pool and queues are never used: whoever starts processes uses its Process.
    "aiomultiprocess": {"worker/supervisor.py"},
    # Extras: whoever does not export must not need them.
    "pyarrow": {"coordinator/export/parquet.py"},
    "obstore": {"coordinator/export/targets.py"},
    # Only crawls with extractors need it: it is imported when a page is first looked into.
    "parsel": {"worker/extractpage.py"},
    "pickle": set[str](),
}

DISTRIBUTIONS = {
    "zmq": "pyzmq",
    "cchardet": "faust-cchardet",
    "compression": "backports-zstd",
    "backports": "backports-zstd",
}
"""Import names that are not those of the distribution to install."""

PURE = (
    "common/filenames.py",
    "common/hostrules.py",
    "common/masking.py",
    "common/normalization.py",
    "common/outcome.py",
    "common/scope.py",
    "common/url.py",
    "coordinator/addressline.py",
    "coordinator/admission.py",
    "coordinator/rounds.py",
    "coordinator/bench.py",
    "coordinator/budgets.py",
    "coordinator/crawl.py",
    "coordinator/depths.py",
    "coordinator/downloads.py",
    "coordinator/export/choose.py",
    "coordinator/export/columns.py",
    "coordinator/export/lines.py",
    "coordinator/export/surt.py",
    "coordinator/fleet.py",
    "coordinator/frontier.py",
    "coordinator/history.py",
    "coordinator/hostline.py",
    "coordinator/hostqueue.py",
    "coordinator/hosts.py",
    "coordinator/leases.py",
    "coordinator/ledger.py",
    "coordinator/lending.py",
    "coordinator/metrics.py",
    "coordinator/neardup.py",
    "coordinator/orders.py",
    "coordinator/outputs.py",
    "coordinator/permits.py",
    "coordinator/partials.py",
    "coordinator/policy.py",
    "coordinator/queues.py",
    "coordinator/recent.py",
    "coordinator/results.py",
    "coordinator/robots.py",
    "coordinator/seedtext.py",
    "coordinator/sessions.py",
    "coordinator/shard.py",
    "coordinator/state.py",
    "coordinator/steps.py",
    "coordinator/traps.py",
    "coordinator/waiting.py",
    "coordinator/watchdog.py",
    "worker/agent.py",
    "worker/charset.py",
    "worker/chase.py",
    "worker/cookies.py",
    "worker/dates.py",
    "worker/directives.py",
    "worker/download.py",
    "worker/extracted.py",
    "worker/extractfollow.py",
    "worker/extractitems.py",
    "worker/extractpage.py",
    "worker/extractrules.py",
    "worker/feed.py",
    "worker/hrefs.py",
    "worker/leads.py",
    "worker/linkgraph.py",
    "worker/listing.py",
    "worker/loads.py",
    "worker/markup.py",
    "worker/outcome.py",
    "worker/outgoing.py",
    "worker/outlinks.py",
    "worker/owed.py",
    "worker/parse.py",
    "worker/reading.py",
    "worker/robots.py",
    "worker/rulebook.py",
    "worker/scan.py",
    "worker/sent.py",
    "worker/shards.py",
    "worker/simhash.py",
    "worker/sitemap.py",
    "worker/steps.py",
    "worker/suspicion.py",
    "worker/text.py",
    "worker/undoing.py",
    "worker/treesafe.py",
    "worker/visit.py",
    "worker/visits.py",
)
"""Cores: time comes in as `now`, randomness as a `random.Random`, instructions go out."""

NOT_IN_PURE = {
    "aiohttp",
    "asyncio",
    "logging",
    "random",
    "select",
    "socket",
    "structlog",
    "threading",
    "time",
    "uvloop",
    "zmq",
}

FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports when it runs, wherever in it; imports for types alone do not count."""
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno}: relative import"
            assert node.module is not None
            yield node.module
        elif isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            waiting.extend(node.orelse)
        else:
            waiting.extend(ast.iter_child_nodes(node))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_the_arrows_between_packages_point_to_common(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    ours = {module.split(".")[0] for module in imports(path)} & {*PACKAGES, "tests", "scripts"}
    if name_of(path).endswith("/__main__.py"):
        ours -= {"shoal"}  # `python -m worker` begins where `worker` does
    assert ours <= MAY_IMPORT[package]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_library_is_imported_only_where_it_belongs(path: Path) -> None:
    for module in imports(path):
        places = ONLY_IN.get(module.split(".")[0])
        assert places is None or any(name_of(path).startswith(place) for place in places), (
            f"{name_of(path)} imports {module}, which belongs in {sorted(places)}"
        )


def test_what_is_imported_is_what_pyproject_names() -> None:
    """Nothing comes by the grace of another package, and nothing is installed in vain."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    named = project["dependencies"] + [line for extra in extras if extra != "dev" for line in extras[extra]]
    declared = {re.split(r"[^\w.-]", line)[0].replace(".", "-") for line in named}
    modules = {module.split(".")[0] for path in FILES for module in imports(path)}
    foreign = modules - set(sys.stdlib_module_names) - {*PACKAGES}
    used = {DISTRIBUTIONS.get(module, module).replace("_", "-") for module in foreign}
    assert used == declared


@pytest.mark.parametrize("name", PURE)
def test_a_core_knows_no_clock_no_socket_and_no_chance(name: str) -> None:
    path = ROOT / name
    if not path.exists():
        pytest.skip(f"{name} is not there yet")
    assert not {module.split(".")[0] for module in imports(path)} & NOT_IN_PURE


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_begins_with_what_it_is(path: Path) -> None:
    source = path.read_text()
    assert not source.strip() or ast.get_docstring(ast.parse(source)), f"{name_of(path)} has no docstring"


@pytest.mark.parametrize("package", ["common", "coordinator", "worker"])
def test_the_map_of_the_packages_names_every_file(package: str) -> None:
    """docs/architecture.md lists the files of each package by what they are for."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    begin = text.index(f"\n`{package}/`: ") + len(f"\n`{package}/`: ")
    listed = set(re.findall(r"`(\w+/?)`", text[begin : text.index("\n`", begin)]))
    folder = ROOT / package
    files = {path.stem for path in folder.glob("*.py")} - {"__init__", "__main__"}
    folders = {f"{path.parent.name}/" for path in folder.glob("*/__init__.py")}
    there = {name for name in files | folders if not name.startswith("extract") or name in listed}
    assert listed == there
