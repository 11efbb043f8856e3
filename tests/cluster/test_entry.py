"""However it is called and whatever stands on the path, `coord` is Shoal's and `worker` is Shoal's."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(sys.executable).parent

CALLS = {
    "coord": [str(SCRIPTS / "coord")],
    "worker": [str(SCRIPTS / "worker")],
    "the file coordinator/__main__.py": [sys.executable, str(ROOT / "coordinator" / "__main__.py")],
    "the file worker/__main__.py": [sys.executable, str(ROOT / "worker" / "__main__.py")],
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_packages_of_our_names_on_a_users_path_do_no_harm(call: list[str], tmp_path: Path) -> None:
    for name in ("common", "coordinator", "worker"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise SystemExit('the user\\'s {name} was imported')")
    if not Path(call[-1]).exists():
        pytest.skip(f"{call[-1]} is not installed in this environment")
    ran = subprocess.run(
        [*call, "--help"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "start" in ran.stdout


@pytest.mark.parametrize("name", ["coord", "worker"])
def test_ctrl_c_while_modules_are_imported_is_no_traceback(name: str, tmp_path: Path) -> None:
    package = "coordinator" if name == "coord" else "worker"
    importing = (
        f"import os, signal, sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == '{package}.cli':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        f"from shoal.entry import {name}\n"
        f"{name}()\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", importing], cwd=tmp_path, capture_output=True, timeout=60, check=False
    )
    assert (ran.returncode, ran.stderr) == (130, b"")


@pytest.mark.slow
def test_the_wheel_runs_outside_the_checkout(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    site = tmp_path / "site"
    wheel = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run([*pip, *wheel], check=True, timeout=120)
    (built,) = tmp_path.glob("shoal-*.whl")
    install = ["install", "--no-deps", "--target", str(site), str(built)]
    subprocess.run([*pip, *install], check=True, timeout=120)
    assert {path.parent.name for path in site.rglob("py.typed")} >= {
        "common",
        "coordinator",
        "worker",
        "shoal",
    }
    for script in ("coord", "worker"):
        ran = subprocess.run(
            [sys.executable, str(site / "bin" / script), "--help"],
            env=os.environ | {"PYTHONPATH": str(site)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (ran.returncode, ran.stderr) == (0, ""), script
    where = "import common, sys; sys.stdout.write(common.__file__)"
    ran = subprocess.run(
        [sys.executable, "-c", where],
        env=os.environ | {"PYTHONPATH": str(site)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(ran.stdout).is_relative_to(site)


def test_a_port_in_use_is_one_line_of_the_demo() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ran = subprocess.run(
            [sys.executable, "-m", "shoal.demo", "--port", port],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == f"shoal.demo: --port {port}: Address already in use\n"
