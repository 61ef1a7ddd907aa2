"""Whether a passage is about what is asked: a neighbour's vote counts by how relevant its passage is.

Nearness of hidden states says that a passage goes on as the answer might; not that it is about the same subject.
Without this, an award is copied from the life of one person into that of another, and cited. Ours, not the paper's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

from nest_engine.types import Passage

# Words, without the genitive's 's; scripts without spaces are taken character by character.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_]+(?<!['’]s)")
_IN_PARENTHESES = re.compile(r"\([^()]*\)")
_COMMON = 6.5  # nats: what the commonest few hundred tokens carry, and every word is given for free
_ENOUGH = 30.0  # nats: about four rare words; a long prompt need not stand in a passage word for word
_SHARPNESS = 0.05

Information = Callable[[str], float]
"""Rarity of a word in nats."""


def relevance(query: str, passages: Sequence[Passage], *, half: float, information: Information) -> tuple[float, ...]:
    """Return how far each passage can be trusted to be about a query.

    The words of a query weigh what they tell beyond common words. A passage is trusted by how much of that stands in
    its title or text: ``sigmoid((share - half) / 0.05)``. A passage whose title stands in the query has all of it. A
    query of common words alone tells nothing against any passage.

    Args:
        query: what is asked.
        passages: the passages.
        half: share of the query's information at which a passage is trusted by half; 0 trusts every passage.
        information: rarity of a word in nats.

    Returns:
        one number in [0, 1] for each passage.
    """
    asked = _words(query)
    told = {word: max(0.0, information(word) - _COMMON) for word in asked - _ASKING} if half else {}
    whole = min(sum(told.values()), _ENOUGH)
    if whole == 0:
        return (1.0,) * len(passages)
    trusted = []
    for passage in passages:
        subject = _words(_IN_PARENTHESES.sub("", passage.title))
        found = _words(f"{passage.title} {passage.text}")
        share = min(sum(nats for word, nats in told.items() if word in found) / whole, 1.0)
        if subject and subject <= asked:
            share = 1.0
        trusted.append(1 / (1 + math.exp(-(share - half) / _SHARPNESS)))
    return tuple(trusted)


def rank_information(token_ids: Sequence[int]) -> float:
    """Return the rarity of a word from its tokens, in nats.

    A tokenizer merges the most frequent pairs first, so a token's number grows with its rank, and by Zipf's law its
    information with the logarithm of that. A rare word has several tokens.

    Args:
        token_ids: the word's tokens.
    """
    return sum(math.log(1 + token) for token in token_ids)


def _words(text: str) -> set[str]:
    """Return the words of a text in one form: lower case, without the ``s`` of plurals."""
    words = (match.group().lower() for match in _WORD.finditer(text))
    return {word[:-1] if len(word) > 3 and word.endswith("s") else word for word in words}


# Words that ask instead of saying what for: rare in what passages are made of, so that rarity would overrate them.
_ASKING = _words(
    "answer ask can could define describe discuss do does explain find give how introduce know let list mention name "
    "outline please provide question say show summarize summary tell what when where which who whom whose why would "
    "write"
)
