"""What was not read to its end is read again by the next start."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.unread import Unread


@pytest.fixture
def note(tmp_path: Path) -> Path:
    return tmp_path / "unread.json"


def test_what_was_begun_and_not_ended_is_read_again_from_wherever(
    note: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "list.txt").write_text("https://a.test/\n")
    monkeypatch.chdir(tmp_path)
    Unread(note).begin(["list.txt", "https://b.test/"])
    monkeypatch.chdir("/")
    said: list[str] = []
    again = Unread(note).resume([], said.append)
    assert again == [str(tmp_path / "list.txt"), "https://b.test/"]
    assert len(said) == 2 and "read again" in said[0]


def test_what_is_given_again_is_read_once_and_what_was_read_is_forgotten(note: Path, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("")
    unread = Unread(note)
    unread.begin([str(path), "https://b.test/"])
    unread.end(["https://b.test/"])
    assert Unread(note).resume([str(path)], lambda _: pytest.fail("nothing to say")) == [str(path)]
    unread.end([str(path)])
    assert not note.exists()


def test_what_cannot_be_read_again_is_told(note: Path, tmp_path: Path) -> None:
    path = tmp_path / "gone.txt"
    path.write_text("")
    unread = Unread(note)
    unread.begin(["-", str(path)])
    path.unlink()
    said: list[str] = []
    assert Unread(note).resume([], said.append) == []
    assert "standard input was not read to its end" in said[0]
    assert f"{path} was not read to its end last time, and is not there any more" in said[1]


@pytest.mark.parametrize("torn", ["", "[", '{"a": 1}', "[1, null]"])
def test_a_note_that_does_not_read_is_none(note: Path, torn: str) -> None:
    note.write_text(torn)
    assert Unread(note).resume(["https://a.test/"], lambda _: None) == ["https://a.test/"]
