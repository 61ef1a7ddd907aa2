"""How many tokens to draft: every one more costs time to verify, and fewer of them stand."""

from __future__ import annotations

from typing import Protocol

_DECAY = 0.9  # weight of the past after each draft: about the last ten drafts count
_PRIOR_TESTED, _PRIOR_ACCEPTED = 4.0, 3.0  # what to expect before the first draft


class DraftLength(Protocol):
    """Chooses the length of the next draft."""

    @property
    def limit(self) -> int:
        """Most tokens that the next draft may have, its decided first token included."""
        ...

    def observe(self, num_drafted: int, num_accepted: int) -> None:
        """Learn how much of a draft stood, its decided first token included."""
        ...


class FixedDraftLength:
    """Always the same limit, ``n`` in the paper.

    Args:
        limit: longest draft.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def observe(self, num_drafted: int, num_accepted: int) -> None:
        """Learn nothing."""


class AdaptiveDraftLength:
    """The length that promises the most tokens for the time.

    With ``a`` the share of tested tokens that stood lately, a draft of ``n`` tokens yields ``1 + a + ... + a^(n-1)``
    tokens, its first being decided, and costs ``1 + c (n - 1)`` forwards of one token. What a device computes beside
    one token almost for free (small ``c``) is drafted freely; where a forward grows with its width, drafts stay as
    long as they have proved to be.

    Args:
        longest: longest draft ever.
        marginal_cost: ``c``, time of one more token in a forward relative to a forward of one token.
    """

    def __init__(self, longest: int, marginal_cost: float) -> None:
        self._longest = longest
        self._marginal_cost = marginal_cost
        self._tested, self._accepted = _PRIOR_TESTED, _PRIOR_ACCEPTED

    @property
    def limit(self) -> int:
        """Return the length of the best yield for its cost, but two at least: shorter drafts would teach nothing."""
        acceptance = self._accepted / self._tested
        expected, best_rate, length = 1.0, 1.0, 1
        while length < self._longest:  # the rate has one maximum, so its first fall ends the search
            expected += acceptance**length
            rate = expected / (1 + self._marginal_cost * length)
            if rate < best_rate:
                break
            best_rate, length = rate, length + 1
        return max(length, min(2, self._longest))

    def observe(self, num_drafted: int, num_accepted: int) -> None:
        """Learn from the tokens that were tested: the accepted ones and the first that was not."""
        num_stood = num_accepted - 1
        num_tested = num_stood + (num_accepted < num_drafted)
        self._tested = self._tested * _DECAY + num_tested
        self._accepted = self._accepted * _DECAY + num_stood
