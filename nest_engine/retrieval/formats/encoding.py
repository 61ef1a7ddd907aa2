"""Which character encoding a file is in, as browsers decide it (https://encoding.spec.whatwg.org).

A byte order mark wins, then what a page declares for itself, under the names that the web means by
other encodings than their own: gb2312 is GB 18030, shift_jis is Windows-31J. Names that the web
does not know count for nothing. Unlike in a browser, bytes that do not decode are an error: nothing
is replaced or guessed.
"""

from __future__ import annotations

import codecs
import re

from nest_engine._optional import require
from nest_engine.errors import InputError
from nest_engine.retrieval.formats.markup import Parser, parsable

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins like the next
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
)
_LOOKED_AT, _AT_ONCE = 1 << 17, 1 << 12  # bytes of a page that may declare its encoding
_CONTROLS = [chr(code) for code in range(0x20) if chr(code) not in "\t\n\v\f\r\x1b"]
_MOST_CONTROLS = 0.15  # of a text; UTF-16 has half, or of Devanagari a sixth
_CHARSET = re.compile(r"""charset\s*=\s*["']?\s*([^\s"';]+)""", re.IGNORECASE)
_XML = re.compile(rb"""\A\s*<\?xml\s[^>]*?encoding\s*=\s*["']([^"'>]+)["']""", re.IGNORECASE)
_UNKNOWN = "unknown character encoding {!r}; convert the file to UTF-8"
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
    known = _known(declared) if declared else None
    if known == "replacement":
        raise InputError(_UNKNOWN.format(declared))
    if known:
        return _decode(data, _PYTHON_NAMES.get(known, known), declared or known)
    try:
        return _decode(data, "utf-8", "utf-8")
    except InputError as error:
        if declared is None:
            raise
        raise InputError(_UNKNOWN.format(declared)) from error


def is_wide(beginning: bytes) -> bool:
    """Return whether a file begins with a byte order mark of UTF-16 or UTF-32."""
    return beginning.startswith(tuple(mark for mark, _ in _MARKS[1:]))


def declared_encoding(page: bytes) -> str | None:
    """Return the encoding that a page declares for itself, as it writes it.

    Of several, the first that is known counts.
    """
    beginning = page[:_LOOKED_AT]
    finder = _DeclarationFinder()
    source = parsable(beginning.decode("latin-1"))
    for start in range(0, len(source), _AT_ONCE):
        finder.feed(source[start : start + _AT_ONCE])
        if any(map(_known, finder.found)):
            break
    in_xml = _XML.search(beginning)
    found = [*finder.found, *([in_xml[1].decode("latin-1")] if in_xml else [])]
    return next(filter(_known, found), found[0] if found else None)


class _DeclarationFinder(Parser):
    """Collects the encodings that a page declares."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            return
        given = {name: value or "" for name, value in reversed(attrs)}  # the first of equals counts
        declared = given.get("charset", "").strip()
        if not declared and given.get("http-equiv", "").lower() == "content-type":
            charset = _CHARSET.search(given.get("content", ""))
            declared = charset[1] if charset else ""
        if declared:
            self.found.append(declared)


def _known(label: str) -> str | None:
    """Return the standard's name of an encoding; None for what is none."""
    found = require("webencodings", "webencodings").lookup(label)
    return found.name if found else None


def _decode(data: bytes, encoding: str, declared: str) -> str:
    try:
        text = data.decode(encoding, _LENIENCES.get(encoding, "strict"))
    except UnicodeDecodeError as error:
        raise InputError(
            f"not valid {declared}: byte 0x{data[error.start]:02x} at offset {error.start}; "
            f"convert the file to UTF-8"
        ) from error
    if sum(map(text.count, _CONTROLS)) > len(text) * _MOST_CONTROLS:
        found = "zeros" if text.count("\0") > len(text) / 4 else "control characters"
        raise InputError(
            f"full of {found}, as UTF-16 is without a byte order mark; convert it to UTF-8"
        )
    return text


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
