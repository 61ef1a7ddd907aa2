"""What one row of words has in place of another's: the difference between a quotation and a source.

The standard library compares each word with every other that is the same, over and over. Long rows
are cut in front of that, where both have words in a row that neither has again.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

_ANCHOR = 4  # words in a row
_LEAST_PIECE, _LONGEST_PIECE = 50, 1000  # words of ours between two cuts


class Step(NamedTuple):
    """What becomes of a stretch, as :meth:`SequenceMatcher.get_opcodes` tells it.

    Args:
        tag: ``equal``, ``replace``, ``delete`` or ``insert``.
        start: the first of their words.
        end: one past the last.
        our_start: the first of our words.
        our_end: one past the last.
    """

    tag: str
    start: int
    end: int
    our_start: int
    our_end: int


def steps(theirs: Sequence[str], ours: Sequence[str]) -> Iterator[Step]:
    """Yield what makes our words of theirs.

    Args:
        theirs: the words of a source.
        ours: the words of a quotation.
    """
    start = our_start = 0
    for end, our_end in [*_cuts(theirs, ours), (len(theirs), len(ours))]:
        is_long = our_end - our_start > _LONGEST_PIECE  # then frequent words tell too little
        piece = theirs[start:end], ours[our_start:our_end]
        matcher = SequenceMatcher(None, *piece, autojunk=is_long)
        for tag, a, b, c, d in matcher.get_opcodes():
            yield Step(tag, start + a, start + b, our_start + c, our_start + d)
        start, our_start = end, our_end


def _cuts(theirs: Sequence[str], ours: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield where both rows may be cut, in order."""
    if len(ours) < 2 * _LEAST_PIECE:
        return
    places = _single(theirs)
    shared = [(places[words], at) for words, at in _single(ours).items() if words in places]
    cut = 0
    for their_at, at in _rising(shared):
        if at - cut >= _LEAST_PIECE:
            yield their_at, at
            cut = at


def _single(words: Sequence[str]) -> dict[tuple[str, ...], int]:
    """Return where words stand in a row that never come again so."""
    rows = list(zip(*(words[i:] for i in range(_ANCHOR)), strict=False))
    counts = Counter(rows)
    return {row: at for at, row in enumerate(rows) if counts[row] == 1}


def _rising(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return as many pairs as possible, in their order, whose first numbers rise."""
    lowest: list[int] = []  # the last first number of the rows of each length
    ends: list[int] = []  # and its pair
    before: list[int | None] = []
    for index, (first, _) in enumerate(pairs):
        length = bisect_left(lowest, first)
        before.append(ends[length - 1] if length else None)
        lowest[length : length + 1] = [first]
        ends[length : length + 1] = [index]
    rising = []
    last = ends[-1] if ends else None
    while last is not None:
        rising.append(pairs[last])
        last = before[last]
    return rising[::-1]
