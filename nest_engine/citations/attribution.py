"""From token provenance to verified citations.

A run is a maximal stretch of output tokens copied from consecutive positions of one passage. The
parts that read the same, character for character, in both texts become citations; the rest is
dropped, never emitted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nest_engine.citations.comparison import is_telling
from nest_engine.citations.word_boundaries import UNDECIDED, is_inside_word
from nest_engine.records import Citation, Passage, Provenance, SourcePlace


@dataclass(frozen=True)
class Source:
    """A passage and the characters that each of its tokens covers.

    Args:
        passage: the passage.
        starts: first character of each token in ``passage.text``.
        ends: one past the last character of each token.
        copies: other passages of the same text.
    """

    passage: Passage
    starts: Sequence[int]
    ends: Sequence[int]
    copies: Sequence[Passage] = ()

    def also_in(self, start: int, end: int) -> tuple[SourcePlace, ...]:
        """Return where the copies have a stretch of the passage."""
        cited = self.passage.text[start:end]
        found = [(copy.id, copy.text.find(cited)) for copy in self.copies]
        return tuple(SourcePlace(id, at, at + end - start) for id, at in found if at >= 0)


class Attributor:
    """Cite the runs of a growing answer as they become final.

    Args:
        sources: the passages that ``Provenance.passage`` indexes.
        min_tokens: hide citations of fewer tokens, and above 1 those of a few common words alone:
            they are no quotations, as for :func:`nest_engine.cite`.
    """

    def __init__(self, sources: Sequence[Source], *, min_tokens: int) -> None:
        self._sources = sources
        self._min_tokens = min_tokens
        self.settled = 0
        self._next = 0  # tokens before this one are settled
        self._cited_until = 0  # characters of the answer that citations cover: they never overlap

    def settle(
        self,
        text: str,
        starts: Sequence[int],
        ends: Sequence[int],
        provenance: Sequence[Provenance | None],
        *,
        is_final: bool,
    ) -> list[Citation]:
        """Return the citations that have become final.

        A run is final once a token that does not continue it has followed and the next character
        is known (the next two, if it is an apostrophe, say), which decides whether the run ends
        within a word.

        Args:
            text: the part of the answer so far that can no longer change.
            starts: first character of each token in the answer.
            ends: one past the last character of each token.
            provenance: source of each token.
            is_final: whether the answer is complete.

        Returns:
            the citations, in the order of the answer.
        """
        citations: list[Citation] = []
        num_tokens = len(starts)
        while self._next < num_tokens:
            end = _run_end(provenance, self._next, num_tokens)
            if provenance[self._next] is not None:
                behind = text[ends[end - 1] : ends[end - 1] + 2]
                if not is_final and (end == num_tokens or behind in ("", *UNDECIDED)):
                    break
                citations += self._cite(_Run(text, starts, ends, provenance, self._next, end))
            self._next = end
        self.settled = starts[self._next] if self._next < num_tokens else len(text)
        return citations

    def _cite(self, run: _Run) -> Iterator[Citation]:
        source = self._sources[run.passage]
        for quote in _matching_quotes(run, source):
            quote = _trimmed(quote, run.text, source.passage.text, not_before=self._cited_until)
            tokens = [i for i in range(run.start, run.end) if run.overlaps(i, quote)]
            if (
                quote.answer_start < quote.answer_end
                and len(tokens) >= self._min_tokens
                and self._tells(run.text[quote.answer_start : quote.answer_end])
            ):
                self._cited_until = quote.answer_end
                yield Citation.of(
                    source.passage,
                    (quote.source_start, quote.source_end),
                    (quote.answer_start, quote.answer_end),
                    token_start=tokens[0],
                    token_end=tokens[-1] + 1,
                    also_in=source.also_in(quote.source_start, quote.source_end),
                )

    def _tells(self, text: str) -> bool:
        return self._min_tokens == 1 or is_telling(text)


@dataclass(frozen=True)
class _Run:
    """Tokens ``start`` to ``end`` of an answer, copied from consecutive places of one passage."""

    text: str
    starts: Sequence[int]
    ends: Sequence[int]
    provenance: Sequence[Provenance | None]
    start: int
    end: int

    @property
    def passage(self) -> int:
        return self._origin.passage

    @property
    def _origin(self) -> Provenance:
        origin = self.provenance[self.start]
        assert origin is not None
        return origin

    def position(self, token: int) -> int:
        """Return the position of a token in its passage."""
        return self._origin.position + token - self.start

    def overlaps(self, token: int, quote: _Quote) -> bool:
        return self.starts[token] < quote.answer_end and self.ends[token] > quote.answer_start


@dataclass(frozen=True)
class _Quote:
    """Ranges of the same length in answer and source."""

    answer_start: int
    answer_end: int
    source_start: int

    @property
    def source_end(self) -> int:
        return self.source_start + self.answer_end - self.answer_start


def _run_end(provenance: Sequence[Provenance | None], start: int, num_tokens: int) -> int:
    """Return one past the last token that continues the token at ``start``."""
    end = start + 1
    while end < num_tokens and _continues(provenance[end - 1], provenance[end]):
        end += 1
    return end


def _continues(before: Provenance | None, after: Provenance | None) -> bool:
    if before is None or after is None:
        return before is after
    return after == Provenance(before.passage, before.position + 1)


def _matching_quotes(run: _Run, source: Source) -> Iterator[_Quote]:
    """Yield the longest stretches of a run that read the same in answer and source.

    Surrounding space is ignored. Answer and source differ where a tokenizer does not reproduce what
    it read, or where a character's bytes come from two places.
    """
    token = run.start
    while token < run.end:
        quote = None
        end = token
        while end < run.end and (longer := _match(run, source, token, end + 1)) is not None:
            quote, end = longer, end + 1
        if quote is not None:
            yield quote
        token = max(end, token + 1)


def _match(run: _Run, source: Source, start: int, end: int) -> _Quote | None:
    """Return the ranges of tokens ``start`` to ``end`` without outer space; None if they differ."""
    answer_start, answer_end = _stripped(run.text, run.starts[start], run.ends[end - 1])
    source_start, source_end = _stripped(
        source.passage.text, source.starts[run.position(start)], source.ends[run.position(end - 1)]
    )
    if run.text[answer_start:answer_end] != source.passage.text[source_start:source_end]:
        return None
    return _Quote(answer_start, answer_end, source_start)


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    piece = text[start:end]
    start += len(piece) - len(piece.lstrip())
    return start, start + len(piece.strip())


def _trimmed(quote: _Quote, answer: str, source: str, *, not_before: int) -> _Quote:
    """Cut partial words, partial characters and space from both ends.

    Args:
        quote: ranges that read the same.
        answer: the answer.
        source: the passage's text.
        not_before: first character of the answer that may be cited.
    """
    start, end, shift = (
        quote.answer_start,
        quote.answer_end,
        quote.source_start - quote.answer_start,
    )

    def may_cut(index: int) -> bool:
        return not is_inside_word(answer, index) and not is_inside_word(source, index + shift)

    while start < end and (start < not_before or answer[start].isspace() or not may_cut(start)):
        start += 1
    while end > start and (answer[end - 1].isspace() or not may_cut(end)):
        end -= 1
    return _Quote(start, end, start + shift)
