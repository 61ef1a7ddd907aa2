"""Where a text goes round in circles, as small models do where they know no answer."""

from __future__ import annotations

from collections.abc import Iterator

from nest_engine.citations.sentences import sentences_of

_LONGEST = 400  # characters of a round
_ROUNDS = 2  # behind the first, until it is certain
_SHORTEST = 60  # characters of these together


def num_repeated(text: str) -> int:
    """Return how many characters at the end of a text repeat what stands before them.

    The white space in front of them is counted with them.
    """
    repeated = max((repeated for _, repeated in _rounds(text)), default=0)
    return len(text) - len(text[: len(text) - repeated].rstrip())


def end_of_first_round(text: str) -> int | None:
    """Return where a text might have ended that says the same for the third time; else None.

    That is the end of a sentence where there is one, and never before what ``num_repeated`` has
    let go of while the text grew.
    """
    for length, repeated in _rounds(text):
        says_something = any(map(str.isalpha, text[-length:]))  # and is no rule, or a row's blanks
        if says_something and repeated >= max(_ROUNDS * length, _SHORTEST):
            start = len(text) - repeated
            first, again = text[:start].rstrip(), text[: start + length].rstrip()
            ends = [each.end for each in sentences_of(again, is_answer=True)]
            return next((end for end in ends if len(first) <= end < len(again)), len(first))
    return None


def _rounds(text: str) -> Iterator[tuple[int, int]]:
    """Yield lengths, and how many characters at the end equal those so far in front of them."""
    tail = text[-(_ROUNDS + 1) * _LONGEST - _SHORTEST :]
    for length in range(1, min(_LONGEST, len(tail) - 1) + 1):
        repeated = 0
        while repeated < len(tail) - length and tail[-1 - repeated] == tail[-1 - repeated - length]:
            repeated += 1
        if repeated:
            yield length, repeated
