"""Log lines: readable, whole, and harmless whatever the web sent."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from common.log import DEBUG, ERROR, INFO, WARNING, LogSettings, get_logger, level_for, set_up_log

log = get_logger("tests.log", shard=1)


def test_a_line_has_its_time_level_event_and_fields(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_log(LogSettings(level=INFO))
    log.info("lease.expired", lease="1:81", held_s=30.25, host="a.test", note='say "hi" = yes')
    err = capsys.readouterr().err
    assert err.endswith(
        ' info    lease.expired shard=1 lease=1:81 held_s=30.25 host=a.test note="say \\"hi\\" = yes"\n'
    )


def test_what_the_web_sent_can_neither_end_a_line_nor_move_the_cursor(
    capsys: pytest.CaptureFixture[str],
) -> None:
    nasty = "a\nERROR forged\r\x1b[2J\x7f\x9b\u2028\u202e"
    for form in ("text", "json"):
        set_up_log(LogSettings(level=INFO, form=form))
        log.info("page.odd", title=nasty)
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert not set(err) & set(nasty[10:]) - set(" forgedERROR[2J\n")
    assert json.loads(err)["title"] == nasty


def test_below_the_level_nothing_is_said_and_later_settings_hold_for_older_loggers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_up_log(LogSettings(level=WARNING))
    log.info("quiet")
    assert not log.enabled(INFO)
    set_up_log(LogSettings(level=DEBUG))
    log.debug("loud")
    assert "loud" in capsys.readouterr().err
    assert [level_for(True, 2), level_for(False, 0), level_for(False, 1), level_for(False, 5)] == [
        ERROR,
        WARNING,
        INFO,
        DEBUG,
    ]


def test_a_terminal_gets_a_line_and_the_file_the_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up_log(LogSettings(file=tmp_path / "log"))
    try:
        raise ExceptionGroup("several", [ValueError("odd\x1b\n thing")])
    except ExceptionGroup:
        log.exception("broken", index=1)
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "broken shard=1 index=1 error=" in err
    assert "ValueError: odd" in err
    assert "Traceback" in (tmp_path / "log").read_text()


def test_a_traceback_stays_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_log(LogSettings(level=INFO))
    try:
        raise ValueError("odd\x1b")
    except ValueError:
        log.exception("broken")
    lines = capsys.readouterr().err.splitlines()
    assert " broken shard=1" in lines[0]
    assert lines[-1] == "  | ValueError: odd\\x1b"
    assert all(line.startswith("  | ") for line in lines[1:])


def test_files_are_rotated_and_only_a_few_are_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up_log(LogSettings(file=tmp_path / "logs/coord.log", rotate_bytes=1000))
    for number in range(200):
        log.info("step", number=number)
    names = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert names == ["coord.log", *(f"coord.log.{number}" for number in range(1, 5))]
    assert (
        "number=199"
        in (tmp_path / "logs/coord.log").read_text() + (tmp_path / "logs/coord.log.1").read_text()
    )
    assert all(path.stat().st_size < 1200 for path in (tmp_path / "logs").iterdir())
    assert capsys.readouterr().err == ""


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    set_up_log(LogSettings(file=tmp_path / "logs/coord.log", rotate_bytes=10))
    log.info("first")
    (tmp_path / "logs/coord.log").unlink()
    (tmp_path / "logs").rmdir()
    for _ in range(3):
        log.info("next")


def test_warnings_of_libraries_come_along(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_log(LogSettings())
    logging.getLogger("aiohttp").warning("odd %s", "thing")
    logging.getLogger("aiohttp").info("chatter")
    err = capsys.readouterr().err
    assert "warning odd thing" in err
    assert "chatter" not in err
