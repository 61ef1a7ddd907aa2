"""Steps 1 to 4 with a request's settings: search its token index, mix what is found into p_LM."""

from __future__ import annotations

from torch import Tensor

from nest_engine._stopwatch import Stopwatch
from nest_engine.config import NestConfig
from nest_engine.datastore.token_index import TokenIndex
from nest_engine.decoding.mixture import Mixture, Neighbors, distance_scale, mix


class Interpolation:
    """Turn p_LM and hidden states into p_M.

    Args:
        index: what is searched.
        config: how many neighbours, and how far they are trusted.
        stopwatch: where to add up the time.
    """

    def __init__(self, index: TokenIndex, config: NestConfig, stopwatch: Stopwatch) -> None:
        self._index = index
        self._config = config
        self._stopwatch = stopwatch

    def mix(self, lm_probs_QV: Tensor, hidden_QD: Tensor) -> Mixture:
        """Return p_M at ``Q`` positions.

        Args:
            lm_probs_QV: p_LM.
            hidden_QD: the hidden states to search with.
        """
        with self._stopwatch.phase("token_search"):
            neighbors = self._index.search(hidden_QD, self._config.k)  # 1
            width = hidden_QD.shape[-1]
            return interpolate(lm_probs_QV, neighbors, self._config, width)  # 2 to 4


def interpolate(
    lm_probs_QV: Tensor, neighbors: Neighbors | None, config: NestConfig, width: int
) -> Mixture:
    """Mix the model with its neighbours by the settings of a request.

    Args:
        lm_probs_QV: p_LM.
        neighbors: nearest entries of each query; None leaves the model alone.
        config: the settings.
        width: ``D``, width of the hidden state.
    """
    return mix(
        lm_probs_QV,
        neighbors,
        scale=distance_scale(width, config.knn_temperature),
        alpha=config.alpha,
        tau=config.tau,
        fixed_lambda=config.fixed_lambda,
    )
