"""Whether a text contains a name, apart from case, punctuation and articles."""

from __future__ import annotations

import re

from nest_engine.retrieval.terms import spaced_words

_ARTICLES = frozenset({"a", "an", "the"})
_GROUPED = re.compile(r"(?<![\d.,])\d{1,3}(?:[, '’\u00a0\u2009\u202f]\d{3})+(?!\d)")
_NOT_DIGITS = re.compile(r"\D")
_DECIMAL = re.compile(r"(?<![\d.,])(\d+)[.,](\d+)(?![.,]?\d)")


def words_of(text: str) -> str:
    """Return the words of a text in lower case, without English articles, a space around each.

    The usual normalisation of answer-level recall (SQuAD, DPR), on the words of the keyword search.
    A number is one word, however its thousands are set apart; in scripts without spaces,
    a character is.
    """
    text = _GROUPED.sub(lambda number: _NOT_DIGITS.sub("", number[0]), text)
    words = spaced_words(_DECIMAL.sub(r"\1_\2", text))
    return f" {' '.join(word for word in words if word not in _ARTICLES)} "


def names(text_words: str, name: str) -> bool:
    """Return whether the words of a name stand together among those of a text.

    Args:
        text_words: the text's ``words_of``.
        name: the name; one without any word is nowhere.
    """
    wanted = words_of(name)
    return wanted.strip() != "" and wanted in text_words
