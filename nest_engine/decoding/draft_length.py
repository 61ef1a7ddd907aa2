"""How many tokens to draft: every one more costs time to verify, and fewer of them stand."""

from __future__ import annotations

from typing import Protocol

from nest_engine.interfaces import ForwardCost

_DECAY = 0.9  # weight of the past after each draft: about the last ten drafts count
# What to expect before the first draft, as (tested, accepted): of its first tested token, by how
# many tokens agree in front of it, and of every later one.
_FIRST = {1: (4.0, 1.0), 2: (4.0, 1.0), 3: (4.0, 2.0), 4: (4.0, 3.0)}
_LATER = (10.0, 7.0)


class DraftLength(Protocol):
    """Chooses the length of the next draft.

    Agreement is the number of tokens, up to the draft's first, that stand alike in the text so far
    and where the draft is copied from.
    """

    def limit(self, agreement: int) -> int:
        """Return the most tokens that the next draft may have, its decided first token included."""
        ...

    def observe(self, num_drafted: int, num_accepted: int, agreement: int) -> None:
        """Learn how much of a draft stood, its decided first token included."""
        ...


class FixedDraftLength:
    """Always the same limit, ``n`` in the paper.

    Args:
        limit: longest draft.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit

    def limit(self, agreement: int) -> int:
        """Return the limit."""
        return self._limit

    def observe(self, num_drafted: int, num_accepted: int, agreement: int) -> None:
        """Learn nothing."""


class AdaptiveDraftLength:
    """The length that promises the most tokens for the time.

    Drafts of a place that has little in common with the text so far mostly fail at once; those that
    do not go on for long. So rates are learnt: ``a`` of the first token tested, by agreement, and
    ``b`` of every later one. A draft of ``n`` tokens yields ``1 + a (1 + b + ... + b^(n-2))``, its
    first token being decided, and costs ``two (1 + more (n - 2))`` forwards of one token. Where
    that promises less than a token for a forward, nothing is drafted. What a device computes
    beside one token almost for free is drafted freely; where a forward grows with its width, drafts
    stay as long as they have proved to be.

    Args:
        longest: longest draft ever.
        cost: time of forwards.
    """

    def __init__(self, longest: int, cost: ForwardCost) -> None:
        self._longest = longest
        self._cost = cost
        self._first = {agreement: _Rate(*rate) for agreement, rate in _FIRST.items()}
        self._later = _Rate(*_LATER)

    def limit(self, agreement: int) -> int:
        """Return the length that promises most; 1 where drafts cost more than they save."""
        first, later = self._first_tested(agreement).value, self._later.value
        expected, best_rate, best = 1.0, 0.0, 1
        # from two on the rate has one maximum, so its first fall ends the search
        for length in range(2, self._longest + 1):
            expected += first * later ** (length - 2)
            rate = expected / (self._cost.two * (1 + self._cost.more * (length - 2)))
            if rate < best_rate:
                break
            best_rate, best = rate, length
        return best if best_rate > 1 else 1

    def observe(self, num_drafted: int, num_accepted: int, agreement: int) -> None:
        """Learn from the tokens that were tested: the accepted ones and the first that was not."""
        stood = num_accepted - 1
        tested = stood + (num_accepted < num_drafted)
        if tested:
            self._first_tested(agreement).observe(1, min(stood, 1))
            self._later.observe(tested - 1, max(stood - 1, 0))

    def _first_tested(self, agreement: int) -> _Rate:
        return self._first[min(agreement, max(self._first))]


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
