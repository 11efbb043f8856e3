"""Names of downloaded files: found in what a server says, made safe, and where in DIR the file goes.

A name comes from whoever asked for the download, else from Content-Disposition (RFC 6266), else from the URL's last
path segment, else it is `index`; without an extension it gets the usual one of its content type. It is made safe for
any file system that people copy files to: no separators, no control characters, no leading dots, none of the names
and characters that Windows keeps for itself, normalised (NFC), at most MAX_NAME_BYTES with its extension kept.

    files/HOST/xx/STEM-KKKKKKKKKKKK.EXT      K: of the key of its request, so that two URLs never share a name

Pure. What is written there, and when, is coordinator/files.py's.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final
from urllib.parse import unquote_to_bytes

FILES_FOLDER: Final = "files"
"""Folder of DIR for downloads."""

MAX_NAME_BYTES: Final = 150
"""Of a name without what stands for its key; most file systems take 255."""

MAX_EXTENSION: Final = 16
"""Characters after the last dot that still count as an extension."""

KEY_DIGITS: Final = 12
"""Hex digits of the request's key in a name."""

USUAL_NAME: Final = "index"

_UNSAFE: Final = re.compile(
    r'[\x00-\x1f\x7f-\x9f/\\:*?"<>|\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufffe\uffff]+'
)
_SPACES: Final = re.compile(r"\s+")
_RESERVED: Final = frozenset(
    ("con", "prn", "aux", "nul", "conin$", "conout$")
    + tuple(f"{device}{digit}" for device in ("com", "lpt") for digit in "0123456789¹²³")
)
_EXTENSION: Final = re.compile(rf"[A-Za-z0-9]{{1,{MAX_EXTENSION}}}")
_DOUBLE: Final = ("tar",)
"""What stands before another extension and belongs to it: `.tar.gz`."""

_OURS: Final = re.compile(rf"(?P<xx>[0-9a-f]{{2}})/[^/]*-(?P<key>[0-9a-f]{{{KEY_DIGITS}}})(-\d+)?(\.[^/]*)?")

_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER: Final = re.compile(
    rf';\s*(?P<name>{_TOKEN})\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"?|(?P<plain>[^;]*))', re.S
)
_ENCODED: Final = re.compile(r"(?P<charset>[^']*)'[^']*'(?P<text>.*)", re.S)
_CONTINUED: Final = re.compile(r"filename\*(?P<number>\d{1,3})(?P<coded>\*?)")
_ENCODED_WORD: Final = re.compile(r"=\?([^?]{1,40})\?([bBqQ])\?([^?]*)\?=")
_QUOTED_PAIR: Final = re.compile(r"\\(.)", re.S)
_PERCENT: Final = re.compile(r"%[0-9A-Fa-f]{2}")


def wanted_name(given: str | None, disposition: str | None, url: str, media_type: str | None) -> str:
    """The name that a download is to have, with an extension where one is known; not safe yet.

    `given`: by whoever asked for it. `disposition`: its Content-Disposition. `url`: canonical, where it came from.
    """
    name = given or disposition_name(disposition) or url_name(url) or USUAL_NAME
    stem, extension = split(name)
    if not extension:
        extension = EXTENSIONS.get(media_type or "", "")
    return f"{stem}{extension}"[:1024]


def url_name(url: str) -> str:
    """The last path segment of a URL, percent-decoded; empty where it ends in a slash."""
    path = url.partition("?")[0].partition("://")[2].partition("/")[2]
    raw = unquote_to_bytes(path.rpartition("/")[2])
    return _text(raw)


def disposition_name(value: str | None) -> str | None:
    """The file name of a Content-Disposition header; None without one.

    `filename*` goes before `filename` (RFC 6266, 4.3), whatever stands first; as browsers do, also raw UTF-8, percent
    escapes and encoded words in a plain `filename`, and the continuations of RFC 2231. A path is cut to its last part.
    """
    if value is None:
        return None
    raw = value.encode("utf-8", "surrogateescape")[:8192]
    found: dict[str, tuple[str, bool]] = {}
    for match in _PARAMETER.finditer(";" + _text(raw).partition(";")[2]):
        name, quoted = match["name"].lower(), match["quoted"]
        text = _QUOTED_PAIR.sub(_unescaped, quoted) if quoted is not None else match["plain"].strip()
        found.setdefault(name, (text, quoted is not None))
    for name in ("filename*", "filename"):
        if name not in found:
            continue
        decoded = _extended(found[name][0]) if name == "filename*" else _plain(*found[name])
        if decoded:
            return re.split(r"[/\\]", decoded)[-1] or None
    return _continued(found)


def split(name: str) -> tuple[str, str]:
    """(stem, extension with its dot, or empty) of a name."""
    stem, dot, extension = name.rpartition(".")
    if not dot or not stem.strip(". ") or _EXTENSION.fullmatch(extension) is None:
        return name, ""
    before, dot, double = stem.rpartition(".")
    if dot and before and double.lower() in _DOUBLE:
        return before, f".{double}.{extension}"
    return stem, f".{extension}"


def safe_name(name: str) -> tuple[str, str]:
    """(stem, extension) of a name as any file system takes it; the stem is never empty."""
    name = name.encode("utf-8", "replace").decode()
    name = _SPACES.sub(" ", _UNSAFE.sub("_", unicodedata.normalize("NFC", name))).strip(" .")
    stem, extension = split(name)
    stem = stem.strip(" .") or USUAL_NAME
    if stem.partition(".")[0].strip().lower() in _RESERVED:
        stem = f"_{stem}"
    room = MAX_NAME_BYTES - len(extension)
    packed = stem.encode()
    if len(packed) > room:
        stem = packed[:room].decode("utf-8", "ignore").rstrip(" .") or USUAL_NAME
    return stem, extension


def file_path(host: str, key: bytes, name: str, number: int = 1) -> str:
    """Where a download goes, relative to DIR with `/`. `key`: of its request; `number`: above 1 where that is taken."""
    stem, extension = safe_name(name)
    digits = key.hex()
    again = "" if number == 1 else f"-{number}"
    return f"{FILES_FOLDER}/{host}/{digits[:2]}/{stem}-{digits[:KEY_DIGITS]}{again}{extension}"


def is_ours(host: str, place: str) -> bool:
    """Whether a file below files/HOST has a name as only `file_path` makes them; `place`: `xx/NAME`."""
    match = _OURS.fullmatch(place)
    return match is not None and match["key"].startswith(match["xx"]) and bool(host)


# ---------------------------------------------------------------------------------------------- Content-Disposition


def _unescaped(match: re.Match[str]) -> str:
    # A backslash escapes only what needs it; some servers send Windows paths, others the UTF-8 of IE.
    return match[1] if match[1] in '"\\' else match[0]


def _extended(text: str) -> str | None:
    """`UTF-8''na%C3%AFve.txt` (RFC 8187)."""
    match = _ENCODED.fullmatch(text)
    if match is None:
        return _text(unquote_to_bytes(text)) or None
    try:
        return unquote_to_bytes(match["text"]).decode(match["charset"] or "utf-8")
    except (LookupError, UnicodeDecodeError):
        return None


def _plain(text: str, quoted: bool) -> str | None:
    if _ENCODED_WORD.search(text):
        return _ENCODED_WORD.sub(_decoded_word, text)
    if _PERCENT.search(text):
        return _text(unquote_to_bytes(text.encode("utf-8", "surrogateescape")))
    return text or None


def _decoded_word(match: re.Match[str]) -> str:
    """An encoded word of RFC 2047, which some servers send here."""
    import binascii  # only for those

    charset, coding, text = match[1], match[2].lower(), match[3]
    try:
        raw = binascii.a2b_base64(text) if coding == "b" else binascii.a2b_qp(text, header=True)
        return raw.decode(charset)
    except (LookupError, ValueError):
        return match[0]


def _continued(found: dict[str, tuple[str, bool]]) -> str | None:
    """`filename*0*=UTF-8''na; filename*1=ive` (RFC 2231)."""
    parts = {}
    for name, (text, _) in found.items():
        match = _CONTINUED.fullmatch(name)
        if match is not None:
            parts[int(match["number"])] = (text, bool(match["coded"]))
    charset, raw = "utf-8", b""
    for number in range(len(parts)):
        if number not in parts:
            break
        text, coded = parts[number]
        if number == 0 and coded and (match := _ENCODED.fullmatch(text)) is not None:
            charset, text = match["charset"] or charset, match["text"]
        raw += unquote_to_bytes(text) if coded else text.encode("utf-8", "surrogateescape")
    try:
        return raw.decode(charset) or None
    except (LookupError, UnicodeDecodeError):
        return None


def _text(raw: bytes) -> str:
    """Bytes of a name as text: UTF-8, else the character set of the western web."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace")


EXTENSIONS: Final = {
    "application/atom+xml": ".atom",
    "application/epub+zip": ".epub",
    "application/gzip": ".gz",
    "application/java-archive": ".jar",
    "application/javascript": ".js",
    "application/json": ".json",
    "application/msword": ".doc",
    "application/ogg": ".ogx",
    "application/pdf": ".pdf",
    "application/postscript": ".ps",
    "application/rss+xml": ".rss",
    "application/rtf": ".rtf",
    "application/vnd.android.package-archive": ".apk",
    "application/vnd.ms-excel": ".xls",
    "application/vnd.ms-powerpoint": ".ppt",
    "application/vnd.oasis.opendocument.spreadsheet": ".ods",
    "application/vnd.oasis.opendocument.text": ".odt",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": ".pptx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "application/vnd.rar": ".rar",
    "application/x-7z-compressed": ".7z",
    "application/x-bzip2": ".bz2",
    "application/x-gzip": ".gz",
    "application/x-rar-compressed": ".rar",
    "application/x-tar": ".tar",
    "application/x-xz": ".xz",
    "application/xhtml+xml": ".xhtml",
    "application/xml": ".xml",
    "application/zip": ".zip",
    "application/zstd": ".zst",
    "audio/aac": ".aac",
    "audio/flac": ".flac",
    "audio/midi": ".mid",
    "audio/mp4": ".m4a",
    "audio/mpeg": ".mp3",
    "audio/ogg": ".ogg",
    "audio/wav": ".wav",
    "audio/webm": ".weba",
    "audio/x-wav": ".wav",
    "font/otf": ".otf",
    "font/ttf": ".ttf",
    "font/woff": ".woff",
    "font/woff2": ".woff2",
    "image/apng": ".apng",
    "image/avif": ".avif",
    "image/bmp": ".bmp",
    "image/gif": ".gif",
    "image/heic": ".heic",
    "image/jpeg": ".jpg",
    "image/jxl": ".jxl",
    "image/png": ".png",
    "image/svg+xml": ".svg",
    "image/tiff": ".tif",
    "image/vnd.microsoft.icon": ".ico",
    "image/webp": ".webp",
    "image/x-icon": ".ico",
    "text/calendar": ".ics",
    "text/css": ".css",
    "text/csv": ".csv",
    "text/html": ".html",
    "text/javascript": ".js",
    "text/markdown": ".md",
    "text/plain": ".txt",
    "text/xml": ".xml",
    "video/mp2t": ".ts",
    "video/mp4": ".mp4",
    "video/mpeg": ".mpeg",
    "video/ogg": ".ogv",
    "video/quicktime": ".mov",
    "video/webm": ".webm",
    "video/x-flv": ".flv",
    "video/x-matroska": ".mkv",
    "video/x-msvideo": ".avi",
}
"""The usual extension of a content type. Python's own table depends on the machine's files."""
