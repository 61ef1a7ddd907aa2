"""Which neighbour is copied from."""

from __future__ import annotations

import dataclasses

import torch

from nest_engine.decoding.mixture import Neighbors
from nest_engine.decoding.proposal import nearest_entry

NEIGHBORS = Neighbors(
    distances_QK=torch.tensor([[1.0, 2.0, 2.0, 3.0], [0.5, 0.5, 0.5, 0.5]]),
    values_QK=torch.tensor([[7, 8, 8, 7], [9, 8, 9, 7]]),
    entries_QK=torch.tensor([[40, 31, 30, 2], [6, 5, 4, 3]]),
)


def test_the_nearest_neighbour_that_agrees_is_taken():
    assert nearest_entry(NEIGHBORS, 0, 7, 2.0) == 40


def test_equal_distances_are_settled_by_the_order_of_the_index():
    assert nearest_entry(NEIGHBORS, 0, 8, 2.0) == 30
    assert nearest_entry(NEIGHBORS, 1, 9, 2.0) == 4


def test_each_query_has_its_own_neighbours():
    assert nearest_entry(NEIGHBORS, 1, 7, 2.0) == 3


def test_a_relevant_passage_is_preferred_to_a_slightly_nearer_one():
    trust = torch.tensor([[0.3, 1.0, 1.0, 1.0]] * 2)
    neighbors = dataclasses.replace(NEIGHBORS, trust_QK=trust)
    assert nearest_entry(neighbors, 0, 7, 2.0) == 2  # exp(-3/2) against 0.3 exp(-1/2)
    assert nearest_entry(neighbors, 0, 7, 1.0) == 40  # exp(-3) against 0.3 exp(-1)


def test_no_neighbour_agrees():
    assert nearest_entry(NEIGHBORS, 0, 9, 2.0) is None
    assert nearest_entry(None, 0, 7, 2.0) is None
