"""Picking a token from a distribution: greedy, temperature, top-k, top-p."""

from __future__ import annotations

import torch
from torch import Tensor

from nest_engine.config import NestConfig


def warp(probs_QV: Tensor, *, temperature: float, top_k: int | None, top_p: float) -> Tensor:
    """Reshape distributions the way transformers does: temperature, then top-k, then top-p.

    ``softmax(log p / T)`` equals ``softmax(logits / T)``, so starting from probabilities loses
    nothing and serves p_LM and p_M alike.

    Args:
        probs_QV: distributions.
        temperature: above 0.
        top_k: keep this many tokens (ties included); None keeps all.
        top_p: keep the most probable tokens that together reach this probability.

    Returns:
        distributions, ``[Q, V]``.
    """
    scores_QV = probs_QV.log()
    # however small, nothing overflows
    temperature = max(temperature, torch.finfo(scores_QV.dtype).tiny)
    scores_QV = (scores_QV - scores_QV.amax(-1, keepdim=True)) / temperature
    if top_k is not None and top_k < scores_QV.shape[-1]:
        smallest_kept_Q = scores_QV.topk(top_k, dim=-1).values[:, -1:]
        scores_QV = scores_QV.masked_fill(scores_QV < smallest_kept_Q, -torch.inf)
    if top_p < 1.0:
        ascending_QV, order_QV = scores_QV.sort(dim=-1)
        is_tail_QV = ascending_QV.softmax(-1).cumsum(-1) <= 1.0 - top_p
        is_tail_QV[:, -1] = False  # the most probable token always stays
        scores_QV = scores_QV.masked_fill(is_tail_QV.scatter(1, order_QV, is_tail_QV), -torch.inf)
    return scores_QV.softmax(-1)


def without(probs_V: Tensor, token: int | None) -> Tensor:
    """Remove one token from a distribution and renormalise: what is left after it was rejected.

    Args:
        probs_V: a distribution.
        token: the rejected token; None leaves the distribution as it is.

    Returns:
        a distribution, ``[V]``.
    """
    if token is None:
        return probs_V
    rest_V = probs_V.clone()
    rest_V[token] = 0.0
    return rest_V / rest_V.sum()


class Sampler:
    """Picks tokens as a request asks: greedily, or sampled with a generator of its own.

    Args:
        config: temperature, top-k, top-p, seed. Without a seed it follows ``torch.manual_seed``.
        device: where the distributions are.
    """

    def __init__(self, config: NestConfig, device: torch.device) -> None:
        self.generator = None if config.greedy else _generator(config.seed, device)
        self._config = config

    def warped(self, probs_QV: Tensor) -> Tensor:
        """Return the distributions that tokens are picked from; as they are when greedy."""
        if self.generator is None:
            return probs_QV
        config = self._config
        return warp(
            probs_QV, temperature=config.temperature, top_k=config.top_k, top_p=config.top_p
        )

    def pick(self, probs_V: Tensor) -> int:
        """Pick a token from a warped distribution."""
        return pick(probs_V, self.generator)


def pick(probs_V: Tensor, generator: torch.Generator | None) -> int:
    """Pick a token: the most probable one without a generator, a sample with one.

    Args:
        probs_V: a distribution.
        generator: source of randomness; None is greedy.

    Returns:
        a token id.
    """
    if generator is None:
        return int(probs_V.argmax())
    return int(torch.multinomial(probs_V, 1, generator=generator))


def _generator(seed: int | None, device: torch.device) -> torch.Generator:
    if seed is None:
        seed = int(torch.randint(2**62, (1,)))
    return torch.Generator(device).manual_seed(seed)
