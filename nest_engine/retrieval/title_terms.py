"""Titles as terms of a keyword search: a query that names a whole title asks about its document.

Word by word, "Tell me about socialism." is about those who tell somebody something, since passages
about socialism are not the only ones to say the word. A whole title is as rare as its document.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from nest_engine.citations.languages import is_common
from nest_engine.retrieval.terms import bare_words

_TIMES_IN_FIRST = 3  # a document's first passage says what it is about
_LONGEST = 8  # words of a title that is looked for
_ASIDE = re.compile(r"\s*\([^()]*\)\s*\Z")  # "Emma (novel)" is asked for as "Emma"


def title_terms(title: str, *, is_first: bool) -> list[str]:
    """Return the terms by which a passage is found where a query names its title.

    None where the title is a common word: "It".

    Args:
        title: of the passage.
        is_first: whether the passage is the first of its document.
    """
    words = bare_words(_ASIDE.sub("", title)) or bare_words(title)
    if not words or (len(words) == 1 and is_common(words[0])):
        return []
    return [_term(words)] * (_TIMES_IN_FIRST if is_first else 1)


def titles_named(query: str) -> list[str]:
    """Return a term for each stretch of a query's words, any of which may be a title."""
    words = bare_words(query)
    return [
        _term(words[start:end])
        for start in range(len(words))
        for end in range(start + 1, min(start + _LONGEST, len(words)) + 1)
    ]


def _term(words: Sequence[str]) -> str:
    return f"= {' '.join(words)}"  # no word is spelt so
