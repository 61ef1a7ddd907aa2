"""The mixture, against numbers worked out by hand and against a loop."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nest_engine.decoding.mixture import (
    Neighbors,
    distance_scale,
    knn_distribution,
    mix,
    neighbor_weights,
    retrieval_confidence,
    squared_distances,
)

SCALE = distance_scale(4, 1.0)  # sqrt(D) = 2
# weights 1, 1/2, 1/4 before normalisation
HALVINGS = torch.tensor([[0.0, 2 * math.log(2), 2 * math.log(4)]])


def test_knn_distribution_sums_the_weights_of_equal_tokens():
    values = torch.tensor([[5, 3, 5]])
    weights, share = neighbor_weights(Neighbors(HALVINGS, values, values), SCALE)
    assert share is None
    assert weights.tolist() == [pytest.approx([4 / 7, 2 / 7, 1 / 7])]
    probs = knn_distribution(weights, values, 6)
    assert probs.tolist() == [pytest.approx([0, 0, 0, 2 / 7, 0, 5 / 7])]


def test_distant_neighbours_do_not_underflow():
    values = torch.tensor([[5, 3, 5]])
    for trust in (None, torch.full((1, 3), 1e-6)):
        weights, _ = neighbor_weights(Neighbors(HALVINGS + 1e4, values, values, trust), SCALE)
        assert weights.tolist() == [pytest.approx([4 / 7, 2 / 7, 1 / 7], abs=1e-3)]


@pytest.mark.parametrize(
    ("distances", "expected"),
    [
        ([1.0, 2.0, 4.0], 0.3775406688),  # sigmoid((1/4 - 0.3) / 0.1)
        ([0.0, 1.0], 0.0474258732),  # sigmoid(-3): an exact match
        ([3.0], 0.9990889488),  # sigmoid(7): one neighbour is both nearest and farthest
        ([0.0, 0.0], 0.9990889488),  # a zero farthest distance counts as ratio 1
    ],
)
def test_confidence(distances, expected):
    assert retrieval_confidence(torch.tensor([distances]), 0.3, 0.1).tolist() == pytest.approx(
        [expected]
    )


def test_mix_adds_up():
    neighbors = Neighbors(HALVINGS + 1.0, torch.tensor([[5, 3, 5]]), torch.tensor([[0, 1, 2]]))
    lm_probs = torch.full((1, 6), 1 / 6)
    mixture = mix(lm_probs, neighbors, scale=SCALE, alpha=0.3, tau=0.1)
    lambda_ = 1 / (1 + math.exp(-(1 / (1 + 2 * math.log(4)) - 0.3) / 0.1))
    assert mixture.lambda_Q.tolist() == pytest.approx([lambda_])
    assert float(mixture.probs_QV[0, 5]) == pytest.approx(lambda_ / 6 + (1 - lambda_) * 5 / 7)
    assert float(mixture.probs_QV[0, 0]) == pytest.approx(lambda_ / 6)
    assert float(mixture.probs_QV.sum()) == pytest.approx(1.0)


def test_fixed_lambda_replaces_the_confidence():
    neighbors = Neighbors(HALVINGS, torch.tensor([[0, 1, 0]]), torch.tensor([[0, 1, 2]]))
    mixture = mix(
        torch.tensor([[0.2, 0.8]]), neighbors, scale=SCALE, alpha=0.3, tau=0.1, fixed_lambda=0.7
    )
    assert mixture.lambda_Q.tolist() == pytest.approx([0.7])
    assert mixture.probs_QV.tolist() == [
        pytest.approx([0.7 * 0.2 + 0.3 * 5 / 7, 0.7 * 0.8 + 0.3 * 2 / 7])
    ]


@pytest.mark.parametrize("fixed_lambda", [None, 0.7])
def test_trust_that_irrelevant_passages_lose_goes_to_the_model(fixed_lambda):
    """Every neighbour has its vote of the whole, times its trust; the model has the rest."""
    trust = torch.tensor([[0.1, 1.0, 0.5]])
    neighbors = Neighbors(
        HALVINGS + 1.0, torch.tensor([[0, 1, 2]]), torch.tensor([[0, 1, 2]]), trust
    )
    lm_probs = torch.full((1, 4), 0.25)
    settings = {"scale": SCALE, "alpha": 0.3, "tau": 0.1, "fixed_lambda": fixed_lambda}
    alone = mix(lm_probs, dataclasses.replace(neighbors, trust_QK=None), **settings)
    trust = 1 - float(alone.lambda_Q)
    votes = [4 / 7 * 0.1, 2 / 7 * 1.0, 1 / 7 * 0.5, 0.0]
    expected = [trust * vote + (1 - trust * sum(votes)) * 0.25 for vote in votes]
    mixture = mix(lm_probs, neighbors, **settings)
    assert mixture.probs_QV.tolist() == [pytest.approx(expected)]
    assert mixture.lambda_Q.tolist() == pytest.approx([1 - trust * sum(votes)])


@pytest.mark.parametrize("fixed_lambda", [None, 0.3])
def test_without_neighbours_the_model_is_alone(fixed_lambda):
    lm_probs = torch.tensor([[0.2, 0.8], [0.5, 0.5]])
    empty = Neighbors(torch.empty(2, 0), torch.empty(2, 0).long(), torch.empty(2, 0).long())
    for neighbors in (None, empty):
        mixture = mix(
            lm_probs, neighbors, scale=SCALE, alpha=0.3, tau=0.1, fixed_lambda=fixed_lambda
        )
        assert torch.equal(mixture.probs_QV, lm_probs)
        assert mixture.lambda_Q.tolist() == [1.0, 1.0]
        assert mixture.neighbors is None


def test_distances_are_squared_and_never_negative():
    queries = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    keys = torch.tensor([[3.0, 4.0], [0.0, 1.0]])
    found = squared_distances(queries, keys, keys.square().sum(-1))
    assert found.tolist() == [[25.0, 1.0], [0.0, 18.0]]
    large = torch.randn(50, 64, generator=torch.Generator().manual_seed(0)) * 100
    assert float(squared_distances(large, large, large.square().sum(-1)).min()) >= 0.0


@settings(derandomize=True, database=None, deadline=None, max_examples=40)
@given(
    data=st.data(),
    num_queries=st.integers(1, 3),
    num_neighbors=st.integers(1, 6),
    width=st.integers(1, 9),
)
def test_agreement_with_a_loop(data, num_queries, num_neighbors, width):
    vocab = 4
    distance = st.floats(0, 50, width=32)
    shape = {"min_size": num_neighbors, "max_size": num_neighbors}
    distances = [sorted(data.draw(st.lists(distance, **shape))) for _ in range(num_queries)]
    values = [data.draw(st.lists(st.integers(0, vocab - 1), **shape)) for _ in range(num_queries)]
    lm_probs = torch.softmax(
        torch.randn(num_queries, vocab, generator=torch.Generator().manual_seed(1)), -1
    )
    neighbors = Neighbors(torch.tensor(distances), torch.tensor(values), torch.tensor(values))
    mixture = mix(lm_probs, neighbors, scale=distance_scale(width, 1.0), alpha=0.4, tau=0.2)
    for query in range(num_queries):
        ratio = distances[query][0] / distances[query][-1] if distances[query][-1] else 1.0
        lambda_ = 1 / (1 + math.exp(-(ratio - 0.4) / 0.2))
        weights = [math.exp(-d / math.sqrt(width)) for d in distances[query]]
        for token in range(vocab):
            matching = sum(
                w for w, value in zip(weights, values[query], strict=True) if value == token
            )
            expected = lambda_ * float(lm_probs[query, token]) + (1 - lambda_) * matching / sum(
                weights
            )
            assert float(mixture.probs_QV[query, token]) == pytest.approx(expected, abs=1e-5)
