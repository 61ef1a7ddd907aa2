"""What an answer and passages share: stretches of words, how telling they are, where they stand.

Words are compared by their keys (:mod:`nest_engine.citations.words`). Within a comparison each word
of the answer is one character, so that stretches are substrings and the standard library finds
them; words that the answer lacks are all the same character.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property
from itertools import accumulate, repeat
from string import punctuation
from typing import NamedTuple
from unicodedata import is_normalized

from nest_engine.citations.suffix_automaton import SuffixAutomaton, longest_stretches
from nest_engine.citations.words import (
    broken_words,
    chunks_of,
    compounds_of,
    has_line_end,
    is_unspaced,
    is_word,
    keys_in,
    located_chunks,
    words_in,
    words_of,
)

_UNKNOWN = "\0"  # a word that the answer lacks
_BETWEEN = "\0\0"  # passages
_PIECE = re.compile(r"\w+(?:'\w+)*")
_SIGNS = punctuation + "“”‘’„«»–—…"
_NUMBER_SIGNS = ("-", "+", ".", "–", "—")
# Letters whose key is a sign, or nothing.
_LETTERS_OF_SIGNS = re.compile(
    "[\N{MODIFIER LETTER APOSTROPHE}\N{MODIFIER LETTER TURNED COMMA}\N{ARABIC TATWEEL}]"
)
_FIRST_UNSPACED = "\N{THAI CHARACTER KO KAI}"  # scripts without spaces come behind all others

# How rare words are before anything is counted, in bits: the longer, the rarer, in all languages
# that people have counted (Zipf's law of abbreviation). It weighs as much as so many words of text.
_BITS_BY_LENGTH = (0.0, 7.0, 6.0, 6.0, 9.0, 11.5, 13.0, 14.0)
_SIGN_BITS, _NUMBER_BITS, _UNSPACED_BITS = 5.0, 13.0, 9.0
_COMMON_BITS = 7.0  # words of up to three letters
_FEW = 4  # words
_PRIOR_WORDS = 500
_UNSPACED_SIZE = 0.5  # words: what a character counts in scripts without spaces


class Place(NamedTuple):
    """Where a stretch stands in the passages.

    Args:
        passage: index of the passage.
        start: first character in its text.
        end: one past the last.
    """

    passage: int
    start: int
    end: int


class Passages:
    """The texts of passages, prepared for comparisons.

    Args:
        texts: the texts, best-ranked first.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self._chunks = [chunks_of(text) for text in texts]
        self._broken: dict[str, list[int]] = {}  # words broken at a line end, and where
        for number, text in enumerate(texts):
            for word in broken_words(text) if has_line_end(text) else ():
                self._broken.setdefault(word, []).append(number)

    def compounds_in(self, answer: str) -> frozenset[str]:
        """Return the words that keep their hyphen where they are broken at a line end.

        Nobody knows which do; those that the other side has with a hyphen on one line.
        """
        broken = broken_words(answer) if has_line_end(answer) else set()
        hanging = {word: word.replace("-", "- ") for word in broken}
        known = {
            word
            for word in broken
            if any(word in text or hanging[word] in text for text in self.texts)
        }
        if self._broken:
            known |= compounds_of(answer) & self._broken.keys()
        return frozenset(known)

    def chunks(self, compounds: frozenset[str]) -> list[list[str]]:
        """Return the chunks of each passage."""
        affected = {number for word in compounds for number in self._broken.get(word, ())}
        return [
            chunks_of(self.texts[number], compounds) if number in affected else chunks
            for number, chunks in enumerate(self._chunks)
        ]


class Comparison:
    """An answer beside passages.

    Args:
        answer: the answer.
        passages: what it may quote.
    """

    def __init__(self, answer: str, passages: Passages) -> None:
        self._passages = passages
        self._compounds = passages.compounds_in(answer)
        self.words = words_of(answer, self._compounds)
        keys = dict.fromkeys(word.key for word in self.words)
        self._codes = {key: chr(code) for code, key in enumerate(keys, start=1)}
        self._answer = "".join(self._codes[word.key] for word in self.words)
        chunks = passages.chunks(self._compounds)
        self._chunk_codes = _codes_of(set().union(*chunks), self._codes)
        code_of = self._chunk_codes.get
        self._texts = ["".join(map(code_of, each, repeat(_UNKNOWN))) for each in chunks]
        self._text = _BETWEEN.join(self._texts)
        self._maps: dict[int, _Map] = {}

    def stretches(self, min_words: int = 1) -> list[tuple[int, int]]:
        """Return the stretches of the answer that stand in a passage and that no longer one holds.

        Args:
            min_words: fewest words and signs of a stretch.

        Returns:
            ranges of ``words``, by their beginnings.
        """
        has_halves = _UNSPACED_SIZE in self._size_of.values()
        fewest = math.ceil(min_words * _UNSPACED_SIZE) if has_halves else min_words
        automaton = SuffixAutomaton(self._answer)
        windows = _windows(self._answer, fewest)
        for run in re.findall(f"[^{_UNKNOWN}]{{{fewest},}}", self._text):
            if not windows.isdisjoint(_windows(run, fewest)):  # most runs are of common words
                automaton.read(run)
        stretches = longest_stretches(automaton.longest_shared())
        return [(first, last) for first, last in stretches if last - first >= fewest]

    def places(self, first: int, last: int, within: Sequence[int] | None = None) -> Iterator[Place]:
        """Yield where a stretch of the answer stands.

        Args:
            first: its first word.
            last: one past the last.
            within: indices of the passages to search; None: all, the best-ranked first.
        """
        stretch = self._answer[first:last]
        ranges = [(0, len(self._text))]
        if within is not None:
            ranges = [(self._offsets[i], self._offsets[i] + len(self._texts[i])) for i in within]
        for begin, end in ranges:
            found = begin - 1
            while (found := self._text.find(stretch, found + 1, end)) >= 0:
                number = bisect_right(self._offsets, found) - 1
                if number not in self._maps:
                    self._maps[number] = self._map(number)
                index = found - self._offsets[number]
                yield Place(number, *self._maps[number].characters(index, index + len(stretch)))

    def encoded(self, text: str) -> str:
        """Return another text for :meth:`is_in`: a character for each word."""
        words = words_of(text, self._compounds)
        return "".join([self._codes.get(word.key, _UNKNOWN) for word in words])

    def is_in(self, first: int, last: int, encoded: str) -> bool:
        """Return whether a stretch of the answer also stands in another text."""
        return self._answer[first:last] in encoded

    def bits(self, first: int, last: int) -> float:
        """Return how much a stretch of the answer tells, by how rare its words are, in bits."""
        return self._bits[last] - self._bits[first]

    def size(self, first: int, last: int) -> float:
        """Return the words in a stretch, signs left out.

        A character of a script without spaces is half a word.
        """
        return self._sizes[last] - self._sizes[first]

    @property
    def num_words(self) -> int:
        """Words of all passages, signs included."""
        return len(self._text)

    def _map(self, number: int) -> _Map:
        chunks = located_chunks(self._passages.texts[number], self._compounds)
        codes = [self._chunk_codes.get(chunk, _UNKNOWN) for _, chunk in chunks]
        return _Map(chunks, list(accumulate(map(len, codes), initial=0)))

    @cached_property
    def _size_of(self) -> dict[str, float]:
        return {key: _size(key) for key in self._codes}

    @cached_property
    def _offsets(self) -> list[int]:
        lengths = [len(text) + len(_BETWEEN) for text in self._texts]
        return list(accumulate(lengths, initial=0))

    @cached_property
    def _bits(self) -> list[float]:
        counts = Counter(self._text.replace(_UNKNOWN, ""))
        bits = {key: _bits(key, counts[code], self.num_words) for key, code in self._codes.items()}
        return list(accumulate((bits[word.key] for word in self.words), initial=0.0))

    @cached_property
    def _sizes(self) -> list[float]:
        return list(accumulate((self._size_of[word.key] for word in self.words), initial=0.0))


class _Map(NamedTuple):
    """Where the words of a passage stand in its text.

    Args:
        chunks: its chunks, each with its first character.
        firsts: how many codes there are in front of each chunk.
    """

    chunks: Sequence[tuple[int, str]]
    firsts: Sequence[int]

    def characters(self, first: int, last: int) -> tuple[int, int]:
        """Return the characters of the words whose codes are in a range."""
        return self._word(first)[0], self._word(last - 1)[1]

    def _word(self, index: int) -> tuple[int, int]:
        number = bisect_right(self.firsts, index) - 1
        offset, chunk = self.chunks[number]
        word = words_in(chunk)[index - self.firsts[number]]
        return offset + word.start, offset + word.end


def _codes_of(chunks: AbstractSet[str], known: Mapping[str, str]) -> dict[str, str]:
    """Return the codes of the words in each chunk that has a word of the answer.

    Signs beside other words are left out: no stretch of words goes on through them.
    """
    codes = {chunk: known[chunk] for chunk in chunks & known.keys()}
    pieces = {piece for key in known for piece in _PIECE.findall(key)}
    # Nearly all chunks are words that the answer lacks: they have to be passed over fast.
    for chunk in [each for each in chunks if not each.isalnum() or not each.isascii()]:
        bare = chunk.strip(_SIGNS)
        has_sign = bare[:1].isdecimal() and chunk[: chunk.index(bare)].endswith(_NUMBER_SIGNS)
        if bare in known:
            if chunk[-1] in ",.;:" and chunk[:-1] == bare:
                codes[chunk] = known[bare] + known.get(chunk[-1], _UNKNOWN)
                continue
        elif has_sign:
            pass
        elif bare.isascii():
            if bare.isalnum() or (bare and pieces.isdisjoint(_PIECE.findall(bare))):
                continue
        elif bare.isalnum() and _is_plain(bare):
            continue
        codes[chunk] = "".join([known.get(key, _UNKNOWN) for key in keys_in(chunk)])
    return codes


def _is_plain(word: str) -> bool:
    """Return whether the key of a word is the word itself."""
    is_spaced = max(word) < _FIRST_UNSPACED
    return is_spaced and not _LETTERS_OF_SIGNS.search(word) and is_normalized("NFKC", word)


def _windows(codes: str, length: int) -> set[str]:
    """Return the substrings of a length."""
    return {codes[i : i + length] for i in range(len(codes) - length + 1)}


def _bits(key: str, count: int, num_words: int) -> float:
    """Return how rare a word is: minus the logarithm of its share of the passages' words."""
    expected = count + _PRIOR_WORDS * 2.0 ** -_prior_bits(key)
    return -math.log2(expected / (num_words + _PRIOR_WORDS))


def _prior_bits(key: str) -> float:
    if not is_word(key):
        return _SIGN_BITS
    if is_unspaced(key[0]):
        return _UNSPACED_BITS
    if any(map(str.isdecimal, key)):
        return _NUMBER_BITS
    return _BITS_BY_LENGTH[min(len(key), len(_BITS_BY_LENGTH) - 1)]


def is_telling(text: str) -> bool:
    """Return whether a text is more than a few common words, before anything is counted."""
    bits = [_prior_bits(word.key) for word in words_of(text)]
    return max(bits, default=0.0) > _COMMON_BITS or sum(bits) > _FEW * _COMMON_BITS


def num_words(text: str) -> float:
    """Return the words in a text, counted as in :meth:`Comparison.size`."""
    return sum(_size(word.key) for word in words_of(text))


def _size(key: str) -> float:
    if not is_word(key):
        return 0.0
    return _UNSPACED_SIZE if is_unspaced(key[0]) else 1.0
