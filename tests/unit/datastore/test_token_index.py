"""Exact search over passage tokens: what may be found, and how far a span goes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nest_engine.datastore.passage_keys import PassageKeys
from nest_engine.datastore.token_index import TokenIndex
from nest_engine.decoding.mixture import retrieval_confidence
from nest_engine.interfaces import TokenizedPassage
from nest_engine.records import Provenance

EVERYTHING = 10_000


def passage(tokens, keys, *, first=0, dtype=torch.float32) -> PassageKeys:
    """Return a passage whose keys are points on a line."""
    tokenized = TokenizedPassage(
        (), tuple(tokens), tuple(range(len(tokens))), tuple(range(1, len(tokens) + 1))
    )
    return PassageKeys(tokenized, first, torch.tensor(keys, dtype=dtype).reshape(-1, 1))


def at(*positions) -> torch.Tensor:
    return torch.tensor(positions, dtype=torch.float32).reshape(-1, 1)


def two_passages(**settings) -> TokenIndex:
    """Return entries 0 to 3 of one passage and 4 to 6 of another, with keys 0, 10, ..., 60."""
    return TokenIndex(
        [passage([1, 2, 3, 4], [0, 10, 20, 30]), passage([5, 2, 6], [40, 50, 60])], **settings
    )


def test_search_returns_the_nearest_with_token_and_distance():
    neighbors = two_passages().search(at(12, 60), 2)
    assert neighbors.entries_QK.tolist() == [[1, 2], [6, 5]]
    assert neighbors.values_QK.tolist() == [[2, 3], [6, 2]]
    assert neighbors.distances_QK.tolist() == [[4.0, 64.0], [0.0, 100.0]]
    assert len(neighbors) == 2


def test_fewer_keys_than_k():
    neighbors = two_passages().search(at(0), EVERYTHING)
    assert sorted(neighbors.entries_QK[0].tolist()) == list(range(7))


def test_provenance_counts_every_passage():
    index = TokenIndex(
        [None, passage([1, 2], [0, 1]), passage([9], []), passage([7, 8], [5], first=1)]
    )
    assert len(index) == 3
    assert [index.value(entry) for entry in range(5)] == [1, 2, 9, 7, 8]
    assert [index.provenance(entry) for entry in range(5)] == [
        Provenance(1, 0),
        Provenance(1, 1),
        Provenance(2, 0),
        Provenance(3, 0),
        Provenance(3, 1),
    ]


@pytest.mark.parametrize("passages", [[], [None], [passage([], [])], [passage([4], [], first=1)]])
def test_nothing_to_copy(passages):
    index = TokenIndex(passages)
    assert len(index) == 0
    assert index.search(at(0), 5) is None


def test_entries_without_keys_are_copied_and_not_found():
    index = TokenIndex([passage([7, 8], [5], first=1), passage([4, 7, 9], [], first=3)])
    assert index.search(at(5), EVERYTHING).entries_QK.tolist() == [[1]]
    assert index.span(2, 5) == [2, 3, 4]
    assert index.match([4, 7]) == (3, 2)
    index.mark_copied([2, 3, 4])
    assert (len(index), index.can_copy(3)) == (1, False)
    index.mark_copied([0, 1])
    assert index.search(at(5), EVERYTHING) is None


def test_masked_and_control_entries_are_left_out():
    index = two_passages(forbidden=[2])
    index.mark_copied([3])
    assert len(index) == 4
    neighbors = index.search(at(0), EVERYTHING)
    assert sorted(neighbors.entries_QK[0].tolist()) == [0, 2, 4, 6]
    assert neighbors.distances_QK.isfinite().all()


def test_masking_leaves_lambda_to_the_entries_that_remain():
    index = two_passages()
    index.mark_copied([4, 5, 6])
    remaining = TokenIndex([passage([1, 2, 3, 4], [0, 10, 20, 30])])
    found, expected = (
        retrieval_confidence(i.search(at(5), 1024).distances_QK, 0.3, 0.1)
        for i in (index, remaining)
    )
    assert torch.equal(found, expected)


def test_everything_masked():
    index = two_passages(forbidden=[5, 6])
    index.mark_copied([0, 1, 2, 3])
    assert index.search(at(0), 1).entries_QK.tolist() == [[5]]
    index.mark_copied([5])
    assert len(index) == 0
    assert index.search(at(0), 1) is None


def test_masking_belongs_to_one_index():
    shared = passage([1, 2], [0, 1])
    TokenIndex([shared]).mark_copied([0])
    assert len(TokenIndex([shared])) == 2


def test_masking_can_be_switched_off():
    index = two_passages(mask_copied=False)
    index.mark_copied([0, 1])
    assert len(index) == 7
    assert index.span(0, 2) == [0, 1]


def test_a_span_stops_at_the_end_of_its_passage():
    index = two_passages()
    assert index.span(2, 64) == [2, 3]
    assert index.span(4, 64) == [4, 5, 6]
    assert index.span(0, 3) == [0, 1, 2]
    assert index.continuation(2) == 3
    assert index.continuation(3) is None
    assert index.continuation(6) is None


def test_a_span_stops_at_masked_and_control_entries():
    index = two_passages(forbidden=[3])
    assert index.span(0, 64) == [0, 1]
    assert index.continuation(1) is None
    index.mark_copied([6])
    assert index.span(4, 64) == [4, 5]
    assert index.continuation(5) is None
    assert index.span(6, 64) == []


def test_equal_keys_are_all_found():
    index = TokenIndex([passage([1, 2], [7, 7]), passage([3], [7])])
    neighbors = index.search(at(7), 3)
    assert sorted(neighbors.entries_QK[0].tolist()) == [0, 1, 2]
    assert neighbors.distances_QK.tolist() == [[0.0, 0.0, 0.0]]


def test_keys_in_bfloat16_are_compared_in_float32():
    keys = torch.randn(200, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    query = torch.randn(3, 64, generator=torch.Generator().manual_seed(1)).bfloat16()
    tokens = TokenizedPassage((), tuple(range(200)), (0,) * 200, (1,) * 200)
    found = TokenIndex([PassageKeys(tokens, 0, keys)]).search(query, 200)
    expected = (query.double()[:, None] - keys.double()[None]).square().sum(-1)
    assert torch.equal(found.entries_QK, expected.argsort(-1))


@settings(derandomize=True, database=None, deadline=None, max_examples=60)
@given(data=st.data(), sizes=st.lists(st.integers(0, 4), max_size=4), k=st.integers(1, 8))
def test_search_equals_sorting_what_is_left(data, sizes, k):
    point = st.integers(-20, 20)
    passages = [
        passage(
            data.draw(st.lists(st.integers(0, 5), min_size=n, max_size=n)),
            [data.draw(point) for _ in range(n)],
        )
        for n in sizes
    ]
    index = TokenIndex(passages, forbidden=[0])
    entries = [
        (key, token)
        for p in passages
        for key, token in zip(p.keys_TD[:, 0].tolist(), p.tokens.token_ids, strict=True)
    ]
    left = [entry for entry, (_, token) in enumerate(entries) if token != 0]
    masked = data.draw(st.sets(st.sampled_from(left))) if left else set()
    index.mark_copied(sorted(masked))
    query = data.draw(point)
    expected = sorted((entries[entry][0] - query) ** 2 for entry in set(left) - masked)[:k]
    found = index.search(at(query), k)
    assert (found.distances_QK[0].tolist() if found else []) == expected
    assert not found or masked.isdisjoint(found.entries_QK[0].tolist())
