"""Which elements of a page are open: HTML's rules for tags that are left out or cross each other.

Of the standard's tree construction (13.2.6) only what decides which element a text stands in. There
is no tree: memory grows with the depth of the page, and each tag takes constant time, whatever the
page.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from nest_engine.retrieval.formats.style_sheet import Inside

VOID = frozenset(
    [
        *("area", "base", "basefont", "bgsound", "br", "col", "embed", "frame", "hr", "img"),
        *("input", "link", "meta", "param", "source", "track", "wbr"),
    ]
)
_FORMATTING = frozenset(
    [
        *("a", "b", "big", "code", "em", "font", "i", "nobr", "s", "small", "strike", "strong"),
        *("tt", "u"),
    ]
)
HEADINGS = frozenset(["h1", "h2", "h3", "h4", "h5", "h6"])
_ENDS_PARAGRAPH = HEADINGS | {
    *("address", "article", "aside", "blockquote", "center", "details", "dialog", "dir", "div"),
    *("dl", "fieldset", "figcaption", "figure", "footer", "form", "header", "hgroup", "hr", "li"),
    *("dd", "dt", "main", "menu", "nav", "ol", "p", "pre", "search", "section", "summary"),
    *("table", "ul", "listing", "plaintext", "xmp"),
}
# Elements that no end tag of another closes by the way.
_SPECIAL = _ENDS_PARAGRAPH | {
    *("applet", "body", "button", "caption", "colgroup", "frameset", "head", "html", "iframe"),
    *("marquee", "noembed", "noframes", "noscript", "object", "script"),
    *("select", "style", "tbody", "td", "template", "textarea", "tfoot", "th", "thead", "title"),
    *("tr", "svg", "math"),
}
# What end tags, and tags left out, do not look beyond.
_SCOPES = frozenset(
    [
        *("applet", "button", "caption", "html", "marquee", "object", "select", "table", "td"),
        *("template", "th", "svg", "math"),
    ]
)
_CELLS, _SECTIONS = ("td", "th", "caption"), ("tbody", "thead", "tfoot", "colgroup")
# The open elements that a start tag closes, and those inside which it does not.
_CLOSES: dict[str, tuple[tuple[str, ...], frozenset[str]]] = {
    "li": (("li",), frozenset(["ol", "ul", "menu", "dir"])),
    "dt": (("dt", "dd"), frozenset(["dl"])),
    "dd": (("dt", "dd"), frozenset(["dl"])),
    "option": (("option",), frozenset()),
    "optgroup": (("option", "optgroup"), frozenset()),
    "rt": (("rt", "rp"), frozenset(["ruby"])),
    "rp": (("rt", "rp"), frozenset(["ruby"])),
    "td": (_CELLS, frozenset(["table"])),
    "th": (_CELLS, frozenset(["table"])),
    "tr": ((*_CELLS, "tr"), frozenset(["table"])),
    **dict.fromkeys(
        ("tbody", "thead", "tfoot", "caption", "colgroup"),
        ((*_CELLS, "tr", *_SECTIONS), frozenset(["table"])),
    ),
}
# What ends a drawing whose end tag is missing, and where HTML may stand within one.
_LEAVES_DRAWINGS = HEADINGS | {
    *("b", "big", "blockquote", "body", "br", "center", "code", "dd", "div", "dl", "dt", "em"),
    *("embed", "head", "hr", "i", "img", "li", "listing", "menu", "nobr", "ol", "p", "pre", "ruby"),
    *("s", "small", "span", "strike", "strong", "sub", "sup", "table", "tt", "u", "ul", "var"),
}
_HTML_IN_DRAWINGS = ("foreignobject", "desc", "title", "annotation-xml", "mtext", "mi", "mo", "mn")
_TABLE_PARTS = frozenset(["td", "th", "tr", "tbody", "thead", "tfoot", "caption", "colgroup"])


# All that a head can hold: anything else begins the body.
_IN_HEAD = frozenset(
    [
        *("base", "basefont", "bgsound", "link", "meta", "noframes", "noscript", "script", "style"),
        *("template", "title"),
    ]
)


@dataclass(slots=True)
class Element:
    """An open element.

    Args:
        name: its tag.
        hides: whether nothing in it is shown.
        unseen: the inherited properties that make its text invisible.
        is_block: whether it stands apart from what is before and behind it.
        is_apart: whether it does so in one line with it.
        lays_out: whether its children do.
        is_part: whether it is a part of a formula that a sign sets apart from the next.
        inside: what it means to the selectors of the page.
        is_open: False when its end tag came, though elements inside it are still open.
    """

    name: str
    hides: bool = False
    unseen: frozenset[str] = frozenset()
    is_block: bool = False
    is_apart: bool = False
    lays_out: bool = False
    is_part: bool = False
    inside: Inside = field(default_factory=Inside)
    is_open: bool = True


class OpenElements:
    """The elements that are open at a place of a page, the outermost first."""

    def __init__(self) -> None:
        self._page = Element("")
        self._stack: list[Element] = []
        self._places: dict[str, list[int]] = defaultdict(list)  # in the stack, of each name
        self._specials: list[int] = []
        self._scopes: list[int] = []

    def __len__(self) -> int:
        return len(self._stack)

    @property
    def innermost(self) -> Element:
        """The element that a text stands in; one without a name if there is none."""
        return self._stack[-1] if self._stack else self._page

    def make_room(self, name: str) -> list[Element]:
        """Close what a start tag closes; return that, the innermost first."""
        place = max((*self._places["svg"][-1:], *self._places["math"][-1:]), default=-1)
        if place >= 0 and name in _LEAVES_DRAWINGS:
            inner = (self._places[each][-1:] for each in _HTML_IN_DRAWINGS)
            if all(not places or places[0] < place for places in inner):
                return [*self._pop_to(place), *self.make_room(name)]
        closed = [] if name in _IN_HEAD else self.end_head()
        if name in _ENDS_PARAGRAPH:
            paragraph = max(self._places["p"][-1:], default=-1)
            if paragraph > max(self._scopes[-1:], default=-1):
                closed += self._pop_to(paragraph)
        if name == "a":
            closed += self.end("a")
        if name in HEADINGS and self.innermost.name in HEADINGS:
            closed += self._pop_to(len(self._stack) - 1)
        if name in _CLOSES:
            closed += self._close(*_CLOSES[name])
        return closed

    def start(self, element: Element) -> None:
        """Open an element, for which room has been made."""
        name, place = element.name, len(self._stack)
        if name in VOID:
            return
        self._stack.append(element)
        self._places[name].append(place)
        if name in _SPECIAL:
            self._specials.append(place)
        if name in _SCOPES:
            self._scopes.append(place)

    def end(self, name: str) -> list[Element]:
        """Close an element by its end tag; return what is closed, the innermost first.

        An end tag without its element, or one that crosses another's, is ignored as browsers do.
        """
        places = self._places[name]
        if not places:
            return []
        place = places[-1]
        scope = "table" if name in _TABLE_PARTS else None
        if place < self._last_scope(scope, of=name):
            return []
        is_crossed = bool(self._specials) and self._specials[-1] > place
        if is_crossed and name in _FORMATTING:
            places.pop()
            self._stack[place].is_open = False
            return [self._stack[place]]
        if is_crossed and name not in _SPECIAL:
            return []
        return self._pop_to(place)

    def end_head(self) -> list[Element]:
        """Close the head, if nothing in it is open: what comes next belongs to the body."""
        return self.end("head") if self.innermost.name == "head" else []

    def _last_scope(self, only: str | None, *, of: str) -> int:
        if only is not None:
            places = self._places[only]
            return places[-1] if places else -1
        if of in _SCOPES:
            return -1
        return self._scopes[-1] if self._scopes else -1

    def _close(self, names: tuple[str, ...], within: frozenset[str]) -> list[Element]:
        """Close the outermost open element of some names that is not outside of ``within``."""
        barrier = max((self._places[name][-1] for name in within if self._places[name]), default=-1)
        places = [place for name in names for place in self._places[name][-1:] if place > barrier]
        return self._pop_to(min(places)) if places else []

    def _pop_to(self, place: int) -> list[Element]:
        closed = []
        while len(self._stack) > place:
            element = self._stack.pop()
            here = len(self._stack)
            if element.is_open:
                self._places[element.name].pop()
                closed.append(element)
            for places in (self._specials, self._scopes):
                if places and places[-1] == here:
                    places.pop()
        return closed
