"""Whether a text contains a name, apart from case, punctuation and articles."""

from __future__ import annotations

from nest_engine.retrieval.terms import folded_words

_ARTICLES = frozenset({"a", "an", "the"})


def words_of(text: str) -> str:
    """Return the words of a text in lower case, without English articles, a space around each.

    The usual normalisation of answer-level recall (SQuAD, DPR), on the words of the keyword search.
    """
    return f" {' '.join(word for word in folded_words(text) if word not in _ARTICLES)} "


def names(text_words: str, name: str) -> bool:
    """Return whether the words of a name stand together among those of a text.

    Args:
        text_words: the text's ``words_of``.
        name: the name; one without any word is nowhere.
    """
    wanted = words_of(name)
    return wanted.strip() != "" and wanted in text_words
