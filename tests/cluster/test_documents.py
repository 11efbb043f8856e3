"""What the README and the tutorial tell people to paste, pasted."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.proxy import free_pair

ROOT = Path(__file__).parents[2]
REMARK = re.compile(r"\s{3,}\S.*$")


def programs(folder: Path) -> Path:
    """A folder for PATH with `coord`, `worker` and `python`, as an installation has them."""
    folder.mkdir()
    for name, module in (("coord", "coordinator/__main__.py"), ("worker", "worker/__main__.py")):
        (folder / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT / module}" "$@"\n')
        (folder / name).chmod(0o755)
    (folder / "python").symlink_to(sys.executable)
    return folder


@contextmanager
def shell(folder: Path, script: str, **variables: str) -> Iterator[subprocess.CompletedProcess[str]]:
    """Run a script as if it had been pasted into one terminal; at the end nothing of it is left."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("SHOAL_")}
    path = f"{programs(folder / 'programs')}:{clean['PATH']}"
    with (folder / "out.txt").open("w") as out, (folder / "said.txt").open("w") as said:
        child = subprocess.Popen(
            ["bash", "-c", f"set -eEuo pipefail -o monitor\n{script}"],
            cwd=folder,
            env=clean | {"PATH": path, "PYTHONPATH": str(ROOT)} | variables,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=said,
            start_new_session=True,
        )
    try:
        code = child.wait(240)
        yield subprocess.CompletedProcess(
            script, code, (folder / "out.txt").read_text(), (folder / "said.txt").read_text()
        )
    finally:
        for entry in Path("/proc").iterdir():  # `set -o monitor` gives each job a group of its own
            try:
                if entry.name.isdecimal() and os.getsid(int(entry.name)) == child.pid:
                    os.kill(int(entry.name), signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass


def test_the_tutorial_pasted_from_top_to_bottom(tmp_path: Path) -> None:
    text = (ROOT / "docs/tutorial.md").read_text("utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) > 7
    web, coordinator = free_pair(), free_pair()
    script = "\n".join(blocks).replace("8000", str(web))
    script = script.replace(
        "--delay 2 --no-progress",
        f"--delay 2 --no-progress --listen tcp://127.0.0.1:{coordinator} --http 127.0.0.1:0",
    )
    script = script.replace("7777", str(coordinator))
    with shell(tmp_path, script) as done:
        assert done.returncode == 0, done.stderr + done.stdout
        assert "all of it agrees" in done.stdout
        assert "355 URLs in all" in done.stderr
        assert "OPERATOR" in done.stdout
        assert (tmp_path / "broken.csv").read_text().count("\n") == 22
        assert '"title"' in done.stdout


SHOP = re.compile(r"^```python\n# shop\.py\n(.*?)^```", re.MULTILINE | re.DOTALL)
ELSEWHERE = ("coord start ", "worker start ")
"""What needs other machines; their flags are looked at by tests/unit/test_contrib.py."""


def test_the_commands_of_the_readme_in_their_order(tmp_path: Path) -> None:
    """Against the demo web in place of example.org, in one folder, without delays; each must succeed."""
    text = (ROOT / "README.md").read_text("utf-8")
    text = re.sub(r"<!-- (screen|speed) -->.*?<!-- /\1 -->", "", text, flags=re.DOTALL)
    lines = [REMARK.sub("", line) for line in re.findall(r"^    ((?:coord|worker) .*)$", text, re.MULTILINE)]
    lines = [line for line in lines if not line.startswith(ELSEWHERE)]
    assert len(lines) > 20
    shop = SHOP.search(text)
    assert shop is not None
    (tmp_path / "shop.py").write_text(shop[1])
    port = free_pair()
    start = f"http://www.demo.test:{port}/"
    (tmp_path / "urls.txt").write_text(f"{start}\n{start}nothing\n")
    (tmp_path / "firms.csv").write_text(f"name,website\nOne,{start}\n")
    (tmp_path / "images.txt").write_text(f"http://127.0.0.1:{port + 1}/dot.png\n")
    (tmp_path / "www").mkdir()
    (tmp_path / "www/dot.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "www/sitemap.xml").write_text(
        f"<urlset><url><loc>http://127.0.0.1:{port + 1}/</loc></url></urlset>"
    )
    pasted = "\n".join(lines)
    pasted = pasted.replace("https://example.org/sitemap.xml", f"http://127.0.0.1:{port + 1}/sitemap.xml")
    pasted = pasted.replace("https://example.org/", start)
    web = (
        f"python -m shoal.demo --port {port} --hosts-file demo.hosts >demo.log &\n"
        f"python -m http.server {port + 1} --directory www >www.log 2>&1 &\n"
        "while ! [ -s demo.hosts ]; do sleep 0.2; done\n"
    )
    variables = {
        "SHOAL_ALLOW_PRIVATE": "all",
        "SHOAL_HOSTS_FILE": str(tmp_path / "demo.hosts"),
        "SHOAL_DELAY": "0",
        "SHOAL_PER_HOST": "8",
        "SHOAL_RETRIES": "0",
    }
    with shell(tmp_path, f"{web}{pasted}\nkill %1 %2\n", **variables) as done:
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert (tmp_path / "headings.csv").read_text().count("\n") > 1
    assert (tmp_path / "c1.wacz").stat().st_size > 1000
    assert len(list(tmp_path.glob("pics1/files/127.0.0.1/*/dot-*.png"))) == 1
    assert "all of it agrees" in done.stdout


def test_every_link_of_the_documents_leads_to_something() -> None:
    documents = [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("**/*.md")]
    for document in documents:
        text = re.sub(r"```.*?```", "", document.read_text("utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name}: {target}"
