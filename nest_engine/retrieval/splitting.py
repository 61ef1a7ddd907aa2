"""Cut a document into passages, each an exact slice of its text."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from operator import attrgetter, itemgetter
from typing import Any

from nest_engine._validation import require_count
from nest_engine.citations.blocks import FENCED
from nest_engine.citations.sentences import ends_sentence
from nest_engine.records import Passage
from nest_engine.retrieval.document import Document

CountTokens = Callable[[str], int]

# What belongs to the sentence behind its end; French has a space in front.
_CLOSERS = "(?:[\"'”’“‘»›«‹)\\]]|[ \u00a0\u202f]»(?=\\s))*"
_FULL_STOPS = "。！？｡．।॥။។៕།༎։።"  # that need no space behind them
_CLOSERS_AT_ONCE = "(?:[”’)\\]」』】》〉）］｣]|[\"'](?=\\s))*"  # behind these: marks may open, too
# Where a passage may end, best first. Every match ends where the next passage would start.
_BETWEEN_SENTENCES = re.compile(  # neither after an initial nor at the end of a cell
    rf"(?<!\b[A-Z])[.!?…؟۔]{_CLOSERS}\s+(?![a-z\s|]|»\s)"
    rf"|[{_FULL_STOPS}](?![{_FULL_STOPS}]){_CLOSERS_AT_ONCE}\s*"
)
_BOUNDARIES = (
    re.compile(r"\n\s*\n"),  # between paragraphs
    # at a line's end
    re.compile(rf"[.!?…؟۔{_FULL_STOPS}](?:{_CLOSERS}|{_CLOSERS_AT_ONCE})[^\S\n]*\n"),
    _BETWEEN_SENTENCES,
    re.compile(r"\n"),  # between lines
)
# What a passage does not end with: a short paragraph of one line that is no sentence but perhaps a
# question, or is marked.
_HEADING = re.compile(
    r"\n\s*\n(?=(?:#{1,6} [^\n]*|[^\n]{0,80}[^\n.!…;,۔" + _FULL_STOPS.replace("？", "") + r"]"
    r"(?:\n(?:={3,}|-{3,}|~{3,}))?)\s*\Z)"
)
_MARKED_HEADING = re.compile(r"(?m)^[ \t]{0,3}(#{1,6})[ \t]+[^\s#][^\n]*$")
_LONGEST_HEADING = 200  # characters, with the space around it
_MOST_HEADINGS = 3  # one behind another
_TEXT = re.compile(r"\S")
_SPACE = re.compile(r"\s")
_PIECE = re.compile(r"[A-Za-z]{1,5}|[^\sA-Za-z]")

# Maximum number of characters per allowed token of a passage. Prose stays below (3 to 5); a single
# giant word does not, and neither does a blank page, which would otherwise be counted over and
# over.
_MAX_CHARACTERS_PER_TOKEN = 6


def estimate_tokens(text: str) -> int:
    """Estimate, on the high side, how many tokens a language model makes of a text.

    Five Latin letters, or any other character that is not a space, count as a token.
    """
    return len(_PIECE.findall(text))


def split_document(
    document: Document, *, max_tokens: int = 200, count_tokens: CountTokens = estimate_tokens
) -> Iterator[Passage]:
    """Cut a document into passages of fewer than ``max_tokens`` tokens (the paper: 200).

    A passage ends at the best boundary in the second half of the longest stretch that fits: between
    paragraphs, else between sentences, lines or words, and inside a word only if that word alone is
    too long. It never spans two pages, nor ends with a heading of what follows, nor inside a block
    of code that it does not begin with. White space between passages belongs to none; all other
    characters belong to exactly one.

    Args:
        document: the text with its title and source.
        max_tokens: a passage has fewer tokens than this.
        count_tokens: counts the tokens of a text; longer text must never have fewer.

    Yields:
        Passages with ``document.text[start_index:start_index + len(text)] == text``, where
        ``start_index`` is in their metadata, together with ``source``, ``page`` where there are
        pages, and ``section`` where they begin below headings: these, a line each, as Markdown
        marks them.

    Raises:
        ConfigError: if ``max_tokens`` is not a whole number of at least 2.
    """
    check_max_tokens(max_tokens)
    text = document.text
    code = [block.span() for block in FENCED.finditer(text)]
    stretches = list(_stretches(document))
    headings = _Headings(text, stretches, code)
    for first, last in stretches:
        for start, end in _spans(text, first, last, max_tokens, count_tokens, code):
            # A slide does not stand below the title of another.
            section = headings.above(start, first if document.page_starts else 0)
            yield _passage(document, start, end, section)


def check_max_tokens(max_tokens: int) -> None:
    """Raise `ConfigError` unless fewer than ``max_tokens`` tokens can be at least one."""
    require_count("max_tokens", max_tokens, 2)


def _block_around(code: Sequence[tuple[int, int]], place: int) -> tuple[int, int] | None:
    """Return the block of code that a place is inside of, if any."""
    number = bisect_left(code, place, key=itemgetter(0))
    block = code[number - 1] if number else None
    return block if block is not None and place < block[1] else None


class _Headings:
    """The marked headings of a document, read along with its passages.

    Args:
        text: the text of the document.
        stretches: the character ranges that are shown.
        code: those of blocks of code, where the mark is that of a comment.
    """

    def __init__(
        self, text: str, stretches: Sequence[tuple[int, int]], code: Sequence[tuple[int, int]]
    ) -> None:
        self._coming = deque(
            heading
            for stretch in stretches
            for heading in _MARKED_HEADING.finditer(text, *stretch)
            if _block_around(code, heading.start()) is None
        )
        self._above: list[re.Match[str]] = []

    def above(self, start: int, first: int) -> str:
        """Return the headings above a character, a line each, but for those before ``first``."""
        while self._coming and self._coming[0].start() <= start:
            heading = self._coming.popleft()
            level = len(heading[1])
            self._above = [each for each in self._above if len(each[1]) < level] + [heading]
        return "\n".join(each[0].strip() for each in self._above if first <= each.start() < start)


def _passage(document: Document, start: int, end: int, section: str) -> Passage:
    place: dict[str, Any] = {"source": document.source, "start_index": start}
    if section:
        place["section"] = section
    if page := document.page_at(start):
        place["page"] = page
        if document.words:
            place["page_size"] = [round(length, 1) for length in document.page_sizes[page - 1]]
            place["word_boxes"] = _word_boxes(document, start, end)
    return Passage(
        text=document.text[start:end],
        title=document.title,
        id=f"{document.id}#{start}",
        uri=document.uri,
        license=document.license,
        metadata={**document.metadata, **place},
    )


def _stretches(document: Document) -> Iterator[tuple[int, int]]:
    """Yield the character ranges that no passage goes beyond: pages, and what may be quoted."""
    end = len(document.text)
    pages = list(pairwise((*document.page_starts, end))) if document.page_starts else [(0, end)]
    for start, stop in document.quotable or [(0, end)]:
        for first, last in pages:
            if max(first, start) < min(last, stop):
                yield max(first, start), min(last, stop)


def _word_boxes(document: Document, start: int, end: int) -> list[list[float]]:
    """Return where the words of a passage are: each as its range in the passage and its box."""
    first = bisect_left(document.words, start, key=attrgetter("start"))
    last = bisect_left(document.words, end, key=attrgetter("start"))
    return [
        [word.start - start, word.end - start, *(round(edge, 1) for edge in word.box)]
        for word in document.words[first:last]
    ]


def _spans(
    text: str,
    start: int,
    end: int,
    max_tokens: int,
    count: CountTokens,
    code: Sequence[tuple[int, int]],
) -> Iterator[tuple[int, int]]:
    """Yield the (start, end) of the passages of ``text[start:end]``."""
    while match := _TEXT.search(text, start, end):
        start = match.start()
        longest = _longest_fit(text, start, end, max_tokens, count)
        cut = longest if longest == end else _best_boundary(text, start, longest, end)
        block = _block_around(code, cut)
        if block is not None and block[0] > start:
            cut = _before_headings(text, start, block[0])
        yield start, start + len(text[start:cut].rstrip())
        start = cut


def _longest_fit(text: str, start: int, end: int, max_tokens: int, count: CountTokens) -> int:
    """Return the end of the longest stretch of fewer than ``max_tokens`` tokens.

    It ends after a word if possible.
    """

    def tokens_to(stop: int) -> int:
        return count(text[start:stop])

    stop = min(end, start + max_tokens * _MAX_CHARACTERS_PER_TOKEN)
    word_ends = [match.start() for match in _SPACE.finditer(text, start, stop)]
    if stop == end or text[stop].isspace():
        word_ends.append(stop)
    fitting = bisect_left(word_ends, max_tokens, key=tokens_to)
    if fitting:
        return word_ends[fitting - 1]
    inside_word = range(start + 1, stop + 1)
    return inside_word[max(bisect_left(inside_word, max_tokens, key=tokens_to), 1) - 1]


def _best_boundary(text: str, start: int, longest: int, end: int) -> int:
    """Return the last boundary of the best kind in the second half of ``text[start:longest]``.

    Without any boundary there, return ``longest``.
    """
    following = _TEXT.search(text, longest, end)
    next_start = following.start() if following else end
    for boundary in _BOUNDARIES:
        # The next two characters are searched too, because some boundaries depend on them. They are
        # not part of the passage.
        matches = boundary.finditer(text, (start + longest) // 2, min(next_start + 2, end))
        cuts = [match.end() for match in matches if match.end() <= next_start]
        if cuts:
            cut = cuts[-1]
            if boundary is _BETWEEN_SENTENCES:
                ends = (each for each in reversed(cuts) if ends_sentence(text[start:each].rstrip()))
                cut = next(ends, cut)
            return _before_headings(text, start, cut)
    return longest


def _before_headings(text: str, start: int, cut: int) -> int:
    """Return where to end instead of behind headings, which belong to what follows."""
    before = cut
    for _ in range(_MOST_HEADINGS + 1):
        heading = _HEADING.search(text, max(start, before - _LONGEST_HEADING), before)
        if heading is None:
            return before
        before = heading.end()
    return cut  # a list
