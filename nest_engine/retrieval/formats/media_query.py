"""Media queries, as a desktop's screen meets them."""

from __future__ import annotations

import operator
import re

_WIDTH = 1280  # pixels of the screen that pages are read on
_HEIGHT = 720
_FEATURE = re.compile(r"\(\s*([a-z-]+)\s*(?::([^()]+))?\)")
_RANGE = re.compile(r"\(\s*(width|height)\s*([<>]=?)\s*([\d.]+)(px|em|rem)\s*\)")
_LENGTH = re.compile(r"([\d.]{1,20})(px|em|rem)")
_COMPARISONS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
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


def applies_on_screens(query: str) -> bool:
    """Return whether a media query is met by a desktop's screen."""
    return not query.strip() or any(map(_is_met, query.lower().split(",")))


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
        return bool(_COMPARISONS[found[2]](size, limit))
    feature = _FEATURE.fullmatch(condition)
    if feature is None:
        return False
    name, value = feature[1], feature[2] and feature[2].strip()
    length = _LENGTH.fullmatch(value or "")
    bound, _, side = name.rpartition("-")
    if length and side in ("width", "height") and bound in ("min", "max"):
        size, limit = _WIDTH if side == "width" else _HEIGHT, _in_pixels(length[1], length[2])
        return size >= limit if bound == "min" else size <= limit
    if value is None:
        return any(name == known for known, _ in _TRUE_FEATURES)
    return (name, value) in _TRUE_FEATURES


def _in_pixels(number: str, unit: str) -> float:
    try:
        return float(number) * (1 if unit == "px" else 16)
    except ValueError:
        return 0.0
