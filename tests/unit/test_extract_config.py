"""Extractors as they are named in options, kept in crawl.toml, sent to workers, and read back."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.config import CrawlConfig
from common.configfile import kept, load
from common.configtext import config_to_toml
from common.configwire import config_from_wire, config_to_wire
from common.errors import ProtocolError, UsageError
from common.extractors import parse_spec
from common.wire import pack, unpack

RULES = """
[extract.books]
match = "/book/"
each = "css:li"
title = "css:h1"
"the price" = "re:([0-9.]+) EUR"
pictures = ["css:img::attr(src)", "xpath://video/@src"]
"""


def shop(folder: Path, text: str = "def parse(page):\n    yield {}\n") -> Path:
    path = folder / "shop.py"
    path.write_text(text)
    return path


def test_a_file_is_read_once_and_its_digest_kept(tmp_path: Path) -> None:
    path = shop(tmp_path)
    config = load({"extract": f"{path}:parse"})
    assert config.code is not None
    assert config.code.source == path.read_bytes()
    assert f"# {path}: sha256 {config.code.digest}" in config_to_toml(config).splitlines()


def test_a_relative_path_is_made_absolute_so_that_a_folder_can_be_continued_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop(tmp_path)
    monkeypatch.chdir(tmp_path)
    stored = tmp_path / "crawl.toml"
    stored.write_text(config_to_toml(load({"extract": "shop.py:parse"})))
    monkeypatch.chdir("/")
    again = load(stored=stored)
    assert again.extract == f"{tmp_path}/shop.py:parse"
    assert again.code is not None


def test_tables_and_a_function_are_kept_together_and_come_back(tmp_path: Path) -> None:
    path = shop(tmp_path)
    given = tmp_path / "given.toml"
    given.write_text(f'[extract]\nfunction = "{path}:parse"\n{RULES}')
    config = load(file=given)
    stored = tmp_path / "crawl.toml"
    stored.write_text(config_to_toml(config))
    assert load(stored=stored) == config
    assert kept(stored).extractors == config.extractors
    (rule,) = config.extractors
    assert (rule.name, rule.match, rule.each) == ("books", "/book/", "css:li")
    assert [(field.name, field.many) for field in rule.fields] == [
        ("title", False),
        ("the price", False),
        ("pictures", True),
    ]


def test_workers_get_the_file_and_the_tables(tmp_path: Path) -> None:
    given = tmp_path / "given.toml"
    given.write_text(f'[extract]\nfunction = "{shop(tmp_path)}:parse"\n{RULES}')
    config = load(file=given)
    received = config_from_wire(unpack(pack(config_to_wire(config))))
    assert (received.code, received.extractors, received.extract) == (
        config.code,
        config.extractors,
        config.extract,
    )


@pytest.mark.parametrize(
    "damage",
    [
        {"code": ["a.py", b"x", "0" * 64]},
        {"code": [1]},
        {"extractors": [["a"]]},
        {"extractors": [["a", None, None, [["t", ["nix"], False]]]]},
        {"extractors": [["../a", None, None, [["t", ["css:a"], False]]]]},
        {"extractors": None},
    ],
)
def test_a_wrong_extractor_from_the_wire_is_a_protocol_error(damage: dict[str, object]) -> None:
    with pytest.raises(ProtocolError):
        config_from_wire(config_to_wire(CrawlConfig()) | damage)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("def parse(page:\n", "shop.py line 1: "),
        ("def other(page): ...\n", "has no function 'parse'; it has: other"),
        ("x = '\0'\n", "is not Python|null"),
        ("#" * 300_000, "at most 262,144"),
    ],
)
def test_a_file_that_cannot_be_one_is_told_in_one_line(tmp_path: Path, text: str, why: str) -> None:
    path = shop(tmp_path, text)
    with pytest.raises(UsageError, match=why) as told:
        load({"extract": f"{path}:parse"})
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("given", ["shop.py", "shop", "no such/shop.py:parse", "a b:c", ""])
def test_what_names_no_function_is_told(given: str) -> None:
    with pytest.raises(UsageError, match="extract"):
        load({"extract": given})


def test_a_module_beside_the_file_cannot_have_a_name_of_shoals(tmp_path: Path) -> None:
    (tmp_path / "common.py").write_text("PRICE = 1\n")
    path = shop(tmp_path, "from common import PRICE\ndef parse(page): ...\n")
    with pytest.raises(UsageError, match=r"stands beside a 'common' of its own.* taken by Shoal"):
        load({"extract": f"{path}:parse"})
    shop(tmp_path, "import json\ndef parse(page): ...\n")
    load({"extract": f"{path}:parse"})  # it has nothing to do with it


@pytest.mark.parametrize(
    ("toml", "why"),
    [
        ('[extract.a]\nt = "h1"', 'expected "css:'),
        ('[extract.a]\nt = "re:("', "not a regular expression"),
        ('[extract.a]\nmatch = "("\nt = "css:a"', "not a regular expression"),
        ("[extract.a]\n", "has no fields"),
        ("[extract.a]\nt = []", "an empty list"),
        ('[extract."a/b"]\nt = "css:a"', "a name has letters"),
        ('[extract]\nnix = "a.py:f"', "nix is no table"),
    ],
)
def test_a_wrong_table_is_told_by_its_name(tmp_path: Path, toml: str, why: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(toml)
    with pytest.raises(UsageError, match=why):
        load(file=path)


def test_a_spec_is_a_file_or_a_module() -> None:
    assert parse_spec("./a b/shop.py:parse") == ("./a b/shop.py", "parse")
    assert parse_spec("pkg.mod:f").is_file is False
