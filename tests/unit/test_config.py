"""The configuration: one definition, five places it comes from, and errors that say what to write."""

from __future__ import annotations

import tomllib
from dataclasses import fields, replace
from pathlib import Path

import pytest

from common.config import OPTIONS, CrawlConfig
from common.configfile import load
from common.configtext import commented_file, config_to_toml
from common.configwire import config_from_wire, config_to_wire
from common.errors import ProtocolError, UsageError
from common.hostrules import HostPolicy, HostRule
from common.masking import MASK, masked
from common.options import seconds, size
from common.tuning import TUNING, Tuning
from coordinator.differences import changes_refused, differences


def written(folder: Path, text: str, name: str = "crawl.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_the_defaults_are_those_of_the_contract() -> None:
    config = CrawlConfig()
    assert (config.scope, config.max_pages, config.delay, config.per_host, config.per_ip) == (
        "host",
        None,
        1,
        1,
        32,
    )
    assert (config.concurrency, config.timeout, config.connect_timeout) == (1000, 300, 10)
    assert (config.silence_timeout, config.max_bytes, config.max_url_length) == (20, 16 * 1024**2, 2048)
    assert (config.memory, config.min_free, config.retries) == (512 * 1024**2, 2 * 1024**3, 2)
    assert (config.store, config.obey_robots, config.robots_token) == (("warc", "pages"), True, "shoal")
    assert config.agent.startswith("Shoal/")


def test_a_contact_is_shown_in_the_user_agent_and_its_lack_is_told() -> None:
    assert load({"contact": "https://a.test/bot"}).agent.endswith(" (+https://a.test/bot)")
    assert not load({"contact": "me@a.test"}).warnings()
    assert "contact" in CrawlConfig().warnings()[0]
    assert not CrawlConfig().warnings(at_home=True)


def test_every_field_is_an_option_with_a_reason() -> None:
    unnamed = {"host", "tuning", "hosts", "extractors", "code", "_policies"}
    assert {of.name for of in fields(CrawlConfig)} == OPTIONS.keys() | unnamed
    assert all(option.help and option.why for option in (*OPTIONS.values(), *TUNING.values()))


@pytest.mark.parametrize(
    ("text", "value"),
    [("1.5", 1.5), ("250ms", 0.25), ("30s", 30), ("5 m", 300), ("2h", 7200), (3, 3), (".5", 0.5)],
)
def test_times_are_read_as_seconds(text: object, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "fast", "5 parsecs", "-1", True, None, "1e9", float("nan")])
def test_what_is_no_time_is_refused(text: object) -> None:
    with pytest.raises(ValueError):
        seconds(text)


@pytest.mark.parametrize(
    ("text", "value"), [("65536", 65536), ("512KiB", 524288), ("1.5 MiB", 1572864), ("2gib", 2**31), (7, 7)]
)
def test_sizes_are_read_as_bytes(text: object, value: int) -> None:
    assert size(text) == value


def test_an_ambiguous_size_is_refused_with_what_to_write() -> None:
    with pytest.raises(ValueError, match="MiB"):
        size("16MB")


def test_a_flag_goes_before_the_environment_before_the_file_before_the_folder(tmp_path: Path) -> None:
    file = written(tmp_path, "delay = 3\nper_host = 3\nretries = 3\nper_ip = 3", "mine.toml")
    stored = written(tmp_path, "delay = 4\nper_host = 4\nretries = 4\nper_ip = 4\nmax_depth = 4")
    config = load(
        {"delay": "1m", "max_pages": None, "allow": ()},
        {"SHOAL_DELAY": "2", "SHOAL_PER_HOST": "2", "PATH": "/bin"},
        file,
        stored,
    )
    assert (config.delay, config.per_host, config.retries, config.per_ip) == (60, 2, 3, 3)
    assert (config.max_depth, config.max_pages) == (4, None)


def test_a_limit_of_the_folder_can_be_taken_away(tmp_path: Path) -> None:
    stored = written(tmp_path, 'max_pages = 100\nheader = ["X-A: 1"]')
    config = load({"max_pages": "none", "header": ("",)}, stored=stored)
    assert config.max_pages is None
    assert config.header == ()


def test_an_unknown_key_names_the_nearest_and_the_line(tmp_path: Path) -> None:
    file = written(tmp_path, "# mine\n\ndelya = 3\n")
    with pytest.raises(
        UsageError, match=r"crawl.toml line 3: no option is called 'delya'; did you mean delay\?"
    ):
        load(file=file)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("out = 'x'", "command line alone"),
        ("procs = 3", "command line alone"),
        ("[crawl]\ndelay = 1", "in no section"),
    ],
)
def test_a_key_that_belongs_elsewhere_is_told_where(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=rf"line 1: no option is called '\w+'; .*{said}"):
        load(file=written(tmp_path, text))


def test_a_bad_value_names_its_line_and_what_was_expected(tmp_path: Path) -> None:
    file = written(tmp_path, 'scope = "host"\nmax-bytes = "much"\n')
    with pytest.raises(
        UsageError, match=r"crawl.toml line 2: max_bytes: expected a size such as .* not 'much'"
    ):
        load(file=file)


def test_a_misspelt_variable_is_refused_but_a_stranger_is_not() -> None:
    with pytest.raises(UsageError, match="SHOAL_DELYA is no option; did you mean SHOAL_DELAY"):
        load(environ={"SHOAL_DELYA": "3"})
    load(
        environ={"SHOAL_PORT_80_TCP": "tcp://10.0.0.1:80", "SHOAL_KEY": "x", "SHOAL_SERVICE_HOST": "10.0.0.1"}
    )


def test_text_that_is_not_toml_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"not TOML: .*line 1") as caught:
        load(file=written(tmp_path, "delay 3"))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone.toml: No such file"):
        load(file=tmp_path / "gone.toml")


def test_host_rules_apply_in_order_and_the_last_that_says_something_wins(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        '[[host]]\nmatch = "*.gov.uk"\ndelay = 5\nper_host = 2\n\n[[host]]\nmatch="www.*"\ndelay="2s"\n',
    )
    config = load(file=file)
    assert config.for_host("a.gov.uk") == HostPolicy(5, 2)
    assert config.for_host("www.gov.uk") == HostPolicy(2, 2)
    assert config.for_host("gov.uk") == HostPolicy(1, 1)


def test_a_mistake_in_the_second_host_rule_names_its_own_line(tmp_path: Path) -> None:
    file = written(
        tmp_path, '[[host]]\nmatch = "a"\ndelay = 1\n[[host]]\nmatch = "b"\ndelay = "x"\nper_hots = 1\n'
    )
    with pytest.raises(UsageError, match=r"line 6: \[\[host\]\] delay"):
        load(file=file)
    with pytest.raises(
        UsageError, match=r"line 3: \[\[host\]\]: no key is called 'per_hots'; did you mean per_host"
    ):
        load(file=written(tmp_path, '[[host]]\nmatch = "b"\nper_hots = 1\n'))
    with pytest.raises(UsageError, match=r"line 2: \[\[host\]\] needs match"):
        load(file=written(tmp_path, "\n[[host]]\ndelay = 1\n"))


def test_policies_are_remembered_but_not_without_bound() -> None:
    config = CrawlConfig(host=(HostRule("*.a.test", delay=2),))
    for number in range(70_000):
        config.for_host(f"{number}.a.test")
    assert len(config._policies) <= 65_536
    assert config == CrawlConfig(host=(HostRule("*.a.test", delay=2),))


def test_what_crawl_toml_keeps_is_read_back_the_same(tmp_path: Path) -> None:
    hosts = written(tmp_path, "127.0.0.1 a.test b.test # both\n\n::1 a.test\n", "hosts")
    config = load(
        {
            "allow": (r"/x\?page=\d+$", '"quoted" \\ é'),
            "max_bytes": "1.5MiB",
            "delay": "0.25",
            "max_time": "2h",
            "hosts_file": str(hosts),
            "allow_private": "private, 10.1.2.3/8",
            "fail_on": ("timeout,DNS",),
            "store": "pages,warc",
        },
        file=written(
            tmp_path, '[[host]]\nmatch = "A.test"\ndelay = 0\n[tuning]\nlease_ttl = 10\n', "mine.toml"
        ),
    )
    kept = written(tmp_path, config_to_toml(config))
    assert load(stored=kept) == config
    assert config.hosts == (("a.test", "127.0.0.1"), ("b.test", "127.0.0.1"), ("a.test", "::1"))
    assert config.hosts_table["a.test"] == ("127.0.0.1", "::1")
    assert config.allow_private == ("all", "10.0.0.0/8")
    assert config.fail_on == ("TIMEOUT", "DNS")


def test_what_only_concerns_the_terminal_is_not_kept() -> None:
    kept = tomllib.loads(config_to_toml(load({"quiet": True, "verbose": 2, "log_format": "json"})))
    assert not kept.keys() & {"quiet", "verbose", "log_format", "progress"}


def test_secrets_are_masked_and_asked_for_again(tmp_path: Path) -> None:
    config = load(
        {
            "header": ("authorization: Bearer s3cr3t", "X-A: b"),
            "proxy": "http://me:word@proxy.test:3128",
        }  # not real
    )
    text = config_to_toml(config)
    assert "s3cr3t" not in text
    assert "word" not in text
    assert f"http://me:{MASK}@proxy.test:3128" in text
    stored = written(tmp_path, text)
    with pytest.raises(UsageError, match=r"authorization is never kept on disk; give it again: --header"):
        load(stored=stored)
    with pytest.raises(UsageError, match="password of the proxy"):
        load({"header": ("",)}, stored=stored)
    assert load({"header": ("Authorization: x",), "proxy": "none"}, stored=stored).headers == (
        ("Authorization", "x"),
    )
    assert masked("delay", 3) == 3


def test_a_worker_gets_what_it_needs_and_nothing_else() -> None:
    config = load({"header": ("Cookie: a=b",), "max_depth": "3", "deny": ("x",), "delay": "9"})
    wire = config_to_wire(config)
    assert "max_pages" not in wire  # the coordinator's own business
    received = config_from_wire(wire)
    assert received.headers == (("Cookie", "a=b"),)
    assert (received.max_depth, received.deny, received.tuning) == (3, ("x",), Tuning())
    assert config_to_wire(received) == wire


@pytest.mark.parametrize(
    "damage",
    [
        {"concurrency": "1000"},
        {"concurrency": 0},
        {"timeout": "5m"},
        {"scope": "galaxy"},
        {"surprise": 1},
        {"allow": ["("]},
        {"hosts": [["a"]]},
        {"tuning": {"lease_ttl": 30.0}},
        {"tuning": []},
        {"host": [["a", 1.0]]},
        {"host": [["a", "soon", 1]]},
    ],
)
def test_a_wrong_configuration_from_the_wire_is_a_protocol_error(damage: dict[str, object]) -> None:
    with pytest.raises(ProtocolError):
        config_from_wire(config_to_wire(CrawlConfig()) | damage)


def test_rates_and_scope_may_differ_when_a_folder_is_continued_but_requests_may_not() -> None:
    old = CrawlConfig()
    assert changes_refused(old, replace(old, delay=9.0, scope="any", timeout=1.0, store=("warc",))) == []
    assert differences(old, replace(old, delay=9.0)) == ["delay: 1 → 9"]
    (said,) = changes_refused(old, replace(old, head=True))
    assert "head was false" in said


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"scope": "hots"}, "did you mean host?"),
        ({"fail_on": "TIMEOUTS"}, "did you mean TIMEOUT?"),
        ({"allow": ("(",)}, "--allow: not a regular expression"),
        ({"header": ("nonsense",)}, "'Name: value'"),
        ({"header": ("A: b\r\nC: d",)}, "line breaks"),
        ({"allow_private": "10.0.0.0/99"}, "10.0.0.0/8"),
        ({"robots_token": "my bot"}, "RFC 9309"),
        ({"user_agent": "Björn"}, "ASCII"),
        ({"max_pages": "0"}, "at least 1"),
        ({"timeout": "0"}, "more than 0"),
        ({"hosts_file": "/nowhere/hosts"}, "No such file"),
        ({"store": ""}, "nothing would be kept"),
    ],
)
def test_a_bad_flag_is_one_line_that_says_what_to_write(flags: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(flags)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_file_that_init_writes_is_read_as_the_defaults_with_and_without_its_marks(tmp_path: Path) -> None:
    text = commented_file()
    assert load(file=written(tmp_path, text)) == CrawlConfig()
    opened = "\n".join(
        line.removeprefix("#") if not line.startswith("# ") and "gov.uk" not in line else line
        for line in text.splitlines()
    )
    values = tomllib.loads(opened.replace("\ndelay = 5\nper_host = 1\n", '\nmatch = "x"\n'))
    assert OPTIONS.keys() <= values.keys()
    assert max(map(len, text.splitlines())) <= 110
