"""Fusion of a sparse and a dense ranking by the paper's rule: pure functions of the scores.

The ranking whose scores fall off more steeply separates relevant passages from the rest better, so
it has more weight::

    eta_x = 1 - s_x[rank 100] / max(s_x)
    eta   = 0.7 * (1 - eta_sparse) + 0.3 * eta_dense
    score = eta * dense + (1 - eta) * sparse

A passage missing from a ranking gets the ranking's lowest score.

What the paper leaves open:

* A ranking shorter than 100: its lowest score is used for rank 100, as for any missing passage.
* An empty ranking, or one whose best score is not positive: the ratio means nothing, so
  ``eta_x = 0``. The lowest score of an empty ranking is 0.
* A negative score at rank 100, which only inner products can have: ``eta_x = 1``, its largest
  value, so that no ranking ever counts against its own best passages.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nest_engine.retrieval.ranking import Ranking

FALL_OFF_RANK = 100


def fuse(sparse: Ranking, dense: Ranking, k: int) -> Ranking:
    """Merge two rankings of the same corpus and keep the ``k`` best rows; scores are float64."""
    eta = dense_weight(sparse.scores, dense.scores)
    rows = np.union1d(sparse.rows, dense.rows)
    return Ranking.best(
        rows, eta * _scores_at(rows, dense) + (1 - eta) * _scores_at(rows, sparse), k
    )


def dense_weight(sparse: NDArray[np.floating[Any]], dense: NDArray[np.floating[Any]]) -> float:
    """Return ``eta``, the weight of the dense score, from 0 to 1.

    Args:
        sparse: scores of the sparse ranking, best first.
        dense: scores of the dense ranking, best first.
    """
    return 0.7 * (1 - fall_off(sparse)) + 0.3 * fall_off(dense)


def fall_off(scores: NDArray[np.floating[Any]]) -> float:
    """Return ``eta_x``, how far scores have fallen at rank 100: from 0 (flat) to 1 (to nothing).

    Args:
        scores: the scores of a ranking, best first.
    """
    if len(scores) == 0 or scores[0] <= 0:
        return 0.0
    at_rank = scores[min(len(scores), FALL_OFF_RANK) - 1]
    return float(min(1 - np.float64(at_rank) / np.float64(scores[0]), 1.0))


def _scores_at(rows: NDArray[np.int64], ranking: Ranking) -> NDArray[np.float64]:
    """Return the score of each row, in ascending order of rows; the lowest for missing ones."""
    lowest = ranking.scores[-1] if len(ranking.scores) else 0.0
    scores = np.full(len(rows), lowest, np.float64)
    scores[np.searchsorted(rows, ranking.rows)] = ranking.scores
    return scores
