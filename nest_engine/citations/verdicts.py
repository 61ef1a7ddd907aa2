"""What citations prove of each sentence of an answer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from unicodedata import normalize

from nest_engine.citations.references import LONGEST, NAMED, REFERENCE, names_of
from nest_engine.citations.sentences import sentences_of
from nest_engine.citations.word_boundaries import changes_meaning
from nest_engine.citations.words import tags_in, words_of
from nest_engine.records import AnswerSentence, Citation, Passage, SentenceKind

_REFERENCE_BEHIND = re.compile(rf"\s?(?:{REFERENCE.pattern})")
_REFERENCE_BEFORE = re.compile(rf"(?:{REFERENCE.pattern})\s?\Z")
_PAGE = re.compile(r",\s?(?:[^\W\d_]{1,7}\.?\s?)?\d[\d\s,–-]*\Z")  # , p. 3: not more words
_ENDS = tuple(".!?…。！？\"'”’»)")
_BULLET = re.compile(r"(?m:^[ \t]*(?:[-*+][ \t]+\[[xX]\]|[^\w\s❌✗✘¬])(?=\s))")
_QUESTION_MARKS = "?？؟⁇⁈⁉"
_QUOTE_MARKS = "'\"‘’“”"
_LIST_NUMBER = re.compile(
    "(?m:^[ \t]*(?:[(]?(\\d{1,3}|[a-z])[.)]|(\\d)\ufe0f?\u20e3|([\u2460-\u2473]))(?=\\s))"
)
_LONGEST_SEAM = 8  # characters of a source between two citations of one stretch


def judge_sentences(
    text: str,
    citations: Sequence[Citation],
    passages: Sequence[Passage] = (),
    *,
    is_cut_off: bool = False,
) -> tuple[AnswerSentence, ...]:
    """Return the sentences of an answer, each with what its citations prove.

    Letters, digits and signs that change what is said count: a source's sentence stays itself in
    other quotation marks, and with a reference behind it or within, but not as a question.

    Args:
        text: the answer.
        citations: its citations.
        passages: what they quote. Where these are given, two citations with nothing but a reference
            between them may be one stretch.
        is_cut_off: whether the answer ends where it was too long, perhaps within a word.

    Returns:
        the sentences that have a letter or digit, in order.
    """
    counts = [
        char.isalnum() or char in _QUESTION_MARKS or changes_meaning(text, index)
        for index, char in enumerate(text)
    ]
    without_words = [match.span() for match in _without_words(text, citations, passages)]
    for start, end in (*without_words, *tags_in(text)):
        counts[start:end] = [False] * (end - start)
    # The number of the stretch that each character was quoted from.
    stretches: list[int | None] = [None] * len(text)
    before = None
    for number, citation in enumerate(citations):
        start, end = citation.answer_start, citation.answer_end
        goes_on = before is not None and _goes_on(text, before, citation, passages)
        stretch = stretches[before.answer_start] if before and goes_on else number
        stretches[start:end] = [stretch] * (end - start)
        before = citation
    if is_cut_off and before is not None and _ends_within_word(text, before, passages):
        rest = len(text) - before.answer_end
        stretches[before.answer_end :] = [stretches[before.answer_start]] * rest
    judged = []
    for start, end, *_ in sentences_of(text, is_answer=True):
        found = {stretches[i] for i in range(start, end) if counts[i] or _measures(text, start, i)}
        if any(map(str.isalnum, text[start:end])) and found:
            kind: SentenceKind = (
                "own" if found == {None} else "quoted" if len(found) == 1 else "spliced"
            )
            judged.append(AnswerSentence(start, end, kind))
    return tuple(judged)


def _measures(text: str, start: int, index: int) -> bool:
    """Return whether a quotation mark stands for inches, feet or minutes: it closes nothing."""
    is_behind_digit = text[index] in _QUOTE_MARKS and text[index - 1 : index].isdigit()
    return is_behind_digit and not any(mark in text[start:index] for mark in _QUOTE_MARKS)


def _without_words(
    text: str, citations: Sequence[Citation], passages: Sequence[Passage]
) -> Iterator[re.Match[str]]:
    """Yield the references in a text, its bullets, and the numbers of its lists."""
    for reference in REFERENCE.finditer(text):
        if not any(_replaces(text, reference, citation, passages) for citation in citations):
            yield reference
    for citation in citations:
        named = NAMED.match(text, citation.answer_end)
        if named is None:
            continue
        name = _PAGE.sub("", named["name"] or named["other"])
        names = {name.strip(), (named["link"] or "").strip("()")}
        if not _names(citation, passages).isdisjoint(names):
            yield named
    yield from _BULLET.finditer(text)
    number = 1
    for match in _LIST_NUMBER.finditer(text):
        label = normalize("NFKC", match[match.lastindex or 0])
        given = int(label) if label.isdigit() else ord(label) - ord("a") + 1
        if given in (1, number):
            number = given + 1
            yield match


def _names(citation: Citation, passages: Sequence[Passage]) -> set[str]:
    """Return what the passages are called that have what is cited."""
    ids = {citation.passage_id, *(place.passage_id for place in citation.also_in)}
    return {citation.passage_id, citation.title}.union(
        *(names_of(passage) for passage in passages if passage.id in ids)
    )


def _replaces(
    text: str, reference: re.Match[str], citation: Citation, passages: Sequence[Passage]
) -> bool:
    """Return whether what looks like a reference stands for what the source has there in brackets.

    Or whether it is quoted in part: [0, 1] of the source's [0, 5].
    """
    start, end = reference.span()
    if start < citation.answer_end and citation.answer_start < end:
        return not (citation.answer_start <= start and end <= citation.answer_end)
    for passage in _quoted(citation, passages):
        if start >= citation.answer_end and not text[citation.answer_end : start].strip():
            found = _REFERENCE_BEHIND.match(passage.text, citation.source_end)
            return found is not None and not citation.cited_text.endswith(_ENDS)
        if end <= citation.answer_start and not text[end : citation.answer_start].strip():
            first = max(0, citation.source_start - LONGEST)
            before = passage.text[first : citation.source_start]
            return _REFERENCE_BEFORE.search(before) is not None
    return False


def _goes_on(text: str, before: Citation, after: Citation, passages: Sequence[Passage]) -> bool:
    """Return whether a citation goes on with the stretch of the one before it.

    Answer and source have the same signs in between, references of one of them apart.
    """
    start, end = before.source_end, after.source_start
    if before.source_key != after.source_key or not 0 <= end - start <= _LONGEST_SEAM:
        return False
    said = text[before.answer_end : after.answer_start]
    for passage in _quoted(before, passages):
        written = passage.text[start:end]
        if _keys(written) == _keys(REFERENCE.sub(" ", said)):
            return True
        if _keys(REFERENCE.sub(" ", written)) == _keys(said):
            return True
    return False


def _ends_within_word(text: str, last: Citation, passages: Sequence[Passage]) -> bool:
    """Return whether an answer ends within the word that follows its last citation in the source.

    Citations end with whole words, and the longest answer may end anywhere.
    """
    rest = text[last.answer_end :].rstrip()
    is_one_word = len(rest.split()) == 1 and not any(map(str.isdigit, rest))
    return is_one_word and any(
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
