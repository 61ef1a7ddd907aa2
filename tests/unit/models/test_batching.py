"""Batches hold every row once, and no more tokens than allowed."""

from __future__ import annotations

import torch

from nest_engine.models.batching import batches_by_length, padded


def test_rows_of_similar_length_are_batched() -> None:
    lengths = [7, 2, 30, 1, 8, 2]
    batches = list(batches_by_length(lengths, 16))
    assert batches == [[3, 1, 5], [0, 4], [2]]  # 30 tokens are too many, but cannot be divided
    assert list(batches_by_length([], 16)) == []


def test_rows_are_padded_at_the_end() -> None:
    assert padded([[5, 6, 7], [8]], torch.device("cpu")).tolist() == [[5, 6, 7], [8, 0, 0]]
