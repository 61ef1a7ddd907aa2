"""CSS selectors, as far as an element and those around it tell whether it is meant.

Names, classes, ids, attributes, ``:not``, ``:is``, ``:where``, and all combinators. What a reader
has to do first (hover, focus) is never met. What else a selector asks for (counting, say) is not
known.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

_MOST_ALTERNATIVES = 30  # of a selector with ``:is``
_MOST_PARTS = 20  # of a selector
_NEVER = frozenset(
    [
        *("active", "focus", "focus-visible", "focus-within", "hover", "target", "target-within"),
        *("fullscreen", "modal", "popover-open", "visited"),
    ]
)
_OF_ATTRIBUTES = frozenset(["checked", "disabled", "open", "required"])
_LISTS = frozenset(["-moz-any", "-webkit-any", "is", "matches", "where"])
_OPERATORS = frozenset(["=", "^=", "$=", "*=", "~=", "|="])


@dataclass(frozen=True)
class Compound:
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
    unless: tuple[Compound, ...] = ()
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

    def and_(self, other: Compound) -> Compound | None:
        """Return what asks for both; None if no element is both."""
        if self.name != other.name and "*" not in (self.name, other.name):
            return None
        a, b = self.weight, other.weight
        return Compound(
            self.name if other.name == "*" else other.name,
            self.marks | other.marks,
            self.attributes + other.attributes,
            self.unless + other.unless,
            (a[0] + b[0], a[1] + b[1], a[2] + b[2]),
        )


class Selector(NamedTuple):
    """The parts of a selector, each behind the combinator that leads to it."""

    parts: tuple[tuple[Compound, str], ...]
    is_known: bool


def split_at_commas(tokens: Iterable[Any]) -> Iterator[list[Any]]:
    """Yield what stands between commas of the outermost level."""
    piece: list[Any] = []
    for token in tokens:
        if token.type == "literal" and token.value == ",":
            yield piece
            piece = []
        elif token.type != "comment":
            piece.append(token)
    yield piece


def selectors_of(tokens: Sequence[Any]) -> Iterator[Selector]:
    """Yield what a selector without commas selects; several where it has ``:is``."""
    parts: list[tuple[list[Compound], str]] = []
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
        yield Selector(tuple(steps), is_known)


def _compounds(tokens: Sequence[Any]) -> tuple[list[Compound], bool]:
    """Return what is asked of one element, in all ways that do; and whether all of it is known.

    Nothing, if no element can meet it.
    """
    found, is_known = [Compound()] if tokens else [], True
    position = 0
    while position < len(tokens):
        token = tokens[position]
        following = tokens[position + 1] if position + 1 < len(tokens) else None
        position += 1
        more: list[Compound] | None = None
        if token.type == "ident":
            more = [Compound(token.lower_value, weight=(0, 0, 1))]
        elif token.type == "hash":
            more = [Compound(marks=frozenset([f"#{token.value}"]), weight=(1, 0, 0))]
        elif token.type == "[] block":
            more = _attribute(token.content)
        elif token.type == "literal" and token.value == "*":
            more = [Compound()]
        elif token.type == "literal" and token.value == "." and following is not None:
            position += 1
            if following.type == "ident":
                more = [Compound(marks=frozenset([f".{following.value}"]), weight=(0, 1, 0))]
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


def _attribute(content: Sequence[Any]) -> list[Compound] | None:
    tokens = [token for token in content if token.type not in ("whitespace", "comment")]
    if not tokens or tokens[0].type != "ident":
        return None
    name = tokens[0].lower_value
    if len(tokens) == 1:
        return [Compound(marks=frozenset([f"[{name}]"]), weight=(0, 1, 0))]
    if (
        len(tokens) < 3
        or getattr(tokens[1], "value", "") not in _OPERATORS
        or not hasattr(tokens[2], "value")
    ):
        return None
    operator, value = tokens[1].value, str(tokens[2].value)
    if operator == "=":
        return [Compound(marks=frozenset([f"[{name}={value}]"]), weight=(0, 1, 0))]
    return [Compound(attributes=((name, operator, value),), weight=(0, 1, 0))]


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


def _pseudo_class(token: Any) -> list[Compound] | None:
    """Return what a pseudo-class asks for; nothing if that cannot be, None if it is not known."""
    if token.type == "ident":
        if token.lower_value in ("root", "scope"):
            return [Compound("html", weight=(0, 1, 0))]
        if token.lower_value in _OF_ATTRIBUTES:
            return [Compound(marks=frozenset([f"[{token.lower_value}]"]), weight=(0, 1, 0))]
        return [] if token.lower_value in _NEVER else None
    if token.type != "function" or token.lower_name not in {"not", *_LISTS}:
        return None
    found: list[Compound] = []
    for tokens in split_at_commas(token.arguments):
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
        return [Compound(unless=tuple(found), weight=heaviest)]
    return found
