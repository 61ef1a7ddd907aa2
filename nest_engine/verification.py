"""Which part of a draft stands: relaxed (the paper's relaxed speculative decoding) and lossless acceptance."""

from __future__ import annotations

import torch
from torch import Tensor


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


def accept_lossless(probs_QV: Tensor, tokens_Q: Tensor, generator: torch.Generator | None) -> Tensor:
    """Accept a token by speculative sampling against the model's own distribution.

    A draft token is a point mass, so it is accepted with probability ``p_LM(w)``. On rejection the caller samples
    from ``p_LM`` without ``w``; together that is a sample from ``p_LM`` (Leviathan et al. 2023, theorem 3.5 with a
    one-hot draft distribution). Greedy: accept iff ``w`` is the most probable token.

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
        is_accepted_Q: acceptance of each token by itself.

    Returns:
        length of the accepted prefix.
    """
    return int(is_accepted_Q.long().cumprod(0).sum())
