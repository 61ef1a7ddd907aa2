"""What a page's style says about whether an element is shown.

Selectors are followed that look at an element and at those around it: names, classes, ids and
attributes, set apart by spaces or ``>``, and lists of them. Siblings, pseudo-classes, media queries
and scripts are not.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple

from nest_engine._optional import require

BLOCK_DISPLAYS = frozenset(["block", "flex", "flow-root", "grid", "list-item", "table"])
_KEPT = frozenset(["content-visibility", "display", "font-size", "opacity", "visibility"])
_SIGHT = "sight"  # our own: what many properties together come to
_MENTIONED = re.compile(
    "|".join([*_KEPT, "clip", "indent", "margin", "position", "overflow", "transform", "color"])
    + "|background",
    re.IGNORECASE,
)
_IDENTIFIER = r"[\w\-\u0080-\U0010ffff]+"
_COMPOUND = re.compile(
    rf"(?P<name>\*|{_IDENTIFIER})?"
    rf"(?P<marks>(?:[.#]{_IDENTIFIER}|\[{_IDENTIFIER}(?:=(?:\"[^\"]*\"|'[^']*'|{_IDENTIFIER}))?\])*)"
)
_MARK = re.compile(rf"[.#]{_IDENTIFIER}|\[[^\]]*\]")
_STEP = re.compile(r"\s*>\s*|\s+")
_QUOTES = ("'", '"')
_ZERO = re.compile(r"0*\.?0*(?:[a-z]+|%)?", re.IGNORECASE)
_FAR_AWAY = re.compile(r"-(?:(?:\d{4,}|999)(?:\.\d+)?p[xt]|\d{3,}(?:\.\d+)?(?!\d|\.|p[xt])[a-z%]+)")
_TINY = re.compile(r"0[a-z%]*|1px")
_CLIPPED_AWAY = re.compile(
    r"rect\(\s*([^\s,]+)(?:[\s,]+\1){3}\s*\)|inset\((?:50|100)%|circle\(0|polygon\((?:0(?:px|%)?[\s,]*)+\)"
)
_MADE_NOTHING = re.compile(r"scale[xy3d]*\(\s*0*\.?0*\s*[,)]")


# Beyond these a page is no page that people read.
_MOST_SOURCE = 1 << 20  # characters
_LONGEST_SELECTOR = 500
_MOST_CHECKS = 5_000_000  # of an element against a part of a selector


class Surroundings(NamedTuple):
    """Which beginnings of selectors the elements around a place fulfil, by number.

    Args:
        parent: those that end with the innermost element.
        above: those that end with any of the elements.
    """

    parent: frozenset[int] = frozenset()
    above: frozenset[int] = frozenset()


NOWHERE = Surroundings()


class _Rule(NamedTuple):
    """What elements look like that a selector selects."""

    rank: tuple[int, int, int, int]  # ids, classes and attributes, names, and where it stands
    style: Mapping[str, str]
    important: Mapping[str, str]


class _Part:
    """A part of a selector, which looks at one element; with what comes before it."""

    def __init__(self, number: int, name: str, marks: frozenset[str]) -> None:
        self.number = number
        self.name = name
        self.marks = marks
        self.before: _Part | None = None
        self.is_child = False  # of the element that the part before looks at
        self.rule: _Rule | None = None  # of the selector that ends here

    def is_met(self, around: Surroundings) -> bool:
        """Return whether the elements around are what the parts before ask for."""
        if self.before is None:
            return True
        return self.before.number in (around.parent if self.is_child else around.above)


def hides(style: Mapping[str, str]) -> bool:
    """Return whether an element of this style is not shown."""
    return (
        style.get("display") == "none"
        or style.get("visibility") in ("hidden", "collapse")
        or style.get("content-visibility") == "hidden"
        or style.get(_SIGHT) == "none"
        or any(_ZERO.fullmatch(style.get(name, "1")) for name in ("opacity", "font-size"))
    )


class StyleSheet:
    """The rules of a page that decide whether elements are shown."""

    def __init__(self) -> None:
        # by the combinator and the parts before, then by what the part looks at
        self._parts: dict[tuple[int, bool, str, frozenset[str]], _Part] = {}
        self._candidates: dict[str, list[_Part]] = defaultdict(list)  # by a mark, or else the name
        self._size = self._num_rules = 0
        self._num_checks = 0

    def add(self, source: str) -> None:
        """Read the contents of a style element."""
        self._size += len(source)
        if self._size > _MOST_SOURCE or not _MENTIONED.search(source):
            return
        css = require("tinycss2", "tinycss2")
        for found in css.parse_stylesheet(source, skip_comments=True, skip_whitespace=True):
            if found.type != "qualified-rule":
                continue
            style, important = _declared(found.content)
            if style or important:
                for selector in css.serialize(found.prelude).split(","):
                    self._add(selector.strip(), style, important)

    def of(
        self, name: str, given: Mapping[str, str], around: Surroundings
    ) -> tuple[Mapping[str, str], Surroundings]:
        """Return the style of an element, as far as it matters here, and what its inside is in.

        Args:
            name: the element's.
            given: its attributes.
            around: what it is in.
        """
        style: dict[str, str] = {}
        important: dict[str, str] = {}
        inside = around
        if self._candidates and self._num_checks < _MOST_CHECKS:
            met = [*self._met(name, given, around)]
            for rule in sorted((part.rule for part in met if part.rule), key=attrgetter("rank")):
                style |= rule.style
                important |= rule.important
            here = frozenset(part.number for part in met)
            above = around.above
            if not here <= above:  # most elements add nothing, and share the set
                above |= here
                self._num_checks += len(above)
            inside = Surroundings(here, above)
        if _MENTIONED.search(own := given.get("style", "")):
            own_style, own_important = _declared_inline(own)
            style |= own_style
            important |= own_important
        return style | important, inside

    def _met(self, name: str, given: Mapping[str, str], around: Surroundings) -> Iterator[_Part]:
        marks = {f".{each}" for each in given.get("class", "").split()}
        marks |= {f"#{given['id'].strip()}"} if "id" in given else set()
        marks |= {mark for key, value in given.items() for mark in (f"[{key}]", f"[{key}={value}]")}
        for key in (*marks, name, "*"):
            candidates = self._candidates.get(key, ())
            self._num_checks += len(candidates)
            for part in candidates:
                if part.name in (name, "*") and part.marks <= marks and part.is_met(around):
                    yield part

    def _add(self, selector: str, style: Mapping[str, str], important: Mapping[str, str]) -> None:
        if not selector or len(selector) > _LONGEST_SELECTOR:
            return
        compounds = [*map(_COMPOUND.fullmatch, _STEP.split(selector))]
        combinators = ["", *map(str.strip, _STEP.findall(selector))]
        part: _Part | None = None
        num_ids = num_names = num_marks = 0
        for compound, combinator in zip(compounds, combinators, strict=True):
            if compound is None or not compound[0]:
                return
            name = (compound["name"] or "*").lower()
            marks = frozenset(map(_plain, _MARK.findall(compound["marks"])))
            part = self._part(part, combinator == ">", name, marks)
            num_marks += len(marks)
            num_ids += sum(mark[0] == "#" for mark in marks)
            num_names += name != "*"
        assert part is not None  # the selector is not empty
        rank = (num_ids, num_marks - num_ids, num_names, self._num_rules)
        self._num_rules += 1
        if part.rule is not None:  # the same selector again
            style = {**part.rule.style, **style}
            important = {**part.rule.important, **important}
        part.rule = _Rule(rank, style, important)

    def _part(
        self, before: _Part | None, is_child: bool, name: str, marks: frozenset[str]
    ) -> _Part:
        """Return a selector's part, the same for all selectors that begin alike."""
        key = (before.number if before else -1, is_child, name, marks)
        if key not in self._parts:
            part = self._parts[key] = _Part(len(self._parts), name, marks)
            part.before, part.is_child = before, is_child
            self._candidates[min(marks, default=name)].append(part)
        return self._parts[key]


def _plain(mark: str) -> str:
    """Return an attribute's mark without quotation marks, its name in small letters."""
    if mark[0] != "[":
        return mark
    name, equals, value = mark[1:-1].partition("=")
    return f"[{name.lower()}{equals}{value.strip(value[:1]) if value[:1] in _QUOTES else value}]"


@lru_cache(maxsize=1000)
def _declared_inline(source: str) -> tuple[dict[str, str], dict[str, str]]:
    return _declared(source)


def _declared(source: Any) -> tuple[dict[str, str], dict[str, str]]:
    """Return what matters of a block's declarations, and of the important ones."""
    css = require("tinycss2", "tinycss2")
    found = css.parse_blocks_contents(source, skip_comments=True, skip_whitespace=True)
    normal: dict[str, str] = {}
    important: dict[str, str] = {}
    for each in found:
        if each.type == "declaration":
            value = css.serialize(each.value).strip().lower()
            (important if each.important else normal)[each.lower_name] = value
    declared = tuple(
        {name: value for name, value in some.items() if name in _KEPT}
        for some in (normal, important)
    )
    if sight := _sight(normal | important):
        declared[bool(important)][_SIGHT] = sight
    return declared[0], declared[1]


def _sight(style: Mapping[str, str]) -> str | None:
    """Return ``none`` where a block puts an element out of sight, ``auto`` where back into it."""
    given = style.get
    if (
        _is_ink_invisible(given("color", ""), given("background-color") or given("background", ""))
        or any(_FAR_AWAY.match(given(name, "")) for name in ("text-indent", "margin-left"))
        or (
            given("position", "static") != "static"
            and any(_FAR_AWAY.match(given(name, "")) for name in ("left", "right", "top", "bottom"))
        )
        or any(_CLIPPED_AWAY.match(given(name, "")) for name in ("clip", "clip-path"))
        or (
            given("overflow") in ("hidden", "clip")
            and any(
                _TINY.fullmatch(given(name, ""))
                for name in ("width", "height", "max-width", "max-height")
            )
        )
        or _MADE_NOTHING.search(given("transform", ""))
    ):
        return "none"
    is_back = given("position") == "static" or given("clip") == "auto"
    return "auto" if is_back or given("clip-path") == "none" else None


def _is_ink_invisible(color: str, background: str) -> bool:
    if not color:
        return False
    parse_color = require("tinycss2.color3", "tinycss2").parse_color
    ink = parse_color(color)
    if ink is None or ink == "currentColor":
        return False
    return ink.alpha == 0 or any(ink == parse_color(word) for word in background.split())
