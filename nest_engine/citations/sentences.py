"""The sentences of texts: what people quote, and where a copy ends.

Boundaries are those of the library sentencex, which knows the full stops of many scripts and the
abbreviations that end no sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import sentencex

if TYPE_CHECKING:
    from nest_engine.interfaces import TokenizedPassage

# Its rules for English: those for other languages differ in their abbreviations alone.
_LANGUAGE = "en"
_LONGEST_TAIL = 400  # characters that tell whether a text ends with a sentence


class Sentence(NamedTuple):
    """A sentence of a passage.

    Args:
        start: first character in ``Passage.text``; in a :class:`TokenIndex`, first token.
        end: one past the last.
        trust: how far it can be trusted to answer what was asked, in (0, 1]; 0 if nobody knows what
            was asked.
    """

    start: int
    end: int
    trust: float = 0.0


def sentences_of(text: str) -> list[Sentence]:
    """Return the sentences of a text, without the space around them."""
    sentences = []
    for boundary in sentencex.get_sentence_boundaries(_LANGUAGE, text):
        piece = boundary["text"]
        if piece.strip():
            start = boundary["start_index"] + len(piece) - len(piece.lstrip())
            sentences.append(Sentence(start, start + len(piece.strip())))
    return sentences


def ends_sentence(text: str) -> bool:
    """Return whether a text ends where a sentence ends, or a line: what follows begins another."""
    tail = text[-_LONGEST_TAIL:]
    if not tail.strip() or tail.endswith("\n"):
        return True
    # A name behind it: an abbreviation goes on with one.
    *_, last = sentencex.segment(_LANGUAGE, f"{tail.rstrip()} Smith")
    return str(last) == "Smith"


def in_tokens(sentences: Sequence[Sentence], tokens: TokenizedPassage) -> list[Sentence]:
    """Return sentences by the tokens of their passage; a token belongs where it ends."""
    ranges, token = [], 0
    for sentence in sentences:
        while token < len(tokens.ends) and tokens.ends[token] <= sentence.start:
            token += 1
        first = token
        while token < len(tokens.ends) and tokens.starts[token] < sentence.end:
            token += 1
        if token > first:
            ranges.append(Sentence(first, token, sentence.trust))
    return ranges
