"""Exact search for what the text so far ends with: the draft source that needs no keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import NamedTuple

import numpy as np

SUFFIX_TOKENS = 8  # longer agreement says little more about how the text goes on
_MOST_CANDIDATES = 64  # latest places of a pair that are compared

SEPARATOR = -1  # between texts that must not be matched across


class SuffixMatch(NamedTuple):
    """Where a text ends with the same tokens as the text that was searched for.

    Args:
        position: of the last matching token.
        length: matching tokens, two at least.
    """

    position: int
    length: int


class SuffixMatcher:
    """A growing sequence of tokens, searched by how a text ends.

    The last two tokens are looked for everywhere, which takes microseconds for thousands of tokens
    and no preparation; from where they stand the match is extended backwards.

    Args:
        tokens: the first tokens; ``SEPARATOR`` never matches.
    """

    def __init__(self, tokens: Iterable[int] = ()) -> None:
        self.tokens: list[int] = []
        self._buffer_N = np.empty(0, np.int64)  # the same, and room for more
        self.extend(tokens)

    def extend(self, tokens: Iterable[int]) -> None:
        """Append tokens."""
        start = len(self.tokens)
        self.tokens += tokens
        end = len(self.tokens)
        if end > len(self._buffer_N):
            grown_N = np.empty(2 * end, np.int64)
            grown_N[:start] = self._buffer_N[:start]
            self._buffer_N = grown_N
        self._buffer_N[start:end] = self.tokens[start:]

    def longest(self, text: Sequence[int]) -> SuffixMatch | None:
        """Return the longest match of the end of ``text``, the latest of equals; None below two."""
        return max(self.matches(text), key=attrgetter("length"), default=None)

    def matches(self, text: Sequence[int]) -> Iterator[SuffixMatch]:
        """Yield the matches of the end of ``text`` of at least two tokens, the latest first."""
        if len(text) < 2 or SEPARATOR in text[-2:]:
            return
        tokens_N = self._buffer_N[: len(self.tokens)]
        positions = 1 + np.flatnonzero((tokens_N[1:] == text[-1]) & (tokens_N[:-1] == text[-2]))
        for position in positions[: -_MOST_CANDIDATES - 1 : -1].tolist():
            yield SuffixMatch(position, self._match_length(text, position))

    def continuation(self, position: int, token: int, limit: int) -> list[int]:
        """Return how the text goes on if it repeats what follows ``position``.

        The repetition may run into itself, as in LZ77: a text that goes round in circles is
        continued round and round.

        Args:
            position: of the last matching token.
            token: the token that is about to be appended; it matches the one at ``position``.
            limit: how many tokens to return.

        Returns:
            the tokens behind ``token``.
        """
        repeated = [*self.tokens[position + 1 : position + 1 + limit], token]
        # distance to what is repeated, once `token` is appended
        period = len(self.tokens) - position
        return [repeated[i % period] for i in range(limit)]

    def _match_length(self, text: Sequence[int], position: int) -> int:
        length = 2
        longest = min(len(text), position + 1, SUFFIX_TOKENS)
        while length < longest and self.tokens[position - length] == text[-1 - length]:
            length += 1
        return length
