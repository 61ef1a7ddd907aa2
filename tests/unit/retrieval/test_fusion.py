from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nest_engine.retrieval.fusion import dense_weight, fall_off, fuse
from nest_engine.retrieval.ranking import Ranking


def ranking(*hits: tuple[int, float]) -> Ranking:
    return Ranking(
        np.array([row for row, _ in hits], np.int64),
        np.array([score for _, score in hits], np.float64),
    )


def test_worked_example():
    sparse = ranking((1, 10.0), (2, 5.0))  # eta_sparse = 1 - 5/10 = 0.5
    dense = ranking((2, 8.0), (3, 6.0))  # eta_dense = 1 - 6/8 = 0.25
    # eta = 0.7 * 0.5 + 0.3 * 0.25 = 0.425, and what is missing takes 5 (sparse) or 6 (dense): row
    # 1: 0.425 * 6 + 0.575 * 10 = 8.3;  row 2: 0.425 * 8 + 0.575 * 5 = 6.275;  row 3: 0.425 * 6 +
    # 0.575 * 5 = 5.425
    fused = fuse(sparse, dense, 10)
    assert fused.rows.tolist() == [1, 2, 3]
    assert fused.scores == pytest.approx([8.3, 6.275, 5.425])


def test_fall_off_reads_rank_100_of_a_longer_list():
    scores = np.arange(300, 0, -1)  # rank 1 scores 300, rank 100 scores 201
    assert fall_off(scores) == pytest.approx(1 - 201 / 300)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        pytest.param([4.0, 1.0], 0.75, id="shorter than 100: its lowest score"),
        pytest.param([4.0], 0.0, id="a single hit"),
        pytest.param([], 0.0, id="no hit"),
        pytest.param([0.0, -1.0], 0.0, id="best score is zero"),
        pytest.param([-1.0, -2.0], 0.0, id="best score is negative"),
        pytest.param([2.0, -6.0], 1.0, id="falls below zero"),
    ],
)
def test_fall_off_where_the_paper_leaves_it_open(scores: list[float], expected: float):
    assert fall_off(np.array(scores)) == expected


def test_dense_weight_at_its_corners():
    flat, steep = np.array([1.0, 1.0]), np.array([1.0, 0.0])
    assert dense_weight(sparse=flat, dense=steep) == pytest.approx(1.0)
    assert dense_weight(sparse=steep, dense=flat) == pytest.approx(0.0)
    assert dense_weight(sparse=flat, dense=flat) == pytest.approx(0.7)
    assert dense_weight(sparse=steep, dense=steep) == pytest.approx(0.3)


def test_one_empty_ranking_leaves_the_order_of_the_other():
    hits = ranking((7, 3.0), (2, 2.0), (9, 1.0))
    assert fuse(Ranking.empty(), hits, 10).rows.tolist() == [7, 2, 9]
    assert fuse(hits, Ranking.empty(), 10).rows.tolist() == [7, 2, 9]
    assert len(fuse(Ranking.empty(), Ranking.empty(), 10).rows) == 0


def test_equal_scores_come_in_the_order_of_the_corpus():
    hits = ranking((1, 1.0), (4, 1.0), (5, 1.0))
    assert fuse(hits, hits, 2).rows.tolist() == [1, 4]


scores = st.floats(-100, 100, width=32)
rankings = st.dictionaries(st.integers(0, 300), scores, max_size=150).map(
    lambda hits: ranking(*sorted(hits.items(), key=lambda hit: (-hit[1], hit[0])))
)


@settings(deadline=None)
@given(rankings, rankings, st.integers(1, 400))
def test_fused_rows_are_the_best_of_the_union(sparse: Ranking, dense: Ranking, k: int):
    union = set(sparse.rows.tolist()) | set(dense.rows.tolist())
    fused = fuse(sparse, dense, k)
    assert len(set(fused.rows.tolist())) == len(fused.rows) == min(k, len(union))
    assert set(fused.rows.tolist()) <= union
    assert all(np.diff(fused.scores) <= 0)
    assert 0 <= dense_weight(sparse.scores, dense.scores) <= 1


@settings(deadline=None)
@given(rankings, rankings)
def test_a_row_that_both_rank_higher_is_ranked_higher(sparse: Ranking, dense: Ranking):
    place = {row: place for place, row in enumerate(fuse(sparse, dense, 1000).rows.tolist())}
    in_sparse, in_dense = (
        dict(zip(r.rows.tolist(), r.scores.tolist(), strict=True)) for r in (sparse, dense)
    )
    shared = sorted(in_sparse.keys() & in_dense.keys())
    for better in shared:
        for worse in shared:
            if in_sparse[better] > in_sparse[worse] and in_dense[better] > in_dense[worse]:
                assert place[better] < place[worse]


@settings(deadline=None)
@given(rankings, st.floats(0.125, 8))
def test_fall_off_does_not_depend_on_the_scale(hits: Ranking, factor: float):
    assert fall_off(hits.scores * factor) == pytest.approx(fall_off(hits.scores))
