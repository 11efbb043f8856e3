"""Seeds: every form of the contract, and what people get wrong."""

from __future__ import annotations

import gzip
import io
import os
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UsageError
from coordinator.seeds import MAX_LINE, absolute, read
from coordinator.seedtext import COMMAND_LINE, Seed, parse

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def urls(*arguments: str) -> list[str | None]:
    return [seed.url for seed in read(arguments)]


def one(text: str) -> Seed:
    (seed,) = parse(text, "seeds.txt", 1)
    return seed


@pytest.fixture
def seed_file(tmp_path: Path) -> Path:
    return tmp_path / "seeds.txt"


# ------------------------------------------------------------------------------- forms


@pytest.mark.parametrize(
    ("text", "url", "kind", "bare"),
    [
        ("https://Example.org/a#b", "https://example.org/a", "url", False),
        ("HTTP:example.org", "http://example.org/", "url", False),
        ("sitemap:https://example.org/s.xml.gz", "https://example.org/s.xml.gz", "sitemap", False),
        ("Sitemap: example.org/s.xml", "https://example.org/s.xml", "sitemap", True),
        ("example.org", "https://example.org/", "url", True),
        ("Example.org:8080", "https://example.org:8080/", "url", True),
        ("example.org/a?b=http://x", "https://example.org/a?b=http://x", "url", True),
        ("b\u00fccher.de", "https://xn--bcher-kva.de/", "url", True),
        ("localhost", "https://localhost/", "url", True),
        ("localhost:8080/x", "https://localhost:8080/x", "url", True),
        ("127.0.0.1", "https://127.0.0.1/", "url", True),
        ("[::1]:80", "https://[::1]:80/", "url", True),
        ("h1.test", "https://h1.test/", "url", True),
    ],
)
def test_a_url_a_sitemap_and_a_bare_host(text: str, url: str, kind: str, bare: bool) -> None:
    (seed,) = read([text])
    assert seed == Seed(COMMAND_LINE, 1, text, seed.url, seed.kind, bare)
    assert (seed.url, seed.kind) == (url, kind)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://h.test/l?page=[0-90:30]", ["l?page=0", "l?page=30", "l?page=60", "l?page=90"]),
        ("https://h.test/l?page=[0-80:30]", ["l?page=0", "l?page=30", "l?page=60"]),
        ("https://h.test/[098-101]", ["098", "099", "100", "101"]),
        ("https://h.test/[00-01]/[8-9]", ["00/8", "00/9", "01/8", "01/9"]),
        ("https://h.test/[7-7]", ["7"]),
        ("https://h.test/%5B1-2%5D", ["%5B1-2%5D"]),
        ("https://h.test/a[1]b[x-y]", ["a[1]b[x-y]"]),
    ],
)
def test_a_range_has_both_its_ends_and_keeps_its_zeros(text: str, expected: list[str]) -> None:
    seeds = list(read([text]))
    assert [seed.url for seed in seeds] == [f"https://h.test/{rest}" for rest in expected]
    assert [seed.part for seed in seeds] == list(range(len(expected)))
    assert {(seed.given, seed.line) for seed in seeds} == {(text, 1)}


def test_a_range_may_stand_in_a_host_and_a_sitemap() -> None:
    assert urls("h[1-2].test", "sitemap:http://h.test/s[1-2].xml") == [
        "https://h1.test/",
        "https://h2.test/",
        "http://h.test/s1.xml",
        "http://h.test/s2.xml",
    ]


def test_a_huge_range_takes_no_memory() -> None:
    tracemalloc.start()
    try:
        seeds = read(["https://h.test/[0-9999]/[0-9999]"])
        for _ in range(1000):
            next(seeds)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "text",
    [
        "https://h.test/[9-1]",
        "https://h.test/[1-9:0]",
        "https://h.test/[0-100000000]",
        "https://h.test/[0-9999999999999999999]",
        "https://h.test/" + "[1-1]" * 9,
    ],
)
def test_a_range_that_cannot_be_is_told(text: str) -> None:
    seed = one(text)
    assert (seed.url, seed.reason, seed.given) == (None, "range", text)
    with pytest.raises(UsageError, match=r"\[|ranges?"):
        read([text])


# ------------------------------------------------------------------------------- files


def test_a_file_is_read_line_by_line_and_bad_lines_are_told_with_their_number(seed_file: Path) -> None:
    seed_file.write_bytes(
        b"\xef\xbb\xbfhttps://a.test/\r\n# a remark\n\n  b.test \nftp://c.test/\nsitemap:http://d.test/s.xml\n"
        b"\xff\xfe\nno host\nhttp://h.test/[1-2]\nhttp://e.test/"
    )
    seeds = list(read([str(seed_file)]))
    assert [(seed.line, seed.url, seed.reason) for seed in seeds] == [
        (1, "https://a.test/", None),
        (4, "https://b.test/", None),
        (5, None, "scheme"),
        (6, "http://d.test/s.xml", None),
        (7, None, "encoding"),
        (8, None, "invalid"),
        (9, "http://h.test/1", None),
        (9, "http://h.test/2", None),
        (10, "http://e.test/", None),
    ]
    assert {seed.source for seed in seeds} == {str(seed_file)}
    assert all(bool(seed.error) == (seed.url is None) for seed in seeds)
    assert seeds[4].given == "\\xff\\xfe"


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress])
@pytest.mark.parametrize("name", ["seeds.txt", "seeds.gz", "seeds.zst"])
def test_a_packed_file_is_told_by_its_content(pack: object, name: str, tmp_path: Path) -> None:
    assert callable(pack)
    path = tmp_path / name
    path.write_bytes(pack(b"http://a.test/\n") + pack(b"http://b.test/\n"))
    assert urls(str(path)) == ["http://a.test/", "http://b.test/"]


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress])
def test_a_packed_file_cut_short_gives_what_it_holds_and_says_so(pack: object, seed_file: Path) -> None:
    assert callable(pack)
    lines = "".join(f"http://h{n * n * 7919 % 99991}.test/\n" for n in range(50_000)).encode()
    packed = pack(lines)
    for broken in (packed[: len(packed) // 2], packed[:-3], packed[:5]):
        seed_file.write_bytes(broken)
        *good, bad, last = read([str(seed_file), "http://next.test/"])
        assert last.url == "http://next.test/"
        assert (bad.url, bad.reason) == (None, "damaged")
        assert all(seed.url for seed in good)
        assert bad.line == len(good) + 1
    # Damage in the middle may come out as other text before it shows.
    seed_file.write_bytes(packed[:9000] + b"\0" * 99 + packed[9099:])
    assert [seed.reason for seed in read([str(seed_file)])][-1] == "damaged"


def test_a_line_without_end_is_skipped_in_bounded_memory(seed_file: Path) -> None:
    with gzip.open(seed_file, "wb", compresslevel=1) as file:
        file.write(b"http://a.test/\n")
        for _ in range(64):
            file.write(b"x" * (1 << 20))
        file.write(b"\nhttp://b.test/\n" + b"y" * (MAX_LINE - 1) + b"\n" + b"z" * (MAX_LINE + 1))
    tracemalloc.start()
    try:
        seeds = list(read([str(seed_file)]))
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert [(seed.line, seed.url, seed.reason) for seed in seeds] == [
        (1, "http://a.test/", None),
        (2, None, "too_long"),
        (3, "http://b.test/", None),
        (4, None, "invalid"),
        (5, None, "too_long"),
    ]
    assert all(len(seed.given) <= 2048 for seed in seeds)


def test_lines_that_were_admitted_before_are_passed_over(seed_file: Path) -> None:
    seed_file.write_text("http://a.test/\n#\nhttp://b.test/\n" + "x" * MAX_LINE * 2 + "\nhttp://c.test/\n")
    again = read(
        [str(seed_file), "http://d.test/", "http://e.test/"], skip_lines={str(seed_file): 4, COMMAND_LINE: 2}
    )
    assert [(seed.line, seed.url) for seed in again] == [(5, "http://c.test/"), (3, "http://e.test/")]


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(gzip.compress(b"a.test\n"))))
    )
    assert [(seed.source, seed.url) for seed in read(["-"])] == [("-", "https://a.test/")]
    with pytest.raises(UsageError, match="twice"):
        read(["-", "-"])


def test_a_pipe_is_a_file(tmp_path: Path) -> None:
    """`coord start <(zcat list.gz)`: it can be opened once only."""
    reading, writing = os.pipe()
    try:
        os.write(writing, b"http://a.test/\n")
        os.close(writing)
        assert urls(f"/dev/fd/{reading}") == ["http://a.test/"]
    finally:
        os.close(reading)


# ------------------------------------------------------------------------------- what people get wrong


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("seedz.txt", ["no such file", "no scheme", "did you mean seeds.txt?"]),
        ("lists/seeds.txt", ["no such file"]),
        ("wiki.corp", ["no such file", "'corp' is no top-level domain", "write https://wiki.corp"]),
        ("intranet", ["no such file", "has a dot"]),
        ("", ["no such file"]),
        ("a\0b", ["no such file"]),
        ("ftp://h.test/", ["is not http or https"]),
        ("http://h test/", ["not a URL"]),
        ("http://", ["without a host"]),
        ("sitemap:", ["no URL at all"]),
        ("me@example.org", ["no such file"]),
        ("b\udcff.txt", ["no such file"]),
        ("http://h.test/" + "x" * 3000, ["over 2048 characters"]),
        (".", ["is a directory"]),
        ("utf16.txt", ["UTF-16", "save it as UTF-8"]),
    ],
)
def test_an_argument_that_is_nothing_says_what_was_tried(
    argument: str, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("seeds.txt").write_text("http://a.test/\n")
    Path("utf16.txt").write_text("http://a.test/\n", "utf-16")
    with pytest.raises(UsageError) as wrong:
        read(["http://fine.test/", argument])
    text = str(wrong.value)
    assert [part for part in said if part not in text] == []
    assert "\n" not in text
    assert len(text) < 400
    text.encode()


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd.compress])
@pytest.mark.parametrize("column", ["", "#website"])
def test_a_binary_file_is_refused_before_anything_is_admitted(
    pack: Callable[[bytes], bytes], column: str, tmp_path: Path
) -> None:
    path = tmp_path / "python3"
    path.write_bytes(pack(b"name,website\nhttp://a.test/,http://a.test/\n\x7fELF\0\0\n" + b"5.0.0.0\n" * 100))
    with pytest.raises(UsageError, match="python3 is no text"):
        read([str(path) + column])


def test_of_a_binary_pipe_nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.BufferedReader(io.BytesIO(b"http://a.test/\n\0\0\nhttp://b.test/\n"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(pipe))
    (seed,) = read(["-"])
    assert (seed.url, seed.reason) == (None, "damaged")


def test_a_nul_byte_later_on_costs_its_own_line(seed_file: Path) -> None:
    seed_file.write_bytes(b"http://a.test/\n" * 5000 + b"http://b.test/\0\nhttp://c.test/\n")
    bad = [seed for seed in read([str(seed_file)]) if seed.url is None]
    assert [(seed.line, seed.reason) for seed in bad] == [(5001, "encoding")]


def test_a_file_of_something_else_is_refused_and_a_few_bad_lines_are_not(seed_file: Path) -> None:
    seed_file.write_text("def f():\n    return super().meth(arg)\n" * 40 + "http://a.test/\n")
    with pytest.raises(UsageError, match=r"of its first 80 lines 80 are no URLs|of its first 81 lines 80"):
        read([str(seed_file)])
    seed_file.write_text("not a URL\n" * 19)
    assert [seed.reason for seed in read([str(seed_file)])] == ["invalid"] * 19
    seed_file.write_text("not a URL\nhttp://a.test/\n" * 100)
    assert len([seed for seed in read([str(seed_file)]) if seed.url]) == 100


@pytest.mark.parametrize(
    "text",
    [
        "super().meth(arg)",
        "directory.",
        "'-0x1.99ap-4'",
        "5.0.0.0",
        "1.5",
        "0x7f.1",
        "wiki.corp",
        "-a.test",
        "a..test",
    ],
)
def test_what_only_the_url_standard_takes_for_a_host_is_a_bad_line(text: str) -> None:
    seed = one(text)
    assert (seed.url, seed.reason) in [(None, "host"), (None, "invalid")]


@pytest.mark.parametrize(
    "text", ["my_shop.example.com", "10.1.2.3", "a.co.uk:8080/x", "xn--bcher-kva.de", "x.ck"]
)
def test_real_host_names_stand_in_a_file(text: str) -> None:
    assert one(text).url is not None


def test_four_numbers_are_an_address_when_a_person_types_them() -> None:
    assert urls("5.0.0.0") == ["https://5.0.0.0/"]


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("http://user:pa%40ss@a.test/x@y", "http://user:***@a.test/x@y"),
        ("https://token@a.test/", "https://***@a.test/"),
        ("sitemap: http://u:p@a.test/s.xml", "sitemap: http://u:***@a.test/s.xml"),
        ("HTTP:u:p:q@@a.test", "HTTP:u:***@a.test"),
        ("http://u:p@[1-2].a.test/", "http://u:***@[1-2].a.test/"),
        ("ftp://u:secret@a.test/", "ftp://u:***@a.test/"),
        ("http://u:p@", "http://u:***@"),
    ],
)
def test_a_password_in_a_url_is_masked_and_dropped(text: str, given: str, seed_file: Path) -> None:
    seed_file.write_text(text)
    for seed in read([str(seed_file)]):
        assert (seed.given, seed.credentials) == (given, True)
        assert seed.url is None or "@" not in seed.url.partition("/x")[0]
    assert absolute(text) == given


def test_an_at_sign_elsewhere_is_no_password() -> None:
    for text in ("http://a.test/u:p@x", "http://a.test?m=a:b@c", "a.test/x@y", "http://a.test/#u:p@x"):
        seed = one(text)
        assert (seed.given, seed.credentials) == (text, False)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_told(seed_file: Path) -> None:
    seed_file.write_text("http://a.test/\n")
    seed_file.chmod(0)
    with pytest.raises(UsageError, match="cannot be read"):
        read([str(seed_file)])


@given(st.lists(st.binary(max_size=30)), st.sampled_from([b"", b"\x1f\x8b", b"\x28\xb5\x2f\xfd"]))
def test_no_content_of_a_file_raises(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], head: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "anything"
    path.write_bytes(head + b"\n".join(lines))
    if path.read_bytes()[:2] in (b"\xff\xfe", b"\xfe\xff") or (b"\0" in path.read_bytes() and not head):
        with pytest.raises(UsageError):
            read([str(path)])
        return
    for seed in read([str(path)]):
        assert (seed.url is None) == (seed.reason is not None)
        seed.given.encode()


@given(st.text())
def test_no_line_raises(text: str) -> None:
    for _, seed in zip(range(10), parse(text, "x", 1), strict=False):
        assert (seed.url is None) == (seed.reason is not None)
        seed.given.encode()
        (seed.error or "").encode()
