"""How passages are read for their keys: in windows as long as the context, in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nest_engine.interfaces import TokenizedPassage
from nest_engine.models.batching import batches_by_length

ReadRows = Callable[[list[tuple[int, ...]]], Tensor | Sequence[Tensor]]
"""Computes hidden states ``[T, D]`` of each row of token ids; at its end there may be padding."""

_BATCH_TOKENS = 4096  # most tokens, padding included, in one forward over passages


class Window(NamedTuple):
    """A part of a passage that is read at once.

    Args:
        token_ids: the tokens to read.
        first_key: position in them from which on hidden states are keys.
    """

    token_ids: tuple[int, ...]
    first_key: int


def encode_passages(
    passages: Sequence[TokenizedPassage], read: ReadRows, context_length: int | None, empty: Tensor
) -> list[Tensor]:
    """Read passages, each by itself, and return the keys of their tokens.

    Args:
        passages: tokenized passages.
        read: runs the model.
        context_length: most tokens that the model can read; None when unlimited.
        empty: no keys, ``[0, D]``.

    Returns:
        for each passage, the hidden state before each of its tokens that has a predecessor,
        ``[T, D]``.
    """
    windows = [list(windows_of(passage, context_length)) for passage in passages]
    rows = [window for of_passage in windows for window in of_passage]
    keys = [empty] * len(rows)
    for batch in batches_by_length([len(row.token_ids) for row in rows], _BATCH_TOKENS):
        hidden_BTD = read([rows[number].token_ids for number in batch])
        for number, hidden_TD in zip(batch, hidden_BTD, strict=True):
            token_ids, first_key = rows[number]
            # A copy: a view would keep the hidden states of the whole batch.
            keys[number] = hidden_TD[first_key : len(token_ids)].clone()
    parts = iter(keys)
    return [
        torch.cat([next(parts) for _ in of_passage]) if of_passage else empty
        for of_passage in windows
    ]


def windows_of(passage: TokenizedPassage, context_length: int | None) -> Iterator[Window]:
    """Cut a passage into windows that overlap by half.

    Args:
        passage: a tokenized passage.
        context_length: most tokens of a window; None when unlimited.

    Yields:
        the windows; together they have one key for each token with a predecessor.
    """
    tokens = passage.context_ids + passage.token_ids
    first_key = max(len(passage.context_ids) - 1, 0)
    last_key = len(tokens) - 2  # the last token precedes nothing
    if last_key < first_key:
        return
    tokens = tokens[:-1]
    size = context_length or len(tokens)
    yield Window(tokens[:size], first_key)
    stride = size // 2
    for start in range(stride, len(tokens) - size + stride, stride):
        yield Window(tokens[start : start + size], max(size - stride, first_key - start))
