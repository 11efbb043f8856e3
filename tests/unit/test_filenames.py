"""Names of files: what servers say is understood, what comes out any file system takes, and it stays in its folder."""

from __future__ import annotations

import unicodedata
from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.filenames import (
    MAX_NAME_BYTES,
    disposition_name,
    file_path,
    is_ours,
    safe_name,
    split,
    url_name,
    wanted_name,
)

KEY = bytes(range(0xA0, 0xB0))


@pytest.mark.parametrize(
    ("header", "name"),
    [
        # RFC 6266, section 5, and appendix D
        ("Attachment; filename=example.html", "example.html"),
        ('INLINE; FILENAME= "an example.html"', "an example.html"),
        ("attachment; filename*= UTF-8''%e2%82%ac%20rates", "€ rates"),
        ("attachment; filename=\"EURO rates\"; filename*=utf-8''%e2%82%ac%20rates", "€ rates"),
        ("attachment; filename*=utf-8''%e2%82%ac%20rates; filename=\"EURO rates\"", "€ rates"),
        ("attachment; filename*=iso-8859-1'en'%A3%20rates", "£ rates"),
        # as servers send them
        ("attachment", None),
        ("attachment; filename=", None),
        ("attachment; filename=a b.pdf", "a b.pdf"),
        ('attachment; filename="a\\"b.pdf"', 'a"b.pdf'),
        ('attachment; filename="C:\\docs\\a.pdf"', "a.pdf"),
        ('attachment; filename="../../../etc/passwd"', "passwd"),
        ('attachment; filename="a;b.pdf"; size=3', "a;b.pdf"),
        ('attachment; filename="never closed.pdf', "never closed.pdf"),
        ('attachment; filename="caf\udce9.pdf"', "café.pdf"),
        ('attachment; filename="中文.pdf"', "中文.pdf"),
        ('attachment; filename="%E4%B8%AD.pdf"', "中.pdf"),
        ('attachment; filename="100% sure.pdf"', "100% sure.pdf"),
        ('attachment; filename="=?UTF-8?Q?caf=C3=A9.pdf?="', "café.pdf"),
        ('attachment; filename="=?no-such?B?AAAA?="', "=?no-such?B?AAAA?="),
        ("attachment; filename*=no-such''x%FF; filename=good.pdf", "good.pdf"),
        ("attachment; filename*=good%20one.pdf", "good one.pdf"),
        ('attachment; filename*0="long "; filename*1*=%C3%A9; filename*2=.pdf', "long é.pdf"),
        ("attachment; filename*0*=UTF-8''%E4; filename*1*=%B8%AD.pdf", "中.pdf"),
        ("attachment; filename*1=b; filename*0=a", "ab"),
        (";;;=;filename", None),
    ],
)
def test_content_disposition(header: str, name: str | None) -> None:
    assert (disposition_name(header) or None) == (name or None)


@given(st.text(max_size=300))
def test_no_header_raises(header: str) -> None:
    disposition_name(header)
    disposition_name(f"attachment; filename={header}")
    disposition_name(f"attachment; filename*={header}")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://a.test/x/photo.jpg", "photo.jpg"),
        ("https://a.test/x/photo.jpg?size=2&f=/x.gif", "photo.jpg"),
        ("https://a.test/%E5%9B%BE%E7%89%87.png", "图片.png"),
        ("https://a.test/caf%E9.png", "café.png"),
        ("https://a.test/a%2Fb.png", "a/b.png"),
        ("https://a.test/folder/", ""),
        ("https://a.test/", ""),
    ],
)
def test_the_name_in_a_url(url: str, name: str) -> None:
    assert url_name(url) == name


def test_whoever_asked_goes_before_the_server_and_the_server_before_the_url() -> None:
    disposition, url = 'attachment; filename="theirs.png"', "https://a.test/url.gif"
    assert wanted_name("mine.jpg", disposition, url, "image/png") == "mine.jpg"
    assert wanted_name(None, disposition, url, "image/png") == "theirs.png"
    assert wanted_name(None, None, url, "image/png") == "url.gif"
    assert wanted_name("mine", None, url, "image/png") == "mine.png"
    assert wanted_name(None, None, "https://a.test/view?id=7", "application/pdf") == "view.pdf"
    assert wanted_name(None, None, "https://a.test/", "video/mp4") == "index.mp4"
    assert wanted_name(None, None, "https://a.test/", "no/such") == "index"


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("photo.jpg", ("photo", ".jpg")),
        ("archive.tar.gz", ("archive", ".tar.gz")),
        ("../../etc/passwd", ("_.._etc_passwd", "")),
        ("..", ("index", "")),
        (".htaccess", ("htaccess", "")),
        ('a/b\\c:d*e?f"g<h>i|j.txt', ("a_b_c_d_e_f_g_h_i_j", ".txt")),
        ("new\nline\x00.txt", ("new_line_", ".txt")),
        ("evil\u202etxt.exe", ("evil_txt", ".exe")),
        ("CON", ("_CON", "")),
        ("con.txt", ("_con", ".txt")),
        ("lpt1.tar.gz", ("_lpt1", ".tar.gz")),
        ("console.txt", ("console", ".txt")),
        ("ends in a dot.", ("ends in a dot", "")),
        ("  spaces   within  ", ("spaces within", "")),
        ("A\u0308.txt", ("\u00c4", ".txt")),
        ("no extension. really", ("no extension. really", "")),
        ("\ud800.txt", ("_", ".txt")),
        ("", ("index", "")),
    ],
)
def test_a_name_is_made_safe(name: str, safe: tuple[str, str]) -> None:
    assert safe_name(name) == safe


@given(st.text(max_size=400) | st.from_regex(r"[./\\ a-z]{0,300}\.[a-z]{1,20}", fullmatch=True))
def test_any_name_is_one_part_of_a_path_on_any_system(name: str) -> None:
    stem, extension = safe_name(name)
    whole = stem + extension
    assert stem and not stem.startswith((".", " ")) and not whole.endswith((".", " "))
    assert len(whole.encode()) <= MAX_NAME_BYTES
    assert unicodedata.is_normalized("NFC", stem)
    assert not any(unicodedata.category(sign) in ("Cc", "Cs") for sign in whole)
    path = file_path("a.test", KEY, name)
    assert PurePosixPath(path).parts[:3] == ("files", "a.test", "a0")
    assert len(PurePosixPath(path).parts) == len(PureWindowsPath(path).parts) == 4
    assert not PureWindowsPath(PurePosixPath(path).name).is_reserved()
    assert is_ours("a.test", "/".join(PurePosixPath(path).parts[2:]))
    assert split(PurePosixPath(path).name)[1] == extension


def test_a_long_name_keeps_its_extension() -> None:
    stem, extension = safe_name("图" * 200 + ".tar.xz")
    assert extension == ".tar.xz" and len((stem + extension).encode()) <= MAX_NAME_BYTES


def test_two_urls_never_share_a_path_and_a_taken_one_gets_a_number() -> None:
    other = bytes(range(0xB0, 0xC0))
    paths = {file_path("a.test", key, "a.jpg", number) for key in (KEY, other) for number in (1, 2)}
    assert len(paths) == 4
    assert file_path("a.test", KEY, "a.jpg", 2).endswith("-2.jpg")


@pytest.mark.parametrize(
    "place", ["a0/a.jpg", "a0/a-b0a1a2a3a4a5.jpg", "zz/a-a0a1a2a3a4a5.jpg", "a-a0a1a2a3a4a5.jpg"]
)
def test_what_somebody_else_put_there_is_not_ours(place: str) -> None:
    assert not is_ours("a.test", place)
