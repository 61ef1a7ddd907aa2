"""The text of Word documents and PowerPoint presentations; by python-docx and python-pptx."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from nest_engine._optional import require
from nest_engine.retrieval.formats.archive import open_archive
from nest_engine.retrieval.formats.rows import row_text

_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
# What was deleted or moved away, and what another program shows in place of something it knows.
# Pronunciation stands above the text.
_NOT_SHOWN = frozenset([f"{_WORD}del", f"{_WORD}moveFrom", f"{_WORD}rt", _FALLBACK])
_MATH_TEXT = "{http://schemas.openxmlformats.org/officeDocument/2006/math}t"
_OFF = frozenset(["0", "false", "off"])


class Office(NamedTuple):
    """What a file says.

    Args:
        title: its own, or that of its first heading; may be empty.
        pages: the text of each slide; of a document, of the whole.
    """

    title: str
    pages: list[str]


def read_docx(stream: BinaryIO) -> Office:
    """Return what a Word document shows: insertions, but neither deletions nor hidden text.

    Raises:
        InputError: if it is damaged or unpacks to too much.
        MissingDependencyError: if python-docx is not installed.
    """
    docx = require("docx", "python-docx", "documents")
    open_archive(stream)
    document = docx.Document(stream)
    title = (document.core_properties.title or "").strip()
    hidden = frozenset(style.style_id for style in document.styles if _is_hidden(style.element))
    headings = (
        "".join(_shown(paragraph._p, [], hidden)).strip()
        for paragraph in document.paragraphs
        if paragraph.style is not None and paragraph.style.name.startswith(("Title", "Heading"))
    )
    heading = next(filter(None, headings), "")
    return Office(title or heading, ["\n\n".join(_blocks(document.element.body, hidden))])


def _blocks(parent: Any, hidden: frozenset[str]) -> Iterator[str]:
    """Yield the paragraphs and rows of a part of a Word document.

    Args:
        parent: the part.
        hidden: ids of the styles whose text is not shown.
    """
    for element in parent:
        if element.tag == f"{_WORD}p":
            inner: list[Any] = []
            text = "".join(_shown(element, inner, hidden)).strip("\n ")
            if text.strip():
                yield text
            for box in inner:  # text boxes are anchored in paragraphs
                yield from _blocks(box, hidden)
        elif element.tag == f"{_WORD}tbl":
            yield from _rows(element, hidden)
        elif element.tag not in _NOT_SHOWN:
            yield from _blocks(element, hidden)


def _rows(table: Any, hidden: frozenset[str]) -> Iterator[str]:
    for row in _nearest(table, f"{_WORD}tr"):
        cells: list[str] = []
        for cell in _nearest(row, f"{_WORD}tc"):
            span = cell.find(f"{_WORD}tcPr/{_WORD}gridSpan")
            columns = min(int(span.get(f"{_WORD}val", 1)), 50) if span is not None else 1
            cells += ["\n".join(_blocks(cell, hidden)), *[""] * (columns - 1)]
        yield from row_text(cells)


def _nearest(element: Any, tag: str) -> Iterator[Any]:
    """Yield the elements of a tag in another, but not those inside of them."""
    for child in element:
        if child.tag == tag:
            yield child
        elif child.tag not in _NOT_SHOWN:
            yield from _nearest(child, tag)


def _shown(element: Any, boxes: list[Any], hidden: frozenset[str]) -> Iterator[str]:
    """Yield the pieces of text in a paragraph; text boxes in it are put aside."""
    for child in element:
        tag = child.tag
        if tag == f"{_WORD}txbxContent":
            boxes.append(child)
        elif tag in (f"{_WORD}t", _MATH_TEXT):
            yield child.text or ""
        elif tag == f"{_WORD}tab":
            yield "\t" if element.tag == f"{_WORD}r" else ""
        elif tag in (f"{_WORD}br", f"{_WORD}cr"):
            yield "\n"
        elif tag == f"{_WORD}noBreakHyphen":
            yield "\N{NON-BREAKING HYPHEN}"
        elif tag not in _NOT_SHOWN and not (tag == f"{_WORD}r" and _is_hidden(child, hidden)):
            yield from _shown(child, boxes, hidden)


def _is_hidden(run: Any, hidden: frozenset[str] = frozenset()) -> bool:
    """Return whether a run, or the text of a style, is not shown."""
    mark = run.find(f"{_WORD}rPr/{_WORD}vanish")
    if mark is not None:
        return mark.get(f"{_WORD}val", "1") not in _OFF
    style = run.find(f"{_WORD}rPr/{_WORD}rStyle")
    return style is not None and style.get(f"{_WORD}val") in hidden


def read_pptx(stream: BinaryIO) -> Office:
    """Return what each slide of a presentation shows, and its notes; hidden slides are empty.

    Raises:
        InputError: if it is damaged or unpacks to too much.
        MissingDependencyError: if python-pptx is not installed.
    """
    pptx = require("pptx", "python-pptx", "documents")
    open_archive(stream)
    presentation = pptx.Presentation(stream)
    slides = [slide for slide in presentation.slides if slide.element.get("show", "1") not in _OFF]
    title = (presentation.core_properties.title or "").strip()
    if not title or title == "PowerPoint Presentation":  # what PowerPoint itself writes
        titles = (slide.shapes.title for slide in slides)
        title = next((shape.text for shape in titles if shape is not None and shape.text), title)
    return Office(
        title,
        ["\n\n".join(_slide(slide)) if slide in slides else "" for slide in presentation.slides],
    )


def _slide(slide: Any) -> Iterator[str]:
    yield from _shapes(slide.shapes)
    if slide.has_notes_slide and (frame := slide.notes_slide.notes_text_frame) is not None:
        yield from filter(str.strip, [_plain(frame.text)])


def _shapes(shapes: Any) -> Iterator[str]:
    for shape in shapes:
        if hasattr(shape, "shapes"):
            yield from _shapes(shape.shapes)
        elif shape.has_text_frame:
            yield from filter(str.strip, [_plain(shape.text_frame.text)])
        elif getattr(shape, "has_table", False) and shape.has_table:
            for row in shape.table.rows:
                yield from row_text(_plain(cell.text_frame.text).strip() for cell in row.cells)


def _plain(text: str) -> str:
    """Return text with line breaks for PowerPoint's vertical tabs."""
    return text.replace("\v", "\n")
