"""How far each sentence of the passages can be trusted to answer what was asked.

A sentence is trusted by how near it is to the question, in comparison with the nearest. An embedder
tells this in any wording; without one, the letters that both share do, in any language. What is
near to an embedder differs from one to the next, so it counts from chance: from how near the
sentences come to small talk. Where even the nearest is hardly nearer to the question, or lacks what
the question tells, nothing answers it. All that is said about Sierra Leone is near to "What is the
capital of Sierra Leone?"; what is asked beside the title tells the sentences of a document apart.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from nest_engine.citations.headings import standing_below, without_marks
from nest_engine.citations.languages import words_of_asking
from nest_engine.citations.sentences import Sentence
from nest_engine.errors import RetrievalError
from nest_engine.models.tokenization import titled_text
from nest_engine.records import Passage
from nest_engine.retrieval.embedder import query_embedding
from nest_engine.retrieval.section import section_above
from nest_engine.retrieval.terms import bare_words

if TYPE_CHECKING:
    from nest_engine.retrieval import Embedder

_LEAST = 0.01  # trust in the sentence that is farthest from the question
_INTRODUCTION = 0.03  # so much nearer counts a passage's first sentence: it says what it is about
# And it counts nearly as near as the title alone: whoever asks for no more than the title ("Tell me
# about helium.") wants to know what that is. Likewise the first sentence below a heading.
_SUBJECT = 0.1
_BESIDE_TITLE = 1 / 3  # so much counts, within a document, what is asked beside its title
_BY_LETTERS = 0.15  # so much nearer to an embedder is a text that has all that a question tells
_NAMED = 0.08  # so much nearer are, by their letters, sentences of a document that is asked about
_ASKED = 0.2  # what is left of "Tell me about helium." asks nothing: no sentence is as near to it
_TITLED = 0.5  # of a title, the share by which a question names it
_KEPT = 20_000  # texts whose vectors, or runs of letters, are kept
# What no passage answers. How near these come to passages is how near chance comes.
_SMALL_TALK = (
    "Hello! How are you?",
    "Thanks, that was helpful.",
    "Write a poem about my cat.",
    "What is 17 times 23?",
    "Tell me a joke.",
    "Can you help me?",
    "Who are you?",
    "Translate 'good night' into French.",
)
# Of the way from chance to the greatest nearness, how much the nearest sentence has to go.
_BEYOND_CHANCE = 0.4
# What is asked of passages as a whole: to say in short what they say, or to do something with it.
_SUMMARIES = (
    "Summarize this document.",
    "What is this text about?",
    "What are the main points?",
    "What do the sources say?",
)
_TASKS = ("Translate the text.", "Rewrite the text in simpler words.")
_OF_ALL = 0.2  # of that way, how much such a request has to go; of 1,172 questions none goes 0.19
# What is asked of a document as such.
_OVERVIEWS = (
    "Tell me about it.",
    "Describe it.",
    "Explain it.",
    "What do you know about it?",
    "Give me an overview of it.",
    "Write about it.",
    "Introduce it.",
)
_OF_ONE = 0.2  # of that way, how much that has to go; of the same questions one goes farther
_LATER = 0.01  # so much farther counts what is to be said later
_LEAD = 5  # sentences that a document begins with, told first if it is asked about as such
_COMMON = 6.0  # nats: words that tell no more are those of any question
_COVERED = 0.45  # of what a question tells, the share that a sentence has to contain


AskedOfAll = Literal["summary", "task"]
"""What is asked of passages as a whole: "What are the main points?", "Translate this."."""


class Nearness(Protocol):
    """Tells how near sentences are to questions.

    Attributes:
        sharpness: so much less nearness divides trust by e.
        knows_wording: whether other words, or another language, for the same thing are near, so
            that where nothing is near, nothing answers.
    """

    sharpness: float
    knows_wording: bool

    def of(self, questions: Sequence[str], texts: Sequence[str]) -> NDArray[np.float32]:
        """Return how near each text is to each question, ``[questions, texts]``; 0 by chance."""
        ...

    def is_answered(self, question: str, texts: Sequence[str]) -> bool:
        """Return whether the nearest of the texts can be about the question at all."""
        ...

    def asks_of_all(self, question: str) -> AskedOfAll | None:
        """Return what is asked of the passages as a whole, if anything is."""
        ...

    def may_ask_for_overview(self, asked: str) -> bool:
        """Return whether what no text says, beside a title, may ask no more: "Tell me about"."""
        ...


class LetterNearness:
    """The share of a question's information that a text contains, by runs of four letters.

    Runs of letters need neither spaces between words nor the same form of a word; those of common
    words, and those that many of the texts have, tell little. Scored by BM25.

    Args:
        information: how rare a word is, in nats.
    """

    sharpness = 0.05
    knows_wording = False

    def __init__(self, information: Callable[[str], float]) -> None:
        self._information = information

    def of(self, questions: Sequence[str], texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the shares, ``[questions, texts]``."""
        return np.stack([self._shares(question, texts) for question in questions])

    def _shares(self, question: str, texts: Sequence[str]) -> NDArray[np.float32]:
        runs_T = [_runs(text) for text in texts]
        frequency = Counter(run for runs in runs_T for run in runs)
        lengths_T = np.array([runs.total() for runs in runs_T])
        norms_T = 0.25 + 0.75 * lengths_T / max(float(lengths_T.mean()), 1.0)
        information: dict[str, float] = {}
        for word in dict.fromkeys(bare_words(question)):
            runs = _runs_of(word)
            # A long word has many runs, and may yet be as common as "discovered".
            of_run = math.sqrt(self._information(word) / len(runs))
            for run in runs:
                # Smoothed: the name of what all the texts are about tells something, too.
                rarity = 1 + math.log((len(texts) + 1) / (frequency[run] + 1))
                information[run] = information.get(run, 0.0) + of_run * rarity
        total = sum(information.values()) or 1.0
        shares_T = np.zeros(len(texts), dtype=np.float32)
        for run, value in information.items():
            counts_T = np.array([of_text[run] for of_text in runs_T])
            shares_T += value / total * counts_T / (counts_T + 1.2 * norms_T)
        return shares_T

    def is_answered(self, question: str, texts: Sequence[str]) -> bool:
        """Return whether a text contains what the question tells beyond common words."""
        told = {word: self._information(word) - _COMMON for word in bare_words(question)}
        told = {word: more for word, more in told.items() if more > 0}
        # To a model of English, common words of other languages are rare.
        common = frozenset(bare_words(" ".join(words_of_asking(question))))
        told = {word: more for word, more in told.items() if word not in common} or told
        total = sum(told.values())
        if not total:
            return False
        runs = {word: _runs_of(word) for word in told}
        for text in map(_runs, texts):
            covered = sum(more * _share_in(text, runs[word]) for word, more in told.items())
            if covered >= _COVERED * total:
                return True
        return False

    def asks_of_all(self, question: str) -> None:
        """Return None: letters cannot tell."""

    def may_ask_for_overview(self, asked: str) -> bool:
        """Return True: letters cannot tell, and what a document is may answer anything."""
        return True


class VectorNearness:
    """The cosine of an embedder's vectors, between chance (0) and the greatest (1), and letters.

    Vectors tell any wording, and letters what vectors blur: names, numbers and codes. Each text's
    vector is computed once. May be shared between threads.

    Args:
        embedder: computes vectors.
        letters: tells how near texts are by their letters; None leaves it to the vectors.
    """

    sharpness = 0.056
    knows_wording = True

    def __init__(self, embedder: Embedder, letters: LetterNearness | None = None) -> None:
        self._letters = letters
        self._embed = embedder.embed
        self._embed_queries = query_embedding(embedder)
        self._texts: dict[str, NDArray[np.float32]] = {}
        self._questions: dict[str, NDArray[np.float32]] = {}

    def of(self, questions: Sequence[str], texts: Sequence[str]) -> NDArray[np.float32]:
        """Return how near texts are beyond chance, ``[questions, texts]``; negative below it."""
        asked_QE = self._asked(questions)
        near_QT = _beyond_chance(asked_QE, _vectors(texts, self._texts, self._embed))
        if self._letters is not None:
            near_QT += _BY_LETTERS * self._letters.of(questions, texts)
        return near_QT

    def is_answered(self, question: str, texts: Sequence[str]) -> bool:
        """Return whether a text is nearer to the question than the texts are to small talk."""
        return bool(self.of([question], texts).max() >= _BEYOND_CHANCE)

    def asks_of_all(self, question: str) -> AskedOfAll | None:
        """Return what a question is nearest to that is asked of passages as a whole."""
        of_all_TE = _vectors([*_SUMMARIES, *_TASKS], self._questions, self._embed_queries)
        [near_T] = _beyond_chance(self._asked([question]), of_all_TE)
        if near_T.max() < _OF_ALL:
            return None
        return "summary" if near_T.argmax() < len(_SUMMARIES) else "task"

    def may_ask_for_overview(self, asked: str) -> bool:
        """Return whether what is asked is near to what is asked of documents as such."""
        of_one_TE = _vectors(_OVERVIEWS, self._questions, self._embed_queries)
        return bool(_beyond_chance(self._asked([asked]), of_one_TE).max() >= _OF_ONE)

    def _asked(self, questions: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors of questions, with those of small talk behind them."""
        return _vectors([*questions, *_SMALL_TALK], self._questions, self._embed_queries)


def rank_information(token_ids: Sequence[int]) -> float:
    """Return how rare a word is, in nats, from its tokens.

    A tokenizer merges the most frequent pairs first, so a token's id grows with its rank, and by
    Zipf's law its information with the logarithm of the rank. A rare word has several tokens.

    Args:
        token_ids: the word's tokens.
    """
    return sum(math.log(1 + token) for token in token_ids)


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
        for read in _read(passage, sentences)
    ]
    if not read_T:
        return None
    leads = _leads(read_T)
    is_answered = nearness.is_answered(question, [read.text for read in read_T])
    if is_answered or nearness.is_answered(question, [read.alone for read in read_T]):
        compares_alone = not is_answered or any(read.is_heading for read in read_T)
        near_T = _near_question(nearness, question, read_T, leads, compares_alone=compares_alone)
    elif nearness.asks_of_all(question) == "summary":
        near_T = _near_passage(nearness, read_T)
    else:
        return None
    near_T[[read.is_heading for read in read_T]] = -np.inf
    trust = np.exp((near_T - near_T.max()) / nearness.sharpness).clip(min=_LEAST).tolist()
    introduces_T = [0.0] * len(read_T)
    for lead in leads.values():
        introduces_T[lead[0]] = _introduces(read_T[lead[0]])
    of_sentence = zip(trust, introduces_T, strict=True)
    return [
        [
            sentence._replace(trust=trust, introduces=introduces)
            for sentence, (trust, introduces) in zip(sentences, of_sentence, strict=False)
        ]
        for sentences in sentences_P
    ]


class _Read(NamedTuple):
    """A sentence as it is read.

    Args:
        text: the sentence, behind its passage's title and what it stands below; a heading by
            itself.
        alone: the sentence by itself: "Dogs are welcome." may stand below "Prices", in "menu.pdf".
        passage: where it stands.
        is_heading: whether it says nothing by itself: a heading, or a question answered below.
        is_first: whether it is the first of its passage that says something.
        is_first_below: whether it is the first below a heading or a question.
    """

    text: str
    alone: str
    passage: Passage
    is_heading: bool
    is_first: bool
    is_first_below: bool


def _introduces(read: _Read) -> float:
    """Return how much of its document's title a passage's first sentence names."""
    return _named(read.passage.title, read.alone) if read.is_first else 0.0


def _read(passage: Passage, sentences: Sequence[Sentence]) -> list[_Read]:
    """Return the sentences of a passage as they are read."""
    below_S = standing_below(passage.text, sentences, section_above(passage))
    first = next((n for n, below in enumerate(below_S) if below is not None), 0)
    read = []
    for number, (sentence, below) in enumerate(zip(sentences, below_S, strict=True)):
        said = passage.text[sentence.start : sentence.end]
        context = (below or "").removeprefix(passage.title).strip()
        text = titled_text(replace(passage, text=f"{context} {said}".lstrip()))
        if below is None:
            text = said = without_marks(said)
        read.append(
            _Read(
                text,
                said,
                passage,
                is_heading=below is None,
                is_first=number == first,
                is_first_below=number > 0 and below is not None and below_S[number - 1] is None,
            )
        )
    return read


def _near_passage(nearness: Nearness, read_T: Sequence[_Read]) -> NDArray[np.float32]:
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
    read_T: Sequence[_Read],
    leads: Mapping[str, Sequence[int]],
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
    for headings, first, end in _sections(read_T):
        as_headings, nearest = float(near_T[headings:first].max()), float(near_T[first:end].max())
        if as_headings >= nearest:  # whoever asks as the heading does is told all below it
            nearest = max(nearest + _LATER, as_headings - _SUBJECT)
            near_T[first:end] = [nearest - _LATER * later for later in range(end - first)]
    if titles:
        near_T[first_T] = np.maximum(near_T[first_T], near_title_P - _SUBJECT)
    for title, lead in leads.items():
        if title in as_such:
            nearest = float(near_T[[each == title for each in title_T]].max())
            for later, number in enumerate(lead[:_LEAD]):
                near_T[number] = nearest + _LATER * (_LEAD - later)
    return near_T


def _leads(read_T: Sequence[_Read]) -> dict[str, list[int]]:
    """Return, by title, which sentences are those of the passage that introduces the document.

    The document begins with it, or else its first sentence names most of the title; of several such
    passages it is the earliest.
    """
    leads: dict[str, tuple[tuple[bool, float, int], list[int]]] = {}
    for passage, numbered in groupby(enumerate(read_T), key=lambda each: each[1].passage):
        own = [number for number, read in numbered if not read.is_heading]
        if own:
            start = passage.metadata.get("start_index")
            named = _introduces(read_T[own[0]])
            rank = start == 0, named, -start if isinstance(start, int) else 0
            if passage.title not in leads or rank > leads[passage.title][0]:
                leads[passage.title] = rank, own
    return {title: own for title, (_, own) in leads.items()}


def _sections(read_T: Sequence[_Read]) -> Iterator[tuple[int, int, int]]:
    """Yield each heading or question with what stands below it: where they begin, and the end.

    A heading directly below another is one with it: a table's columns, for one.
    """
    headings = first = 0
    for number, read in enumerate(read_T):
        if first and (read.is_heading or read.is_first):
            yield headings, first, number
            first = 0
        before = read_T[number - 1]
        if read.is_heading and not (before.is_heading and before.passage is read.passage):
            headings = number
        if read.is_first_below:
            first = number
    if first:
        yield headings, first, len(read_T)


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
        named = _named(title, question)
        if named >= _TITLED and _asks_no_more(nearness, question, title, asked, texts):
            as_such.add(title)
        if not nearness.knows_wording:
            near_T[is_own_T] += _NAMED * named
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


def _vectors(
    texts: Sequence[str],
    known: dict[str, NDArray[np.float32]],
    embed: Callable[[Sequence[str]], NDArray[np.float32]],
) -> NDArray[np.float32]:
    """Return unit vectors ``[texts, E]``, computing those that are not known."""
    # Another thread may clear what is known at any moment.
    found = {text: vector for text in texts if (vector := known.get(text)) is not None}
    new = [text for text in dict.fromkeys(texts) if text not in found]
    if new:
        vectors = _embedded(new, embed)
        lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
        computed = dict(zip(new, vectors / np.maximum(lengths, 1e-12), strict=True))
        if len(known) + len(new) > _KEPT:
            for text in list(known)[: _KEPT // 2]:  # the oldest
                known.pop(text, None)
        known |= computed
        found |= computed
    return np.stack([found[text] for text in texts])


def _embedded(
    texts: Sequence[str], embed: Callable[[Sequence[str]], NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Return the vectors of texts, ``[texts, E]``; other people's code computes them."""
    try:
        vectors = np.asarray(embed(texts), dtype=np.float32)
    except Exception as error:
        raise RetrievalError(
            f"the embedder failed, which finds the sentence that answers: {error}; without one, "
            "letters are compared"
        ) from error
    if vectors.ndim != 2 or len(vectors) != len(texts):
        raise RetrievalError(
            f"the embedder returned vectors of shape {vectors.shape} for {len(texts)} texts; it "
            "must return one row for each"
        )
    return vectors


def _beyond_chance(
    asked_QE: NDArray[np.float32], texts_TE: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return how near texts are to questions, ``[questions, texts]``: 0 as to small talk, to 1."""
    near_QT, chance_QT = np.split(asked_QE @ texts_TE.T, [-len(_SMALL_TALK)])
    chance = float(chance_QT.max(-1).mean())
    return np.asarray((near_QT - chance) / max(1 - chance, 1e-3), dtype=np.float32)


def _runs_of(word: str) -> list[str]:
    """Return the runs of four letters in a word, its beginning and end marked."""
    marked = f" {word} "
    return [marked[start : start + 4] for start in range(max(len(marked) - 3, 1))]


def _named(title: str, text: str) -> float:
    """Return how much of a title a text contains, by runs of letters: from 0 to 1."""
    runs = _runs(text)
    told = [_share_in(runs, _runs_of(word)) for word in bare_words(title)]
    return sum(told) / max(len(told), 1)


def _share_in(text: Counter[str], word: Sequence[str]) -> float:
    """Return the share of a word's runs of letters that a text's contain."""
    return sum(run in text for run in word) / len(word)


@lru_cache(maxsize=_KEPT)
def _runs(text: str) -> Counter[str]:
    """Return the runs of four letters in a text's words, computed once; not to be changed."""
    return Counter(run for word in bare_words(text) for run in _runs_of(word))
