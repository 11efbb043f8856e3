"""Charsets: the standard's order of belief, real texts, and nothing raised."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker import charset
from worker.charset import codec, decide, from_label, to_utf8

TEXTS = {
    "gb18030": "今天天气很好，我们一起去公园散步吧。新闻网讯：中国经济持续增长，人民生活水平不断提高。",
    "gbk": "今天天气很好，我们一起去公园散步吧。新闻网讯：中国经济持续增长，人民生活水平不断提高。",
    "big5": "今天天氣很好，我們一起去公園散步吧。臺灣新聞網訊：經濟持續成長，人民生活水準不斷提高。",
    "shift_jis": "今日は天気がいいので、公園へ散歩に行きましょう。①番、㈱日本経済新聞、髙橋さん。",
    "euc-jp": "今日は天気がいいので、公園へ散歩に行きましょう。日本経済新聞によると、経済は成長を続けている。",
    "iso-2022-jp": "今日は天気がいいので、公園へ散歩に行きましょう。",
    "euc-kr": "오늘은 날씨가 좋아서 공원으로 산책을 갑시다. 한국 경제는 계속 성장하고 있습니다. 똠방각하 펲시콜라",
    "windows-1250": "Příliš žluťoučký kůň úpěl ďábelské ódy. Dnes je hezké počasí, pojďme na procházku.",
    "windows-1251": "Сегодня хорошая погода, пойдём гулять в парк. Новости экономики: рост продолжается.",
    "koi8-r": "Сегодня хорошая погода, пойдём гулять в парк. Новости экономики: рост продолжается.",
    "windows-1252": "Le café est ouvert. L’été dernier, nous avons mangé des crêpes – c’était très bon, 5 €.",
    "iso-8859-15": "Le café coûte 5 €, un œuf 1 €. L'été dernier, nous avons mangé des crêpes.",
    "windows-1253": "Σήμερα ο καιρός είναι καλός, ας πάμε μια βόλτα στο πάρκο.",
    "windows-1254": "Bugün hava çok güzel, parka yürüyüşe gidelim. Türkiye ekonomisi büyümeye devam ediyor.",
    "windows-1255": "היום מזג האוויר טוב, בואו נלך לטייל בפארק.",
    "windows-1256": "الطقس جميل اليوم، دعنا نذهب في نزهة إلى الحديقة.",
    "windows-1257": "Šodien ir labs laiks, iesim pastaigāties pa parku. Ēdiens ir ļoti garšīgs.",
    "windows-874": "วันนี้อากาศดีมาก ไปเดินเล่นที่สวนสาธารณะกันเถอะ",
    "utf-16le": "Grüße aus Köln",
    "utf-16be": "Grüße aus Köln",
}
ASCII_COMPATIBLE = [name for name in TEXTS if not name.startswith("utf-16")]
DETECTABLE = [name for name in TEXTS if name not in ("gbk", "iso-8859-15", "utf-16le", "utf-16be")]


def page(name: str, head: str = "", times: int = 1) -> bytes:
    text = TEXTS[name]
    paragraphs = f'<div class="card"><a href="/p">{text}</a></div>\n' * times
    python = "euc_jis_2004" if name == "euc-jp" else codec(name)
    return f"<html><head>{head}<title>{text}</title></head><body>{paragraphs}</body></html>".encode(python)


@pytest.mark.parametrize("name", TEXTS)
def test_the_header_is_believed_and_the_text_comes_out_right(name: str) -> None:
    body = page(name)
    assert decide(body, name.upper()) == name
    assert TEXTS[name] in to_utf8(body, name).decode()


@pytest.mark.parametrize("name", ASCII_COMPATIBLE)
@pytest.mark.parametrize(
    "head",
    [
        '<meta charset="{}">',
        "<META CHARSET={}>",
        "<!-- <meta charset=utf-8> --><meta charset='{}' />",
        '<meta http-equiv="Content-Type" content="text/html; charset={}">',
        "<meta content='text/html;charset={}' http-equiv=content-type>",
        "<meta http-equiv=Content-Type content=text/html;charset={}>",
    ],
)
def test_a_meta_is_believed_where_no_header_says_anything(name: str, head: str) -> None:
    assert decide(page(name, head.format(name)), None) == name


@pytest.mark.parametrize("name", DETECTABLE)
@pytest.mark.parametrize("times", [3, 200])
def test_what_nobody_declares_is_found_out(name: str, times: int) -> None:
    body = page(name, times=times)
    found = decide(body, None)
    assert TEXTS[name] in to_utf8(body, found).decode()


def test_the_order_of_belief() -> None:
    meta = b"<meta charset=koi8-r>"
    assert decide(b"\xef\xbb\xbf" + meta, "windows-1251") == "utf-8"
    assert decide(b"\xff\xfe<\0", "windows-1251") == "utf-16le"
    assert decide(b"\xfe\xff\0<", "windows-1251") == "utf-16be"
    assert decide(meta, "windows-1251") == "windows-1251"
    assert decide(meta, None) == "koi8-r"
    assert decide(b'<?xml version="1.0" encoding="koi8-r"?><html>', None) == "koi8-r"
    assert decide(b'<?xml version="1.0" encoding="koi8-u"?>' + meta, None) == "koi8-r"
    assert decide("日本".encode(), None) == "utf-8"
    assert decide(b"plain", None) == "utf-8"
    assert decide(b"caf\xe9", None) == "windows-1252"


@pytest.mark.parametrize(
    "label", ["", "none", "binary", "UTF-7", "x-unknown", "text/html", "ut f-8", "\udcff"]
)
def test_an_unknown_label_is_as_good_as_none(label: str) -> None:
    assert decide(b"<meta charset=koi8-r>", label) == "koi8-r"


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("latin-1", None),  # not in the standard; browsers ignore it, too
        ("latin1", "windows-1252"),
        ("ISO-8859-1", "windows-1252"),
        ("US-ASCII", "windows-1252"),
        ("GB2312", "gbk"),
        ("x-sjis", "shift_jis"),
        ("ks_c_5601-1987", "euc-kr"),
        ("iso-8859-9", "windows-1254"),
        ("TIS-620", "windows-874"),
        ("utf8", "utf-8"),
        (" utf-8\n", "utf-8"),
        ("'utf-8'", "utf-8"),
        ("unicode", "utf-16le"),
    ],
)
def test_labels_mean_what_the_encoding_standard_says(label: str, name: str | None) -> None:
    assert from_label(label) == name


def test_a_meta_that_says_utf_16_was_read_as_ascii_and_means_utf_8() -> None:
    assert decide(b"<meta charset=utf-16le>", None) == "utf-8"
    assert decide(b"<meta charset=x-user-defined>", None) == "windows-1252"


def test_a_meta_behind_the_first_1024_bytes_is_not_looked_for() -> None:
    assert decide(b" " * 1024 + b"<meta charset=koi8-r>", None) == "utf-8"


def test_a_meta_that_only_mentions_a_charset_declares_nothing() -> None:
    assert decide(b'<meta name="x" content="charset=koi8-r"><metadata charset=koi8-r>', None) == "utf-8"


def test_utf_8_cut_off_inside_its_last_character_is_still_utf_8() -> None:
    assert decide("日本語".encode()[:-1], None) == "utf-8"
    assert decide("日本語".encode()[:-2], None) == "utf-8"


def test_utf_8_and_ascii_are_not_copied() -> None:
    body = "日本語".encode()
    assert to_utf8(body, "utf-8") is body
    assert to_utf8(b"plain", "windows-1251") == b"plain"
    assert to_utf8(b"\xef\xbb\xbfx", "utf-8") == b"x"
    assert to_utf8("\ufeffx".encode("utf-16le"), "utf-16le") == b"x"


def test_what_a_charset_cannot_mean_is_replaced() -> None:
    assert to_utf8(b"<title>\xff\xff ok</title>", "shift_jis").endswith(b" ok</title>")
    assert to_utf8(b"a\x80\xffb", "euc-kr").decode().startswith("a")


def test_every_name_has_a_codec_and_no_label_two_meanings() -> None:
    for name in charset._LABELS:
        assert codecs.lookup(codec(name)).name
        assert from_label(name) == name
    words = [word for labels in charset._LABELS.values() for word in labels.split()]
    assert len(words) == len(set(words))
    for names in charset._CODECS.values():
        assert all(map(codecs.lookup, names))


@given(st.binary(max_size=2000), st.none() | st.sampled_from(sorted(charset._LABELS)))
def test_nothing_raises_for_any_bytes(body: bytes, header: str | None) -> None:
    to_utf8(body, decide(body, header)).decode("utf-8", "replace")


@given(st.text(), st.text())
def test_nothing_raises_for_any_declaration(label: str, declared: str) -> None:
    decide(f"<meta charset={declared}>".encode("utf-8", "replace"), label)
