"""How many tokens to draft: every one more costs time to verify, and fewer of them stand."""

from __future__ import annotations

from typing import Protocol

_DECAY = 0.9  # weight of the past after each draft: about the last ten drafts count
# What to expect before the first draft, as (tested, accepted).
_FIRST = (4.0, 2.0)
_LATER = (20.0, 18.0)


class DraftLength(Protocol):
    """Chooses the length of the next draft."""

    def limit(self, *, continues: bool) -> int:
        """Return the most tokens that the next draft may have, its decided first token included.

        Args:
            continues: whether the draft goes on where a wholly accepted one ended.
        """
        ...

    def observe(self, num_drafted: int, num_accepted: int, *, continues: bool) -> None:
        """Learn how much of a draft stood, its decided first token included."""
        ...


class FixedDraftLength:
    """Always the same limit, ``n`` in the paper.

    Args:
        limit: longest draft.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit

    def limit(self, *, continues: bool) -> int:
        """Return the limit."""
        return self._limit

    def observe(self, num_drafted: int, num_accepted: int, *, continues: bool) -> None:
        """Learn nothing."""


class AdaptiveDraftLength:
    """The length that promises the most tokens for the time.

    Drafts begun at a new place mostly fail at once; those that do not go on for long. So two rates
    are learnt: ``a`` of the first token tested at a new
    place, and ``b`` of every later one. A draft of ``n`` tokens yields ``1 + a (1 + b + ... +
    b^(n-2))``, its first token being decided, and costs ``1 + c (n - 2)`` forwards of two tokens;
    one that goes on where the last one ended has ``b`` for ``a``. What a device computes beside one
    token almost for free (small ``c``) is drafted freely; where a forward grows with its width,
    drafts stay as long as they have proved to be.

    Args:
        longest: longest draft ever.
        marginal_cost: ``c``, time of one more token in a forward relative to a forward of two
            tokens.
    """

    def __init__(self, longest: int, marginal_cost: float) -> None:
        self._longest = longest
        self._marginal_cost = marginal_cost
        self._first = _Rate(*_FIRST)
        self._later = _Rate(*_LATER)

    def limit(self, *, continues: bool) -> int:
        """Return the length of the best yield for its cost; at least two, or nothing is learnt."""
        first = (self._later if continues else self._first).value
        expected, best_rate, length = 1.0, 0.0, 1
        # from two on the rate has one maximum, so its first fall ends the search
        while length < self._longest:
            expected += first * self._later.value ** (length - 1)
            rate = expected / (1 + self._marginal_cost * (length - 1))
            if rate < best_rate:
                break
            best_rate, length = rate, length + 1
        return length

    def observe(self, num_drafted: int, num_accepted: int, *, continues: bool) -> None:
        """Learn from the tokens that were tested: the accepted ones and the first that was not."""
        stood = num_accepted - 1
        tested = stood + (num_accepted < num_drafted)
        if not continues and tested:
            self._first.observe(1, min(stood, 1))
            tested, stood = tested - 1, max(stood - 1, 0)
        self._later.observe(tested, stood)


class _Rate:
    """A share that is learnt, the latest counting most."""

    def __init__(self, tested: float, accepted: float) -> None:
        self._tested, self._accepted = tested, accepted

    @property
    def value(self) -> float:
        return self._accepted / self._tested

    def observe(self, tested: int, accepted: int) -> None:
        if tested:
            self._tested = self._tested * _DECAY + tested
            self._accepted = self._accepted * _DECAY + accepted
