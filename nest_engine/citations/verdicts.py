"""What citations prove of each sentence of an answer."""

from __future__ import annotations

from collections.abc import Sequence

from nest_engine.citations.sentences import sentences_of
from nest_engine.records import AnswerSentence, Citation, SentenceKind


def judge_sentences(text: str, citations: Sequence[Citation]) -> tuple[AnswerSentence, ...]:
    """Return the sentences of an answer, each with what its citations prove.

    Only letters and digits count: a source's sentence stays itself in other quotation marks.

    Args:
        text: the answer.
        citations: its citations.

    Returns:
        the sentences that have a letter or digit, in order.
    """
    sources: list[tuple[str, int] | None] = [None] * len(text)
    for citation in citations:
        # The same for all characters of one stretch of one source.
        source = citation.passage_id, citation.source_start - citation.answer_start
        length = citation.answer_end - citation.answer_start
        sources[citation.answer_start : citation.answer_end] = [source] * length
    judged = []
    for start, end, _ in sentences_of(text):
        found = {sources[i] for i in range(start, end) if text[i].isalnum()}
        if found:
            kind: SentenceKind = (
                "own" if found == {None} else "quoted" if len(found) == 1 else "spliced"
            )
            judged.append(AnswerSentence(start, end, kind))
    return tuple(judged)
