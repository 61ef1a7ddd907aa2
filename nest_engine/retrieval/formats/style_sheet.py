"""Which style the style sheets of a page give an element, as far as that decides what is seen.

A rule whose selector asks for what is not known here counts if it only shows what others hide.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from nest_engine._optional import require
from nest_engine.retrieval.formats.media_query import applies_on_screens
from nest_engine.retrieval.formats.selectors import (
    Compound,
    Selector,
    selectors_of,
    split_at_commas,
)
from nest_engine.retrieval.formats.visibility import (
    Style,
    declared,
    declared_inline,
    hides,
    shortened,
    unseen,
)

# Beyond these a page is no page that people read.
_MOST_SOURCE = 1 << 20  # characters
_MOST_RULES = 20_000
_MOST_CHECKS = 2_000_000  # of an element against a part of a selector, and rules that it meets
_DATA_URL = re.compile(r"url\(\s*(['\"]?)data:[^)'\"]*\1\s*\)", re.IGNORECASE)


# What every page has around its elements, whether it says so or not.
_IMPLIED = frozenset(
    [
        Compound("html", weight=(0, 1, 0)),
        Compound("html", weight=(0, 0, 1)),
        Compound("body", weight=(0, 0, 1)),
    ]
)


@dataclass(slots=True)
class Inside:
    """What the inside of an open element means to the elements in it: parts of selectors by number.

    Args:
        met: those that the element meets.
        met_by_last: those that the last element in it meets.
        met_by_any: those that any of the elements in it meets.
    """

    met: Sequence[int] = ()
    met_by_last: Sequence[int] = ()
    met_by_any: set[int] | None = None


class _Rule(NamedTuple):
    weight: tuple[int, int, int]
    position: int
    style: Style
    important: Style


@dataclass
class _Part:
    """A part of a selector, which looks at one element, behind those before it."""

    number: int
    compound: Compound
    before: _Part | None
    combinator: str
    rules: list[_Rule] = field(default_factory=list)  # of the selectors that end here


class StyleSheets:
    """The rules of a page that decide what is seen.

    Args:
        sources: the contents of its style elements.
    """

    def __init__(self, sources: Iterable[str]) -> None:
        # by the part before, the combinator, and what the part looks at
        self._parts: dict[tuple[int, str, Compound], _Part] = {}
        self._candidates: dict[str, list[_Part]] = defaultdict(list)
        self._open: Counter[int] = Counter()  # elements around the next one that meet each part
        self._num_rules = self._num_checks = 0
        left = _MOST_SOURCE
        for source in sources:
            source = shortened(_DATA_URL.sub("url()", source))[:left]
            left -= len(source)
            self._read(source)

    def of(
        self, name: str, given: Mapping[str, str], parent: Inside
    ) -> tuple[Style, Sequence[int]]:
        """Return the style of an element, and which parts of selectors it meets.

        Args:
            name: its tag.
            given: its attributes.
            parent: the element that it is the next one in.
        """
        style: Style = {}
        met: list[_Part] = []
        if self._candidates and self._num_checks < _MOST_CHECKS:
            met += self._met(name, given, parent)
        elif "style" not in given:
            return style, ()
        rules = sorted((rule for part in met for rule in part.rules), key=lambda rule: rule[:2])
        self._num_checks += len(rules)
        own, own_important = declared_inline(given.get("style", ""))
        for rule in rules:
            style |= rule.style
        style |= own
        for rule in rules:
            style |= rule.important
        style |= own_important
        numbers = tuple(part.number for part in met)
        parent.met_by_last = numbers
        if numbers:
            parent.met_by_any = parent.met_by_any or set()
            parent.met_by_any.update(numbers)
        return style, numbers

    def enter(self, met: Iterable[int]) -> None:
        """Begin the inside of an element that meets some parts."""
        if met:
            self._open.update(met)

    def leave(self, met: Iterable[int]) -> None:
        """End the inside of an element."""
        if met:
            self._open.subtract(met)

    def _met(self, name: str, given: Mapping[str, str], parent: Inside) -> Iterator[_Part]:
        marks = {f".{each}" for each in given.get("class", "").split()}
        marks |= {f"#{given['id'].strip()}"} if "id" in given else set()
        marks |= {mark for key, value in given.items() for mark in (f"[{key}]", f"[{key}={value}]")}
        for key in (*marks, name, "*"):
            candidates = self._candidates.get(key, ())
            self._num_checks += len(candidates)
            for part in candidates:
                if self._is_behind(part, parent) and part.compound.fits(name, marks, given):
                    yield part

    def _is_behind(self, part: _Part, parent: Inside) -> bool:
        """Return whether an element has those around it that a part of a selector asks for."""
        if part.before is None:
            return True
        number = part.before.number
        if part.combinator == ">":
            return number in parent.met
        if part.combinator == "+":
            return number in parent.met_by_last
        if part.combinator == "~":
            return parent.met_by_any is not None and number in parent.met_by_any
        return self._open[number] > 0 or part.before.compound in _IMPLIED

    def _read(self, source: Any) -> None:
        """Read a sheet, or the tokens of a block of rules."""
        css = require("tinycss2", "tinycss2")
        try:
            if isinstance(source, str):
                found = css.parse_stylesheet(source, skip_comments=True, skip_whitespace=True)
            else:
                found = css.parse_rule_list(source, skip_comments=True, skip_whitespace=True)
            for each in found:
                if each.type == "at-rule" and each.content is not None and _applies(each):
                    self._read(each.content)
                elif each.type == "qualified-rule" and self._num_rules < _MOST_RULES:
                    self._add(each.prelude, declared(each.content))
        except RecursionError:  # nobody nests so deeply by hand
            return

    def _add(self, prelude: Sequence[Any], styles: tuple[Style, Style]) -> None:
        style, important = styles
        if not style and not important:
            return
        together = style | important
        only_shows = not hides(together, "", is_block=True) and not unseen(together, frozenset())
        for tokens in split_at_commas(prelude):
            for selector in selectors_of(tokens):
                waits = any(compound.is_for_scripts for compound, _ in selector.parts)
                if selector.parts and (selector.is_known or only_shows) and not waits:
                    self._add_rule(selector, style, important)

    def _add_rule(self, selector: Selector, style: Style, important: Style) -> None:
        part: _Part | None = None
        for compound, combinator in selector.parts:
            key = (part.number if part else -1, combinator, compound)
            if key not in self._parts:
                self._parts[key] = _Part(len(self._parts), compound, part, combinator)
                self._candidates[compound.key()].append(self._parts[key])
            part = self._parts[key]
        assert part is not None  # a selector has parts
        weights = [compound.weight for compound, _ in selector.parts]
        a, b, c = (sum(each) for each in zip(*weights, strict=True))
        part.rules.append(_Rule((a, b, c), self._num_rules, style, important))
        self._num_rules += 1


def _applies(rule: Any) -> bool:
    css = require("tinycss2", "tinycss2")
    condition = str(css.serialize(rule.prelude)).strip().lower()
    if rule.lower_at_keyword == "media":
        return applies_on_screens(condition)
    if rule.lower_at_keyword == "supports":
        return not condition.startswith("not")
    return bool(rule.lower_at_keyword == "layer")
