"""What of a Markdown file may be quoted, and its title; by the parser markdown-it-py.

The text is the source as it is, so that offsets count in the file. Front matter, HTML comments and
elements that are not shown are no part of what may be quoted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from nest_engine._optional import require
from nest_engine.retrieval.formats.web_page import hidden_ranges, read_page

_FRONT_MATTER = re.compile(
    r"(---|\+\+\+)[ \t]*\r?\n(.*?)^(?:\1|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.S | re.M
)
_TOML_TITLE = re.compile(r"""^title\s*=\s*(?:"([^"\n]*)"|'([^'\n]*)')""", re.MULTILINE)
_NO_HTML = re.compile(r"\\<[^\n>]*|\]\(<[^\n>]*>|!\[[^\n\]]*\]\(")
_FIELD = re.compile(r"[\w-]+:(?:\s|\Z)|\s|#|- ")
_TITLE_FIELD = re.compile(r"^title:[ \t]*(.+)", re.MULTILINE)
_CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_LONGEST_CODE_SPAN = 2000
_PIECE = 1 << 17  # characters that are parsed at once: a token takes hundreds of bytes
# Some megabytes take a minute to parse. Behind this, code is not told from what may be hidden.
_MOST_PARSED = 1 << 20
_CODE = ("fence", "code_block")
Ranges = list[tuple[int, int]]


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
    title, start = _front_matter(source)
    code: Ranges = []
    has_markup = "<" in source
    for token, (first, last) in _blocks(source, start):
        if first > _MOST_PARSED or (not has_markup and (title or first > _PIECE)):
            break
        if token.type in _CODE:
            code.append((first, last))
        elif not title:
            title = _heading(token)
    return Markdown(title, _complement(_hidden(source, start, code), start, len(source)))


def _front_matter(source: str) -> tuple[str, int]:
    """Return the title that YAML or TOML in front of the text gives it, and where that ends."""
    found = _FRONT_MATTER.match(source)
    if found is None:
        return "", 0
    if found[1] == "+++":
        title = _TOML_TITLE.search(f"\n{found[2]}".partition("\n[")[0])
        return (title[1] or title[2]) if title else "", found.end()
    yaml = require("yaml", "pyyaml")
    try:
        fields = yaml.safe_load(found[2])
    except (yaml.YAMLError, ValueError, RecursionError):
        # A colon too many is a common slip; anything else is a text between two rules.
        lines = [line for line in found[2].splitlines() if line.strip()]
        if not all(_FIELD.match(line) for line in lines):
            return "", 0
        slip = _TITLE_FIELD.search(found[2])
        return (slip[1].strip(" \"'") if slip else ""), found.end()
    if not isinstance(fields, dict):
        return "", found.end() if fields is None else 0
    title = fields.get("title")
    return str(title) if isinstance(title, (str, int, float)) else "", found.end()


def _blocks(source: str, start: int) -> Iterator[tuple[Any, tuple[int, int]]]:
    """Yield the tokens of leaf blocks, each with its characters in the source.

    Long sources are parsed in pieces that end between blocks of the outermost level.
    """
    parser = require("markdown_it", "markdown-it-py").MarkdownIt("commonmark").disable("inline")
    size = _PIECE
    while start < len(source):
        end = start + size
        end = len(source) if end >= len(source) else source.rfind("\n", start, end) + 1 or end
        lines = [start, *(line.end() for line in re.compile("\n").finditer(source, start, end))]
        lines.append(end)
        tokens = parser.parse(source[start:end])
        tops = [token.map[0] for token in tokens if token.level == 0 and token.map]
        if end == len(source) or not tops or size > 2 * _PIECE:
            last = len(lines)
        elif tops[-1] > 0:
            last = tops[-1]  # the last block may go on
        else:
            size *= 2
            continue
        for token, following in zip(tokens, [*tokens, None][1:], strict=True):
            if token.map and token.map[0] < last:
                if token.type == "heading_open":
                    token.content = following.content
                yield token, (lines[token.map[0]], lines[min(token.map[1], len(lines) - 1)])
        start, size = (end if last == len(lines) else lines[last]), _PIECE


def _heading(token: Any) -> str:
    """Return the text of a heading, Markdown's or HTML's; empty for other blocks."""
    if token.type == "heading_open":
        (inline,) = require("markdown_it", "markdown-it-py").MarkdownIt().parseInline(token.content)
        return "".join(_said(inline.children)).strip()
    if token.type == "html_block" and "<h" in token.content.lower():
        page = read_page(token.content)
        return page.title
    return ""


def _said(children: Iterable[Any]) -> Iterator[str]:
    for child in children:
        if child.type in ("softbreak", "hardbreak"):
            yield " "
        elif child.type == "image":
            yield from _said(child.children or ())
        elif child.type != "html_inline":
            yield child.content


def _hidden(source: str, start: int, code: Ranges) -> Ranges:
    """Return where comments and elements stand that are not shown, code apart."""
    if "<" not in source:
        return []
    blanked, end = [" " * start], start
    for first, last in code:
        blanked += _without_code_spans(source[end:first]), " " * (last - first)
        end = last
    return hidden_ranges("".join([*blanked, _without_code_spans(source[end:])]))


def _without_code_spans(text: str) -> str:
    """Blank what looks like HTML and is none: code spans, escapes, destinations, labels."""
    if "<" not in text:
        return text
    pieces = []
    for paragraph in re.split(r"(\n[ \t]*\n)", text):
        if "<" in paragraph:
            paragraph = _NO_HTML.sub(lambda text: " " * len(text[0]), paragraph)
        if "`" in paragraph and "<" in paragraph and len(paragraph) < _LONGEST_CODE_SPAN * 10:
            paragraph = _CODE_SPAN.sub(lambda span: " " * len(span[0]), paragraph)
        pieces.append(paragraph)
    return "".join(pieces)


def _complement(hidden: Ranges, start: int, end: int) -> Ranges:
    """Return what is left between ranges."""
    left = []
    for first, last in hidden:
        if first > start:
            left.append((start, first))
        start = max(start, last)
    return [*left, (start, end)] if start < end else left
