"""The parser of HTML, by the standard library."""

from __future__ import annotations

import re
from html.parser import HTMLParser

_NO_TAG = re.compile(r"<(?![A-Za-z/!?])")
_TAG = re.compile(r"<(?:!--|[A-Za-z/!?])")
_HUGE_REFERENCE = re.compile(r"&#[xX]?[0-9a-fA-F]{20,}")


class Parser(HTMLParser):
    """The standard library's, where it stumbles."""

    CDATA_CONTENT_ELEMENTS = (  # type: ignore[misc] # as in later versions of Python
        *("script", "style", "xmp", "iframe", "noembed", "noframes"),
    )

    def close(self) -> None:
        """End the page, with text whose end tag is missing."""
        super().close()
        if self.rawdata:
            self.handle_data(self.rawdata)

    def parse_html_declaration(self, i: int) -> int:
        """Pass over what only looks like a declaration, as browsers do."""
        if self.rawdata.startswith("<![", i):
            return self.parse_bogus_comment(i)
        return super().parse_html_declaration(i)


def parsable(markup: str) -> str:
    """Return a page without what the parser stumbles over, at the same offsets.

    It is slow over < that begins no tag, and over tags that never end, and cannot count as far as
    some references do.
    """
    unended = _TAG.search(markup, markup.rfind(">") + 1)
    source = markup[: unended.start()] if unended else markup
    source = _HUGE_REFERENCE.sub(lambda reference: "\ufffd".ljust(len(reference[0])), source)
    return _NO_TAG.sub("\0", source.replace("\0", "\ufffd"))
