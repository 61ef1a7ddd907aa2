"""The visible text of a web page: blocks become paragraphs, cells of a row are tab-separated."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from nest_engine._optional import require

_INVISIBLE = frozenset(("head", "title", "script", "style", "noscript", "template", "svg", "math"))
_BLOCKS = frozenset(
    re.findall(
        r"\w+",
        "address article aside blockquote body caption dd div dl dt fieldset figcaption figure "
        "footer form h1 h2 h3 h4 "
        "h5 h6 header hr li main nav ol p pre section table tr ul",
    )
)


class _Context(NamedTuple):
    """The effect of a tag on the text in it: its block, and how its white space counts."""

    block: Any
    is_hidden: bool
    is_preformatted: bool

    def inside(self, tag: Any) -> _Context:
        return _Context(
            tag if tag.name in _BLOCKS else self.block,
            self.is_hidden or tag.name in _INVISIBLE,
            self.is_preformatted or tag.name == "pre",
        )


def declared_encoding(data: bytes) -> str | None:
    """Return the character encoding that a page declares for itself.

    The page is decoded by the caller: Beautiful Soup would guess an encoding rather than report a
    wrong one.
    """
    bs4 = require("bs4", "beautifulsoup4")
    encoding: str | None = bs4.dammit.EncodingDetector.find_declared_encoding(data, is_html=True)
    return encoding


def parse_markup(markup: str) -> Any:
    """Return the page as a `bs4.BeautifulSoup`."""
    return require("bs4", "beautifulsoup4").BeautifulSoup(markup, "html.parser")


def visible_text(soup: Any) -> str:
    """Return the text of a page, in time linear in its size."""
    bs4 = require("bs4", "beautifulsoup4")
    # Filled before it is read: tags come before their contents.
    contexts = {id(soup): _Context(soup, False, False)}
    pieces: list[str] = []
    block = None
    for node in soup.descendants:
        context = contexts[id(node.parent)]
        if isinstance(node, bs4.Tag):
            contexts[id(node)] = context.inside(node)
            if node.name == "br":
                pieces.append("\n")
            elif node.name in ("td", "th") and block is context.block:
                pieces.append("\t")
        # Comments and scripts are subclasses of NavigableString.
        elif type(node) is bs4.NavigableString and not context.is_hidden:
            text = str(node) if context.is_preformatted else re.sub(r"\s+", " ", node)
            if block is not context.block:
                if not text.strip():
                    continue
                pieces.append("\n\n")
                block = context.block
            pieces.append(text)
    return _tidy("".join(pieces))


def _tidy(text: str) -> str:
    """Drop single spaces next to breaks, which only lay out the source; several are meant."""
    text = re.sub(r"(?<=[\n\t]) (?! )|(?<![ \t])[ \t]+(?=\n)|(?<! ) +(?=\t)", "", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()
