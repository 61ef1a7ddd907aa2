"""Whether what stands in quotation marks really stands in the sources."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cached_property
from itertools import islice, pairwise
from typing import Literal, NamedTuple

from nest_engine.citations.comparison import Comparison, Passages
from nest_engine.citations.verdicts import REFERENCE
from nest_engine.citations.words import Word, is_word, words_of
from nest_engine.records import Passage, Record, SourcePlace

Verdict = Literal["verbatim", "elsewhere", "spliced", "altered", "absent"]

_PARAGRAPH = re.compile(r"\S(?:[^\n]|\n(?![ \t]*\n))*")
# Straight double quotes open and close alike: they open in front of a word, and close behind one.
# Straight single ones are mostly apostrophes. Typographic single ones may be apostrophes within.
_QUOTED = re.compile(
    r"“([^“”]+)”|„([^„“”]+)[“”]|”([^”]+)”|«([^«»]+)»|»([^«»]+)«|‹([^‹›]+)›|「([^「」]+)」|『([^『』]+)』"
    r"|(?<![\w‘])‘((?:[^‘’]|’(?=\w))+)’(?!\w)|‚([^‚‘]+)‘"
    r'|(?<![\w"])"(?=\S)([^"]+)(?<=\S)"(?!\w)'
    r"|(?m:^[ \t]*>[ ]?(.+(?:\n[ \t]*>.*)*))"  # Markdown's block quotations
)
_QUOTE_MARK = re.compile(r"(?m)^[ \t]*>")
_ATTRIBUTION = re.compile(r"\n[\s>]*[—–-]{1,2}[ \t]*[^\n]{1,100}\Z")
# The source of a quotation, in brackets behind it, in the same sentence: [2], [Helium], (Helium).
_REFERENCE = re.compile(
    r"(?:[.,;:]?\s?|[^\n\[(.!?“”„«»\"]{1,60}?)"
    r"(?:\[\^?([^\]\n]{1,200})\]|\(([^)\n]{1,200})\))"
)
# Quotation marks may close behind the sentence's own signs, or behind what marks an omission.
_NEVER_OUTER = frozenset(",.;:!?…'\"[]()")
_LEAST_WORDS = 3  # of a part that was really copied
_LONGEST_OMISSION = 4  # words: what a quotation dropped, not a leap to another place
_SLACK = 200  # characters of a source on either side of what may have been altered
_MOST_SEEDS = 3
_LEAST_SHARE = 0.5  # of a quotation's words that a place must have


class Difference(NamedTuple):
    """What an altered quotation changed.

    Args:
        source: the words of the source, empty where something was added.
        quotation: the words in their place, empty where something was left out.
    """

    source: str
    quotation: str


@dataclass(frozen=True)
class Quotation(Record):
    """A quotation and a verdict on it.

    Args:
        text: the quotation, without its marks.
        verdict: ``verbatim``: it stands so in the source that is named beside it, or in any if none
            is; ``elsewhere``: it stands so, but in another source; ``spliced``: every part stands
            somewhere, but never in a row; ``altered``: a source has something very like it;
            ``absent``: none of these.
        start: first character in the text that was judged; 0 for a quotation given by itself.
        end: one past the last character.
        named: ``Passage.id`` of the source that is named beside it, or None.
        places: where it stands, the best-ranked place first; of one that is spliced, where each
            part stands; of one that is altered, what it was made from.
        differences: what was altered.
    """

    text: str
    verdict: Verdict
    start: int = 0
    end: int = 0
    named: str | None = None
    places: tuple[SourcePlace, ...] = ()
    differences: tuple[Difference, ...] = ()


def judge_quotations(
    quotations: str | Iterable[str | tuple[str, str]], passages: Sequence[Passage]
) -> tuple[Quotation, ...]:
    """Judge what is quoted, word by word.

    Args:
        quotations: a text, of which everything in quotation marks is judged, and every block
            quotation of Markdown; or quotations, each alone or with the id or title of its source.
            In a text the source is named in brackets behind a quotation: ``[2]`` is the second
            passage, otherwise an id or a title.
        passages: the sources, best-ranked first.

    Returns:
        the verdicts, in order.
    """
    prepared = Passages([passage.text for passage in passages])
    return tuple(
        _Judge(found, passages, prepared).quotation()
        for found in _found(quotations, passages)
        if any(is_word(word.key) for word in words_of(found.text))
    )


class _Found(NamedTuple):
    text: str
    start: int
    end: int
    named: int | None  # index of the passage


def _found(
    quotations: str | Iterable[str | tuple[str, str]], passages: Sequence[Passage]
) -> Iterator[_Found]:
    if isinstance(quotations, str):
        for paragraph in _PARAGRAPH.finditer(quotations):
            for match in _QUOTED.finditer(quotations, *paragraph.span()):
                text, (start, end) = match[match.lastindex or 0], match.span(match.lastindex or 0)
                yield _Found(text, start, end, _named_behind(quotations, match, passages))
        return
    for given in quotations:
        text, source = (given, None) if isinstance(given, str) else given
        named = None if source is None else _named(source, passages)
        yield _Found(text, 0, len(text), named)


def _named_behind(text: str, quotation: re.Match[str], passages: Sequence[Passage]) -> int | None:
    """Return the passage that is named behind a quotation, or at its end."""
    own = [*REFERENCE.finditer(quotation[0])]
    if own:
        return _named(own[-1][0].strip("[]^"), passages)
    reference = _REFERENCE.match(text, quotation.end())
    if reference is None:
        return None
    in_brackets, in_parentheses = reference.groups()
    if in_parentheses is not None and in_parentheses.isdecimal():
        return None  # a year, or anything else
    return _named(in_brackets or in_parentheses, passages)


def _named(reference: str, passages: Sequence[Passage]) -> int | None:
    """Return the passage that a reference means."""
    for number, passage in enumerate(passages):
        if reference in (passage.id, passage.title):
            return number
    number = int(reference) if reference.isdecimal() and len(reference) < 9 else 0
    return number - 1 if 0 < number <= len(passages) else None


def _bare(text: str) -> str:
    """Return a quotation of the same length without what is not quoted.

    That are the marks of block quotations, who is quoted, and references.
    """
    for pattern in (_QUOTE_MARK, _ATTRIBUTION, REFERENCE):
        text = pattern.sub(lambda match: " " * len(match[0]), text)
    return text


class _Part(NamedTuple):
    """Words of a quotation that stand in a source in a row."""

    first: int
    last: int
    place: SourcePlace
    passage: int


class _Judge:
    """Find the verdict on one quotation."""

    def __init__(self, found: _Found, passages: Sequence[Passage], prepared: Passages) -> None:
        self._found = found
        self._passages = passages
        self._comparison = Comparison(_bare(found.text), prepared)

    @cached_property
    def _stretches(self) -> list[tuple[int, int]]:
        return self._comparison.stretches()

    def quotation(self) -> Quotation:
        words = self._comparison.words
        first, last = 0, len(words)
        while words[first].key in _NEVER_OUTER and first < last - 1:
            first += 1
        while words[last - 1].key in _NEVER_OUTER and last > first + 1:
            last -= 1
        places = list(self._places(first, last))
        if places:
            wanted = [place for place, number in places if self._is_named(number)]
            verdict: Verdict = "verbatim" if wanted else "elsewhere"
            return self._judged(verdict, wanted or [place for place, _ in places])
        return self._spliced(first, last) or self._altered(first, last) or self._judged("absent")

    def _is_named(self, number: int) -> bool:
        """Return whether the source that was named is this one, or none was."""
        named = self._found.named
        return named is None or self._passages[named].id == self._passages[number].id

    def _places(self, first: int, last: int) -> Iterator[tuple[SourcePlace, int]]:
        for number, start, end in self._comparison.places(first, last):
            yield SourcePlace(self._passages[number].id, start, end), number

    def _parts(self, first: int, last: int) -> list[_Part] | None:
        """Return the longest stretches that make the quotation up in a row; None if some are short.

        Where words are left out on purpose (``...``), there may be a part of any length.
        """
        words, parts, position = self._comparison.words, [], first
        while position < last:
            if words[position].key in _SEAMS:
                position += 1
                continue
            ends = [end for begin, end in self._stretches if begin <= position < end]
            end = min(max(ends, default=position), last)
            size = self._comparison.size(position, end)
            after = words[end].key if end < len(words) else "…"
            is_marked = after in _SEAMS and (position == first or words[position - 1].key in _SEAMS)
            if end == position or (size < _LEAST_WORDS and not is_marked):
                return None
            place, number = next(self._places(position, end))
            parts.append(_Part(position, end, place, number))
            position = end
        return parts

    def _spliced(self, first: int, last: int) -> Quotation | None:
        parts = self._parts(first, last)
        if parts is None or self._is_short_omission(parts):
            return None
        return self._judged("spliced", [part.place for part in parts])

    def _is_short_omission(self, parts: Sequence[_Part]) -> bool:
        """Return whether the parts follow each other in one source, but for a few words."""
        for before, after in pairwise(parts):
            if before.passage != after.passage:
                return False
            text = self._passages[before.passage].text
            between = text[before.place.source_end : after.place.source_start]
            is_behind = before.place.source_end <= after.place.source_start
            if not is_behind or len(words_of(between)) > _LONGEST_OMISSION:
                return False
        return True

    def _altered(self, first: int, last: int) -> Quotation | None:
        """Return the verdict if a source has most of the words, in their order."""
        ours = self._comparison.words[first:last]
        best: tuple[float, Sequence[Word], int] | None = None
        for number, theirs in self._candidates(first, last):
            share = _matched([word.key for word in theirs], [word.key for word in ours])
            if best is None or share > best[0]:
                best = share, theirs, number
        if best is None or best[0] < _LEAST_SHARE:
            return None
        _, theirs, number = best
        passage = self._passages[number]
        differences, (begin, end) = self._differences(theirs, ours, passage.text)
        return self._judged("altered", [SourcePlace(passage.id, begin, end)], differences)

    def _candidates(self, first: int, last: int) -> Iterator[tuple[int, Sequence[Word]]]:
        """Yield the stretches of sources around what the quotation shares with them."""
        longest = sorted(self._stretches, key=lambda stretch: stretch[0] - stretch[1])
        slack = len(self._found.text) + _SLACK
        for begin, end in longest[:_MOST_SEEDS]:
            for place in islice(self._comparison.places(begin, end), _MOST_SEEDS):
                text = self._passages[place.passage].text
                offset = max(0, place.start - slack)
                theirs = [
                    Word(key, offset + start, offset + stop)
                    for key, start, stop in words_of(text[offset : place.end + slack])
                ]
                at = next(i for i, word in enumerate(theirs) if word.end > place.start)
                first_word = max(0, at - (begin - first) - _LONGEST_OMISSION - 1)
                last_word = at + (last - begin) + _LONGEST_OMISSION + 1
                yield place.passage, theirs[first_word:last_word]

    def _differences(
        self, theirs: Sequence[Word], ours: Sequence[Word], text: str
    ) -> tuple[list[Difference], tuple[int, int]]:
        """Return what differs, and the stretch of the source that the quotation was made of."""
        matcher = SequenceMatcher(
            None, [word.key for word in theirs], [word.key for word in ours], autojunk=False
        )
        codes = matcher.get_opcodes()
        # What the source has around the quotation is no difference.
        codes = codes[codes[0][0] == "delete" : len(codes) - (codes[-1][0] == "delete")]
        tag, a, b, c, d = codes[0]
        codes[0] = (tag, max(a, b - (d - c)), b, c, d) if tag == "replace" else codes[0]
        tag, a, b, c, d = codes[-1]
        codes[-1] = (tag, a, min(b, a + (d - c)), c, d) if tag == "replace" else codes[-1]
        differences = [
            Difference(_slice(text, theirs[a:b]), _slice(self._found.text, ours[c:d]))
            for tag, a, b, c, d in codes
            if tag != "equal"
        ]
        used = theirs[codes[0][1] : codes[-1][2]]
        return differences, (used[0].start, used[-1].end)

    def _judged(
        self,
        verdict: Verdict,
        places: Sequence[SourcePlace] = (),
        differences: Sequence[Difference] = (),
    ) -> Quotation:
        text, start, end, named = self._found
        source = None if named is None else self._passages[named].id
        return Quotation(text, verdict, start, end, source, tuple(places), tuple(differences))


_SEAMS = frozenset(("…", "[", "]", "(", ")"))


def _matched(theirs: Sequence[str], ours: Sequence[str]) -> float:
    """Return the share of our words that stand in theirs, in order."""
    matcher = SequenceMatcher(None, theirs, ours, autojunk=False)
    shared = sum(
        is_word(theirs[i])
        for block in matcher.get_matching_blocks()
        for i in range(block.a, block.a + block.size)
    )
    return shared / max(1, sum(map(is_word, ours)))


def _slice(text: str, words: Sequence[Word]) -> str:
    return text[words[0].start : words[-1].end] if words else ""
