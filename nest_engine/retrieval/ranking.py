"""The hits of one query: rows of a corpus with their scores, best first."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Ranking(NamedTuple):
    """Rows of a corpus, best first; rows with equal scores in the order of the corpus.

    Args:
        rows: row numbers, int64 ``[n]``.
        scores: relevance of each row, higher is better, float ``[n]``.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.floating[Any]]

    @classmethod
    def best(cls, rows: NDArray[np.int64], scores: NDArray[np.floating[Any]], k: int) -> Ranking:
        """Rank the ``k`` best of ``n`` rows.

        Args:
            rows: row numbers, ascending, ``[n]``.
            scores: their scores, ``[n]``.
            k: how many to keep; all of them when there are fewer.
        """
        if len(rows) > k:
            # A linear pass drops almost everything before the sort. All ties with the k-th score
            # stay, so that the stable sort below decides between them, not the partition.
            kept = scores >= np.partition(scores, -k)[-k]
            rows, scores = rows[kept], scores[kept]
        order = np.argsort(-scores, kind="stable")[:k]
        return cls(rows[order], scores[order])

    def rescaled(self) -> Ranking:
        """Return the same rows, scaled to a best score of 1; unchanged if no score is positive."""
        if not len(self.scores) or self.scores[0] <= 0:
            return self
        return Ranking(self.rows, self.scores / self.scores[0])

    @classmethod
    def empty(cls) -> Ranking:
        """Return the ranking of a query that matches nothing."""
        return cls(np.empty(0, np.int64), np.empty(0, np.float32))
