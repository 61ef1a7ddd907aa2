"""How near sentences are to a question: by an embedder's vectors, or by the letters they share.

An embedder tells this in any wording; without one, the letters that both share do, in any language.
What is near to an embedder differs from one to the next, so it counts from chance: from how near
the sentences come to small talk. Where even the nearest is hardly nearer to the question, or lacks
what the question tells, nothing answers it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from nest_engine.citations.languages import words_of_asking
from nest_engine.errors import RetrievalError
from nest_engine.retrieval.embedder import query_embedding
from nest_engine.retrieval.terms import bare_words

if TYPE_CHECKING:
    from nest_engine.retrieval import Embedder

_BY_LETTERS = 0.5  # so much nearer to an embedder is a text that has all that a question tells
_KEPT = 20_000  # texts whose vectors, or runs of letters, are kept
_COMMON = 6.0  # nats: words that tell no more are those of any question
_COVERED = 0.45  # of what a question tells, the share that a sentence has to contain
# Beside vectors, a share beyond half makes up for so much of nearness, and what lacks adds to it.
_MAKES_UP, _HALF = 0.3, 0.5
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
# How near answers are to their questions differs from one embedder to the next, too.
_ANSWERED = (
    ("Who wrote the play Hamlet?", "Hamlet was written by William Shakespeare."),
    ("What is the capital of France?", "Paris is the capital of France."),
    ("When did the Second World War end?", "The Second World War ended in 1945."),
    ("How tall is Mount Everest?", "Mount Everest is 8,849 metres high."),
    ("Where do penguins live?", "Penguins live almost only in the southern hemisphere."),
    ("How do I reset my password?", "Click on the link in the e-mail to choose a new password."),
    ("Why is the sky blue?", "Air scatters blue light more than red light."),
    ("How much does shipping cost?", "We deliver free of charge above 50 euros."),
    ("Is smoking allowed?", "Smoking is forbidden in all rooms."),
    ("Who is responsible for repairs?", "The landlord pays for repairs."),
)
# Cosines are scaled so that from chance (0) they go as far as here; unscaled it is from 0.4 to 0.7.
_REACH = 2 / 3
_LEAST_REACH = 0.3  # unscaled
_NEAR_ENOUGH = 0.35  # how near the nearest sentence has to be
_BY_CHANCE = 32  # sentences, of which the nearest is near by chance: of more, one always is
# What is asked of passages as a whole: to say in short what they say, or to do something with it.
_SUMMARIES = (
    "Summarize this document.",
    "What is this text about?",
    "What are the main points?",
    "What do the sources say?",
)
_TASKS = ("Translate the text.", "Rewrite the text in simpler words.")
_OF_ALL = 0.2  # how near to one such a request has to be; of 1,172 questions none goes 0.19
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
_OF_ONE = 0.17  # how near to one such a request has to be

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
        return self.covered(question, texts) >= _COVERED

    def covered(self, question: str, texts: Sequence[str]) -> float:
        """Return how much a text contains of what the question tells beyond common words."""
        told = {word: self._information(word) - _COMMON for word in bare_words(question)}
        told = {word: more for word, more in told.items() if more > 0}
        # To a model of English, common words of other languages are rare.
        common = frozenset(bare_words(" ".join(words_of_asking(question))))
        told = {word: more for word, more in told.items() if word not in common} or told
        total = sum(told.values())
        if not total:
            return 0.0
        runs = {word: _runs_of(word) for word in told}
        return max(
            sum(more * _share_in(text, runs[word]) for word, more in told.items()) / total
            for text in map(_runs, texts)
        )

    def asks_of_all(self, question: str) -> None:
        """Return None: letters cannot tell."""

    def may_ask_for_overview(self, asked: str) -> bool:
        """Return True: letters cannot tell, and what a document is may answer anything."""
        return True


class VectorNearness:
    """The cosine of an embedder's vectors, from chance (0) to where answers are (2/3), and letters.

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
        near_QT = self._by_vectors(questions, texts)
        if self._letters is not None:
            near_QT += _BY_LETTERS * self._letters.of(questions, texts)
        return near_QT

    def is_answered(self, question: str, texts: Sequence[str]) -> bool:
        """Return whether a text is nearer to the question than the texts are to small talk.

        The more of what the question tells a text contains, the less near one has to be.
        """
        covered = _HALF if self._letters is None else self._letters.covered(question, texts)
        needed = _NEAR_ENOUGH - _MAKES_UP * (covered - _HALF)
        return bool(self._by_vectors([question], texts).max() >= needed)

    def asks_of_all(self, question: str) -> AskedOfAll | None:
        """Return what a question is nearest to that is asked of passages as a whole."""
        near_1T = self._near_requests(question, [*_SUMMARIES, *_TASKS])
        if near_1T.max() < _OF_ALL:
            return None
        return "summary" if near_1T.argmax() < len(_SUMMARIES) else "task"

    def may_ask_for_overview(self, asked: str) -> bool:
        """Return whether what is asked is near to what is asked of documents as such."""
        return bool(self._near_requests(asked, _OVERVIEWS).max() >= _OF_ONE)

    def _by_vectors(self, questions: Sequence[str], texts: Sequence[str]) -> NDArray[np.float32]:
        """Return how near vectors of texts are beyond chance, ``[questions, texts]``."""
        return self._scaled(questions, _vectors(texts, self._texts, self._embed))

    def _near_requests(self, asked: str, requests: Sequence[str]) -> NDArray[np.float32]:
        """Return how near a question is to requests, ``[1, requests]``."""
        requests_TE = _vectors(requests, self._questions, self._embed_queries)
        return self._scaled([asked], requests_TE)

    def _scaled(
        self, questions: Sequence[str], texts_TE: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        near_QT = _beyond_chance(self._asked(questions), texts_TE)
        return np.asarray(self._scale * near_QT, dtype=np.float32)

    @cached_property
    def _scale(self) -> float:
        """What brings answers as near to their questions as they are taken to be."""
        questions, answers = zip(*_ANSWERED, strict=True)
        answers_TE = _vectors(answers, self._texts, self._embed)
        near_QQ = _beyond_chance(self._asked(questions), answers_TE)
        return _REACH / max(float(near_QQ.diagonal().mean()), _LEAST_REACH)

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


def share_named(title: str, text: str) -> float:
    """Return how much of a title a text contains, by runs of letters: from 0 to 1."""
    runs = _runs(text)
    told = [_share_in(runs, _runs_of(word)) for word in bare_words(title)]
    return sum(told) / max(len(told), 1)


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
    stretches = np.array_split(chance_QT, max(round(len(texts_TE) / _BY_CHANCE), 1), axis=-1)
    chance = float(np.mean([of_stretch.max(-1).mean() for of_stretch in stretches]))
    return np.asarray((near_QT - chance) / max(1 - chance, 1e-3), dtype=np.float32)


def _runs_of(word: str) -> list[str]:
    """Return the runs of four letters in a word, its beginning and end marked."""
    marked = f" {word} "
    return [marked[start : start + 4] for start in range(max(len(marked) - 3, 1))]


def _share_in(text: Counter[str], word: Sequence[str]) -> float:
    """Return the share of a word's runs of letters that a text's contain."""
    return sum(run in text for run in word) / len(word)


@lru_cache(maxsize=_KEPT)
def _runs(text: str) -> Counter[str]:
    """Return the runs of four letters in a text's words, computed once; not to be changed."""
    return Counter(run for word in bare_words(text) for run in _runs_of(word))
