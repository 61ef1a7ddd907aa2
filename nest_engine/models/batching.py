"""Batches of token sequences of different length: room for them, padding, grouping by length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from nest_engine.errors import ContextOverflowError


def padded(rows: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Return rows as one tensor ``[B, T]``, padded at the end with token 0."""
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=device)


def batches_by_length(lengths: Sequence[int], most_tokens: int) -> Iterator[list[int]]:
    """Group rows of similar length, which need little padding.

    Args:
        lengths: tokens of each row.
        most_tokens: most tokens of a batch, padding included; a longer row is a batch by itself.

    Yields:
        numbers of the rows of each batch.
    """
    batch: list[int] = []
    for number in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[number] > most_tokens:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def require_room(prompts: Sequence[Sequence[int]], context_length: int | None) -> None:
    """Raise ``ContextOverflowError`` if a prompt fills the context, which may have no end."""
    for prompt in prompts:
        if context_length is not None and len(prompt) >= context_length:
            raise ContextOverflowError.no_room(len(prompt), context_length)
