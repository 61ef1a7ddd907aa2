"""The text of Word documents and PowerPoint presentations; by python-docx and python-pptx."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple, TypeVar

from nest_engine._optional import require
from nest_engine.retrieval.formats.archive import open_archive
from nest_engine.retrieval.formats.own_title import own_title
from nest_engine.retrieval.formats.rows import row_text
from nest_engine.retrieval.formats.superscript import RAISED, in_line, needs_brackets
from nest_engine.retrieval.section import marked_heading

_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
# What was deleted or moved away, and what another program shows in place of something it knows.
# Pronunciation stands above the text.
_NOT_SHOWN = frozenset([f"{_WORD}del", f"{_WORD}moveFrom", f"{_WORD}rt", _FALLBACK])
_MATH = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
# Formulas that lose their meaning in a line; their parts are read in this order.
_FORMULAS = {
    f"{_MATH}f": ("", "num", "/", "den"),
    f"{_MATH}rad": ("\N{SQUARE ROOT}", "e"),
    f"{_MATH}sSup": ("", "e", "^", "sup"),
    f"{_MATH}sSubSup": ("", "e", "", "sub", "^", "sup"),
}
# The characters of the font Symbol, by which Word writes Greek letters and signs.
_SYMBOLS = {
    code: char
    for first, chars in (
        (0x41, "ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ"),
        (0x61, "αβχδεφγηιϕκλμνοπθρστυϖωξψζ"),
        (0xAB, "↔←↑→↓°±″≥×∝∂•÷≠≡≈"),
    )
    for code, char in enumerate(chars, first)
} | {0x2D: "−", 0xA2: "′", 0xA3: "≤", 0xA5: "∞", 0xCE: "∈", 0xD6: "√", 0xD7: "⋅", 0xE5: "∑"}
_OFF = frozenset(["0", "false", "off"])
_OUTLINE = frozenset("012345678")  # the levels of headings; 9 is that of text
_LEVELS = 6  # of headings in Markdown
_VANISH = f"{_WORD}rPr/{_WORD}vanish"
_REFERENCES = {f"{_WORD}{kind}Reference": kind for kind in ("footnote", "endnote")}
# Where shapes say whether they are hidden.
_SHAPE = "{http://schemas.openxmlformats.org/presentationml/2006/main}cNvPr"
_WORD_SHAPE = "*/{http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing}docPr"
_DRAWING = "{http://schemas.openxmlformats.org/drawingml/2006/main}"

_T = TypeVar("_T")


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

    Notes follow behind the text.

    Raises:
        InputError: if it is damaged or unpacks to too much.
        MissingDependencyError: if python-docx is not installed.
    """
    docx = require("docx", "python-docx", "documents")
    open_archive(stream)
    document = docx.Document(stream)
    reader = _WordReader(document)
    headings = (
        reader.text(paragraph._p).strip()
        for paragraph in document.paragraphs
        if paragraph.style is not None
        and (paragraph.style.name or "").startswith(("Title", "Heading"))
    )
    title = own_title(document.core_properties.title) or next(filter(None, headings), "")
    blocks = [*reader.blocks(document.element.body), *reader.notes()]
    return Office(title, ["\n\n".join(blocks)])


class _WordReader:
    """Reads the parts of a Word document.

    Args:
        document: the document.
    """

    def __init__(self, document: Any) -> None:
        self._part = document.part
        self._referred_to: dict[tuple[str, str], None] = {}  # notes, in order
        styles = {style.style_id: style.element for style in document.styles}
        self._hidden = frozenset(name for name in styles if _of_style(name, styles, _is_vanishing))
        self._levels = {name: _of_style(name, styles, _level) or 0 for name in styles}
        self._default = next(
            (
                name
                for name, style in styles.items()
                if style.get(f"{_WORD}type") == "paragraph"
                and style.get(f"{_WORD}default", "0") not in _OFF
            ),
            None,
        )

    def blocks(self, parent: Any, *, in_cell: bool = False) -> Iterator[str]:
        """Yield the paragraphs and rows of a part; headings are marked, but for those of a cell."""
        for element in parent:
            if element.tag == f"{_WORD}p":
                boxes: list[Any] = []
                text = self.text(element, boxes).strip("\n ")
                level = 0 if in_cell else self._level_of(element)
                if text.strip():
                    yield marked_heading(text, level) if level else text
                for box in boxes:  # text boxes are anchored in paragraphs
                    yield from self.blocks(box)
            elif element.tag == f"{_WORD}tbl":
                yield from self._rows(element)
            elif element.tag not in _NOT_SHOWN:
                yield from self.blocks(element)

    def notes(self) -> Iterator[str]:
        """Yield the paragraphs of the notes that what has been read refers to."""
        parse = require("docx.oxml", "python-docx", "documents").parse_xml
        found = {}
        for relation in self._part.rels.values():
            kind = relation.reltype.rpartition("/")[2]
            if kind in ("footnotes", "endnotes") and not relation.is_external:
                for note in parse(relation.target_part.blob):
                    found[kind[:-1], note.get(f"{_WORD}id")] = note
        for name in list(self._referred_to):
            yield from self.blocks(found.get(name, ()))

    def text(self, paragraph: Any, boxes: list[Any] | None = None) -> str:
        """Return the text of a paragraph; text boxes in it are put aside."""
        is_hidden = self._style_of(paragraph) in self._hidden
        shown = self._shown(paragraph, [] if boxes is None else boxes, is_hidden)
        return in_line("".join(shown))

    def _style_of(self, paragraph: Any) -> str | None:
        style = paragraph.find(f"{_WORD}pPr/{_WORD}pStyle")
        return self._default if style is None else style.get(f"{_WORD}val")

    def _level_of(self, paragraph: Any) -> int:
        """Return the level of a heading, from 1; 0 of other paragraphs."""
        own = _level(paragraph)
        return self._levels.get(self._style_of(paragraph), 0) if own is None else own

    def _rows(self, table: Any) -> Iterator[str]:
        for row in _nearest(table, f"{_WORD}tr"):
            if any(_is_set(row, f"{_WORD}trPr/{_WORD}{mark}") for mark in ("hidden", "del")):
                continue
            before = row.find(f"{_WORD}trPr/{_WORD}gridBefore")
            cells = [""] * _columns(before, 0)
            for cell in _nearest(row, f"{_WORD}tc"):
                span = cell.find(f"{_WORD}tcPr/{_WORD}gridSpan")
                cells += [
                    "\n".join(self.blocks(cell, in_cell=True)),
                    *[""] * (_columns(span, 1) - 1),
                ]
            yield from row_text(cells)

    def _shown(self, element: Any, boxes: list[Any], is_hidden: bool) -> Iterator[str]:
        """Yield the pieces of text in a paragraph, raised ones between marks.

        Args:
            element: the paragraph, or a part of it.
            boxes: text boxes are added.
            is_hidden: whether runs are, unless they say otherwise.
        """
        for child in element:
            tag = child.tag
            if tag == f"{_WORD}txbxContent":
                boxes.append(child)
            elif tag in (f"{_WORD}t", f"{_MATH}t"):
                yield child.text or ""
            elif tag in _FORMULAS:
                yield self._formula(child, boxes, is_hidden)
            elif tag == f"{_MATH}d":
                yield _sign(child, "begChr", "(")
                yield _sign(child, "sepChr", "|").join(
                    "".join(self._shown(part, boxes, is_hidden))
                    for part in child.iterchildren(f"{_MATH}e")
                )
                yield _sign(child, "endChr", ")")
            elif tag == f"{_WORD}tab":
                yield "\t" if element.tag == f"{_WORD}r" else ""
            elif tag in (f"{_WORD}br", f"{_WORD}cr"):
                yield "\n"
            elif tag == f"{_WORD}sym":
                yield _symbol(child)
            elif tag == f"{_WORD}noBreakHyphen":
                yield "\N{NON-BREAKING HYPHEN}"
            elif tag in _REFERENCES:
                self._referred_to[_REFERENCES[tag], child.get(f"{_WORD}id")] = None
            elif (
                tag in _NOT_SHOWN
                or (tag == f"{_WORD}r" and self._is_hidden(child, is_hidden))
                or (tag == f"{_WORD}drawing" and _is_marked_hidden(child.find(_WORD_SHAPE)))
            ):
                continue
            else:
                mark = RAISED if _is_raised(child) else ""
                yield mark
                yield from self._shown(child, boxes, is_hidden)
                yield mark

    def _formula(self, element: Any, boxes: list[Any], is_hidden: bool) -> str:
        """Return a formula in a line: (a+b)/2, √2, x^(n+1)."""
        signs = _FORMULAS[element.tag]
        text = ""
        for sign, name in zip(signs[::2], signs[1::2], strict=True):
            for part in element.iterchildren(f"{_MATH}{name}"):
                said = "".join(self._shown(part, boxes, is_hidden))
                text += sign + (f"({said})" if needs_brackets(said) else said)
        before = element.getprevious()
        follows_a_number = before is not None and "".join(before.itertext())[-1:].isdigit()
        return f" {text}" if follows_a_number and text[:1].isdigit() else text

    def _is_hidden(self, run: Any, is_hidden: bool) -> bool:
        own = _is_set(run, _VANISH)
        style = run.find(f"{_WORD}rPr/{_WORD}rStyle")
        by_style = style is not None and style.get(f"{_WORD}val") in self._hidden
        return is_hidden or by_style if own is None else own


def _sign(brackets: Any, name: str, default: str) -> str:
    """Return a sign of brackets in a formula."""
    mark = brackets.find(f"{_MATH}dPr/{_MATH}{name}")
    return default if mark is None else str(mark.get(f"{_MATH}val", ""))


def _nearest(element: Any, tag: str) -> Iterator[Any]:
    """Yield the elements of a tag in another, but not those inside of them."""
    for child in element:
        if child.tag == tag:
            yield child
        elif child.tag not in _NOT_SHOWN:
            yield from _nearest(child, tag)


def _of_style(
    name: str | None, styles: dict[str, Any], read: Callable[[Any], _T | None]
) -> _T | None:
    """Return what a style says, by itself or by what it is based on; None if nothing."""
    for _ in range(len(styles)):
        style = styles.get(name or "")
        if style is None:
            return None
        own = read(style)
        if own is not None:
            return own
        base = style.find(f"{_WORD}basedOn")
        name = base.get(f"{_WORD}val") if base is not None else None
    return None


def _is_vanishing(style: Any) -> bool | None:
    return _is_set(style, _VANISH)


def _level(styled: Any) -> int | None:
    """Return the level of headings that a style or a paragraph has itself, from 1; 0: of text."""
    name = styled.find(f"{_WORD}name")
    if name is not None and name.get(f"{_WORD}val") == "Title":
        return 1
    level = styled.find(f"{_WORD}pPr/{_WORD}outlineLvl")
    if level is None:
        return None
    number = level.get(f"{_WORD}val", "")
    return min(int(number) + 1, _LEVELS) if number in _OUTLINE else 0


def _is_set(element: Any, path: str) -> bool | None:
    """Return whether a mark says yes; None if it is not there."""
    mark = element.find(path)
    return None if mark is None else mark.get(f"{_WORD}val", "1") not in _OFF


def _symbol(mark: Any) -> str:
    """Return a character that is written by its place in a font; nothing if nobody knows it."""
    try:
        code = int(mark.get(f"{_WORD}char", ""), 16)
    except ValueError:
        return ""
    if mark.get(f"{_WORD}font") == "Symbol":
        code &= 0xFF
        return _SYMBOLS.get(code, chr(code) if 0x20 <= code < 0x7F else "")
    return chr(code) if 0x20 <= code < 0xD800 or 0xF900 <= code <= 0xFFFF else ""


def _is_marked_hidden(properties: Any) -> bool:
    """Return whether a shape is one that its author has hidden."""
    return properties is not None and properties.get("hidden", "0") not in _OFF


def _columns(mark: Any, default: int) -> int:
    return default if mark is None else min(int(mark.get(f"{_WORD}val", default)), 50)


def _is_raised(run: Any) -> bool:
    position = run.find(f"{_WORD}rPr/{_WORD}vertAlign")
    return position is not None and position.get(f"{_WORD}val") == "superscript"


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
    titles = (slide.shapes.title for slide in slides)
    texts = (shape.text for shape in titles if shape is not None and shape.text)
    return Office(
        own_title(presentation.core_properties.title) or next(texts, ""),
        ["\n\n".join(_slide(slide)) if slide in slides else "" for slide in presentation.slides],
    )


def _slide(slide: Any) -> Iterator[str]:
    title = slide.shapes.title
    yield from _shapes(slide.shapes, None if title is None else title.element)
    if slide.has_notes_slide and (frame := slide.notes_slide.notes_text_frame) is not None:
        yield from filter(str.strip, _paragraphs(frame))


def _shapes(shapes: Any, title: Any) -> Iterator[str]:
    """Yield the paragraphs and rows of shapes; that of a slide's title is marked as a heading."""
    for shape in shapes:
        if _is_marked_hidden(next(shape.element.iter(_SHAPE), None)):
            continue
        if hasattr(shape, "shapes"):
            yield from _shapes(shape.shapes, title)
        elif shape.has_text_frame:
            lines = [*filter(str.strip, _paragraphs(shape.text_frame))]
            is_title = lines and shape.element is title
            yield from [marked_heading(" ".join(lines), 1)] if is_title else lines
        elif getattr(shape, "has_table", False) and shape.has_table:
            for row in shape.table.rows:
                yield from row_text(_frame(cell.text_frame).strip() for cell in row.cells)


def _frame(frame: Any) -> str:
    return "\n".join(_paragraphs(frame))


def _paragraphs(frame: Any) -> Iterator[str]:
    for paragraph in frame.paragraphs:
        yield in_line("".join(_runs(paragraph._p)))


def _runs(paragraph: Any) -> Iterator[str]:
    for run in paragraph.content_children:
        properties = run.find(f"{_DRAWING}rPr")
        height = properties.get("baseline", "0") if properties is not None else "0"
        mark = "" if height.startswith(("0", "-")) else RAISED
        yield mark + run.text.replace("\v", "\n") + mark
