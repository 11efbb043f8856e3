"""A list whose reading was cut short is read to its end by the next start, whoever cut it."""

from __future__ import annotations

from pathlib import Path

from tests.support.cluster import results, until
from tests.support.site import Site
from tests.support.terminal import Terminal


def test_a_list_that_was_cut_short_by_a_kill_is_read_to_its_end(tmp_path: Path) -> None:
    with Site() as site, Terminal(tmp_path, site) as terminal:
        site.page("a.test", "/")
        site.page("a.test", "/last")
        lines = [site.url("a.test")] * 60_000 + [site.url("a.test", "/last")]
        (terminal.folder / "list.txt").write_text("\n".join(lines))
        running = terminal.begin(
            "coord", "crawl", "list.txt", "--no-follow", "--out", "c", "--delay", "0", *terminal.network
        )
        told = terminal.folder / "c" / "seeds" / "seeds-00000.jsonl"
        until(lambda: told.exists() and told.stat().st_size > 0, "the first lines are read")
        running.signal(9)
        running.end()
        assert (terminal.folder / "c" / "seeds" / "unread.json").exists()
        ended = terminal.coord("crawl", "--out", "c")
        assert ended.code == 0, ended.said
        assert "list.txt was not read to its end last time: it is read again" in ended.said
        found = set(results(terminal.folder / "c"))
        assert found == {site.url("a.test"), site.url("a.test", "/last")}
        assert not (terminal.folder / "c" / "seeds" / "unread.json").exists()
        assert terminal.coord("audit", "c").code == 0
