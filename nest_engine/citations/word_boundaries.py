"""Where a text may be cut without making another word of one, or another number."""

from __future__ import annotations

import re
import unicodedata

from nest_engine.citations.words import (
    APOSTROPHES,
    JOINERS,
    TAG,
    extends,
    is_unspaced,
    unescaped,
    without_emphasis,
)

# Whether these belong to the word before them, the character behind tells.
UNDECIDED = f"{APOSTROPHES}/&#<>@~=\N{EN DASH}"
_GROUPED = re.compile(r"\d[\u00a0\u2009\u202f]\d{3}(?!\d)")  # digits: 5 000
_LONGEST_TAG = len("</strong>")
_DEEPEST_BULLET = 20  # characters of a line before it
_SEEN = 40  # characters on either side of a cut
_PUNCTUATION = frozenset(".,;:!?…()[]{}*_`|\\'\"“”„‟«»‹›‘’‚‛—―")


def is_inside_word(text: str, index: int) -> bool:
    """Return whether a cut before ``index`` would split a word or a combined character."""
    if not 0 < index < len(text):
        return False
    if "_" in text[index - 1 : index + 1]:
        text = without_emphasis(text)
    first, last = max(0, index - _SEEN), index + _SEEN
    if text.find("&", first, last) >= 0:
        head = unescaped(text[first:index])
        text, index = head + unescaped(text[index:last]), len(head)
    before, after = text[index - 1], text[index]
    if extends(after) or before in JOINERS:
        return True
    if _is_flag_half(before) and _is_flag_half(after):
        return True
    if _belongs_to_word(text, index - 1) and _belongs_to_word(text, index):
        return True
    if _GROUPED.match(text, index - 2) or _GROUPED.match(text, index - 1):
        return True
    return any(
        changes_meaning(text, sign) and (_is_letter(text[other]) or changes_meaning(text, other))
        for sign, other in ((index - 1, index), (index, index - 1))
    )


def is_whole(text: str, start: int, end: int) -> bool:
    """Return whether a stretch of a text begins and ends between words."""
    return not is_inside_word(text, start) and not is_inside_word(text, end)


def changes_meaning(text: str, index: int) -> bool:
    """Return whether a character is a sign that makes something else of what it stands beside.

    Such as in -5, 5 %, 10⁻⁵, C++, $5, km/h, well-known. Punctuation and Markdown do not.
    """
    char = text[index]
    if char.isalnum() or char.isspace() or char in _PUNCTUATION:
        return False
    before, after = text[index - 1 : index], text[index + 1 : index + 2]
    if char in "-\u2010\u2011":
        if not before.isalnum():
            indent = text[max(0, index - _DEEPEST_BULLET) : index].rpartition("\n")
            is_bullet = not indent[2].strip() and (bool(indent[1]) or index < _DEEPEST_BULLET)
            return after.isdigit() or (after.isalpha() and not is_bullet)
        return True
    if char == "\N{EN DASH}":
        return after.isdigit() and (before.isdigit() or not before.isalnum())
    if char in "/&":
        return before.isalnum() and after.isalnum()
    if char in "#<>@~=":
        if char == ">" and _ends_tag(text, index):
            return False
        is_struck_out = char == "~" and char in (before, after)
        return after.isdigit() or is_struck_out or (char == "#" and before.isalnum())
    return char in "%‰‱§′″^" or unicodedata.category(char) in ("Sm", "Sc") or char in "°℃℉№♯❌✗✘"


def _ends_tag(text: str, index: int) -> bool:
    start = text.rfind("<", max(0, index - _LONGEST_TAG), index)
    tag = TAG.match(text, start) if start >= 0 else None
    return tag is not None and tag.end() == index + 1


def _belongs_to_word(text: str, index: int) -> bool:
    """Return whether the character is a letter, or an apostrophe between two: Halley's, O’Brien."""
    if text[index] in APOSTROPHES:
        return (
            0 < index < len(text) - 1
            and _is_letter(text[index - 1])
            and _is_letter(text[index + 1])
        )
    return _is_letter(text[index])


def _is_letter(char: str) -> bool:
    if char.isascii():
        return char.isalnum() or char == "_"
    if unicodedata.category(char)[0] == "M":
        return True
    return char.isalnum() and not is_unspaced(char)


def _is_flag_half(char: str) -> bool:
    return "\U0001f1e6" <= char <= "\U0001f1ff"
