"""What of a Markdown file may be quoted, and its title; by the parser markdown-it-py.

The text is the source as it is, so that offsets count in the file. Front matter, comments (HTML's,
and ``[//]: # (those of Markdown)``) and elements that are not shown are no part of what may be
quoted.
"""

from __future__ import annotations

import re
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

from nest_engine._optional import require
from nest_engine.retrieval.formats.front_matter import front_matter
from nest_engine.retrieval.formats.open_elements import VOID
from nest_engine.retrieval.formats.ranges import Ranges, complement
from nest_engine.retrieval.formats.web_page import INVISIBLE, RAW_TEXT, hidden_ranges, read_page

_TAG = re.compile(r"<!(?=--).*?(?:--!?>|\Z)|<(/?)([a-z][^\s/>]*)", re.IGNORECASE | re.DOTALL)
_ATTRIBUTES = re.compile(r"\s*\{\s*[#.][^{}]*\}\s*\Z")  # of a heading, in many dialects
_LINE_END = re.compile(r"\r\n?|\n")
_NOWHERE = re.compile(r"\]:\s*#\s")
_LONGEST_INLINE = 20_000  # characters of a paragraph in which code is told from HTML
_MOST_HEADINGS = 100  # that may be hidden before the title
_PIECE = 1 << 17  # characters that are parsed at once: a token takes hundreds of bytes
# Some megabytes take a minute to parse. Behind this, code is not told from what may be hidden.
_MOST_PARSED = 1 << 20


class Markdown(NamedTuple):
    """What a file says of itself.

    Args:
        title: the front matter's, or the first heading; may be empty.
        quotable: character ranges of the source, in order.
    """

    title: str
    quotable: Ranges


def read_markdown(source: str) -> Markdown:
    """Return the title of a file and what of it may be quoted."""
    title, start = front_matter(source)
    references: dict[str, Any] = {}
    inline = _InlineParser()
    headings: Ranges = []
    html: Ranges = []  # blocks of HTML, and where tags begin among words
    tags: set[int] = set()  # the latter
    comments: Ranges = []  # links to nowhere that nothing refers to
    has_markup = "<" in source or _NOWHERE.search(source) is not None
    for token, (first, last) in _blocks(source, start, references):
        if first > _MOST_PARSED:
            html.append((first, len(source)))
            break
        if not has_markup and (title or first > _PIECE):
            break
        if token.type in ("heading_open", "html_block"):
            headings.append((first, last))
        if token.type == "html_block":
            html.append((first, last))
        elif token.type == "definition":
            if token.meta["url"] in ("", "#") and token.meta["title"]:
                comments.append((first, last))
        elif token.type == "inline" and "<" in token.content:
            places = [first + offset for offset in inline.tags(token.content, source[first:last])]
            tags.update(places)
            html += [(place, place + 1) for place in places]
    hidden = hidden_ranges(_only_html(source, start, html, tags)) if html else []
    quotable = complement(sorted([*hidden, *comments]), start, len(source))
    shown = (_within(source, quotable, *place) for place in headings[:_MOST_HEADINGS])
    titles = (_heading(block, references) for block in shown)
    return Markdown(title or next(filter(None, titles), ""), quotable)


def _blocks(
    source: str, start: int, references: dict[str, Any]
) -> Iterator[tuple[Any, tuple[int, int]]]:
    """Yield the tokens of blocks, each with its characters in the source.

    Long sources are parsed in pieces that end between blocks of the outermost level.

    Args:
        source: the file.
        start: where its text begins.
        references: what links refer to is added.
    """
    parser = require("markdown_it", "markdown-it-py").MarkdownIt("commonmark").disable("inline")
    parser.options["inline_definitions"] = True
    size = _PIECE
    while start < len(source):
        end = start + size
        end = len(source) if end >= len(source) else source.rfind("\n", start, end) + 1 or end
        lines = [start, *(line.end() for line in _LINE_END.finditer(source, start, end))]
        lines.append(end)
        tokens = parser.parse(source[start:end], references)
        for label in [each for each in references.get("references", ()) if each.startswith("^")]:
            del references["references"][label]  # footnotes
        tops = [token.map[0] for token in tokens if token.level == 0 and token.map]
        if end == len(source) or not tops or size > 2 * _PIECE:
            last = len(lines)
        elif tops[-1] > 0:
            last = tops[-1]  # the last block may go on
        else:
            size *= 2
            continue
        for token in tokens:
            if token.map and token.map[0] < last:
                yield token, (lines[token.map[0]], lines[min(token.map[1], len(lines) - 1)])
        start, size = (end if last == len(lines) else lines[last]), _PIECE


class _InlineParser:
    """Tells tags from what only looks like them: code, escapes, destinations of links."""

    def __init__(self) -> None:
        self._parser = require("markdown_it", "markdown-it-py").MarkdownIt("commonmark")
        self._rule = require("markdown_it.rules_inline", "markdown-it-py").html_inline
        self._parser.inline.ruler.at("html_inline", self._noting)
        self._content = ""
        self._found: list[int] = []

    def tags(self, content: str, source: str) -> Iterator[int]:
        """Yield where tags and comments begin in the source of a block.

        Args:
            content: the text of the block, without bullets and the like in front of its lines.
            source: the block as it stands in the file.
        """
        if len(content) > _LONGEST_INLINE:
            for tag in _TAG.finditer(source):
                if tag[2] or tag[0].endswith(">"):
                    yield tag.start()
            return
        self._content, self._found = content, []
        self._parser.parseInline(content)
        source = source.replace("\0", "\ufffd")  # as the parser does
        starts, line_start, place = self._found[::-1], 0, 0
        for line in content.split("\n"):
            text = line.strip(" \t")
            place = max(source.find(text, place), place)
            text_start = line_start + line.find(text)
            line_start += len(line) + 1
            while starts and starts[-1] < line_start:
                yield place + starts.pop() - text_start
            place += len(text)

    def _noting(self, state: Any, silent: bool) -> bool:
        start = state.pos
        is_tag: bool = self._rule(state, silent)
        # The alternative text of a picture is parsed apart.
        if is_tag and not silent and state.src == self._content:
            self._found.append(start)
        return is_tag


def _heading(block: str, references: dict[str, Any]) -> str:
    """Return the text of a heading, Markdown's or HTML's; empty for other blocks."""
    parser = require("markdown_it", "markdown-it-py").MarkdownIt("commonmark")
    tokens = parser.parse(textwrap.dedent(block), references)
    for token, following in pairwise(tokens):
        if token.type == "heading_open":
            return _ATTRIBUTES.sub("", "".join(_said(following.children)).strip())
    return "".join(read_page(token.content).title for token in tokens if token.type == "html_block")


def _said(children: Iterable[Any]) -> Iterator[str]:
    for child in children:
        is_html = child.type == "html_inline"
        if child.type in ("softbreak", "hardbreak") or (is_html and "<br" in child.content.lower()):
            yield " "
        elif child.type == "image":
            yield from _said(child.children or ())
        elif not is_html:
            yield child.content


def _only_html(source: str, start: int, html: Ranges, tags: set[int]) -> str:
    """Return a file in which what is no HTML does not look like it, at the same offsets.

    Nor does a tag without its end tag that would hide all that follows: it is the name of a type,
    or a word about HTML.

    Args:
        source: the file.
        start: where its text begins.
        html: what of it may be HTML.
        tags: where tags begin among words.
    """
    pieces, end = [" " * start], start
    for first, last in html:
        pieces += source[end:first].replace("<", " "), source[first:last]
        end = last
    pieces.append(source[end:].replace("<", " "))
    markup = "".join(pieces)

    opened: dict[str, list[int]] = defaultdict(list)
    for tag in _TAG.finditer(markup):
        name = (tag[2] or "").lower()
        places = opened[name]
        if tag[1]:
            del places[-1:]
        elif name and not (name in RAW_TEXT and places and not tags & {places[-1], tag.start()}):
            places.append(tag.start())
    hiding = INVISIBLE | RAW_TEXT
    characters = list(markup)
    for name, places in opened.items():
        for place in places:
            if name in hiding or (place in tags and name not in VOID):
                characters[place] = " "
    return "".join(characters)


def _within(source: str, shown: Ranges, first: int, last: int) -> str:
    """Return what is shown of a part of the source."""
    return "".join(
        source[max(start, first) : min(end, last)]
        for start, end in shown
        if start < last and end > first
    )
