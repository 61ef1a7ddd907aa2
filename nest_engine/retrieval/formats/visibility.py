"""Whether an element of some style is seen: CSS properties, as far as they decide that.

Laid out is nothing. What counts is what pages use to hide text: that it is not displayed, is
transparent, clipped, shrunk to nothing, moved off the page or set in the ink of its paper. What
layouts do for other reasons with the same properties (boxes that flex, scroll or keep their aspect,
letters filled with a picture, whatever is animated) hides nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from nest_engine._optional import require

Style = dict[str, tuple[Any, ...]]
"""Values of properties: the tokens of tinycss2, without white space."""

_DISPLAYS = frozenset(
    [
        *("block", "contents", "flex", "flow-root", "grid", "inherit", "initial", "inline"),
        *("inline-block", "inline-flex", "inline-grid", "inline-table", "list-item", "none"),
        *("revert", "table", "table-caption", "table-cell", "table-row", "unset"),
    ]
)
BLOCK_DISPLAYS = frozenset(
    [
        *("block", "flex", "flow-root", "grid", "list-item", "table", "table-caption"),
        "table-row",
    ]
)
APART_DISPLAYS = frozenset(
    ["inline-block", "inline-flex", "inline-grid", "inline-table", "table-cell"]
)
LAYOUTS = frozenset(["flex", "grid", "inline-flex", "inline-grid"])  # set their children apart
_INLINE_DISPLAYS = frozenset(["contents", "inline"])
_KEYWORDS = {
    "display": _DISPLAYS,
    "visibility": frozenset(
        ["collapse", "hidden", "inherit", "initial", "revert", "unset", "visible"]
    ),
    "position": frozenset(["absolute", "fixed", "initial", "relative", "static", "sticky"]),
}
_SAME_AS = {  # what is told apart nowhere here
    "-webkit-background-clip": "background-clip",
    "animation-name": "animation",
    "flex-grow": "flex",
    "overflow-x": "overflow",
    "overflow-y": "overflow",
    **{f"padding-{side}": "padding" for side in ("bottom", "left", "right", "top")},
}
_SIDES = ("top", "right", "bottom", "left")
_PROPERTIES = frozenset(
    [
        *_KEYWORDS,
        *_SAME_AS,
        *_SAME_AS.values(),
        *_SIDES,
        *("-webkit-text-fill-color", "background", "background-color", "background-image"),
        *("clip", "clip-path", "color", "content-visibility", "filter", "font-size", "height"),
        *("inset", "margin", "margin-left", "margin-top", "max-height", "max-width"),
        *("min-height", "min-width", "opacity", "scale", "text-indent", "text-shadow"),
        *("transform", "width"),
    ]
)
_TELLING = re.compile(  # without one of these nothing is hidden, nor shown again
    r"display|visibility|opacity|font-size|clip|indent|margin|inset|position|overflow|transform"
    r"|scale|color|background|\\",
    re.IGNORECASE,
)
_PIXELS = {"px": 1, "pt": 1.33, "em": 16, "rem": 16, "ex": 8, "ch": 8, "vw": 12.8, "vh": 7.2}
_FAR = 999  # pixels to the left or above; below, pages go on
_FAR_RIGHT = 5000
_FAINTEST = 0.02  # opacity
_SMALLEST = 1.5  # pixels of a letter
_MOST_TOKENS = 50  # of a value
_LONGEST_INLINE = 10_000  # characters
_DIGITS = re.compile(r"(\d{30})\d+")


def hides(style: Style, name: str, *, is_block: bool) -> bool:
    """Return whether an element of this style is not shown, nor anything in it.

    Args:
        style: its style.
        name: its tag.
        is_block: whether it is a block by itself.
    """
    if (
        keyword(style, "display") == "none"
        or keyword(style, "content-visibility") == "hidden"
        or _is_clipped(style)
        or _is_far_away(style)
        or _is_scaled_away(style)
    ):
        return True
    if "animation" in style and keyword(style, "animation") != "none":
        return False
    opacity = _number(style.get("opacity", ()))
    if opacity is not None and opacity <= _FAINTEST:
        return True
    is_apart = keyword(style, "position") in ("absolute", "fixed")
    is_inline = not is_block and not is_apart and "display" not in style
    if is_inline or keyword(style, "display") in _INLINE_DISPLAYS or name in ("td", "th"):
        return False
    return _is_shrunk(style)


def unseen(style: Style, around: frozenset[str]) -> frozenset[str]:
    """Return which inherited properties make the text of an element invisible.

    Args:
        style: its style.
        around: those of the element that it is in.
    """
    if not style:
        return around
    hidden = {
        "visibility": _visibility(style),
        "font-size": _is_tiny(style.get("font-size", ())),
        "text-indent": _is_indented_away(style.get("text-indent", ())),
        "ink": _is_ink_invisible(style),
    }
    return frozenset(
        name
        for name, is_hidden in hidden.items()
        if is_hidden or (is_hidden is None and name in around)
    )


def declared(source: Any) -> tuple[Style, Style]:
    """Return what a block declares, and what of it is important.

    Args:
        source: CSS, or its tokens.
    """
    css = require("tinycss2", "tinycss2")
    styles: tuple[Style, Style] = {}, {}
    found = css.parse_blocks_contents(source, skip_comments=True, skip_whitespace=True)
    for each in found:
        if each.type != "declaration" or each.lower_name not in _PROPERTIES:
            continue
        tokens = tuple(token for token in each.value if token.type not in ("whitespace", "comment"))
        if not tokens or len(tokens) > _MOST_TOKENS:
            continue
        for name, value in _longhands(each.lower_name, tokens):
            if _is_valid(name, value):
                styles[bool(each.important)][name] = value
    return styles


def declared_inline(source: str) -> tuple[Style, Style]:
    """Return what an element's own style declares, and what of it is important."""
    if not _TELLING.search(source):
        return {}, {}
    return _declared_inline(shortened(source)[:_LONGEST_INLINE])


@lru_cache(maxsize=256)
def _declared_inline(source: str) -> tuple[Style, Style]:
    return declared(source)


def shortened(source: str) -> str:
    """Return CSS without the digits that no number needs."""
    return _DIGITS.sub(r"\1", source)


def _longhands(name: str, tokens: tuple[Any, ...]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    name = _SAME_AS.get(name, name)
    if name == "background":
        colors = [token for token in tokens if _color(token) is not None]
        yield "background-color", tuple(colors[-1:])
        yield (
            "background-image",
            tuple(
                token
                for token in tokens
                if token.type in ("url", "function") and token not in colors
            ),
        )
        if any(token.type == "ident" and token.lower_value == "text" for token in tokens):
            yield "background-clip", tokens[-1:]
    elif name in ("inset", "margin"):
        top, right, bottom, left = _of_sides(tokens)
        prefix = "margin-" if name == "margin" else ""
        for side, value in zip(_SIDES, (top, right, bottom, left), strict=True):
            yield f"{prefix}{side}", (value,)
    else:
        yield name, tokens


def _of_sides(tokens: Sequence[Any]) -> tuple[Any, Any, Any, Any]:
    top = tokens[0]
    right = tokens[1] if len(tokens) > 1 else top
    bottom = tokens[2] if len(tokens) > 2 else top
    left = tokens[3] if len(tokens) > 3 else right
    return top, right, bottom, left


def _is_valid(name: str, tokens: tuple[Any, ...]) -> bool:
    if any(token.type == "function" and token.lower_name in ("var", "env") for token in tokens):
        return False  # nobody knows
    if name in _KEYWORDS:
        return tokens[0].type == "ident" and tokens[0].lower_value in _KEYWORDS[name]
    return True


def keyword(style: Style, name: str) -> str:
    """Return the keyword that a property has; empty if it has none."""
    value = style.get(name, ())
    return value[0].lower_value if value and value[0].type == "ident" else ""


def _number(tokens: Sequence[Any]) -> float | None:
    """Return a plain number, or a percentage as a share."""
    if len(tokens) != 1 or tokens[0].type not in ("number", "percentage"):
        return None
    return float(tokens[0].value) / (100 if tokens[0].type == "percentage" else 1)


def _pixels(token: Any) -> float | None:
    """Return a length on a page of 1280 by 720 pixels; None for what depends on other boxes."""
    if token.type == "number" and not token.value:
        return 0.0
    if token.type != "dimension":
        return None
    return float(token.value) * _PIXELS.get(token.lower_unit, 1)


def _length(style: Style, name: str) -> float | None:
    value = style.get(name, ())
    return _pixels(value[0]) if len(value) == 1 else None


def _lengths(tokens: Sequence[Any]) -> list[Any]:
    """Return the arguments of a function without what separates them."""
    return [token for token in tokens if token.type not in ("whitespace", "comment", "literal")]


def _functions(style: Style, name: str) -> Iterator[tuple[str, list[Any]]]:
    for token in style.get(name, ()):
        if token.type == "function":
            yield token.lower_name, _lengths(token.arguments)


def _visibility(style: Style) -> bool | None:
    value = keyword(style, "visibility")
    if value in ("hidden", "collapse"):
        return True
    return False if value in ("visible", "initial") else None


def _is_tiny(value: Sequence[Any]) -> bool | None:
    if len(value) != 1 or (value[0].type == "ident" and value[0].lower_value == "inherit"):
        return None
    if value[0].type == "percentage" or getattr(value[0], "lower_unit", "") == "em":
        return True if value[0].value <= _FAINTEST else None
    size = _pixels(value[0])
    return size is not None and size <= _SMALLEST


def _is_indented_away(value: Sequence[Any]) -> bool | None:
    if not value or (value[0].type == "ident" and value[0].lower_value == "inherit"):
        return None
    return (_pixels(value[0]) or 0) <= -_FAR


def _is_ink_invisible(style: Style) -> bool | None:
    """Return whether the text has no colour, or that of what it stands on."""
    value = style.get("-webkit-text-fill-color") or style.get("color")
    ink = _color(value[0]) if value else None
    if ink is None or ink == "currentColor":
        return None
    if keyword(style, "background-clip") == "text":
        return False
    if "text-shadow" in style and keyword(style, "text-shadow") != "none":
        return False
    if ink[3] <= _FAINTEST:
        return True
    paper = style.get("background-color", ())
    has_image = style.get("background-image") and keyword(style, "background-image") != "none"
    return bool(paper) and not has_image and _color(paper[0]) == ink


def _color(token: Any) -> Any:
    """Return red, green, blue and opacity; None for what is no colour that is known here."""
    if token.type == "function" and token.lower_name in ("rgb", "rgba", "hsl", "hsla"):
        numbers = [each for each in token.arguments if each.type in ("number", "percentage")]
        if len(numbers) > 3 and (_number(numbers[3:4]) or 0) <= _FAINTEST:
            return 0.0, 0.0, 0.0, 0.0
    if token.type == "hash" and len(token.value) in (4, 8):  # with opacity
        size = len(token.value) // 4
        return _hex_color(token.value[: 3 * size], token.value[3 * size :])
    parsed = require("tinycss2.color3", "tinycss2").parse_color(token)
    return tuple(parsed) if isinstance(parsed, tuple) else parsed


def _hex_color(color: str, opacity: str) -> Any:
    try:
        share = int(opacity, 16) / (16 ** len(opacity) - 1)
    except ValueError:
        return None
    parsed = require("tinycss2.color3", "tinycss2").parse_color(f"#{color}")
    return None if parsed is None else (*parsed[:3], share)


def _is_clipped(style: Style) -> bool:
    if keyword(style, "position") in ("absolute", "fixed"):
        for name, lengths in _functions(style, "clip"):
            sides = [_pixels(each) for each in lengths]
            if name == "rect" and len(sides) == 4 and None not in sides:
                top, right, bottom, left = (side or 0.0 for side in sides)
                if bottom - top <= 1 or right - left <= 1:
                    return True
    for name, lengths in _functions(style, "clip-path"):
        if name == "inset" and lengths:
            shares = [each.value if each.type == "percentage" else 0 for each in lengths[:4]]
            top, right, bottom, left = _of_sides(shares)
            if top + bottom >= 100 or left + right >= 100:
                return True
        if name == "circle" and lengths and _pixels(lengths[0]) == 0:
            return True
        if name == "polygon" and lengths and all(not getattr(each, "value", 1) for each in lengths):
            return True
    return False


def _is_far_away(style: Style) -> bool:
    for side in ("left", "top"):
        distance = _length(style, f"margin-{side}")
        if distance is not None and distance <= -_FAR and "padding" not in style:
            return True
    position = keyword(style, "position")
    if position not in ("absolute", "fixed", "relative"):
        return False
    for side, opposite in zip(_SIDES, _SIDES[2:] + _SIDES[:2], strict=True):
        distance, other = _length(style, side), _length(style, opposite)
        if distance is not None and distance <= -_FAR and (other or 0) > -_FAR:
            return True
        if side == "left" and distance is not None and distance >= _FAR_RIGHT:
            return True
        value = style.get(side, ())
        is_outside = len(value) == 1 and value[0].type == "percentage" and value[0].value <= -100
        if is_outside and position != "relative" and "transform" not in style:
            return True
    return False


def _is_scaled_away(style: Style) -> bool:
    for name, arguments in _functions(style, "transform"):
        if name.startswith("scale") and any(_is_nothing(each) for each in arguments[:2]):
            return True
        if name.startswith("translate") and any(
            (_pixels(each) or 0) <= -_FAR for each in arguments[:2]
        ):
            return True
    for name, arguments in _functions(style, "filter"):
        if name == "opacity" and arguments and _is_nothing(arguments[0]):
            return True
    return any(_is_nothing(each) for each in style.get("scale", ())[:2])


def _is_nothing(token: Any) -> bool:
    share = _number([token])
    return share is not None and abs(share) <= _FAINTEST


def _is_shrunk(style: Style) -> bool:
    """Return whether a box that cuts off what it holds has no room, nor gets any."""
    if keyword(style, "overflow") not in ("hidden", "clip"):
        return False
    if "flex" in style or any(
        each.type != "number" or each.value for each in style.get("padding", ())
    ):
        return False
    for side in ("width", "height"):
        sizes = (_length(style, side), _length(style, f"max-{side}"))
        if f"min-{side}" not in style and any(size is not None and size <= 1 for size in sizes):
            return True
    return False
