"""From distances to p_M: the two-stage kNN distribution, its confidence, and the mixture.

Source: the NEST paper's sections on two-stage kNN search and on confidence-based interpolation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Neighbors:
    """The ``k`` nearest index entries of each query, nearest first.

    Args:
        distances_QK: squared L2 distances, float32.
        values_QK: token ids that follow the neighbours.
        entries_QK: rows of the token index.
        trust_QK: how far the neighbours' sentences are trusted, in (0, 1]; None when all count the
            same.
    """

    distances_QK: Tensor
    values_QK: Tensor
    entries_QK: Tensor
    trust_QK: Tensor | None = None

    def __len__(self) -> int:
        return self.distances_QK.shape[-1]


@dataclass(frozen=True)
class Mixture:
    """The next-token distributions of ``Q`` positions and how they came about.

    Args:
        probs_QV: p_M, float32.
        lambda_Q: interpolation coefficient; 1 is the model alone.
        neighbors: what the datastore contributed; None when it holds nothing that may be copied.
        beginnings: of an election of sentences, the entry of the most trusted sentence that each
            token begins; else None.
    """

    probs_QV: Tensor
    lambda_Q: Tensor
    neighbors: Neighbors | None
    beginnings: Mapping[int, int] | None = None


def model_alone(lm_probs_QV: Tensor) -> Mixture:
    """Return p_LM as a mixture: lambda is 1, whatever the datastore says."""
    return Mixture(lm_probs_QV, lm_probs_QV.new_ones(len(lm_probs_QV)), None)


def plausible(mixture: Mixture, lm_probs_QV: Tensor, plausibility: float) -> Mixture:
    """Leave out of p_M what the model finds implausible, and scale the rest to 1.

    A token is plausible if ``p_LM(w) >= plausibility * max p_LM``: the passages say which of the
    plausible things is said, and the model has the last word on what can be said. This is the
    constraint of contrastive decoding (Li et al. 2023, section 3.3).

    Args:
        mixture: p_M.
        lm_probs_QV: p_LM.
        plausibility: the least share of the most probable token; 0 leaves p_M as it is.
    """
    if plausibility == 0:
        return mixture
    is_plausible_QV = lm_probs_QV >= plausibility * lm_probs_QV.amax(-1, keepdim=True)
    probs_QV = mixture.probs_QV * is_plausible_QV
    total_Q = probs_QV.sum(-1, keepdim=True)
    # Where the datastore has all the say and says nothing plausible, the model speaks.
    alone_QV = lm_probs_QV * is_plausible_QV
    alone_QV = alone_QV / alone_QV.sum(-1, keepdim=True)
    return replace(mixture, probs_QV=torch.where(total_Q > 0, probs_QV / total_Q, alone_QV))


def squared_distances(query_QD: Tensor, keys_ND: Tensor, key_norms_N: Tensor) -> Tensor:
    """Return squared L2 distances between queries and keys.

    Computed as ``|q|^2 - 2 q.k + |k|^2`` so that one matrix product serves all queries and no
    difference vectors are formed. Norms are float32 whatever the keys are: in bfloat16 their
    rounding alone reorders neighbours.

    Args:
        query_QD: hidden states, float32.
        keys_ND: index keys, float32.
        key_norms_N: squared norms of the keys, float32.

    Returns:
        distances, ``[Q, N]``, float32, never negative.
    """
    query_norms_Q = query_QD.square().sum(-1)
    distances_QN = torch.addmm(key_norms_N[None, :], query_QD, keys_ND.T, alpha=-2.0)
    return distances_QN.add_(query_norms_Q[:, None]).clamp_(min=0.0)


def distance_scale(width: int, knn_temperature: float) -> float:
    """Return what distances are divided by to become weights: ``T sqrt(D)``. The paper has no T.

    ``sqrt(D)`` fits hidden states whose squared components have a mean of about 1. Models differ in
    that, and what is a short way for one is as far as it goes for another.

    Args:
        width: ``D``, width of the hidden state.
        knn_temperature: ``T``; the smaller, the more the nearest neighbours decide.
    """
    return knn_temperature * math.sqrt(width)


def neighbor_weights(neighbors: Neighbors, scale: float) -> tuple[Tensor, Tensor | None]:
    """Return the neighbours' weights in p_kNN, and the trust left to them.

    Weights are ``softmax(-d / (T sqrt(D)))``. The trust in their sentences multiplies them;
    what is lost thereby is lost to the datastore as a whole, and the rest is scaled to 1.

    Args:
        neighbors: the neighbours.
        scale: what distances are divided by.

    Returns:
        weights, ``[Q, K]``, summing to 1 over the neighbours; and the share, ``[Q]``, None where
        all count the same.
    """
    weights_QK = torch.softmax(-neighbors.distances_QK / scale, dim=-1)
    if neighbors.trust_QK is None:
        return weights_QK, None
    share_Q = (weights_QK * neighbors.trust_QK).sum(-1)
    return torch.softmax(-costs(neighbors, scale), dim=-1), share_Q


def costs(neighbors: Neighbors, scale: float) -> Tensor:
    """Return the neighbours' negative log weights, up to a constant: the least is copied from.

    Args:
        neighbors: the neighbours.
        scale: what distances are divided by.

    Returns:
        costs, ``[Q, K]``.
    """
    costs_QK = neighbors.distances_QK / scale
    return costs_QK if neighbors.trust_QK is None else costs_QK - neighbors.trust_QK.log()


def knn_distribution(weights_QK: Tensor, values_QK: Tensor, vocab_size: int) -> Tensor:
    """Sum the neighbours' weights by token: p_kNN.

    Args:
        weights_QK: neighbour weights.
        values_QK: token ids that follow the neighbours.
        vocab_size: ``V``.

    Returns:
        p_kNN, ``[Q, V]``.
    """
    probs_QV = weights_QK.new_zeros(weights_QK.shape[0], vocab_size)
    return probs_QV.scatter_add_(1, values_QK, weights_QK)


def retrieval_confidence(distances_QK: Tensor, alpha: float, tau: float) -> Tensor:
    """Return lambda, the model's share in the mixture: ``sigmoid((min d / max d - alpha) / tau)``.

    A nearest neighbour much closer than the ``k``-th makes the ratio, and lambda, small: trust the
    datastore. When every distance is zero the neighbours say nothing about confidence, and the
    ratio is 1.

    Args:
        distances_QK: squared L2 distances of the ``k`` nearest neighbours.
        alpha: offset.
        tau: temperature.

    Returns:
        lambda, ``[Q]``.
    """
    nearest_Q, farthest_Q = distances_QK.amin(-1), distances_QK.amax(-1)
    ratio_Q = torch.where(farthest_Q > 0, nearest_Q / farthest_Q, 1.0)
    return torch.sigmoid((ratio_Q - alpha) / tau)


def mix(
    lm_probs_QV: Tensor,
    neighbors: Neighbors | None,
    *,
    scale: float,
    alpha: float,
    tau: float,
    fixed_lambda: float | None = None,
) -> Mixture:
    """Mix the model with the datastore: ``p_M = lambda p_LM + (1 - lambda) p_kNN`` (2 to 4).

    Trust that the datastore lacks goes to the model: ``1 - lambda`` is multiplied by the share that
    it has.

    Args:
        lm_probs_QV: p_LM.
        neighbors: nearest entries of each query; None or empty leaves the model alone (lambda 1).
        scale: what distances are divided by.
        alpha: offset of the confidence.
        tau: temperature of the confidence.
        fixed_lambda: use this lambda instead of the confidence (kNN-LM).

    Returns:
        the mixture.
    """
    if neighbors is None or len(neighbors) == 0:
        return model_alone(lm_probs_QV)
    weights_QK, share_Q = neighbor_weights(neighbors, scale)
    vocab_size = lm_probs_QV.shape[-1]
    knn_probs_QV = knn_distribution(weights_QK, neighbors.values_QK, vocab_size)  # 2
    if fixed_lambda is None:
        lambda_Q = retrieval_confidence(neighbors.distances_QK, alpha, tau)  # 3
    else:
        lambda_Q = torch.full_like(lm_probs_QV[:, 0], fixed_lambda)
    if share_Q is not None:
        lambda_Q = 1 - (1 - lambda_Q) * share_Q
    probs_QV = torch.lerp(knn_probs_QV, lm_probs_QV, lambda_Q[:, None])  # 4
    return Mixture(probs_QV, lambda_Q, neighbors)
