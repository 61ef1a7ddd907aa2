"""How far each sentence of the passages can be trusted to answer what was asked.

A sentence is trusted by how near it is to the question, in comparison with the nearest. All that is
said about Sierra Leone is near to "What is the capital of Sierra Leone?"; what is asked beside the
title tells the sentences of a document apart. Of a document that is asked about as such ("Tell me
about Sierra Leone."), what introduces it is trusted most, in its order.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from nest_engine.citations.sentences import Sentence
from nest_engine.generation.nearness import Nearness, share_named
from nest_engine.generation.read_sentences import (
    ReadSentence,
    introduces,
    leads_of,
    read_sentences,
    sections_of,
)
from nest_engine.models.tokenization import titled_text
from nest_engine.records import Passage
from nest_engine.retrieval.terms import bare_words

_LEAST = 0.01  # trust in the sentence that is farthest from the question
_INTRODUCTION = 0.03  # so much nearer counts a passage's first sentence: it says what it is about
# And it counts nearly as near as the title alone: whoever asks for no more than the title ("Tell me
# about helium.") wants to know what that is. Likewise the first sentence below a heading.
_SUBJECT = 0.1
_BESIDE_TITLE = 1 / 3  # so much counts, within a document, what is asked beside its title
_NAMED = 0.08  # so much nearer are, by their letters, sentences of a document that is asked about
_ASKED = 0.2  # what is left of "Tell me about helium." asks nothing: no sentence is as near to it
# What stands for one thing alone: E-52, CVE-2024-90417, 3.2.0, Python 3.8; no date. "E-47 means
# ..." answers no question about E-52, as near as it is.
_CODE = re.compile(
    r"(?<![A-Za-z0-9.-])(?:([A-Z]{1,6}-?\d{2,}(?:(?:[-_][A-Z]*|[A-Z]+)\d+)*[A-Z]?)"
    r"|v?((?!\d+\.\d+\.\d{4}|\d\d\.\d\d\.\d\d(?!\d))\d+(?:\.\d+){2,})"
    r"|(?:[A-Z]\w+|version|release) v?(\d+\.\d+))(?![A-Za-z0-9]|\.\d)"
)
_PART_OF_CODE = re.compile(r"[A-Z]+|\d+")
_CODED = 0.15  # so much nearer are those that have the question's codes
_TITLED = 0.5  # of a title, the share by which a question names it
_LATER = 0.01  # so much farther counts what is to be said later
_NEXT_ITEM = 0.001  # likewise, of a list whose lead-in is near: it is told whole
_LEAD = 5  # sentences that a document begins with, told first if it is asked about as such


def trusted(
    nearness: Nearness,
    question: str,
    passages: Sequence[Passage],
    sentences_P: Sequence[Sequence[Sentence]],
) -> list[list[Sentence]] | None:
    """Return the sentences of passages with their trust.

    A sentence is read behind its passage's title and what it stands below, which say whom its
    pronouns mean; headings, and questions that the next sentence answers, are not trusted. Where a
    summary is asked for, those are trusted that say most of what their passage says.

    Args:
        nearness: tells how near sentences are.
        question: what was asked.
        passages: the passages.
        sentences_P: the sentences of each passage, in characters.

    Returns:
        the sentences, or None if none of them answers the question.
    """
    read_T = [
        read
        for passage, sentences in zip(passages, sentences_P, strict=True)
        for read in read_sentences(passage, sentences)
    ]
    if not read_T:
        return None
    leads = leads_of(read_T)
    codes = _codes(question)
    said_T = [read for read in _of_coded(codes, read_T) if not read.is_heading]
    is_answered = bool(said_T) and nearness.is_answered(question, [read.text for read in said_T])
    if is_answered or (said_T and nearness.is_answered(question, [r.alone for r in said_T])):
        compares_alone = not is_answered or any(read.is_heading for read in read_T)
        near_T = _near_question(
            nearness, question, read_T, leads, codes, compares_alone=compares_alone
        )
    elif nearness.asks_of_all(question) == "summary":
        near_T = _near_passage(nearness, read_T)
    else:
        return None
    near_T[[read.is_heading for read in read_T]] = -np.inf
    trust = np.exp((near_T - near_T.max()) / nearness.sharpness).clip(min=_LEAST).tolist()
    introduces_T = [0.0] * len(read_T)
    for lead in leads.values():
        introduces_T[lead[0]] = introduces(read_T[lead[0]])
    of_sentence = zip(trust, introduces_T, strict=True)
    return [
        [
            sentence._replace(trust=trust, introduces=introduces)
            for sentence, (trust, introduces) in zip(sentences, of_sentence, strict=False)
        ]
        for sentences in sentences_P
    ]


def _codes(question: str) -> list[re.Pattern[str]]:
    """Return what finds the codes of a question: E-52 also as E52, and 3.0 in v3.0.1."""
    patterns = [
        r"[-‐‑–_\s]?".join(_PART_OF_CODE.findall(code)) if code else f"v?{re.escape(longer or two)}"
        for code, longer, two in _CODE.findall(question)
    ]
    # Between letters of Japanese there are no spaces.
    return [re.compile(rf"(?<![a-z0-9.]){each}(?![a-z0-9])", re.IGNORECASE) for each in patterns]


def _shares_of(codes: Sequence[re.Pattern[str]], read_T: Sequence[ReadSentence]) -> list[float]:
    """Return how many of the codes each sentence has, as a share."""
    return [sum(bool(code.search(read.text)) for code in codes) / len(codes) for read in read_T]


def _of_coded(
    codes: Sequence[re.Pattern[str]], read_T: Sequence[ReadSentence]
) -> Sequence[ReadSentence]:
    """Return the sentences of the documents that have one of the codes, if there are codes."""
    if not codes:
        return read_T
    documents = [read.passage.title or read.passage.text for read in read_T]
    coded = {
        document
        for document, share in zip(documents, _shares_of(codes, read_T), strict=True)
        if share
    }
    return [read for read, each in zip(read_T, documents, strict=True) if each in coded]


def _near_passage(nearness: Nearness, read_T: Sequence[ReadSentence]) -> NDArray[np.float32]:
    """Return how near each sentence is to its passage, ``[sentences]``.

    No passage is left out, and each begins with its first sentence, nearer than its nearest.
    """
    near_P: list[NDArray[np.float32]] = []
    for number, (passage, own) in enumerate(groupby(read_T, key=attrgetter("passage"))):
        read_S = list(own)
        [near_S] = nearness.of([titled_text(passage)], [read.text for read in read_S])
        nearest = max(n for n, r in zip(near_S, read_S, strict=True) if not r.is_heading)
        near_S = near_S - nearest - _INTRODUCTION
        near_S[[read.is_first for read in read_S]] = 0.0
        near_P.append(near_S - _LATER * number)
    return np.concatenate(near_P)


def _near_question(
    nearness: Nearness,
    question: str,
    read_T: Sequence[ReadSentence],
    leads: Mapping[str, Sequence[int]],
    codes: Sequence[re.Pattern[str]],
    *,
    compares_alone: bool,
) -> NDArray[np.float32]:
    """Return how near each sentence is to the question, ``[sentences]``.

    Where sentences are compared alone, too, they are as near as either way. Of a document that is
    asked about as such, what introduces it comes first, in its order.
    """
    first_T = np.array([read.is_first for read in read_T])
    title_T = [read.passage.title for read in read_T]
    titles = [read.passage.title for read in read_T if read.is_first]
    if not all(titles):
        titles = []
    text_T = [read.text for read in read_T]
    near, as_such = _near(nearness, question, [*text_T, *titles], [*title_T, *titles])
    near_T, near_title_P = np.split(near, [len(read_T)])
    if compares_alone:
        texts = [*text_T, *(read.alone for read in read_T)]
        below_T, alone_T = np.split(nearness.of([question], texts)[0], 2)
        near_T += np.maximum(alone_T - below_T, 0)
    near_T += _INTRODUCTION * first_T
    if codes:
        near_T += _CODED * np.array(_shares_of(codes, read_T))
    telling = _Telling(near_T, read_T)
    telling.tell_sections()
    telling.tell_lists()
    if titles:
        near_T[first_T] = np.maximum(near_T[first_T], near_title_P - _SUBJECT)
    telling.tell_what_is_asked_about(nearness, question)
    for title, lead in leads.items():
        if title in as_such:
            nearest = float(near_T[[each == title for each in title_T]].max())
            telling.tell(lead[:_LEAD], nearest + _LATER * _LEAD)
    return near_T


class _Telling:
    """What is told in its order, once it is told.

    Args:
        near_T: how near each sentence is to the question, ``[sentences]``; is changed.
        read_T: the sentences.
    """

    def __init__(self, near_T: NDArray[np.float32], read_T: Sequence[ReadSentence]) -> None:
        self._near_T = near_T
        self._read_T = read_T
        self._sections = [*sections_of(read_T)]

    def tell(self, numbers: Iterable[int], nearest: float) -> None:
        """Make sentences as near as ``nearest``, the later the less; items of lists hardly less."""
        for number in numbers:
            self._near_T[number] = nearest
            nearest -= _NEXT_ITEM if self._read_T[number].is_item else _LATER

    def tell_sections(self) -> None:
        """Tell all below a heading, or a question, if it is nearer than that."""
        for headings, first, end in self._sections:
            as_headings = float(self._near_T[headings:first].max())
            nearest = float(self._near_T[first:end].max())
            if as_headings >= nearest:
                self.tell(range(first, end), max(nearest + _LATER, as_headings - _SUBJECT))

    def tell_lists(self) -> None:
        """Tell lists whole whose lead-in ("You need:") is nearer than their items."""
        for number, read in enumerate(self._read_T):
            items = range(number + 1, number + 1 + read.num_led_in)
            if items and self._near_T[number] >= self._near_T[items].max():
                self.tell(items, float(self._near_T[number]) - _NEXT_ITEM)

    def tell_what_is_asked_about(self, nearness: Nearness, question: str) -> None:
        """Tell what stands behind a sentence, or below a heading, that is asked about as such."""
        texts = [read.text for read in self._read_T]
        said_T = np.where([read.is_heading for read in self._read_T], -np.inf, self._near_T)
        number, nearest = int(said_T.argmax()), float(said_T.max())
        asked = beside_title(question, self._read_T[number].alone)
        if nearness.knows_wording and _asks_for_overview(nearness, asked, texts):
            self.tell(range(number, self._end_of_section(number))[:_LEAD], nearest)
        for _, first, end, subject in sorted(self._named_sections(question)):
            asked = beside_title(question, subject)
            if _asks_no_more(nearness, question, subject, asked, texts):
                self.tell(range(first, end), nearest + _LATER * _LEAD)
                break

    def _named_sections(self, question: str) -> Iterator[tuple[float, int, int, str]]:
        """Yield the sections whose headings a question names: how little, where, and what about."""
        for headings, first, end in self._sections:
            heading = " ".join(read.alone for read in self._read_T[headings:first])
            share = share_named(heading, question)
            if share >= _TITLED:
                yield -share, first, end, f"{heading} {self._read_T[first].passage.title}"

    def _end_of_section(self, number: int) -> int:
        """Return where what a sentence begins or goes on with ends."""
        end = number + 1
        while end < len(self._read_T) and not (
            self._read_T[end].is_heading or self._read_T[end].is_first
        ):
            end += 1
        return end


def _near(
    nearness: Nearness, question: str, texts: Sequence[str], titles: Sequence[str]
) -> tuple[NDArray[np.float32], Collection[str]]:
    """Return how near texts are to a question, and which documents it asks about as such.

    Within a document, what is asked beside its title counts, too; this leaves documents as near as
    they are. Where letters are compared, those that all of a document has tell little already; and
    since a document's sentences do not all name what they are about, its title is looked for in
    the question.

    Args:
        nearness: tells how near texts are.
        question: what was asked.
        texts: the texts.
        titles: of the document of each text.

    Returns:
        how near texts are, ``[texts]``; the titles beside which nothing is asked.
    """
    beside = {title: beside_title(question, title) for title in titles}
    others = beside.values() if nearness.knows_wording else ()
    questions = list(dict.fromkeys([question, *others]))
    near_QT = nearness.of(questions, texts)
    near_T: NDArray[np.float32] = near_QT[0].copy()
    as_such = set()
    for title, asked in beside.items():
        is_own_T = np.array([each == title for each in titles])
        share = share_named(title, question)
        if share >= _TITLED and _asks_no_more(nearness, question, title, asked, texts):
            as_such.add(title)
        if not nearness.knows_wording:
            near_T[is_own_T] += _NAMED * share
            continue
        beside_T = near_QT[questions.index(asked), is_own_T]
        if beside_T.max() >= _ASKED:
            nearer_T = beside_T - near_QT[0, is_own_T]
            near_T[is_own_T] += _BESIDE_TITLE * (nearer_T - nearer_T.mean())
    return near_T, as_such


def _asks_no_more(
    nearness: Nearness, question: str, title: str, asked: str, texts: Sequence[str]
) -> bool:
    """Return whether a question is a title alone, or asks no more beside it than any text says."""
    if set(bare_words(question)) <= set(bare_words(title)):
        return True
    return _asks_for_overview(nearness, asked, texts)


def _asks_for_overview(nearness: Nearness, asked: str, texts: Sequence[str]) -> bool:
    """Return whether no text says what is asked, and it may be asked of things as such."""
    return nearness.may_ask_for_overview(asked) and not nearness.is_answered(asked, texts)


def beside_title(question: str, title: str) -> str:
    """Return a question without the words of a title, or as it is if it has no others.

    Args:
        question: the question.
        title: the title.
    """
    told = frozenset(bare_words(title))
    asked = [word for word in question.split() if not _is_told(bare_words(word), told)]
    return " ".join(asked) if any(map(bare_words, asked)) else question


def _is_told(words: Sequence[str], told: Collection[str]) -> bool:
    # At least half: "Pasteur's", and "헬륨은" with its ending, but no question without spaces.
    return bool(words) and 2 * sum(word in told for word in words) >= len(words)
