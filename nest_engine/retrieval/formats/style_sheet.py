"""What a page's style says about whether an element is shown.

Selectors of one element are followed: names, classes, ids and lists of them. Selectors that look
at other elements, media queries and scripts are not.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from operator import attrgetter
from typing import Any, NamedTuple

from nest_engine._optional import require

BLOCK_DISPLAYS = frozenset(["block", "flex", "flow-root", "grid", "list-item", "table"])
_PROPERTIES = frozenset(["content-visibility", "display", "font-size", "opacity", "visibility"])
_MENTIONED = re.compile("|".join(_PROPERTIES), re.IGNORECASE)
_SELECTOR = re.compile(r"(?P<name>\*|[\w-]+)?(?P<marks>(?:[.#][\w-]+)*)")
_MARK = re.compile(r"[.#][\w-]+")
_ZERO = re.compile(r"0*\.?0*(?:[a-z]+|%)?", re.IGNORECASE)


# Beyond these a page is no page that people read.
_MOST_SOURCE = 1 << 20  # characters
_MOST_RULES = 50  # that mention the same name


class _Rule(NamedTuple):
    """What elements with a name and some classes and ids look like."""

    rank: tuple[int, int, int, int]  # ids, classes, names, and where it stands
    name: str
    marks: frozenset[str]
    style: Mapping[str, str]
    important: Mapping[str, str]


def hides(style: Mapping[str, str]) -> bool:
    """Return whether an element of this style is not shown."""
    return (
        style.get("display") == "none"
        or style.get("visibility") in ("hidden", "collapse")
        or style.get("content-visibility") == "hidden"
        or any(_ZERO.fullmatch(style.get(name, "1")) for name in ("opacity", "font-size"))
    )


class StyleSheet:
    """The rules of a page that decide whether elements are shown."""

    def __init__(self) -> None:
        self._rules: dict[str, list[_Rule]] = defaultdict(list)  # by a mark, or else by the name
        self._size = self._num_rules = 0

    def add(self, source: str) -> None:
        """Read the contents of a style element."""
        self._size += len(source)
        if self._size > _MOST_SOURCE or not _MENTIONED.search(source):
            return
        css = require("tinycss2", "tinycss2")
        for found in css.parse_stylesheet(source, skip_comments=True, skip_whitespace=True):
            if found.type != "qualified-rule":
                continue
            style, important = _declared(css, found.content)
            if style or important:
                for selector in css.serialize(found.prelude).split(","):
                    self._add(selector.strip(), style, important)

    def of(self, name: str, given: Mapping[str, str]) -> Mapping[str, str]:
        """Return the style of an element with some attributes, as far as it matters here."""
        style: dict[str, str] = {}
        important: dict[str, str] = {}
        if self._rules:
            marks = {f".{each}" for each in given.get("class", "").split()}
            marks |= {f"#{given['id'].strip()}"} if "id" in given else set()
            rules = [rule for key in (*marks, name, "*") for rule in self._rules.get(key, ())]
            for rule in sorted(rules, key=attrgetter("rank")):
                if rule.name in (name, "*") and rule.marks <= marks:
                    style |= rule.style
                    important |= rule.important
        if _MENTIONED.search(own := given.get("style", "")):
            own_style, own_important = _declared(require("tinycss2", "tinycss2"), own)
            style |= own_style
            important |= own_important
        return style | important

    def _add(self, selector: str, style: Mapping[str, str], important: Mapping[str, str]) -> None:
        parts = _SELECTOR.fullmatch(selector)
        if parts is None or not selector:
            return
        name = (parts["name"] or "*").lower()
        marks = frozenset(_MARK.findall(parts["marks"]))
        num_ids = sum(mark[0] == "#" for mark in marks)
        rank = (num_ids, len(marks) - num_ids, name != "*", self._num_rules)
        rules = self._rules[min(marks, default=name)]
        rules[:] = [rule for rule in rules if (rule.name, rule.marks) != (name, marks)]
        if len(rules) < _MOST_RULES:
            rules.append(_Rule(rank, name, marks, style, important))
            self._num_rules += 1


def _declared(css: Any, source: Any) -> tuple[dict[str, str], dict[str, str]]:
    """Return the declarations that matter, the last of each, and the important ones."""
    found = css.parse_blocks_contents(source, skip_comments=True, skip_whitespace=True)
    declared: tuple[dict[str, str], dict[str, str]] = {}, {}
    for each in found:
        if each.type == "declaration" and each.lower_name in _PROPERTIES:
            value = css.serialize(each.value).strip().lower()
            declared[bool(each.important)][each.lower_name] = value
    return declared
