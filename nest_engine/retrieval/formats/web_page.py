"""The text of a web page as a reader sees it.

Blocks become paragraphs, rows of tables too, and headings, which readers see by their size, are
marked as in Markdown. Cells stand under their headings: set apart by tabs, with an empty one where
one spans several columns or rows; a dash stands for an empty cell in front of a row. What is hidden
is left out: by the element, by ``hidden``, by its style or by the page's style sheets: not
displayed, transparent, clipped, off the page, in the ink of its paper. Raised figures, fractions
and roots keep their meaning: 10^6, (a+b)/2, √2.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from nest_engine.errors import InputError
from nest_engine.retrieval.formats.markup import Parser, parsable
from nest_engine.retrieval.formats.media_query import applies_on_screens
from nest_engine.retrieval.formats.open_elements import HEADINGS, VOID, Element, OpenElements
from nest_engine.retrieval.formats.rows import EMPTY_CELL
from nest_engine.retrieval.formats.style_sheet import Inside, StyleSheets
from nest_engine.retrieval.formats.superscript import before_superscript, needs_brackets
from nest_engine.retrieval.formats.visibility import (
    APART_DISPLAYS,
    BLOCK_DISPLAYS,
    LAYOUTS,
    hides,
    keyword,
    unseen,
)
from nest_engine.retrieval.section import marked_heading

_DEEPEST = 100_000  # open elements
_MOST_TAGS = 600_000  # some seconds
_MOST_COLUMNS, _MOST_ROWS = 50, 65_534  # that a cell spans
_LONGEST_TITLE = 1000
# Not rendered, or rendered only where something else fails; and pronunciation between characters.
INVISIBLE = frozenset(
    [
        *("annotation", "annotation-xml", "applet", "area", "audio", "canvas", "datalist"),
        *("dialog", "head", "iframe", "mphantom", "noembed", "noframes", "noscript", "rp", "rt"),
        *("script", "style", "svg", "template", "title", "video"),
    ]
)
# What is in them are no tags.
RAW_TEXT = frozenset(
    [
        *("iframe", "noembed", "noframes", "plaintext", "script", "style", "textarea", "title"),
        "xmp",
    ]
)
_BLOCKS = HEADINGS | {
    *("address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details"),
    *("dialog", "dir", "div", "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form"),
    *("header", "hgroup", "hr", "legend", "li", "listing", "main", "menu", "nav", "ol"),
    *("optgroup", "option", "p", "plaintext", "pre", "search", "section", "select", "summary"),
    *("table", "tbody", "tfoot", "thead", "tr", "ul", "xmp"),
}
# In one line with what is beside them, but apart from it.
_APART = frozenset(["button", "input", "meter", "progress", "textarea"])
_INERT = frozenset(["noscript", "template"])
_HIDDEN = frozenset(["hidden", "popover"])  # attributes
_UNTITLED = _INERT | {"iframe", "noembed", "noframes", "object"}
_BETWEEN = {"mfrac": "/", "msup": "^"}  # two parts of a formula
_ROOT = "msqrt"
# White space of any kind, as programs write it into empty cells.
_BLANK = re.compile(r"[\s\u00ad\u200b-\u200d\u2060\ufeff]*")
_FRACTION = re.compile(r"<sup[^>]*>\s*\d+\s*</sup>\s*(?:/|\u2044|&frasl;)", re.IGNORECASE)
_NO_WORD_END, _NO_WORD_START = " \t\n\u00a0([{\u201c\u2018/-", " \t\n\u00a0.,;:!?)]}\u201d\u2019%/-"
_WHOLE_PAGE = frozenset(["body", "html"])
_DRAWINGS = frozenset(["math", "svg"])
_SECTIONS = frozenset(["tbody", "tfoot", "thead"])
_CELLS = frozenset(["td", "th"])
_PREFORMATTED = frozenset(["listing", "plaintext", "pre", "textarea", "xmp"])
_SPACE = re.compile(r"[ \t\n\r\f]+")
_XML = re.compile(r"\s*<\?xml\b", re.IGNORECASE)
_CDATA, _CDATA_MARK = "<![CDATA[", re.compile(r"<!\[CDATA\[|\]\]>")
_LINE_END = re.compile(r"\r\n?")
_COMMENT_END = re.compile(r"--!?>")
_PARAGRAPH = "\n\n"
_BEFORE_TEXT = 4  # pieces that are added in front of each text
_MOST_PIECES = 500  # of a part of a formula
_STYLE = re.compile("<style", re.IGNORECASE)


class WebPage(NamedTuple):
    """What a page says.

    Args:
        text: the visible text.
        title: its title, or else its first heading.
    """

    text: str
    title: str


def read_page(
    markup: str, *, is_xml: bool = False, linked: Callable[[str], str] | None = None
) -> WebPage:
    """Return the text and title of a page, in time linear in its size.

    Args:
        markup: the page.
        is_xml: whether ``/>`` ends an element, as in XHTML; a page that begins with an XML
            declaration says so itself.
        linked: returns the style sheet at an address that the page links to.

    Raises:
        InputError: if its elements are nested too deeply.
    """
    reader = _Reader(markup, is_xml=is_xml, linked=linked)
    return WebPage(reader.text(), reader.title.strip() or reader.h1 or reader.heading)


def hidden_ranges(markup: str) -> list[tuple[int, int]]:
    """Return where elements that are not shown, and comments, stand in a text with markup.

    Args:
        markup: Markdown, say, whose code has been blanked.

    Returns:
        character ranges, in order and disjoint.
    """
    return _Reader(markup).hidden


class _Table:
    """Which columns of a table's coming rows are taken by cells that reach down into them."""

    def __init__(self) -> None:
        self._rows_left: dict[int, int] = {}
        self._last = self._next = 0  # columns: where the last cell begins, and the next may

    def begin_row(self) -> None:
        """Begin a row."""
        self._last = self._next = 0

    def begin_cell(self, columns: int, rows: int) -> int:
        """Begin a cell; return how many columns behind the beginning of the one before it."""
        self._pass_taken()
        distance = self._next - self._last
        self._last = self._next
        if rows > 1:
            taken = range(self._next, min(self._next + columns, _MOST_COLUMNS))
            self._rows_left |= dict.fromkeys(taken, rows - 1)
        self._next += columns
        return distance

    def end_row(self) -> None:
        """End a row."""
        for column, rows in list(self._rows_left.items()):
            if column >= self._next and rows > 0:
                self._rows_left[column] = rows - 1

    def _pass_taken(self) -> None:
        while self._rows_left.get(self._next, 0) > 0:
            self._rows_left[self._next] -= 1
            self._next += 1


class _Reader(Parser):
    """Reads a page once, from its beginning to its end.

    Attributes:
        title: text of the title element.
        h1: text of the first heading of the first level that is shown.
        heading: likewise of any level.
        hidden: where hidden elements and comments stand in the markup.
    """

    def __init__(
        self, markup: str, *, is_xml: bool = False, linked: Callable[[str], str] | None = None
    ) -> None:
        super().__init__(convert_charrefs=True)
        self.title = self.h1 = self.heading = ""
        self.hidden: list[tuple[int, int]] = []
        self._line_starts = [0, *(end.end() for end in re.finditer("\n", markup))]
        self._is_xml = is_xml or bool(_XML.match(markup))
        self._open = OpenElements()
        self._num_hiding = self._num_preformatted = self._num_drawings = 0  # open elements
        self._num_untitled = 0
        self._num_tags = 0
        self._hidden_from: int | None = None
        self._tables: list[_Table] = []
        # Around each of them: the number of pieces, and the row of the table that it stands in.
        self._outer_rows: list[tuple[int, int, bool]] = []
        self._pieces: list[str] = []
        self._break, self._tabs = "", 0  # before the next text
        self._is_apart = self._is_raised = False  # the next text
        self._indent = ""  # of a cell that is empty so far
        self._between = ""  # the last text and the next, in a formula
        self._part_starts: list[int] = []  # of the parts that are open: the number of pieces
        self._is_titled = self._is_row_empty = self._is_cell_empty = False
        self._heading_start: int | None = None  # the number of pieces before the one being read
        self._mark = ""  # of a heading, in front of its text
        self._is_at_start_of_code = False

        source = parsable(markup)
        has_styles = _STYLE.search(markup) is not None or linked is not None
        self._styles = StyleSheets(_style_sheets(source, linked) if has_styles else ())
        self.feed(source)
        self.close()
        if markup.startswith("<!--", len(source)) and self._hidden_from is None:
            self._hidden_from = len(source)
        if self._hidden_from is not None:
            self.hidden.append((self._hidden_from, len(markup)))

    def text(self) -> str:
        """Return the visible text."""
        return _tidy("".join(self._pieces))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in reversed(attrs)}  # the first of equals counts
        self._num_tags += 1
        if self._num_tags > _MOST_TAGS:
            raise InputError(f"there are more than {_MOST_TAGS:,} tags; split or repair the page")
        at = self._offset()
        self._close(self._open.make_room(tag), at)
        outer = self._open.innermost
        style, met = self._styles.of(tag, given, outer.inside)
        display = keyword(style, "display")
        is_page = tag in _WHOLE_PAGE  # hidden, perhaps, until a script shows it
        element = Element(
            tag,
            hides=(tag in INVISIBLE and not (tag == "dialog" and "open" in given))
            or (not _HIDDEN.isdisjoint(given) and "display" not in style and not is_page)
            or (bool(style) and not is_page and hides(style, tag, is_block=tag in _BLOCKS)),
            unseen=outer.unseen if is_page else unseen(style, outer.unseen),
            is_block=tag in _BLOCKS or display in BLOCK_DISPLAYS,
            is_apart=outer.lays_out or tag == "mfrac" or display in APART_DISPLAYS,
            lays_out=display in LAYOUTS,
            is_part=outer.name in _BETWEEN or tag == _ROOT,
            inside=Inside(met),
        )
        self._open.start(element)
        if len(self._open) > _DEEPEST:
            raise InputError(f"elements are nested more than {_DEEPEST:,} deep; repair the page")
        self._enter(element, given)
        self._note_what_is_hidden(at)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if self._num_drawings or self._is_xml:  # elsewhere the slash means nothing
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag == "br" and self._hidden_from is None:  # as if it were a start tag
            self._break_line()
        end = self.rawdata.find(">", self._offset()) + 1 if self._hidden_from is not None else 0
        self._close(self._open.end(tag), end)

    def handle_data(self, data: str) -> None:
        data = data.replace("\0", "<")
        name = self._open.innermost.name
        is_title = name == "title" and not self._num_drawings and not self._num_untitled
        if is_title and not self._is_titled and len(self.title) < _LONGEST_TITLE:
            self.title += data
        elif name == "head" and data.strip():
            self._close(self._open.end_head(), self._offset())
        if self._hidden_from is not None:
            return
        if self._is_at_start_of_code:
            data = data.removeprefix("\n")
        self._put(_LINE_END.sub("\n", data) if self._num_preformatted else _SPACE.sub(" ", data))

    def parse_html_declaration(self, i: int) -> int:
        """Read what stands in a section of characters, where there are such."""
        if not (self._is_xml or self._num_drawings) or not self.rawdata.startswith(_CDATA, i):
            return super().parse_html_declaration(i)
        end = self.rawdata.find("]]>", i)
        end = len(self.rawdata) if end < 0 else end
        self.handle_data(self.rawdata[i + len(_CDATA) : end])
        return min(end + 3, len(self.rawdata))

    def parse_comment(self, i: int, report: bool = True) -> int:
        """Pass over a comment as browsers do: one without an end goes on to the end."""
        found = _COMMENT_END.search(self.rawdata, i + 2)
        end = found.end() if found else len(self.rawdata)
        if self._hidden_from is None:
            start = self._offset()
            self.hidden.append((start, start + end - i))
        return end

    def _close(self, closed: Sequence[Element], end: int) -> None:
        for element in closed:
            self._leave(element)
        if closed:
            self._note_what_is_hidden(end)

    def _note_what_is_hidden(self, at: int) -> None:
        is_hidden = self._num_hiding > 0 or bool(self._open.innermost.unseen)
        if is_hidden and self._hidden_from is None:
            self._hidden_from = at
        elif not is_hidden and self._hidden_from is not None:
            self.hidden.append((self._hidden_from, at))
            self._hidden_from = None

    def _enter(self, element: Element, given: dict[str, str]) -> None:
        tag = element.name
        self._separate(element)
        if tag == "br" and self._hidden_from is None:
            self._break_line()
        if tag in VOID:
            return
        self._styles.enter(element.inside.met)
        self._num_hiding += element.hides
        self._num_preformatted += tag in _PREFORMATTED
        self._is_at_start_of_code = tag in _PREFORMATTED
        self._num_drawings += tag in _DRAWINGS
        self._num_untitled += tag in _UNTITLED
        if tag == "table":
            self._tables.append(_Table())
            self._outer_rows.append((len(self._pieces), self._tabs, self._is_row_empty))
        elif self._num_hiding:  # what is hidden takes no place in a table
            pass
        elif tag == "tr" and self._tables:
            self._tables[-1].begin_row()
            if not self._is_cell_empty:  # of a table around this one, whose row goes on
                self._tabs, self._is_row_empty = 0, True
        elif tag in _CELLS and self._tables:
            self._begin_cell(given)
        elif tag in HEADINGS:
            self._heading_start = len(self._pieces)
            self._mark = "" if self._tables else _marked(tag)
        elif tag == "sup":
            self._is_raised = True
            self._is_apart |= bool(_FRACTION.match(self.rawdata, self._offset()))
        elif tag == "q" and not element.unseen:
            self._put("\N{LEFT DOUBLE QUOTATION MARK}")
        elif tag == "optgroup" and not element.unseen:
            self._put(given.get("label", ""))
        elif tag == _ROOT and not element.unseen:
            self._put("\N{SQUARE ROOT}")
        if element.is_part:
            self._part_starts.append(len(self._pieces))

    def _leave(self, element: Element) -> None:
        tag = element.name
        if tag == "q" and not self._num_hiding and not element.unseen:
            self._put("\N{RIGHT DOUBLE QUOTATION MARK}")
        self._styles.leave(element.inside.met)
        self._num_hiding -= element.hides
        self._num_preformatted -= tag in _PREFORMATTED
        self._num_drawings -= tag in _DRAWINGS
        self._num_untitled -= tag in _UNTITLED
        self._is_titled |= tag == "title" and bool(self.title.strip())
        self._is_raised &= tag != "sup"
        if element.is_part:
            self._end_part(self._part_starts.pop())
        self._between = _BETWEEN.get(self._open.innermost.name, "")
        if tag == "table":
            self._tables.pop()
            num_pieces, tabs, is_row_empty = self._outer_rows.pop()
            is_empty = len(self._pieces) == num_pieces
            self._tabs, self._is_row_empty = (tabs, is_row_empty) if is_empty else (0, False)
        elif tag == "tr" and self._tables:
            self._tables[-1].end_row()
        elif tag in _SECTIONS and self._tables:
            self._tables[-1] = _Table()
        elif tag in HEADINGS and self._heading_start is not None:
            heading = " ".join("".join(self._pieces[self._heading_start :]).split())
            heading = heading.removeprefix(_marked(tag))
            self.heading = self.heading or heading
            self.h1 = self.h1 or heading * (tag == "h1")
            self._heading_start, self._mark = None, ""
        self._is_cell_empty = self._is_cell_empty and tag not in _CELLS
        self._separate(element)

    def _end_part(self, start: int) -> None:
        """Put a part of a formula in brackets, if it needs them in a line."""
        first = start + _BEFORE_TEXT
        is_short = len(self._pieces) - first < _MOST_PIECES
        if is_short and needs_brackets("".join(self._pieces[first:])):
            self._pieces.insert(first, "(")
            self._pieces.append(")")

    def _begin_cell(self, given: dict[str, str]) -> None:
        self._tabs += self._tables[-1].begin_cell(
            _number(given.get("colspan"), _MOST_COLUMNS) or 1,
            _number(given.get("rowspan"), _MOST_ROWS) or _MOST_ROWS,  # 0: to the last
        )
        if not self._is_row_empty:
            self._break = ""  # whatever stood in the cell before
        self._is_cell_empty, self._indent = True, ""

    def _separate(self, element: Element) -> None:
        """Put an element apart from what is beside it, but for the edges of a cell."""
        if self._num_hiding:
            return
        if element.name in _APART:
            self._put(" ")
        elif element.is_block and not self._is_cell_empty:
            self._break = _PARAGRAPH
        elif element.is_apart:
            self._is_apart = True

    def _break_line(self) -> None:
        self._is_at_start_of_code = False
        if self._heading_start is not None:
            self._is_apart = True  # a heading is one line
        elif not self._is_cell_empty:
            self._break = _PARAGRAPH if self._break else "\n"

    def _put(self, text: str) -> None:
        """Add text to what is shown."""
        self._is_at_start_of_code = False
        if self._is_cell_empty:
            if _BLANK.fullmatch(text):
                self._indent += text.strip(" ")
                return
            text = self._indent + text
        if not text:
            return
        is_blank = text == " "
        if is_blank and (self._break or self._tabs or self._between or not self._pieces):
            return
        mark = EMPTY_CELL if self._tabs and self._is_row_empty else ""
        apart = "" if self._break or self._tabs or not self._pieces else self._before(text)
        if self._mark and not is_blank:
            text, self._mark = self._mark + text.lstrip(), ""
        self._pieces += self._break, mark, "\t" * self._tabs, apart, text
        self._break, self._tabs = "", 0
        self._is_apart, self._between = False, ""
        if not is_blank:
            self._is_row_empty = self._is_cell_empty = self._is_raised = False

    def _before(self, text: str) -> str:
        """Return what keeps a text apart from what is before it in its line."""
        if not (self._between or self._is_apart or self._is_raised):
            return ""
        before = "".join(self._pieces[-1 - _BEFORE_TEXT :])
        if self._between and text[0].isalnum():
            return self._between
        if self._is_apart and before[-1] not in _NO_WORD_END and text[0] not in _NO_WORD_START:
            return " "
        return before_superscript(before, text) if self._is_raised else ""

    def _offset(self) -> int:
        """Return the character of the markup that is being read."""
        line, column = self.getpos()
        return self._line_starts[line - 1] + column


def _marked(heading: str) -> str:
    """Return how Markdown marks a heading of an element: ``## `` for ``h2``."""
    return marked_heading("", int(heading[1]))


class _StyleFinder(Parser):
    """Collects the style sheets of a page that count on screens.

    Args:
        linked: as for :func:`read_page`.
    """

    def __init__(self, linked: Callable[[str], str] | None) -> None:
        super().__init__(convert_charrefs=False)
        self._linked = linked
        self.sources: list[str] = []
        self._num_inert = 0  # open elements whose styles are for other cases
        self._is_read = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._num_inert += tag in _INERT
        given = {name: value or "" for name, value in reversed(attrs)}
        counts = (
            not self._num_inert
            and given.get("type", "").lower() in ("", "text/css")
            and applies_on_screens(given.get("media", ""))
        )
        self._is_read = counts and tag == "style"
        relations = given.get("rel", "").lower().split()
        is_sheet = "stylesheet" in relations and "alternate" not in relations
        if counts and tag == "link" and is_sheet and self._linked is not None:
            self.sources.append(self._linked(given.get("href", "")))

    def handle_endtag(self, tag: str) -> None:
        self._num_inert = max(0, self._num_inert - (tag in _INERT))
        self._is_read = False

    def handle_data(self, data: str) -> None:
        if self._is_read:
            self.sources.append(_CDATA_MARK.sub("", data.replace("\0", "<")))


def _style_sheets(source: str, linked: Callable[[str], str] | None) -> list[str]:
    finder = _StyleFinder(linked)
    finder.feed(source)
    finder.close()
    return finder.sources


def _number(value: str | None, most: int) -> int:
    """Return how many columns or rows a cell takes."""
    digits = re.match(r"\s*(\d{1,5})", value or "")
    return min(int(digits[1]), most) if digits else 1


def _tidy(text: str) -> str:
    """Drop single spaces next to breaks, which only lay out the source; several are meant."""
    text = re.sub(r"(?<=[\n\t]) (?! )|(?<![ \t])[ \t]+(?=\n)|(?<! ) +(?=\t)", "", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()
