"""Exact citations for what any model has written.

``cite`` finds the words of an answer that stand in passages, wherever the answer comes from::

    from nest_engine import Passage, cite

    cited = cite(answer, [Passage(text, title="Helium"), ...])
    cited.citations     # what stands where, to the character
    cited.sentences     # quoted whole, spliced from pieces, or the model's own words
    cited.quotations    # whether what stands in quotation marks is verbatim

It needs neither torch nor a model. :class:`NestEngine` cites while it decodes, and knows which
passage each token was copied from; this knows only the words, so it names every place where they
stand.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from heapq import heapify, heappop, heappush
from pathlib import Path
from typing import Any

from nest_engine._validation import require_text
from nest_engine.citations.attribution import Attributor
from nest_engine.citations.comparison import Comparison, Passages, Place, num_words
from nest_engine.citations.languages import language_of
from nest_engine.citations.quotations import Quotation, judge_quotations
from nest_engine.citations.rendering import to_html, to_html_fragment, to_markdown
from nest_engine.citations.sentences import Sentence, sentences_of
from nest_engine.citations.verdicts import judge_sentences
from nest_engine.citations.word_boundaries import changes_meaning, is_inside_word, is_whole
from nest_engine.citations.words import Word, emphasized, settled_length
from nest_engine.errors import InputError
from nest_engine.records import (
    AnswerSentence,
    Citation,
    Passage,
    Provenance,
    SourcePlace,
    plain,
)

MIN_WORDS = 4
# A stretch counts if it is so much rarer than what shows up by chance somewhere in the passages:
# words go together in phrases far more often than by chance ("for the first time in the", "one of
# the founders of the"), by about this many bits.
_PHRASE_BITS = 26.0
_LEAST_WORDS = 500  # however few passages there are
_LONGEST_QUESTION = 60  # words
_SAMPLED, _SAMPLE = 10, 100  # passages, and characters of each, that tell their language


@dataclass(frozen=True)
class CitedAnswer:
    """A text with exact citations.

    Args:
        text: the text, as it was given.
        citations: what it quotes, in its order; they never overlap.
        passages: what it could quote.
        numbered: whether who wrote it knew them in this order: ``[2]`` names the second, unless the
            text has its own list of sources.
    """

    text: str
    citations: tuple[Citation, ...]
    passages: tuple[Passage, ...] = ()
    numbered: bool = True

    @cached_property
    def sentences(self) -> tuple[AnswerSentence, ...]:
        """Its sentences: each quoted whole, spliced from pieces, or the model's own."""
        return judge_sentences(self.text, self.citations, self.passages)

    @cached_property
    def quotations(self) -> tuple[Quotation, ...]:
        """What stands in quotation marks, each with a verdict."""
        return judge_quotations(self.text, self.passages, numbered=self.numbered)

    def to_markdown(self) -> str:
        """Return the text with numbered footnotes."""
        return to_markdown(self)

    def to_html(self, path: str | Path | None = None, *, title: str = "Answer") -> str:
        """Return a stand-alone page that shows what stands where.

        Args:
            path: file to write the page to, or None.
            title: title of the page.
        """
        page = to_html(self, title=title)
        if path is not None:
            Path(path).write_text(page, encoding="utf-8")
        return page

    def _repr_html_(self) -> str:
        """Show the text in a notebook."""
        return to_html_fragment(self)

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict: text, citations, sentences, quotations, passages."""
        shown = ("text", "citations", "sentences", "quotations", "passages")
        return {name: plain(getattr(self, name)) for name in shown}


def cite(
    text: str,
    passages: Iterable[Passage | str],
    *,
    min_words: int = MIN_WORDS,
    question: str | None = None,
    numbered: bool = True,
) -> CitedAnswer:
    """Find what a text quotes.

    For every word the longest stretch that stands in a passage, in whole words; where two overlap,
    the one whose words are rarer. Stretches that are short or common (*one of the most*) are
    coincidences, not quotations. White space, line ends, typographic quotes and dashes, ligatures,
    Unicode normalization and Markdown's emphasis may differ (``Citation.match``); no letter, digit
    or other sign may.

    Args:
        text: what a model has written.
        passages: what it may quote, best-ranked first; plain texts will do.
        min_words: fewest words of a quotation; a character of a script without spaces is half a
            word.
        question: what was asked. A stretch that the question holds proves nothing. A text of more
            than 60 words is taken for a prompt, which may hold the passages, and disregarded.
        numbered: whether the model saw the passages in this order, so that ``[2]`` behind a
            quotation names the second. A list of sources in the text itself comes first.

    Returns:
        the text with its citations.

    Raises:
        InputError: if an argument is not valid.
    """
    citer = Citer(passages, min_words=min_words, numbered=numbered)
    return citer.cite(text, question=question)


class Citer:
    """Cite many texts by the same passages, which are prepared once.

    Args:
        passages: as for :func:`cite`.
        min_words: as for :func:`cite`.
        numbered: as for :func:`cite`.

    Raises:
        InputError: if an argument is not valid.
    """

    def __init__(
        self,
        passages: Iterable[Passage | str],
        *,
        min_words: int = MIN_WORDS,
        numbered: bool = True,
    ) -> None:
        if isinstance(passages, (str, bytes, Passage)):
            raise InputError(
                f"passages must be a list of passages, got {type(passages).__name__}: give [text]"
            )
        if isinstance(min_words, bool) or not isinstance(min_words, int) or min_words < 1:
            raise InputError(f"min_words must be a whole number of at least 1, got {min_words!r}")
        self.passages = tuple(map(_as_passage, passages))
        self.numbered = numbered
        self._min_words = min_words
        texts = [passage.text for passage in self.passages]
        self._prepared = Passages(texts)
        # That of the sources: an answer tells its own only in the course of it.
        self._language = language_of("\n".join(text[:_SAMPLE] for text in texts[:_SAMPLED]))

    def cite(self, text: str, *, question: str | None = None) -> CitedAnswer:
        """Find what a text quotes; see :func:`cite`."""
        require_text("text", text)
        citations = tuple(self._search(text, question).citations)
        return CitedAnswer(text, citations, self.passages, self.numbered)

    def stream(self, *, question: str | None = None) -> CitationStream:
        """Return what cites a text while it is being written.

        Args:
            question: as for :func:`cite`.
        """
        return CitationStream(self, question)

    def _search(self, text: str, question: str | None) -> _Search:
        return _Search(
            text, self._prepared, self.passages, self._min_words, question, self._language
        )


class CitationStream:
    """Cite a text that grows: citations come as soon as nothing that follows can change them.

    Args:
        citer: knows the passages.
        question: as for :func:`cite`.

    Attributes:
        text: what has been written.
        citations: those that are final.
        settled: characters whose citations are final.
    """

    def __init__(self, citer: Citer, question: str | None = None) -> None:
        self._citer = citer
        self._question = question
        self._searched = 0  # characters behind which a sentence may end
        self._begin = 0  # of the first sentence that is not settled
        self.settled = 0  # characters that nothing can change any more
        self.text = ""
        self.citations: list[Citation] = []

    def push(self, text: str) -> list[Citation]:
        """Append to the text.

        Args:
            text: what has been written since.

        Returns:
            the citations that have become final, offsets counted from the beginning.
        """
        require_text("text", text)
        self.text += text
        # Searching costs milliseconds: not at every word, but where a sentence may have ended.
        ends = list(_SENTENCE_MAY_HAVE_ENDED.finditer(self.text, self._searched))
        if not ends:
            if not _MAY_END_SENTENCE.search(self.text, self._searched):
                self._searched = len(self.text)
            return []
        self._searched = ends[-1].end() - 1
        citations, settled = self._search()
        return self._release(citations, settled)

    def close(self) -> list[Citation]:
        """Return the remaining citations: the text is complete."""
        citations, _ = self._search()
        return self._release(citations, len(self.text))

    def _search(self) -> tuple[list[Citation], int]:
        """Return the citations of what is not settled, and how much is settled then."""
        begin = self._begin
        search = self._citer._search(self.text[begin:], self._question)
        settled = begin + search.settled
        starts = [begin + sentence.start for sentence in search.sentences]
        pairs = emphasized(self.text[begin:])  # a mark without its other half is another
        self._begin = max(
            (
                start
                for start in starts
                if start <= settled
                and not any(begin + opened < start < begin + closed for opened, closed in pairs)
            ),
            default=begin,
        )
        citations = [
            replace(
                citation,
                answer_start=begin + citation.answer_start,
                answer_end=begin + citation.answer_end,
            )
            for citation in search.citations
        ]
        return citations, settled

    @property
    def has_passages(self) -> bool:
        """Whether anything can be quoted."""
        return bool(self._citer.passages)

    @property
    def answer(self) -> CitedAnswer:
        """The text so far, with the citations that are final."""
        citer = self._citer
        return CitedAnswer(self.text, tuple(self.citations), citer.passages, citer.numbered)

    def _release(self, citations: Iterable[Citation], settled: int) -> list[Citation]:
        final = [
            citation
            for citation in citations
            if self.settled <= citation.answer_start and citation.answer_end <= settled
        ]
        self.settled = max(self.settled, settled)
        self.citations += final
        return final


class TextAttributor:
    """Cite an answer by its words, whatever its tokens were copied from.

    For methods that leave every word to the model: it types most of what it quotes. What was copied
    nevertheless is cited as well, however short or common it is.

    Args:
        passages: what the answer may quote, best-ranked first.
        question: as for :func:`cite`.
        copied: cites what was copied.
    """

    def __init__(
        self, passages: Iterable[Passage], question: str | None, copied: Attributor
    ) -> None:
        self._stream = CitationStream(Citer(passages), question)
        self._copied = copied
        self._waiting: list[Citation] = []  # copies that may turn out to be part of more
        self.settled = 0

    def settle(
        self,
        text: str,
        starts: Sequence[int],
        ends: Sequence[int],
        provenance: Sequence[Provenance | None],
        *,
        is_final: bool,
    ) -> list[Citation]:
        """Return the citations that have become final; as :meth:`Attributor.settle`."""
        if not self._stream.has_passages:
            self.settled = len(text)
            return []
        found = self._stream.push(text[len(self._stream.text) :])
        if is_final:
            found += self._stream.close()
        self._waiting += self._copied.settle(text, starts, ends, provenance, is_final=is_final)
        self.settled = self._stream.settled
        known = [each for each in self._waiting if each.answer_end <= self.settled]
        self._waiting = self._waiting[len(known) :]
        return sorted(
            [
                *(_with_tokens(citation, starts, ends) for citation in found),
                *(copy for copy in known if not any(_overlap(copy, other) for other in found)),
            ],
            key=lambda citation: citation.answer_start,
        )


def _overlap(one: Citation, other: Citation) -> bool:
    return one.answer_start < other.answer_end and other.answer_start < one.answer_end


def _with_tokens(citation: Citation, starts: Sequence[int], ends: Sequence[int]) -> Citation:
    """Return a citation with the tokens of the answer that it covers."""
    return replace(
        citation,
        token_start=bisect_right(ends, citation.answer_start),
        token_end=bisect_left(starts, citation.answer_end),
    )


class _Search:
    """What one text quotes.

    Args:
        text: the text.
        prepared: the passages' texts.
        passages: the passages.
        min_words: fewest words of a quotation.
        question: what was asked.
        language: of the passages.
    """

    def __init__(
        self,
        text: str,
        prepared: Passages,
        passages: Sequence[Passage],
        min_words: int,
        question: str | None,
        language: str,
    ) -> None:
        self._text = text
        self._language = language
        self._passages = passages
        self._min_words = min_words
        self._comparison = Comparison(text, prepared)
        self._stretches = self._comparison.stretches(min_words)
        is_question = question is not None and num_words(question) <= _LONGEST_QUESTION
        self._question = self._comparison.encoded(question) if question and is_question else ""
        self._least_bits = _PHRASE_BITS + math.log2(self._comparison.num_words + _LEAST_WORDS)

    @cached_property
    def citations(self) -> list[Citation]:
        """The quotations, in the order of the text."""
        return [self._citation(*chosen) for chosen in sorted(self._chosen())]

    @cached_property
    def sentences(self) -> list[Sentence]:
        """The sentences of the text."""
        return sentences_of(self._text, self._language, is_answer=True)

    @property
    def settled(self) -> int:
        """How much of the text cannot change its citations any more, whatever follows.

        Up to the beginning of the last sentence, or of the stretches that reach into it, or that
        the next word may go on with.
        """
        words, sentences = self._comparison.words, self.sentences
        if not words or not sentences:
            return 0
        length = settled_length(self._text)
        num_fixed = sum(word.end <= length for word in words)
        settled = min(num_fixed, sum(word.start < sentences[-1].start for word in words))
        for first, last in reversed(self._stretches):
            if last > settled or last >= num_fixed:
                settled = min(settled, first)
        return words[settled].start if settled < len(words) else words[-1].end

    def _chosen(self) -> list[tuple[int, int, list[Place]]]:
        """Return stretches that do not overlap, and their places; the most telling are complete."""
        bits = self._comparison.bits
        waiting = [(-bits(*stretch), *stretch) for stretch in self._stretches]
        heapify(waiting)
        free = _Free(len(self._comparison.words))
        chosen = []
        while waiting:
            _, *given = heappop(waiting)
            first, last = free.within(*self._tidied(*free.within(*given)))
            if not self._is_telling(first, last):
                continue
            if [first, last] != given:  # less is left of it: others may come first now
                heappush(waiting, (-bits(first, last), first, last))
                continue
            places = list(self._comparison.places(first, last))
            whole = [each for each in places if is_whole(self._source(each), each.start, each.end)]
            if not whole:  # part of a number, say: 10 of 10⁻⁵
                begins_inside = is_inside_word(self._source(places[0]), places[0].start)
                first, last = (first + 1, last) if begins_inside else (first, last - 1)
                heappush(waiting, (-bits(first, last), first, last))
                continue
            free.take(first, last)
            chosen.append((first, last, whole))
        return chosen

    def _source(self, place: Place) -> str:
        return self._passages[place.passage].text

    def _is_telling(self, first: int, last: int) -> bool:
        if first >= last or self._comparison.size(first, last) < self._min_words:
            return False
        if self._comparison.bits(first, last) < self._least_bits:
            return False
        return not self._comparison.is_in(first, last, self._question)

    def _tidied(self, first: int, last: int) -> tuple[int, int]:
        """Cut what a stretch has of other sentences, if that is too short, and signs at its ends.

        That a sentence begins with the word after the quoted one is a coincidence.
        """
        comparison, (sentence, begins) = self._comparison, self._sentences
        while first < last and sentence[first] != sentence[last - 1]:
            end, begin = begins[sentence[first] + 1], begins[sentence[last - 1]]
            is_whole = first == begins[sentence[first]]
            if not is_whole and comparison.size(first, end) < self._min_words:
                first = end
                continue
            is_whole = last == begins[sentence[last - 1] + 1]
            if not is_whole and comparison.size(begin, last) < self._min_words:
                last = begin
                continue
            break
        words, text = comparison.words, self._text
        while first < last and (
            self._is_outer(words[first], _NEVER_FIRST) or is_inside_word(text, words[first].start)
        ):
            first += 1
        while first < last and (
            self._is_outer(words[last - 1], _NEVER_LAST)
            or is_inside_word(text, words[last - 1].end)
        ):
            last -= 1
        return first, last

    def _is_outer(self, word: Word, outer: frozenset[str]) -> bool:
        return word.key in outer and not changes_meaning(self._text, word.start)

    @cached_property
    def _sentences(self) -> tuple[list[int], list[int]]:
        """The number of the sentence of each word, and the first word of each sentence."""
        numbers: list[int] = []
        begins = [0]
        sentences = self.sentences
        for index, word in enumerate(self._comparison.words):
            while len(begins) < len(sentences) and word.start >= sentences[len(begins) - 1].end:
                begins.append(index)
            numbers.append(len(begins) - 1)
        return numbers, [*begins, len(numbers)]

    def _citation(self, first: int, last: int, places: Sequence[Place]) -> Citation:
        place, *others = places
        words = self._comparison.words
        start, end = words[first].start, words[last - 1].end
        passage, said = self._passages[place.passage], self._text[start:end]
        is_exact = said == passage.text[place.start : place.end]
        return Citation.of(
            passage,
            (place.start, place.end),
            (start, end),
            match="exact" if is_exact else "normalized",
            answer_text=None if is_exact else said,
            also_in=tuple(
                SourcePlace(self._passages[other.passage].id, other.start, other.end)
                for other in others
            ),
        )


class _Free:
    """Which words are not taken yet; what is taken is passed over at once."""

    def __init__(self, num_words: int) -> None:
        self._next = list(range(num_words + 1))  # where to look on for a word that is free
        self._last = list(range(num_words + 1))  # likewise backwards, one past the word

    def within(self, first: int, last: int) -> tuple[int, int]:
        """Return a range without what is taken at its ends."""
        first = min(_followed(self._next, first), last)
        return first, max(_followed(self._last, last), first)

    def take(self, first: int, last: int) -> None:
        for index in range(first, last):
            self._next[index] = last
            self._last[index + 1] = first


def _followed(links: list[int], index: int) -> int:
    """Follow links to their end, and shorten them."""
    end = index
    while links[end] != end:
        end = links[end]
    while links[index] != end:
        links[index], index = end, links[index]
    return end


# A sign or a line end, and a word that is complete.
_SENTENCE_MAY_HAVE_ENDED = re.compile(r"(?:[^\w\s,'’-]|\n)\s{0,8}\S{1,80}\s|[。！？]\S")
_MAY_END_SENTENCE = re.compile(r"[^\w\s,'’-]|\n")
_SURROGATE = re.compile("[\ud800-\udfff]")
_NEVER_FIRST = frozenset(",.;:!?)]}%…-*/|>")
_NEVER_LAST = frozenset("([{¿¡-*/|<#")


def citable(text: str) -> str:
    """Return a text of the same length without lone surrogates, which only JSON can carry."""
    return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)


def _as_passage(given: Passage | str) -> Passage:
    if isinstance(given, Passage):
        return given
    if isinstance(given, str):
        return Passage(given)
    raise InputError(
        f"passages must be Passage objects or texts, got {type(given).__name__}: "
        f"use Passage(text, title=...)"
    )
