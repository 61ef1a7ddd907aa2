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
_COMMENT = re.compile(rb"<!--.*?(?:-->|\Z)", re.DOTALL)
_DECLARATION = re.compile(
    rb"""<meta\s[^>]*?charset\s*=\s*["']?\s*([^\s"'/>;]+)"""
    rb"""|\A\s*<\?xml\s[^>]*?encoding\s*=\s*["']([^"'>]+)["']""",
    re.IGNORECASE,
)
# Python's names of what the standard's encodings are.
_PYTHON_NAMES = {
    "gbk": "gb18030",
    "big5": "big5hkscs",
    "shift_jis": "cp932",
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
    if known is None:
        raise InputError(f"unknown character encoding {declared!r}; convert the file to UTF-8")
    return _decode(data, _PYTHON_NAMES.get(known.name, known.name), declared)


def declared_encoding(page: bytes) -> str | None:
    """Return the encoding that a page declares for itself, as it writes it."""
    found = _DECLARATION.search(_COMMENT.sub(b"", page[:_LOOKED_AT]))
    return (found[1] or found[2]).decode("ascii", "replace") if found else None


def _decode(data: bytes, encoding: str, declared: str) -> str:
    try:
        return data.decode(encoding, "c1" if encoding.startswith("windows-125") else "strict")
    except UnicodeDecodeError as error:
        raise InputError(
            f"not valid {declared}: byte 0x{data[error.start]:02x} at offset {error.start}; "
            f"convert the file to UTF-8"
        ) from error


def _as_control(error: UnicodeError) -> tuple[str, int]:
    """Decode the few bytes that Windows leaves undefined and the web takes for controls."""
    if not isinstance(error, UnicodeDecodeError) or error.object[error.start] > 0x9F:
        raise error
    return chr(error.object[error.start]), error.start + 1


codecs.register_error("c1", _as_control)
