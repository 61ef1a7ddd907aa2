"""Raised figures and parts of formulas in a line of text: 10 to the sixth is not 106."""

from __future__ import annotations

import re

RAISED = "\0"  # around what is raised; no character of XML
_FIGURE = re.compile(
    r"[+\-\N{MINUS SIGN}\N{EN DASH}]?\d+(?:[.,/\N{EN DASH}-]\d+)*[+\-\N{MINUS SIGN}]?"
)
_LETTERS = re.compile(r"[^\W\d_]+\Z")
# Parts of a formula that need no brackets: a number, a word, what has some, a sign.
_ONE = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+|\([^()]*\)|\W*")
_LONGEST_SYMBOL = 3  # letters of a unit or a variable; behind longer words stand footnote marks


def before_superscript(text: str, raised: str) -> str:
    """Return what keeps a figure apart from the text that it is raised above.

    Args:
        text: the text before it.
        raised: what is raised.

    Returns:
        ``^``; a space behind a word or the end of a sentence; nothing if they read well as one.
    """
    if not _FIGURE.fullmatch(raised.strip()):
        return ""
    if text[-1:].isdigit() or text.endswith((")", "]")):
        return "^"
    letters = _LETTERS.search(text[-50:])
    if letters:
        return "^" if len(letters[0]) <= _LONGEST_SYMBOL else " "
    return "" if not text or text[-1].isspace() else " "


def in_line(marked: str) -> str:
    """Return a text in which what is raised stands between marks, in one line."""
    text = ""
    for number, part in enumerate(marked.replace(RAISED * 2, "").split(RAISED)):
        text += (before_superscript(text, part) if number % 2 else "") + part
    return text


def needs_brackets(part: str) -> bool:
    """Return whether a part of a formula is read as another one in a line: a+b of (a+b)/2."""
    return not _ONE.fullmatch(part.strip())
