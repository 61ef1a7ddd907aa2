from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nest_engine.retrieval.ranking import Ranking


@settings(deadline=None)
@given(st.lists(st.sampled_from([0.5, 1.0, 2.0, 3.0]), max_size=60), st.integers(1, 80))
def test_best_is_the_head_of_a_full_sort(scores: list[float], k: int):
    """Few distinct scores, so that ties straddle the cut."""
    rows = np.arange(len(scores), dtype=np.int64) * 3
    ranking = Ranking.best(rows, np.array(scores), k)
    expected = sorted(zip(rows.tolist(), scores, strict=True), key=lambda hit: (-hit[1], hit[0]))[
        :k
    ]
    assert list(zip(ranking.rows.tolist(), ranking.scores.tolist(), strict=True)) == expected


def test_rescaling_keeps_the_order_and_what_is_not_positive():
    rows = np.arange(2, dtype=np.int64)
    assert Ranking(rows, np.array([4.0, 1.0])).rescaled().scores.tolist() == [1.0, 0.25]
    assert Ranking(rows, np.array([0.0, -1.0])).rescaled().scores.tolist() == [0.0, -1.0]
    assert len(Ranking.empty().rescaled().rows) == 0
