"""How decoding came to each token: picked, drafted and accepted, or drafted and turned down.

Probabilities stay where they were computed until somebody reads the trace: recording them waits for
no device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from nest_engine.records import TokenStatus


class TraceEntry(NamedTuple):
    """A token as it was judged; fields as in ``TracedToken``."""

    token_id: int
    status: TokenStatus
    probability: float
    lambda_: float
    step: int
    dropped: int


@dataclass(frozen=True)
class _Judgement:
    """Tokens judged in a row.

    Args:
        step: the decoding step.
        tokens: the tokens that stand, then the one that was turned down, if any.
        num_standing: how many of them stand.
        was_picked: whether the token was picked, not drafted.
        dropped: how many drafted tokens fell with the one turned down, itself included.
        figures: p_M and lambda of each, ``[2, Q]``.
    """

    step: int
    tokens: tuple[int, ...]
    num_standing: int
    was_picked: bool
    dropped: int
    figures: Tensor

    def status(self, row: int) -> TokenStatus:
        """Return what became of token ``row``."""
        if row >= self.num_standing:
            return "rejected"
        return "picked" if self.was_picked else "accepted"


class Trace:
    """The tokens of one answer as they were picked, accepted and rejected."""

    def __init__(self) -> None:
        self._judgements: list[_Judgement] = []
        self._step = -1

    @property
    def num_steps(self) -> int:
        """Decoding steps so far."""
        return self._step + 1

    def begin_step(self) -> None:
        """Count a decoding step."""
        self._step += 1

    def pick(self, token: int, probs_QV: Tensor, lambda_Q: Tensor) -> None:
        """Record a token picked at the first position of a mixture."""
        figures = torch.stack((probs_QV[:1, token], lambda_Q[:1]))
        self._judgements.append(_Judgement(self._step, (token,), 1, True, 0, figures))

    def judge(
        self, tokens: Sequence[int], num_accepted: int, probs_Q: Tensor, lambda_Q: Tensor
    ) -> None:
        """Record the drafted tokens that were judged: those accepted and the first one rejected.

        Args:
            tokens: the drafted tokens.
            num_accepted: how many of them stand.
            probs_Q: p_M of each.
            lambda_Q: interpolation coefficient at each.
        """
        judged = tuple(tokens[: num_accepted + 1])
        figures = torch.stack((probs_Q[: len(judged)], lambda_Q[: len(judged)]))
        dropped = len(tokens) - num_accepted
        self._judgements.append(
            _Judgement(self._step, judged, num_accepted, False, dropped, figures)
        )

    def entries(self, num_tokens: int) -> list[TraceEntry]:
        """Return how the first ``num_tokens`` tokens came about, rejected ones included.

        Args:
            num_tokens: tokens of the answer; it may have been cut since.
        """
        if not self._judgements:
            return []
        probabilities, lambdas = torch.cat(
            [judgement.figures for judgement in self._judgements], dim=1
        ).tolist()
        entries: list[TraceEntry] = []
        num_standing = 0
        for judgement in self._judgements:
            for row, token in enumerate(judgement.tokens):
                if num_standing == num_tokens:
                    return entries
                status = judgement.status(row)
                dropped = judgement.dropped if status == "rejected" else 0
                figures = probabilities[len(entries)], lambdas[len(entries)]
                entries.append(TraceEntry(token, status, *figures, judgement.step, dropped))
                num_standing += status != "rejected"
        return entries
