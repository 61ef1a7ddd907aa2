"""Which style the style sheets of a page give an element, as far as that decides what is seen.

Selectors are followed that look at an element and at those around it: names, classes, ids,
attributes, ``:not``, ``:is`` and ``:where``, and all combinators. What a reader has to do first
(hover, focus) is never met. What else a selector asks for (counting, say) is not known; such a rule
counts if it only shows what others hide. Media queries are those of a desktop.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, NamedTuple

from nest_engine._optional import require
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
_MOST_ALTERNATIVES = 30  # of a selector with ``:is``
_MOST_PARTS = 20  # of a selector
_DATA_URL = re.compile(r"url\(\s*(['\"]?)data:[^)'\"]*\1\s*\)", re.IGNORECASE)
_NEVER = frozenset(
    [
        *("active", "focus", "focus-visible", "focus-within", "hover", "target", "target-within"),
        *("fullscreen", "modal", "popover-open", "visited"),
    ]
)
_OF_ATTRIBUTES = frozenset(["checked", "disabled", "open", "required"])
_LISTS = frozenset(["-moz-any", "-webkit-any", "is", "matches", "where"])
_OPERATORS = frozenset(["=", "^=", "$=", "*=", "~=", "|="])
_WIDTH = 1280  # pixels of the screen that pages are read on
_HEIGHT = 720
_FEATURE = re.compile(r"\(\s*([a-z-]+)\s*(?::\s*([^()]+?))?\s*\)")
_RANGE = re.compile(r"\(\s*(width|height)\s*([<>]=?)\s*([\d.]+)(px|em|rem)\s*\)")
_LENGTH = re.compile(r"([\d.]{1,20})(px|em|rem)")
_TRUE_FEATURES = {
    ("any-hover", "hover"),
    ("any-pointer", "fine"),
    ("hover", "hover"),
    ("orientation", "landscape"),
    ("pointer", "fine"),
    ("prefers-color-scheme", "light"),
    ("prefers-contrast", "no-preference"),
    ("prefers-reduced-motion", "no-preference"),
    ("scripting", "enabled"),
    ("update", "fast"),
}


@dataclass(frozen=True)
class _Compound:
    """What a selector asks of one element.

    Args:
        name: its tag, or ``*``.
        marks: its classes, ids and attributes, as ``.x``, ``#x``, ``[x]`` and ``[x=y]``.
        attributes: name, operator and value of other conditions.
        unless: it must be none of these.
        weight: ids, marks and names: what is more specific wins.
    """

    name: str = "*"
    marks: frozenset[str] = frozenset()
    attributes: tuple[tuple[str, str, str], ...] = ()
    unless: tuple[_Compound, ...] = ()
    weight: tuple[int, int, int] = (0, 0, 0)

    @property
    def is_for_scripts(self) -> bool:
        """Whether it hides what a script has not replaced yet."""
        return any("cloak" in mark for mark in self.marks)

    def key(self) -> str:
        """Return what to look it up by."""
        return min(self.marks, default=self.name)

    def fits(self, name: str, marks: set[str], given: Mapping[str, str]) -> bool:
        """Return whether an element is what is asked for."""
        return (
            self.name in (name, "*")
            and self.marks <= marks
            and all(_has(given, *condition) for condition in self.attributes)
            and not any(other.fits(name, marks, given) for other in self.unless)
        )

    def and_(self, other: _Compound) -> _Compound | None:
        """Return what asks for both; None if no element is both."""
        if self.name != other.name and "*" not in (self.name, other.name):
            return None
        a, b = self.weight, other.weight
        return _Compound(
            self.name if other.name == "*" else other.name,
            self.marks | other.marks,
            self.attributes + other.attributes,
            self.unless + other.unless,
            (a[0] + b[0], a[1] + b[1], a[2] + b[2]),
        )


# What every page has around its elements, whether it says so or not.
_IMPLIED = frozenset(
    [
        _Compound("html", weight=(0, 1, 0)),
        _Compound("html", weight=(0, 0, 1)),
        _Compound("body", weight=(0, 0, 1)),
    ]
)


class _Selector(NamedTuple):
    """The parts of a selector, each behind the combinator that leads to it."""

    parts: tuple[tuple[_Compound, str], ...]
    is_known: bool


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
    compound: _Compound
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
        self._parts: dict[tuple[int, str, _Compound], _Part] = {}
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
            parent.met_by_any = {*numbers, *(parent.met_by_any or ())}
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
        for tokens in _split(prelude):
            for selector in _selectors(tokens):
                waits = any(compound.is_for_scripts for compound, _ in selector.parts)
                if selector.parts and (selector.is_known or only_shows) and not waits:
                    self._add_rule(selector, style, important)

    def _add_rule(self, selector: _Selector, style: Style, important: Style) -> None:
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


def applies_on_screens(query: str) -> bool:
    """Return whether a media query is met by a desktop's screen."""
    return not query.strip() or any(map(_is_met, query.lower().split(",")))


def _applies(rule: Any) -> bool:
    css = require("tinycss2", "tinycss2")
    condition = str(css.serialize(rule.prelude)).strip().lower()
    if rule.lower_at_keyword == "media":
        return applies_on_screens(condition)
    if rule.lower_at_keyword == "supports":
        return not condition.startswith("not")
    return bool(rule.lower_at_keyword == "layer")


def _is_met(query: str) -> bool:
    words = re.sub(r"\([^)]*\)", " ", query).split()
    is_negated = words[:1] == ["not"]
    media = [word for word in words if word not in ("and", "not", "only", "or")]
    is_screen = all(each in ("all", "screen") for each in media)
    conditions = [_is_feature_met(each) for each in re.findall(r"\([^()]*\)", query)]
    is_met = is_screen and (any if "or" in words else all)(conditions or [True])
    return is_met != is_negated


def _is_feature_met(condition: str) -> bool:
    if found := _RANGE.fullmatch(condition):
        size, limit = _WIDTH if found[1] == "width" else _HEIGHT, _in_pixels(found[3], found[4])
        is_more = size >= limit if "=" in found[2] else size > limit
        return (
            is_more if found[2][0] == ">" else (size <= limit if "=" in found[2] else size < limit)
        )
    feature = _FEATURE.fullmatch(condition)
    if feature is None:
        return False
    name, value = feature[1], feature[2]
    length = _LENGTH.fullmatch(value or "")
    bound, _, side = name.rpartition("-")
    if length and side in ("width", "height") and bound in ("min", "max"):
        size, limit = _WIDTH if side == "width" else _HEIGHT, _in_pixels(length[1], length[2])
        return size >= limit if bound == "min" else size <= limit
    if value is None:
        return any(name == known for known, _ in _TRUE_FEATURES)
    return (name, value.strip()) in _TRUE_FEATURES


def _in_pixels(number: str, unit: str) -> float:
    try:
        return float(number) * (1 if unit == "px" else 16)
    except ValueError:
        return 0.0


def _split(tokens: Iterable[Any], sign: str = ",") -> Iterator[list[Any]]:
    """Yield what stands between signs of the outermost level."""
    piece: list[Any] = []
    for token in tokens:
        if token.type == "literal" and token.value == sign:
            yield piece
            piece = []
        elif token.type != "comment":
            piece.append(token)
    yield piece


def _selectors(tokens: Sequence[Any]) -> Iterator[_Selector]:
    """Yield what a selector without commas selects; several where it has ``:is``."""
    parts: list[tuple[list[_Compound], str]] = []
    is_known = True
    piece: list[Any] = []
    combinator = " "
    for token in [*tokens, None]:
        sign = token.value if token is not None and token.type == "literal" else ""
        if token is not None and token.type != "whitespace" and sign not in (">", "+", "~"):
            piece.append(token)
            continue
        if piece:
            compounds, is_plain = _compounds(piece)
            parts.append((compounds, combinator))
            is_known &= is_plain
            piece, combinator = [], " "
        if sign in (">", "+", "~"):
            combinator = sign
    if len(parts) > _MOST_PARTS or any(len(found) > _MOST_ALTERNATIVES for found, _ in parts):
        return
    choices = product(*(found for found, _ in parts))
    for number, chosen in enumerate(choices):
        if number == _MOST_ALTERNATIVES:
            return
        steps = zip(chosen, (combinator for _, combinator in parts), strict=True)
        yield _Selector(tuple(steps), is_known)


def _compounds(tokens: Sequence[Any]) -> tuple[list[_Compound], bool]:
    """Return what is asked of one element, in all ways that do; and whether all of it is known.

    Nothing, if no element can meet it.
    """
    found, is_known = [_Compound()], True
    position = 0
    while position < len(tokens):
        token = tokens[position]
        following = tokens[position + 1] if position + 1 < len(tokens) else None
        position += 1
        more: list[_Compound] | None = None
        if token.type == "ident":
            more = [_Compound(token.lower_value, weight=(0, 0, 1))]
        elif token.type == "hash":
            more = [_Compound(marks=frozenset([f"#{token.value}"]), weight=(1, 0, 0))]
        elif token.type == "[] block":
            more = _attribute(token.content)
        elif token.type == "literal" and token.value == "*":
            more = [_Compound()]
        elif token.type == "literal" and token.value == "." and following is not None:
            position += 1
            if following.type == "ident":
                more = [_Compound(marks=frozenset([f".{following.value}"]), weight=(0, 1, 0))]
        elif token.type == "literal" and token.value == ":" and following is not None:
            position += 1
            if following.type == "literal":  # a pseudo-element
                return [], True
            more = _pseudo_class(following)
        if more is None:
            is_known = False
            continue
        found = [both for one in found for other in more if (both := one.and_(other))]
        if len(found) > _MOST_ALTERNATIVES:
            return [], True
    return found, is_known


def _attribute(content: Sequence[Any]) -> list[_Compound] | None:
    tokens = [token for token in content if token.type not in ("whitespace", "comment")]
    if not tokens or tokens[0].type != "ident":
        return None
    name = tokens[0].lower_value
    if len(tokens) == 1:
        return [_Compound(marks=frozenset([f"[{name}]"]), weight=(0, 1, 0))]
    if len(tokens) < 3 or tokens[1].value not in _OPERATORS or not hasattr(tokens[2], "value"):
        return None
    operator, value = tokens[1].value, str(tokens[2].value)
    if operator == "=":
        return [_Compound(marks=frozenset([f"[{name}={value}]"]), weight=(0, 1, 0))]
    return [_Compound(attributes=((name, operator, value),), weight=(0, 1, 0))]


def _has(given: Mapping[str, str], name: str, operator: str, value: str) -> bool:
    own = given.get(name)
    if own is None or not value:
        return False
    if operator == "~=":
        return value in own.split()
    if operator == "|=":
        return own == value or own.startswith(f"{value}-")
    if operator == "*=":
        return value in own
    return own.startswith(value) if operator == "^=" else own.endswith(value)


def _pseudo_class(token: Any) -> list[_Compound] | None:
    """Return what a pseudo-class asks for; nothing if that cannot be, None if it is not known."""
    if token.type == "ident":
        if token.lower_value in ("root", "scope"):
            return [_Compound("html", weight=(0, 1, 0))]
        if token.lower_value in _OF_ATTRIBUTES:
            return [_Compound(marks=frozenset([f"[{token.lower_value}]"]), weight=(0, 1, 0))]
        return [] if token.lower_value in _NEVER else None
    if token.type != "function" or token.lower_name not in {"not", *_LISTS}:
        return None
    found: list[_Compound] = []
    for tokens in _split(token.arguments):
        while tokens and tokens[0].type == "whitespace":
            del tokens[0]
        while tokens and tokens[-1].type == "whitespace":
            del tokens[-1]
        if any(
            each.type == "whitespace" or each.value in (">", "+", "~")
            for each in tokens
            if hasattr(each, "value")
        ):
            return None  # several elements
        compounds, is_known = _compounds(tokens)
        if not is_known:
            return None
        found += compounds
    if token.lower_name == "not":
        heaviest = max((each.weight for each in found), default=(0, 0, 0))
        return [_Compound(unless=tuple(found), weight=heaviest)]
    return found
