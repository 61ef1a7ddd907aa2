"""Which character encoding a file is in, as browsers decide it (https://encoding.spec.whatwg.org).

A byte order mark wins, then what a page declares for itself, under the names that the web means by
other encodings than their own: gb2312 is GB 18030, shift_jis is Windows-31J. Unlike in a browser,
bytes that do not decode are an error: nothing is replaced or guessed.
"""

from __future__ import annotations

import codecs
import re

from nest_engine._optional import require
from nest_engine.errors import InputError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_LOOKED_AT = 1024  # bytes of a page that may declare its encoding
_NO_MARKUP = re.compile(rb"<!--.*?(?:-->|\Z)|<script\b.*?(?:</script|\Z)", re.DOTALL | re.I)
_META = re.compile(rb"<meta\s([^>]*)>", re.IGNORECASE)
_ATTRIBUTE = re.compile(rb"""([^\s=/>"']+)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""")
_CHARSET = re.compile(rb"""charset\s*=\s*["']?\s*([^\s"';]+)""", re.IGNORECASE)
_XML = re.compile(rb"""\A\s*<\?xml\s[^>]*?encoding\s*=\s*["']([^"'>]+)["']""", re.IGNORECASE)
# Python's names of what the standard's encodings are.
_PYTHON_NAMES = {
    "gbk": "gb18030",
    "big5": "big5hkscs",
    "shift_jis": "cp932",
    "euc-jp": "euc_jis_2004",
    "iso-2022-jp": "iso2022_jp_ext",
    "euc-kr": "cp949",
    "windows-874": "cp874",
    "macintosh": "mac-roman",
    "x-mac-cyrillic": "mac-cyrillic",
    "iso-8859-8-i": "iso-8859-8",
    # Declared in bytes that can be read, it cannot be true.
    "utf-16le": "utf-8",
    "utf-16be": "utf-8",
    "x-user-defined": "windows-1252",
}


def decode(data: bytes, declared: str | None = None) -> str:
    """Decode a file strictly, without its byte order mark.

    Args:
        data: its bytes.
        declared: the encoding that it declares; UTF-8 if it declares none.

    Raises:
        InputError: if the encoding is unknown, or the bytes are not valid in it.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _decode(data[len(mark) :], encoding, encoding)
    if declared is None:
        return _decode(data, "utf-8", "utf-8")
    known = require("webencodings", "webencodings").lookup(declared)
    if known is None or known.name == "replacement":
        raise InputError(f"unknown character encoding {declared!r}; convert the file to UTF-8")
    return _decode(data, _PYTHON_NAMES.get(known.name, known.name), declared)


def declared_encoding(page: bytes) -> str | None:
    """Return the encoding that a page declares for itself, as it writes it."""
    beginning = _NO_MARKUP.sub(b"", page[:_LOOKED_AT])
    for meta in _META.finditer(beginning):
        given = {
            name.lower(): value or other or bare
            for name, value, other, bare in _ATTRIBUTE.findall(meta[1])
        }
        found: re.Match[bytes] | None = None
        if given.get(b"http-equiv", b"").lower() == b"content-type":
            found = _CHARSET.search(given.get(b"content", b""))
        declared: bytes = (given.get(b"charset") or (found[1] if found else b"")).strip()
        if declared:
            return declared.decode("ascii", "replace")
    in_xml = _XML.search(beginning)
    return in_xml[1].decode("ascii", "replace") if in_xml else None


def _decode(data: bytes, encoding: str, declared: str) -> str:
    try:
        return data.decode(encoding, _LENIENCES.get(encoding, "strict"))
    except UnicodeDecodeError as error:
        raise InputError(
            f"not valid {declared}: byte 0x{data[error.start]:02x} at offset {error.start}; "
            f"convert the file to UTF-8"
        ) from error


def _as_euro(error: UnicodeError) -> tuple[str, int]:
    """Decode the one byte that Windows has added to GBK."""
    if not isinstance(error, UnicodeDecodeError) or error.object[error.start] != 0x80:
        raise error
    return "€", error.start + 1


def _as_control(error: UnicodeError) -> tuple[str, int]:
    """Decode the few bytes that Windows leaves undefined and the web takes for controls."""
    if not isinstance(error, UnicodeDecodeError) or error.object[error.start] > 0x9F:
        raise error
    return chr(error.object[error.start]), error.start + 1


codecs.register_error("c1", _as_control)
codecs.register_error("euro", _as_euro)
_LENIENCES = {"gb18030": "euro"} | {f"windows-125{digit}": "c1" for digit in range(9)}
