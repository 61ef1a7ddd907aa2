"""The longest stretches that two texts share, in time linear in both.

A suffix automaton holds every substring of a sequence in as many states as the sequence has
letters, at most twice (Blumer et al., *The smallest automaton recognizing the subwords of a text*,
1985).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from itertools import pairwise


class SuffixAutomaton:
    """All substrings of a sequence, and how much of them has been read elsewhere.

    Args:
        letters: the sequence.
    """

    def __init__(self, letters: Sequence[Hashable]) -> None:
        # Of each state: where a letter leads, the state of its longest suffix that also stands
        # elsewhere, and the length of its longest substring.
        self._next: list[dict[Hashable, int]] = [{}]
        self._link = [-1]
        self._length = [0]
        self._prefixes = [0]  # the state of each beginning of the sequence
        for letter in letters:
            self._prefixes.append(self._append(letter))
        self._longest_read = [0] * len(self._link)

    def read(self, letters: Iterable[Hashable]) -> None:
        """Read another text; of each substring that ends at one of its letters the longest counts.

        Args:
            letters: the text.
        """
        following, link, length, longest = self._next, self._link, self._length, self._longest_read
        state = matched = 0
        for letter in letters:
            while letter not in following[state] and state:
                state = link[state]
                matched = length[state]
            if letter in following[state]:
                state = following[state][letter]
                matched += 1
                if matched > longest[state]:
                    longest[state] = matched

    def longest_shared(self) -> list[int]:
        """Return how many letters that end at each of the sequence's were read in a row.

        Returns:
            for each letter of the sequence, the length of the longest substring that ends with it
            and stands in what was read.
        """
        longest = list(self._longest_read)
        # A state's suffixes have been read as well.
        for state in sorted(range(1, len(longest)), key=self._length.__getitem__, reverse=True):
            parent = self._link[state]
            if longest[state]:
                longest[parent] = self._length[parent]
        for state in sorted(range(1, len(longest)), key=self._length.__getitem__):
            longest[state] = longest[state] or longest[self._link[state]]
        return [longest[state] for state in self._prefixes[1:]]

    def _append(self, letter: Hashable) -> int:
        last = self._prefixes[-1]
        new = self._state(self._length[last] + 1, {}, 0)
        state = last
        while state >= 0 and letter not in self._next[state]:
            self._next[state][letter] = new
            state = self._link[state]
        if state >= 0:
            self._link[new] = self._split(state, letter)
        return new

    def _split(self, state: int, letter: Hashable) -> int:
        """Return a state for the substrings that are no longer than a state's and one letter."""
        target = self._next[state][letter]
        if self._length[target] == self._length[state] + 1:
            return target
        clone = self._state(self._length[state] + 1, dict(self._next[target]), self._link[target])
        self._link[target] = clone
        while state >= 0 and self._next[state].get(letter) == target:
            self._next[state][letter] = clone
            state = self._link[state]
        return clone

    def _state(self, length: int, following: dict[Hashable, int], link: int) -> int:
        self._next.append(following)
        self._link.append(link)
        self._length.append(length)
        return len(self._link) - 1


def longest_stretches(longest_shared: Sequence[int]) -> list[tuple[int, int]]:
    """Return the shared stretches that no longer one contains.

    Args:
        longest_shared: as of :meth:`SuffixAutomaton.longest_shared`.

    Returns:
        ranges of letters, by their beginnings.
    """
    return [
        (end - length, end)
        for end, (length, after) in enumerate(pairwise([*longest_shared, 0]), start=1)
        if length and after <= length
    ]
