"""What citations prove of each sentence of an answer."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nest_engine.citations.sentences import sentences_of
from nest_engine.records import AnswerSentence, Citation, SentenceKind

# What answers have beside their words: references such as [1], [^2], [1, 3] or 【4†source】, and
# the numbers of a list.
_NO_WORDS = re.compile(
    r"\[\^?\d{1,3}(?:\s?[,–-]\s?\d{1,3})*\]|【[^】\n]{1,40}】|(?m:^[ \t]*\d{1,3}[.)](?=\s))"
)
_LONGEST_SEAM = (
    2  # characters of a source between two citations of one stretch: a full stop, a space
)


def judge_sentences(text: str, citations: Sequence[Citation]) -> tuple[AnswerSentence, ...]:
    """Return the sentences of an answer, each with what its citations prove.

    Only letters and digits count: a source's sentence stays itself in other quotation marks, and
    with a reference behind it or within.

    Args:
        text: the answer.
        citations: its citations.

    Returns:
        the sentences that have a letter or digit, in order.
    """
    counts = [char.isalnum() for char in text]
    for match in _NO_WORDS.finditer(text):
        counts[match.start() : match.end()] = [False] * len(match[0])
    # The number of the stretch that each character was quoted from.
    stretches: list[int | None] = [None] * len(text)
    before = None
    for number, citation in enumerate(citations):
        start, end = citation.answer_start, citation.answer_end
        goes_on = before is not None and _goes_on(before, citation, counts)
        stretch = stretches[before.answer_start] if before and goes_on else number
        stretches[start:end] = [stretch] * (end - start)
        before = citation
    judged = []
    for start, end, _ in sentences_of(text):
        found = {stretches[i] for i in range(start, end) if counts[i]}
        if found:
            kind: SentenceKind = (
                "own" if found == {None} else "quoted" if len(found) == 1 else "spliced"
            )
            judged.append(AnswerSentence(start, end, kind))
    return tuple(judged)


def _goes_on(before: Citation, after: Citation, counts: Sequence[bool]) -> bool:
    """Return whether a citation goes on with the stretch of the one before it."""
    seam = after.source_start - before.source_end
    return (
        before.passage_id == after.passage_id
        and 0 <= seam <= _LONGEST_SEAM
        and not any(counts[before.answer_end : after.answer_start])
    )
