"""How far to trust the datastore: alpha, tau and the temperature, by perplexity."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import product, starmap
from typing import NamedTuple

import torch
from torch import Tensor

from nest_engine.config import NestConfig
from nest_engine.decoding.mixture import (
    distance_scale,
    knn_distribution,
    neighbor_weights,
    retrieval_confidence,
)
from nest_engine.generation.scoring import Predicted

ALPHAS = tuple(round(0.1 * i, 1) for i in range(-2, 11))
TAUS = (0.02, 0.05, 0.1, 0.2, 0.3)
KNN_TEMPERATURES = (0.03, 0.1, 0.3, 1.0)


class Trust(NamedTuple):
    """The settings of ``NestConfig`` that p_M depends on."""

    alpha: float
    tau: float
    knn_temperature: float

    @classmethod
    def of(cls, config: NestConfig) -> Trust:
        """Return those of a configuration."""
        return cls(config.alpha, config.tau, config.knn_temperature)


class TrustRow(NamedTuple):
    """The perplexity under p_M with some settings.

    Args:
        trust: the settings.
        perplexity: perplexity by condition.
        mean: perplexity over the conditions, each of them counting the same.
    """

    trust: Trust
    perplexity: dict[str, float]
    mean: float


class PredictedTexts:
    """What predicted each token of the texts, before alpha and tau enter.

    With it, the perplexity for any alpha and tau is a matter of arithmetic: no forward is needed.

    Args:
        temperatures: the values of ``knn_temperature`` that p_kNN is kept for.
    """

    def __init__(self, temperatures: Iterable[float]) -> None:
        self.temperatures = tuple(temperatures)
        self.lm_probs: dict[str, list[Tensor]] = defaultdict(list)
        self.distances: dict[str, list[Tensor]] = defaultdict(list)  # nearest and farthest
        # By temperature: probability of the token under p_kNN, and the share of trust that
        # relevance leaves.
        self.knn_probs: dict[tuple[str, float], list[Tensor]] = defaultdict(list)

    def add(self, condition: str, predicted: Predicted) -> None:
        """Add some tokens of a text."""
        targets_Q1 = torch.tensor(predicted.targets, device=predicted.lm_probs_QV.device)[:, None]
        lm_probs_Q = predicted.lm_probs_QV.gather(1, targets_Q1)[:, 0]
        self.lm_probs[condition].append(lm_probs_Q.double().cpu())
        if predicted.neighbors is None:
            ends_Q2 = torch.ones(len(lm_probs_Q), 2)
        else:
            distances_QK = predicted.neighbors.distances_QK
            ends_Q2 = torch.stack([distances_QK.amin(-1), distances_QK.amax(-1)], dim=-1)
        self.distances[condition].append(ends_Q2.double().cpu())
        for temperature in self.temperatures:
            knn_probs_Q2 = _knn_probs(predicted, targets_Q1, temperature)
            self.knn_probs[condition, temperature].append(knn_probs_Q2.double().cpu())

    def sweep(self) -> list[TrustRow]:
        """Return a row for every combination of the values that are tried."""
        return [
            TrustRow(trust, self.perplexity(trust), self.mean_perplexity(trust))
            for trust in starmap(Trust, product(ALPHAS, TAUS, KNN_TEMPERATURES))
        ]

    def perplexity(self, trust: Trust | None) -> dict[str, float]:
        """Return the perplexity in each condition; None trusts the model alone."""
        return {condition: math.exp(self._nll(condition, trust)) for condition in self.lm_probs}

    def mean_perplexity(self, trust: Trust) -> float:
        """Return the perplexity over the conditions, each of them counting the same."""
        return math.exp(
            sum(self._nll(condition, trust) for condition in self.lm_probs) / len(self.lm_probs)
        )

    def _nll(self, condition: str, trust: Trust | None) -> float:
        lm_probs_T = torch.cat(self.lm_probs[condition])
        if trust is None:
            return -float(lm_probs_T.log().mean())
        knn_probs_T2 = torch.cat(self.knn_probs[condition, trust.knn_temperature])
        knn_probs_T, shares_T = knn_probs_T2.unbind(-1)
        distances_T2 = torch.cat(self.distances[condition])
        lambda_T = 1 - (1 - retrieval_confidence(distances_T2, trust.alpha, trust.tau)) * shares_T
        return -float(torch.lerp(knn_probs_T, lm_probs_T, lambda_T).log().mean())


def choose_trust(rows: Sequence[TrustRow]) -> Trust:
    """Return the settings with the most trust among those that predict as well as the best.

    Within a hundredth of the best perplexity the texts do not decide. More trust then quotes more,
    and is faster.
    """
    least = min(row.mean for row in rows)
    row = max(
        (row for row in rows if row.mean <= 1.01 * least),
        key=lambda row: (row.trust.alpha, -row.mean),
    )
    return row.trust


def _knn_probs(predicted: Predicted, targets_Q1: Tensor, temperature: float) -> Tensor:
    """Return p_kNN of the targets and the share of trust that relevance leaves, ``[Q, 2]``."""
    lm_probs_QV = predicted.lm_probs_QV
    if predicted.neighbors is None:
        return lm_probs_QV.new_zeros(len(lm_probs_QV), 2)
    scale = distance_scale(predicted.width, temperature)
    weights_QK, share_Q = neighbor_weights(predicted.neighbors, scale)
    knn_probs_QV = knn_distribution(
        weights_QK, predicted.neighbors.values_QK, lm_probs_QV.shape[-1]
    )
    knn_probs_Q = knn_probs_QV.gather(1, targets_Q1)[:, 0]
    return torch.stack(
        [knn_probs_Q, torch.ones_like(knn_probs_Q) if share_Q is None else share_Q], dim=-1
    )
