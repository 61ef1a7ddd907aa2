"""Whether what stands in quotation marks really stands in the sources."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, islice, pairwise
from typing import Literal, NamedTuple

from nest_engine.citations.alignment import Step, steps
from nest_engine.citations.comparison import Comparison, Passages, Place, num_words
from nest_engine.citations.found_quotations import Found, bare, quotations_in, source_text
from nest_engine.citations.quotation_marks import LEAST_WORDS
from nest_engine.citations.references import REFERENCE
from nest_engine.citations.word_boundaries import is_inside_word, is_whole
from nest_engine.citations.words import Word, is_word, words_of
from nest_engine.records import Passage, Record, SourcePlace

Verdict = Literal["verbatim", "elsewhere", "spliced", "altered", "absent"]

# Quotation marks may close behind the sentence's own signs, or behind what marks an omission.
_NEVER_OUTER = frozenset(",.;:!?…'\"[]()")
_LONGEST_OMISSION = 4  # words: what a quotation dropped, not a leap to another place
_SLACK = 200  # characters of a source on either side of what may have been altered
_MOST_SEEDS = 3
_MOST_PLACES = 50
_LEAST_SHARE = 0.5  # of a quotation's words that a place must have
_BETWEEN = "\n\n\uffff\n\n"  # quotations: a word that no passage has


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
        named: ``Passage.id`` of the source that is named beside it, what names it where there is no
            such source, or None.
        places: where it stands, the best-ranked place first, at most 50; of one that is spliced,
            where each part stands; of one that is altered, what it was made from.
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
    quotations: str | Iterable[str | tuple[str, str]],
    passages: Sequence[Passage],
    *,
    numbered: bool = True,
) -> tuple[Quotation, ...]:
    """Judge what is quoted, word by word.

    Args:
        quotations: a text, of which everything in quotation marks is judged, and every block
            quotation of Markdown; or quotations, each alone or with the id or title of its source.
            In a text the source is named in brackets behind a quotation: ``[2]`` is the second
            passage, otherwise an id or a title; several name several.
        passages: the sources, best-ranked first.
        numbered: whether who wrote the text knew them in this order. If not, as with the files of a
            folder, ``[2]`` names none. What a list of sources in the text says comes first.

    Returns:
        the verdicts, in order.
    """
    found = [
        each
        for each in quotations_in(quotations, passages, numbered=numbered)
        if any(is_word(word.key) for word in words_of(each.text))
    ]
    return tuple(_Judges(found, passages).quotations())


class _Part(NamedTuple):
    """Words of a quotation that stand in a source in a row."""

    first: int
    last: int
    place: SourcePlace
    passage: int


class _Judges:
    """What the verdicts on quotations have in common: one comparison with the sources.

    Args:
        found: the quotations.
        passages: the sources.
    """

    def __init__(self, found: Sequence[Found], passages: Sequence[Passage]) -> None:
        self.passages = passages
        self.texts = [source_text(passage.text) for passage in passages]
        self._found = found
        said = [bare(each, passages) for each in found]
        self._starts = list(accumulate((len(each) + len(_BETWEEN) for each in said), initial=0))
        self.comparison = Comparison(_BETWEEN.join(said), Passages(self.texts))
        self._word_starts = [word.start for word in self.comparison.words]

    @cached_property
    def stretches(self) -> list[tuple[int, int]]:
        """What of all quotations stands in a source."""
        return self.comparison.stretches()

    def quotations(self) -> Iterator[Quotation]:
        """Yield the verdicts."""
        for found, start in zip(self._found, self._starts, strict=False):
            yield self._likeliest(found, start)

    def _likeliest(self, found: Found, start: int) -> Quotation:
        """Return the verdict; where a mark may be an apostrophe, on the likeliest reading.

        Behind s and in front of a word it rather is one: the keepers' daughter.
        """
        longest = self._judge(found, start)
        if not found.ends:
            return longest
        shorter = [self._judge(found._replace(text=found.text[:end]), start) for end in found.ends]
        for judged in (longest, *reversed(shorter)):
            is_long = num_words(judged.text) >= LEAST_WORDS
            if judged.verdict in ("verbatim", "elsewhere") and is_long:
                return judged
        end = found.ends[0]
        return longest if re.match(r"s’ [^\W\d_A-Z]", found.text[end - 1 : end + 3]) else shorter[0]

    def _judge(self, found: Found, start: int) -> Quotation:
        first = bisect_left(self._word_starts, start)
        last = bisect_left(self._word_starts, start + len(found.text))
        judged = _Judge(self, found, start, first, last).quotation()
        if judged.verdict == "elsewhere" and not found.is_near:  # the source of something else
            return replace(judged, verdict="verbatim", named=None)
        return judged


class _Judge:
    """Find the verdict on one quotation.

    Args:
        judges: has the comparison.
        found: the quotation.
        start: its first character in what is compared.
        first: its first word there.
        last: one past the last.
    """

    def __init__(self, judges: _Judges, found: Found, start: int, first: int, last: int) -> None:
        self._judges = judges
        self._found = found
        self._start = start
        self._words = first, last
        self._passages = judges.passages
        self._comparison = judges.comparison

    @cached_property
    def _stretches(self) -> list[tuple[int, int]]:
        first, last = self._words
        return [each for each in self._judges.stretches if first <= each[0] and each[1] <= last]

    def quotation(self) -> Quotation:
        """Return the quotation with its verdict."""
        words = self._comparison.words
        first, last = self._words
        while first < last - 1 and words[first].key in _NEVER_OUTER:
            first += 1
        while last > first + 1 and self._is_outer(words[last - 1]):
            last -= 1
        named = self._found.named
        if named is not None:
            places = self._places(first, last, named)
            if places:
                return self._judged("verbatim", places)
        places = self._places(first, last)
        if places:
            return self._judged("verbatim" if named is None else "elsewhere", places)
        return self._spliced(first, last) or self._altered(first, last) or self._judged("absent")

    def _is_outer(self, word: Word) -> bool:
        """Return whether a sign at the end belongs to the sentence around; inches do not."""
        is_mark = word.key in ("'", '"')
        behind = self._found.text[word.start - self._start - 1 : word.start - self._start]
        return word.key in _NEVER_OUTER and not (is_mark and behind.isdigit())

    def _places(
        self, first: int, last: int, within: Sequence[int] | None = None
    ) -> list[SourcePlace]:
        """Return where a part stands by itself: not 10 in 10⁻⁵, nor [0, 1] in place of [0, 5]."""
        found = (
            SourcePlace(self._passages[number].id, start, end)
            for number, start, end in self._comparison.places(first, last, within)
            if is_whole(self._passages[number].text, start, end)
            and self._has_the_same_in_brackets(first, last, Place(number, start, end))
        )
        return list(islice(found, _MOST_PLACES))

    def _has_the_same_in_brackets(self, first: int, last: int, place: Place) -> bool:
        """Return whether a source has where the quotation has a reference the same, or nothing."""
        text = self._passages[place.passage].text
        ours = self._comparison.words[first:last]
        theirs = words_of(self._judges.texts[place.passage][place.start : place.end])
        for reference in REFERENCE.finditer(self._found.text):
            index = sum(word.end <= self._start + reference.start() for word in ours)
            if len(theirs) != len(ours):
                return True
            begin = place.start + (theirs[index - 1].end if index else 0)
            if index:
                there = REFERENCE.match(text, begin + text[begin : begin + 1].isspace())
            else:
                *_, there = [None, *REFERENCE.finditer(text[:begin].rstrip()[-_SLACK:])]
                if there and there.end() != len(there.string):
                    there = None
            if there is not None and there[0] != reference[0]:
                return False
        return True

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
            after = words[end].key if end < last else "…"
            is_marked = after in _SEAMS and (position == first or words[position - 1].key in _SEAMS)
            if end == position or (size < LEAST_WORDS and not is_marked):
                return None
            number, start, stop = next(self._comparison.places(position, end))
            place = SourcePlace(self._passages[number].id, start, stop)
            parts.append(_Part(position, end, place, number))
            position = end
        return parts

    def _spliced(self, first: int, last: int) -> Quotation | None:
        parts = self._parts(first, last)
        if parts is None or self._is_short_omission(parts):
            return None
        return self._judged("spliced", [part.place for part in parts])

    def _is_short_omission(self, parts: Sequence[_Part]) -> bool:
        """Return whether the parts follow each other in one source, but for a few words.

        Where an omission is marked, they are parts however few were left out.
        """
        words = self._comparison.words
        for before, after in pairwise(parts):
            if any(word.key == "…" for word in words[before.last : after.first]):
                return False
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
                text = self._judges.texts[place.passage]
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
        codes = [*steps([word.key for word in theirs], [word.key for word in ours])]
        # What the source has around the quotation is no difference; the rest of its last word is.
        behind = codes.pop() if codes[-1][0] == "delete" and len(codes) > 1 else None
        codes = codes[codes[0][0] == "delete" :]
        if behind is not None:
            tag, a, b, c, d = behind
            rest = a
            while rest < b and is_inside_word(text, theirs[rest].start):
                rest += 1
            codes += [Step(tag, a, rest, c, d)] if rest > a else []
        tag, a, b, c, d = codes[0]
        codes[0] = Step(tag, max(a, b - (d - c)), b, c, d) if tag == "replace" else codes[0]
        tag, a, b, c, d = codes[-1]
        codes[-1] = Step(tag, a, min(b, a + (d - c)), c, d) if tag == "replace" else codes[-1]
        said = self._found.text
        differences = [
            Difference(_slice(text, theirs[a:b]), _slice(said, ours[c:d], self._start))
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
        text, start, named = self._found.text, self._found.start, self._found.named
        ids = {place.passage_id for place in places}
        sources = [self._passages[index].id for index in named or ()]
        source = next((each for each in sources if each in ids), sources[0] if sources else None)
        if named == ():
            source = self._found.reference
        return Quotation(
            text, verdict, start, start + len(text), source, tuple(places), tuple(differences)
        )


_SEAMS = frozenset(("…", "[", "]", "(", ")"))


def _matched(theirs: Sequence[str], ours: Sequence[str]) -> float:
    """Return the share of our words that stand in theirs, in order."""
    shared = sum(
        is_word(theirs[i])
        for step in steps(theirs, ours)
        if step.tag == "equal"
        for i in range(step.start, step.end)
    )
    return shared / max(1, sum(map(is_word, ours)))


def _slice(text: str, words: Sequence[Word], start: int = 0) -> str:
    """Return the characters of words; ``start`` is where the text begins among them."""
    return text[words[0].start - start : words[-1].end - start] if words else ""
