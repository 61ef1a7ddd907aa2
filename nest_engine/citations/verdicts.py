"""What citations prove of each sentence of an answer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from nest_engine.citations.sentences import sentences_of
from nest_engine.citations.words import words_of
from nest_engine.records import AnswerSentence, Citation, Passage, SentenceKind

# What answers have beside their words: references such as [1], [^2], [1, 3] or 【4†source】.
REFERENCE = re.compile(r"\[\^?\d{1,3}(?:\s?[,–-]\s?\d{1,3})*\]|【\d[^】\n]{0,40}】")
_LIST_NUMBER = re.compile(r"(?m:^[ \t]*(\d{1,3})[.)](?=\s))")
_LONGEST_SEAM = 8  # characters of a source between two citations of one stretch


def judge_sentences(
    text: str, citations: Sequence[Citation], passages: Sequence[Passage] = ()
) -> tuple[AnswerSentence, ...]:
    """Return the sentences of an answer, each with what its citations prove.

    Only letters and digits count: a source's sentence stays itself in other quotation marks, and
    with a reference behind it or within.

    Args:
        text: the answer.
        citations: its citations.
        passages: what they quote. Where these are given, two citations with nothing but a reference
            between them may be one stretch.

    Returns:
        the sentences that have a letter or digit, in order.
    """
    counts = [char.isalnum() for char in text]
    for match in _without_words(text):
        counts[match.start() : match.end()] = [False] * len(match[0])
    # The number of the stretch that each character was quoted from.
    stretches: list[int | None] = [None] * len(text)
    before = None
    for number, citation in enumerate(citations):
        start, end = citation.answer_start, citation.answer_end
        goes_on = before is not None and _goes_on(text, before, citation, passages)
        stretch = stretches[before.answer_start] if before and goes_on else number
        stretches[start:end] = [stretch] * (end - start)
        before = citation
    if before is not None and _is_cut_off(text, before, passages):
        rest = len(text) - before.answer_end
        stretches[before.answer_end :] = [stretches[before.answer_start]] * rest
    judged = []
    for start, end, _ in sentences_of(text):
        found = {stretches[i] for i in range(start, end) if counts[i]}
        if found:
            kind: SentenceKind = (
                "own" if found == {None} else "quoted" if len(found) == 1 else "spliced"
            )
            judged.append(AnswerSentence(start, end, kind))
    return tuple(judged)


def _without_words(text: str) -> Iterator[re.Match[str]]:
    """Yield the references in a text, and the numbers of its lists."""
    yield from REFERENCE.finditer(text)
    number = 1
    for match in _LIST_NUMBER.finditer(text):
        if int(match[1]) in (1, number):
            number = int(match[1]) + 1
            yield match


def _goes_on(text: str, before: Citation, after: Citation, passages: Sequence[Passage]) -> bool:
    """Return whether a citation goes on with the stretch of the one before it.

    Answer and source have the same signs in between, references apart.
    """
    start, end = before.source_end, after.source_start
    if before.source_key != after.source_key or not 0 <= end - start <= _LONGEST_SEAM:
        return False
    said = REFERENCE.sub(" ", text[before.answer_end : after.answer_start])
    return any(
        _keys(passage.text[start:end]) == _keys(said) for passage in _quoted(before, passages)
    )


def _is_cut_off(text: str, last: Citation, passages: Sequence[Passage]) -> bool:
    """Return whether an answer ends within the word that follows its last citation in the source.

    Citations end with whole words, and the longest answer may end anywhere.
    """
    rest = text[last.answer_end :].rstrip()
    return len(rest.split()) == 1 and any(
        passage.text.startswith(rest, last.source_end) for passage in _quoted(last, passages)
    )


def _quoted(citation: Citation, passages: Sequence[Passage]) -> Iterator[Passage]:
    """Yield the passages that a citation may quote: different ones may have one id."""
    for passage in passages:
        quoted = passage.text[citation.source_start : citation.source_end]
        if passage.id == citation.passage_id and quoted == citation.cited_text:
            yield passage


def _keys(text: str) -> list[str]:
    return [word.key for word in words_of(text)]
