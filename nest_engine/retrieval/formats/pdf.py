"""The text of PDF files, and where on the page each word is; by the library PDFium (pypdfium2).

Characters come in the order in which the file draws them, in lines. Where that jumps to and fro
between columns, the columns are put one after the other.
"""

from __future__ import annotations

import ctypes
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from statistics import median
from typing import Any, BinaryIO, NamedTuple

import regex
from typing_extensions import Self

from nest_engine._optional import require
from nest_engine.errors import InputError
from nest_engine.retrieval.document import Box, WordBox
from nest_engine.retrieval.formats.own_title import own_title

_HYPHENS = ("\x02", "\ufffe")  # how PDFium marks a hyphen that breaks a word at a line end
_WIDE_GAP = 1.0  # heights of a line: more white than between words
_SHORTEST_COLUMN_LINE = 12  # characters on average: cells of tables are shorter
_FEWEST_ROWS = 3  # of two columns side by side
_PARAGRAPH_GAP = 0.6  # heights of a line: more white than between lines
_OTHER_SIZE = 1.15  # times as high: not the type of the same paragraph
_DEVICE, _FAR = 100, 1000  # device units in a point, which are whole numbers; points
_WORD = regex.compile(r"[\w'’]+|[^\w\s]")


class Page(NamedTuple):
    """A page.

    Args:
        text: its text.
        words: its words, in order.
        width: in points, as it is shown.
        height: likewise.
    """

    text: str
    words: tuple[WordBox, ...]
    width: float
    height: float


class _Glyph(NamedTuple):
    """A character with its place; those that PDFium adds between words and lines have none."""

    char: str
    box: Box | None


class _Line(NamedTuple):
    """A line, or a part of one beside others."""

    glyphs: list[_Glyph]
    box: Box


class PdfFile:
    """An open PDF file.

    Args:
        stream: the file.

    Raises:
        InputError: if it needs a password, or is no PDF file.
        MissingDependencyError: if pypdfium2 is not installed.
    """

    def __init__(self, stream: BinaryIO) -> None:
        pdfium = require("pypdfium2", "pypdfium2")
        try:
            self._document = pdfium.PdfDocument(stream, autoclose=False)
        except pdfium.PdfiumError as error:
            if "password" in str(error).lower():
                raise InputError("needs a password; save it without one") from error
            raise InputError(f"damaged or not what its name says: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._document)

    @property
    def title(self) -> str:
        """The title that the file gives itself; may be empty."""
        return own_title(self._document.get_metadata_value("Title"))

    def page(self, index: int) -> Page:
        """Read a page; errors of damaged pages are the library's."""
        page = self._document[index]
        try:
            width, height = page.get_size()
            lines = _in_columns(list(_lines(_glyphs(page))))
            text, words = _joined(lines)
            return Page(text, words, width, height)
        finally:
            page.close()

    def picture(self, index: int, scale: float) -> Any:
        """Return a picture of a page (`PIL.Image.Image`) with ``scale`` pixels in a point."""
        return self._document[index].render(scale=scale).to_pil()

    def close(self) -> None:
        """Close the file."""
        self._document.close()


def _glyphs(page: Any) -> Iterator[_Glyph]:
    """Yield the characters of a page in the order of the file."""
    raw = require("pypdfium2", "pypdfium2").raw
    shown = _shown(raw, page)
    text_page = page.get_textpage()
    try:
        rectangle = raw.FS_RECTF()
        high = 0  # first half of a character beyond the basic plane
        for index in range(raw.FPDFText_CountChars(text_page)):
            code = raw.FPDFText_GetUnicode(text_page, index)
            if 0xD800 <= code < 0xDC00:
                high = code
                continue
            if high and 0xDC00 <= code < 0xE000:
                code = 0x10000 + ((high - 0xD800) << 10) + code - 0xDC00
            high = 0
            char = chr(code) if code < 0xD800 or 0xE000 <= code <= 0x10FFFF else "\ufffd"
            box = None
            if not char.isspace() and raw.FPDFText_GetLooseCharBox(text_page, index, rectangle):
                box = shown(rectangle.left, rectangle.top, rectangle.right, rectangle.bottom)
            yield _Glyph(char, box)
    finally:
        text_page.close()


def _shown(raw: Any, page: Any) -> Callable[[float, float, float, float], Box]:
    """Return what turns rectangles of a page's own coordinates into boxes on the page as shown."""
    size = [round(length * _DEVICE) for length in page.get_size()]
    x, y = ctypes.c_int(), ctypes.c_int()

    def point(own_x: float, own_y: float) -> tuple[float, float]:
        raw.FPDF_PageToDevice(page, 0, 0, *size, 0, own_x, own_y, x, y)
        return x.value / _DEVICE, y.value / _DEVICE

    # Linear: found at three points, far apart because device units are whole.
    (x0, y0), (x1, y1), (x2, y2) = point(0, 0), point(_FAR, 0), point(0, _FAR)
    x_x, y_x, x_y, y_y = (
        (to - origin) / _FAR for to, origin in zip((x1, y1, x2, y2), (x0, y0) * 2, strict=True)
    )

    def box(left: float, top: float, right: float, bottom: float) -> Box:
        xs = [x0 + x_x * own_x + x_y * own_y for own_x, own_y in ((left, top), (right, bottom))]
        ys = [y0 + y_x * own_x + y_y * own_y for own_x, own_y in ((left, top), (right, bottom))]
        return Box(min(xs), min(ys), max(xs), max(ys))

    return box


def _lines(glyphs: Iterator[_Glyph]) -> Iterator[_Line]:
    """Cut characters into lines, which end at line breaks and at wide gaps."""
    line: list[_Glyph] = []
    last: Box | None = None
    for glyph in glyphs:
        is_hyphen = glyph.char in _HYPHENS
        if glyph.char in "\r\n" or (last and glyph.box and _is_apart(last, glyph.box)):
            yield from _line(line)
            line, last = [], None
        if is_hyphen or glyph.char == "\t" or not unicodedata.category(glyph.char).startswith("C"):
            line.append(_Glyph("-", glyph.box) if is_hyphen else glyph)
            last = glyph.box or last
        if is_hyphen:
            yield from _line(line)
            line, last = [], None
    yield from _line(line)


def _line(glyphs: list[_Glyph]) -> Iterator[_Line]:
    boxes = [glyph.box for glyph in glyphs if glyph.box]
    if boxes:
        yield _Line(glyphs, _around(boxes))


def _around(boxes: Sequence[Box]) -> Box:
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return Box(min(lefts), min(tops), max(rights), max(bottoms))


def _is_apart(before: Box, after: Box) -> bool:
    """Return whether there is more white between two characters than between words."""
    return after.left - before.right > _WIDE_GAP * (before.bottom - before.top)


def _is_beside(left: Box, right: Box) -> bool:
    """Return whether a line begins where another of the same height ends."""
    overlap = min(left.bottom, right.bottom) - max(left.top, right.top)
    lower = min(left.bottom - left.top, right.bottom - right.top)
    return right.left >= left.right and overlap > lower / 2


def _in_columns(lines: list[_Line]) -> list[_Line]:
    """Put columns one after the other whose lines come by turns."""
    gutter = _gutter(lines)
    if gutter is None:
        return lines
    ordered: list[_Line] = []
    left: list[_Line] = []
    right: list[_Line] = []
    for line in [*lines, None]:
        if line is not None and line.box.right <= gutter:
            left.append(line)
        elif line is not None and line.box.left >= gutter:
            right.append(line)
        else:  # across both: what is above it is read before what is below
            ordered += [*left, *_in_columns(right)]
            ordered += [line] if line else []
            left, right = [], []
    return ordered


def _gutter(lines: list[_Line]) -> float | None:
    """Return the middle of the white between two columns of text, side by side in the file."""
    pairs = [(a, b) for a, b in pairwise(lines) if _is_beside(a.box, b.box)]
    for first, _ in pairs:
        # The lines of the left column end before any line of the right one begins.
        rows = [
            (a, b) for a, b in pairs if b.box.left > first.box.left and a.box.left < first.box.right
        ]
        start = min((b.box.left for _, b in rows), default=0.0)
        rows = [(a, b) for a, b in rows if a.box.right < start]
        if len(rows) < _FEWEST_ROWS:
            continue
        if all(
            sum(len(row[side].glyphs) for row in rows) / len(rows) >= _SHORTEST_COLUMN_LINE
            for side in (0, 1)
        ):
            return (max(a.box.right for a, _ in rows) + start) / 2
    return None


def _joined(lines: list[_Line]) -> tuple[str, tuple[WordBox, ...]]:
    """Return the text of lines, and where its words are."""
    pieces: list[str] = []
    words: list[WordBox] = []
    length = 0
    before: _Line | None = None
    for line in lines:
        if before is not None:
            pieces.append(_between(before, line))
            length += len(pieces[-1])
        text = "".join(glyph.char for glyph in line.glyphs).rstrip()
        text, skipped = text.lstrip(), len(text) - len(text.lstrip())
        for word in _WORD.finditer(text):
            start, end = word.span()
            boxes = [
                glyph.box for glyph in line.glyphs[skipped + start : skipped + end] if glyph.box
            ]
            if boxes:
                words.append(WordBox(length + start, length + end, _around(boxes)))
        pieces.append(text)
        length += len(text)
        before = line
    return "".join(pieces), tuple(words)


def _between(before: _Line, after: _Line) -> str:
    """Return what stands between two lines: nothing but a space, if they are one."""
    if _is_beside(before.box, after.box):
        return " "
    white = after.box.top - before.box.bottom
    is_wide = white > _PARAGRAPH_GAP * (before.box.bottom - before.box.top)
    smaller, larger = sorted((_type_size(before), _type_size(after)))
    return "\n\n" if is_wide or larger > _OTHER_SIZE * smaller > 0 else "\n"


def _type_size(line: _Line) -> float:
    """Return how high the type of most of a line is; 0 if nobody knows.

    An initial may stand by itself, and upright lines have letters of many heights.
    """
    heights = [glyph.box.bottom - glyph.box.top for glyph in line.glyphs if glyph.box]
    is_level = line.box.right - line.box.left > line.box.bottom - line.box.top
    return median(heights) if is_level and len(heights) > 1 else 0.0
