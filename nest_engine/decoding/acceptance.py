"""What to accept: which distribution tokens come from, and which part of a draft stands.

``RelaxedAcceptance`` is the paper's: p_M decides, and a drafted token stands unless p_M finds it
too improbable. ``LosslessAcceptance`` is speculative sampling: the model alone decides, and the
text is what it would be without drafts. A third way to accept is a third class.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from nest_engine.decoding.interpolation import Interpolation
from nest_engine.decoding.mixture import Mixture, model_alone, plausible
from nest_engine.decoding.sampling import Sampler, without

if TYPE_CHECKING:
    from nest_engine.decoding.sequence import SequenceState


class Acceptance(Protocol):
    """Decides which tokens stand.

    The *target* is the distribution that tokens are picked from and judged by.
    """

    def target(
        self,
        sequence: SequenceState,
        lm_probs_QV: Tensor,
        hidden_QD: Tensor,
        draft: Sequence[int] = (),
    ) -> Mixture:
        """Return the target at ``Q`` positions.

        Args:
            sequence: the sequence.
            lm_probs_QV: p_LM.
            hidden_QD: the model's hidden states.
            draft: tokens behind the accepted ones; position ``i`` follows ``draft[: i + 1]``.
        """
        ...

    def pick(self, target: Mixture, rejected: int | None) -> int:
        """Return a token for the first position.

        Args:
            target: the target.
            rejected: the drafted token that was turned down there, or None.
        """
        ...

    def accepted(self, target: Mixture, tokens_Q: Tensor) -> int:
        """Return how many drafted tokens, one at each position, stand before one is rejected."""
        ...


class RelaxedAcceptance:
    """Tokens come from p_M, and drafts stand by relaxed speculative decoding.

    Args:
        interpolation: searches and mixes.
        sampler: picks.
        gamma: relaxation of the test; smaller accepts more.
        plausibility: what p_LM finds less probable than this share of its maximum is neither picked
            nor accepted.
    """

    def __init__(
        self,
        interpolation: Interpolation,
        sampler: Sampler,
        gamma: float,
        plausibility: float = 0.0,
    ) -> None:
        self._interpolation = interpolation
        self._sampler = sampler
        self._gamma = gamma
        self._plausibility = plausibility

    def target(
        self,
        sequence: SequenceState,
        lm_probs_QV: Tensor,
        hidden_QD: Tensor,
        draft: Sequence[int] = (),
    ) -> Mixture:
        """Return p_M, without what is implausible."""
        mixture = self._interpolation.mix(lm_probs_QV, hidden_QD)
        return plausible(mixture, lm_probs_QV, self._plausibility)

    def pick(self, target: Mixture, rejected: int | None) -> int:
        """Pick from p_M; the rejected token may be picked after all, as in the paper."""
        return self._sampler.pick(self._sampler.warped(target.probs_QV[:1])[0])

    def accepted(self, target: Mixture, tokens_Q: Tensor) -> int:
        """Return how many tokens p_M accepts."""
        return accepted_prefix(accept_relaxed(target.probs_QV, tokens_Q, self._gamma))


class LosslessAcceptance:
    """Tokens come from the model alone, and drafts stand by speculative sampling.

    Args:
        sampler: picks.
    """

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler

    def target(
        self,
        sequence: SequenceState,
        lm_probs_QV: Tensor,
        hidden_QD: Tensor,
        draft: Sequence[int] = (),
    ) -> Mixture:
        """Return p_LM: lambda is 1, whatever the datastore says."""
        return model_alone(lm_probs_QV)

    def pick(self, target: Mixture, rejected: int | None) -> int:
        """Pick from p_LM without the rejected token: both together are a sample of p_LM."""
        probs_V = self._sampler.warped(target.probs_QV[:1])[0]
        return self._sampler.pick(without(probs_V, rejected))

    def accepted(self, target: Mixture, tokens_Q: Tensor) -> int:
        """Return how many tokens the model accepts."""
        probs_QV = self._sampler.warped(target.probs_QV)
        return accepted_prefix(accept_lossless(probs_QV, tokens_Q, self._sampler.generator))


def accept_relaxed(probs_QV: Tensor, tokens_Q: Tensor, gamma: float) -> Tensor:
    """Accept a token iff ``p_M(w) > 0.5 * gamma * max p_M``.

    Args:
        probs_QV: p_M at the position of each token.
        tokens_Q: draft tokens.
        gamma: relaxation; smaller accepts more.

    Returns:
        booleans, ``[Q]``.
    """
    drafted_Q = probs_QV.gather(1, tokens_Q[:, None])[:, 0]
    return drafted_Q > 0.5 * gamma * probs_QV.amax(-1)


def accept_lossless(
    probs_QV: Tensor, tokens_Q: Tensor, generator: torch.Generator | None
) -> Tensor:
    """Accept a token by speculative sampling against the model's own distribution.

    A draft token is a point mass, so it is accepted with probability ``p_LM(w)``. On rejection the
    caller samples from ``p_LM`` without ``w``; together that is a sample from ``p_LM`` (Leviathan
    et al. 2023, theorem 3.5 with a one-hot draft distribution). Greedy: accept iff ``w`` is the
    most probable token.

    Args:
        probs_QV: p_LM at the position of each token, warped as for sampling.
        tokens_Q: draft tokens.
        generator: source of randomness; None is greedy.

    Returns:
        booleans, ``[Q]``.
    """
    if generator is None:
        return probs_QV.argmax(-1) == tokens_Q
    drafted_Q = probs_QV.gather(1, tokens_Q[:, None])[:, 0]
    return torch.rand(drafted_Q.shape, generator=generator, device=drafted_Q.device) < drafted_Q


def accepted_prefix(is_accepted_Q: Tensor) -> int:
    """Return how many tokens stand before the first rejection.

    Args:
        is_accepted_Q: whether each token is accepted on its own.

    Returns:
        length of the accepted prefix.
    """
    return int(is_accepted_Q.long().cumprod(0).sum())
