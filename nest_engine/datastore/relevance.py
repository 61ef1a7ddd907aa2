"""Weight neighbours by relevance: whether their passage is about what is asked.

Nearby hidden states show that a passage continues as the answer might, not that it is about the
same subject. Without this, one person's award is copied into another's biography, and cited. Ours,
not the paper's.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

from nest_engine.records import Passage

# Words, without the possessive 's; scripts without spaces are taken character by character.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_]+(?<!['’]s)")
# words with hyphens between them
_COMPOUND = re.compile(rf"(?:{_WORD.pattern})(?:[-‐‑](?:{_WORD.pattern}))*")
_IN_PARENTHESES = re.compile(r"\([^()]*\)")
_SENTENCE_END = re.compile(r"[.?!:\n]")
_WITHIN_NAME = re.compile(r"['’]?s?[\s\-–'’\"“”.]*")  # between two words of a name
_LINKING = {
    "of",
    "the",
    "al",
    "bin",
    "d",
    "da",
    "de",
    "del",
    "den",
    "der",
    "des",
    "di",
    "do",
    "dos",
    "du",
    "el",
    "ibn",
}
_LINKING |= {"la", "le", "v", "van", "versus", "von", "vs"}

_ARTICLES = {"a", "an", "the"}
_BREAK = ""  # not a word: no sequence of words spans it

_COMMON = 6.5  # nats: carried by the commonest few hundred tokens; subtracted from every word
_MAIN_TERMS = 4  # what a long prompt is about: its heaviest terms
_LONGEST_TOPIC = 4  # words after "about" that are one name
_REACH = 25.0  # a term first mentioned after so many words has half the weight
# Share of a word that counts even if it is missing: unlike a name, it may be said in another way.
# A question says little, and in its own words; a text to be continued keeps its own.
_SAID_OTHERWISE = {"question": 0.6, "text": 0.5}
# A term is asked for if it has this share of the heaviest term's weight.
_IN_PASSING = {"question": 0.35, "text": 0.7}
_LONGEST_QUESTION = 30  # words
_STEM = 6  # letters that "terminated" and "termination" share
_CERTAIN = 6.0  # logit of a passage that contains everything: it is trusted by 0.998
_SHARPEST = 0.01
_LEAST = 0.05  # trust below which a passage is left out: its keys need not even be computed

Information = Callable[[str], float]
"""Rarity of a word in nats."""


class Term(NamedTuple):
    """A name, or a word outside names; words with hyphens between them are one.

    Args:
        words: normalized (lower case, without the ``s`` of plurals), in order.
        is_name: whether it is written as a name: capitalized within a sentence.
    """

    words: tuple[str, ...]
    is_name: bool


def relevance(
    query: str, passages: Sequence[Passage], *, half: float, information: Information
) -> tuple[float, ...]:
    """Return how far each passage can be trusted to be about a query.

    A query is about its few heaviest terms. A name occurs in a passage, title or text, as a whole
    or not at all; of a word outside names, half or more counts in any case. A passage is trusted by
    the share of the weight that occurs in it: ``sigmoid(6 (share - half) / (1 - half))``. A passage
    that is part of the query has the whole share, and so has one whose title opens the query or is
    a main term of it, not mentioned in passing. A query of common words alone is no evidence
    against any passage.

    Args:
        query: what is asked.
        passages: the passages.
        half: share of the weight at which a passage is trusted by half; 0 trusts every passage.
        information: rarity of a word in nats.

    Returns:
        one number in [0, 1] for each passage; 0 for a passage to leave out.
    """
    terms = _with_topic(list(terms_of(query)), information)
    main = _main_terms(terms, information) if half else {}
    if not main:
        return (1.0,) * len(passages)
    whole = sum(main.values())
    kind = "question" if sum(len(term.words) for term in terms) <= _LONGEST_QUESTION else "text"
    least = _IN_PASSING[kind] * max(main.values())
    asked_for = {term for term, weight in main.items() if weight >= least}
    trusted = []
    for passage in passages:
        title = _forms(_IN_PARENTHESES.sub("", passage.title))
        # The query is a whole prompt: the caller who wrote the passage into it trusts it.
        if passage.text in query or _is_made_of(title, terms, asked_for):
            share = 1.0
        else:
            held = _Words((*_forms(passage.title), _BREAK, *_forms(passage.text)))
            share = sum(weight * _held(term, held, kind) for term, weight in main.items()) / whole
        trust = 1 / (1 + math.exp(_CERTAIN * (half - share) / max(1 - half, _SHARPEST)))
        trusted.append(trust if trust >= _LEAST else 0.0)
    return tuple(trusted)


def terms_of(query: str) -> Iterator[Term]:
    """Yield the names of a text and the words outside them, in order.

    Consecutive capitalized words are one name, with words like "of" between them and numbers before
    or after them. The first word of a sentence is capitalized anyway, so it never belongs to one.
    Words that only ask are left out.
    """
    name: list[str] = []
    end, starts = 0, True
    for match in _COMPOUND.finditer(query):
        word, gap = match.group(), query[end : match.start()]
        starts = starts or (
            end > 0 and _SENTENCE_END.search(gap) is not None and not _is_abbreviated(query, end)
        )
        if word[0].isdigit():
            # "2009 Giro" and "18th King" are names, a date is not.
            behind = query[match.end() : match.end() + 2]
            is_part = bool(name) or (
                len(word) > 2 and behind[:1].isspace() and behind[1:].isupper()
            )
        else:
            is_part = not starts and not word[0].islower() and (word[0].isupper() or bool(name))
        goes_on = bool(name) and not starts and _WITHIN_NAME.fullmatch(gap) is not None
        if name and not (goes_on and (is_part or word in _LINKING)):
            yield from _closed(name)
            name = []
        if is_part or name:
            name += _WORD.findall(word)
        elif not _ASKING.issuperset(forms := _forms(word)):
            yield Term(forms, is_name=False)
        end, starts = match.end(), False
    yield from _closed(name)


def rank_information(token_ids: Sequence[int]) -> float:
    """Return the rarity of a word from its tokens, in nats.

    A tokenizer merges the most frequent pairs first, so a token's id grows with its rank, and by
    Zipf's law its information with the logarithm of the rank. A rare word has several tokens.

    Args:
        token_ids: the word's tokens.
    """
    return sum(math.log(1 + token) for token in token_ids)


def _with_topic(terms: list[Term], information: Information) -> list[Term]:
    """Return the terms with the topic of the query as one name: "about Celtic languages".

    The topic is a name after the last "about", followed by a few rare words and nothing else. A
    name at the end ("about the planet Neptune") remains a term of its own.
    """
    about = Term(("about",), is_name=False)
    first = len(terms) - terms[::-1].index(about) if about in terms else len(terms)
    while first < len(terms) and _told(terms[first], information) == 0:  # an article
        first += 1
    topic = terms[first:]
    words = tuple(word for term in topic for word in term.words)
    opens_with_name = [term.is_name for term in topic] == [True, *[False] * (len(topic) - 1)]
    if len(topic) < 2 or not opens_with_name or len(words) > _LONGEST_TOPIC:
        return terms
    if any(_told(term, information) == 0 for term in topic):
        return terms
    return [*terms[:first], Term(words, is_name=True)]


def _told(term: Term, information: Information) -> float:
    """Return the information of a term's words beyond that of common words, in nats."""
    return sum(max(0.0, information(word) - _COMMON) for word in set(term.words))


def _main_terms(terms: Sequence[Term], information: Information) -> dict[Term, float]:
    """Return the heaviest terms with their weights, heaviest first.

    A term weighs the information of its words beyond that of common words, times the number of its
    occurrences, and less the later it first occurs: a text names its subject first, and repeatedly.
    Next to names, other words have half the weight.
    """
    first: dict[Term, int] = {}
    position = 0
    for term in terms:
        first.setdefault(term, position)
        position += len(term.words)
    has_names = any(term.is_name for term in terms)
    weights = {}
    for term, count in Counter(terms).items():
        weight = _told(term, information) * count / (1 + first[term] / _REACH)
        weights[term] = weight if term.is_name or not has_names else weight / 2
    heaviest = sorted(
        (term for term in weights if weights[term] > 0), key=lambda term: -weights[term]
    )
    return {term: weights[term] for term in heaviest[:_MAIN_TERMS]}


class _Words:
    """The words of a text, and which of them are consecutive.

    Args:
        forms: the normalized words.
    """

    def __init__(self, forms: tuple[str, ...]) -> None:
        self._forms = forms
        self._words = set(forms)

    @cached_property
    def _pairs(self) -> set[tuple[str, str]]:
        return set(pairwise(self._forms))

    @cached_property
    def _stems(self) -> set[str]:
        return {word[:_STEM] for word in self._words}

    def hold(self, words: tuple[str, ...]) -> bool:
        """Return whether the text contains the words consecutively."""
        if not self._words.issuperset(words):
            return False
        if len(words) < 2:
            return True
        if not self._pairs.issuperset(pairwise(words)):
            return False
        if len(words) == 2:
            return True
        starts = range(len(self._forms) - len(words) + 1)
        return any(self._forms[start : start + len(words)] == words for start in starts)

    def hold_stems(self, words: tuple[str, ...]) -> bool:
        """Return whether the text contains the words in some form."""
        return self._stems.issuperset(word[:_STEM] for word in words)


def _held(term: Term, held: _Words, kind: str) -> float:
    """Return the share of a term that a text contains."""
    if held.hold(term.words):
        return 1.0
    if term.is_name:
        return 0.0
    return 1.0 if kind == "question" and held.hold_stems(term.words) else _SAID_OTHERWISE[kind]


def _is_made_of(title: tuple[str, ...], terms: Sequence[Term], asked_for: Collection[Term]) -> bool:
    """Return whether a title is a run of whole terms: the query's first, or with one asked for."""
    opening = 1 if terms[0].words[0] in _ARTICLES else 0
    for start in range(len(terms)):
        words: tuple[str, ...] = ()
        for end in range(start, len(terms)):
            words += terms[end].words
            if words == title:
                return start == opening or any(term in asked_for for term in terms[start : end + 1])
            if title[: len(words)] != words:
                break
    return False


def _closed(name: list[str]) -> Iterator[Term]:
    """Yield a name without its trailing linking words."""
    while name and name[-1] in _LINKING:
        name = name[:-1]
    if name:
        yield Term(tuple(map(_form, name)), is_name=True)


def _is_abbreviated(text: str, end: int) -> bool:
    """Return whether the full stop at ``end`` ends an initial or short form: J. Smith, St. Mary."""
    word = re.search(r"\w+$", text[:end])
    return text[end : end + 1] == "." and word is not None and len(word.group()) <= 2


def _forms(text: str) -> tuple[str, ...]:
    # a list first: for whole passages that is faster
    return tuple([_form(word) for word in _WORD.findall(text)])


def _form(word: str) -> str:
    """Return a word normalized: lower case, without the ``s`` of plurals."""
    word = word.lower()
    return word[:-1] if len(word) > 3 and word.endswith("s") else word


# Words that only ask: they are rare in passages, so that rarity would overrate them.
_ASKING = frozenset(
    _forms(
        "answer ask can could define describe discuss do does explain find give how introduce know "
        "let list mention "
        "name outline please provide question say show summarize summary tell what when where "
        "which who whom whose "
        "why would write"
    )
)
