"""What others read: metrics that Prometheus takes, a dashboard that names none that is not there, documents that
tell of all of them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from common.outcome import OUTCOMES
from coordinator import metrics
from coordinator.status import HostStatus, Phase, Seeds, Status, Waiting, WorkerStatus

ROOT = Path(__file__).parents[2]
STATUS = Status(
    phase=Phase.WAITING,
    directory="crawl1",
    pages=12,
    outcomes={"OK": 10, "DNS": 2},
    tries={"OK": 11, "DNS": 6},
    bytes_received=12_345_678_901,
    queued=100,
    leased=3,
    retries_waiting=7,
    held_back=20,
    refused={"scope": 5, 'od"d\\\n': 1},
    guarded={"calendar": 2},
    again={"new": 3},
    eta_seconds=12.5,
    seeds=Seeds(4, 1),
    waiting=(Waiting("retries", "..."), Waiting("robots", "...")),
    long_queues=(HostStatus("a.test", alone_seconds=90.0),),
    workers=(
        WorkerStatus("node1", 7, 1000, 20, 3.0, 0.5, 97, 1 << 26, 40, False, 1 << 20, 99),
        WorkerStatus("node1", 7),
        WorkerStatus("no\x1bde", 8, offline=True),
    ),
    disk_free_bytes=1 << 40,
    memory_bytes=1 << 27,
    cpu_percent=12,
)


def parsed(status: Status) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Sample value by name and labels, as Prometheus' own parser reads it."""
    found: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for family in text_string_to_metric_families(metrics.text(status)):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, f"{key} is there twice"
            found[key] = sample.value
    return found


def value(status: Status, name: str, **labels: str) -> float:
    return parsed(status)[name, tuple(sorted(labels.items()))]


def test_prometheus_reads_what_is_there() -> None:
    assert value(STATUS, "shoal_pages_total", outcome="OK") == 10
    assert value(STATUS, "shoal_pages_total", outcome="POISON") == 0
    assert value(STATUS, "shoal_tries_total", outcome="DNS") == 6
    assert value(STATUS, "shoal_received_bytes_total") == 12_345_678_901
    assert value(STATUS, "shoal_refused_total", rule='od"d\\\n') == 1
    assert value(STATUS, "shoal_phase", phase="waiting") == 1
    assert value(STATUS, "shoal_waiting", cause="retries") == 1
    assert value(STATUS, "shoal_waiting", cause="robots") == 0
    assert value(STATUS, "shoal_remaining_seconds") == 12.5
    assert value(STATUS, "shoal_worker_lag_seconds", worker="node1:7") == 0.04
    assert value(STATUS, "shoal_worker_cpu_ratio", worker="node1:7") == 0.97
    assert value(STATUS, "shoal_disk_free_bytes") == 1 << 40


def test_open_requests_are_each_in_one_state() -> None:
    states = {
        state: value(STATUS, "shoal_requests", state=state) for state in ("queued", "retry", "held", "leased")
    }
    assert states == {"queued": 73, "retry": 7, "held": 20, "leased": 3}


def test_processes_of_one_name_do_not_spoil_the_page() -> None:
    assert value(STATUS, "shoal_worker_fetches_total", worker="node1:7") == 99
    assert value(STATUS, "shoal_worker_fetches_total", worker="node1:7#2") == 0
    assert "\x1b" not in metrics.text(STATUS)


def test_labels_are_bounded() -> None:
    many = replace(STATUS, workers=tuple(WorkerStatus("node", number) for number in range(10_000)))
    assert metrics.text(many).count("shoal_worker_lanes{") == metrics.WORKERS
    assert value(many, "shoal_workers") == 10_000
    for family in metrics.families(many):
        labels = {name for sample, _ in family.samples for name in sample}
        assert labels <= {"outcome", "rule", "state", "phase", "cause", "change", "worker"}


def test_every_metric_has_a_prefix_a_unit_and_a_help() -> None:
    for family in metrics.families(STATUS):
        assert re.fullmatch(r"shoal_[a-z_]+", family.name)
        assert family.name.endswith("_total") == (family.kind == "counter")
        assert family.help
        assert "\n" not in family.help


def test_promtool_has_nothing_to_say() -> None:
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("no `promtool` here; it comes with Prometheus")
    read = subprocess.run(
        [tool, "check", "metrics"], input=metrics.text(STATUS), capture_output=True, text=True, check=False
    )
    assert (read.returncode, read.stdout + read.stderr) == (0, "")


def test_every_expression_of_dashboard_and_documents_is_promql(tmp_path: Path) -> None:
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("no `promtool` here; it comes with Prometheus")
    dashboard = json.loads((ROOT / "examples/grafana/shoal.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    alerts = (ROOT / "docs/metrics.md").read_text().partition("Worth an alert:")[2]
    expressions += [line.strip() for line in alerts.splitlines() if line.startswith("    ")]
    rules = [{"record": f"shoal:rule{number}", "expr": text} for number, text in enumerate(expressions)]
    path = tmp_path / "rules.yml"
    path.write_text(json.dumps({"groups": [{"name": "shoal", "rules": rules}]}))  # JSON is YAML
    read = subprocess.run([tool, "check", "rules", path], capture_output=True, text=True, check=False)
    assert read.returncode == 0, read.stdout + read.stderr


def test_the_dashboard_names_only_metrics_and_labels_that_there_are() -> None:
    dashboard = json.loads((ROOT / "examples/grafana/shoal.json").read_text())
    there = {family.name: family for family in metrics.families(STATUS)}
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(expressions) >= 20
    used = set()
    for expression in expressions:
        names = re.findall(r"\bshoal_[a-z_]+", expression)
        assert names, expression
        used.update(names)
        by = re.search(r"by \((\w+)\)", expression)
        for name in names:
            assert name in there, f"{expression}: no metric is called {name}"
            assert ("rate(" in expression or "increase(" in expression) <= (there[name].kind == "counter")
            if by is not None:
                assert all(by[1] in labels for labels, _ in there[name].samples), expression
    assert {"shoal_pages_total", "shoal_waiting", "shoal_worker_lag_seconds"} <= used
    variables = [variable["query"] for variable in dashboard["templating"]["list"]]
    assert any(name in str(query) for query in variables for name in there)
    identifiers = [panel["id"] for panel in dashboard["panels"]]
    assert len(identifiers) == len(set(identifiers))
    for outcome in re.findall(
        r"[A-Z_]{2,}", " ".join(re.findall(r'outcome!?~"([^"]*)"', " ".join(expressions)))
    ):
        assert outcome in {each.value for each in OUTCOMES}


def test_the_documents_tell_of_every_metric_and_every_cause() -> None:
    told = (ROOT / "docs/metrics.md").read_text()
    for family in metrics.families(STATUS):
        assert f"| `{family.name}` | {family.kind} | {family.help} |" in told, family.name
    written = set(re.findall(r"`(shoal_[a-z_]+)`", told))
    assert written == {family.name for family in metrics.families(STATUS)}
    source = (ROOT / "coordinator/waiting.py").read_text()
    causes = set(re.findall(r'_say\(\s*"([a-z_]+)"', source)) | {"dns", "failing"}
    table = set(re.findall(r"`([a-z_]+)`", "\n".join(re.findall(r"^\| (`[^|]*) \|", told, re.M))))
    assert causes <= table, causes - table
    assert {cause for cause in table if not cause.startswith("shoal_")} <= causes
