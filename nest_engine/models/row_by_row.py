"""Rows of a model whose layers keep a state, such as linear attention: each decoded by itself.

A state holds all tokens at once and cannot be cut back to some of them. But it can be kept from
before a draft: when a part of the draft is rejected, the row goes back to it, and the accepted
tokens are read again together with the next draft. Most drafts stand whole, so that is rare.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from nest_engine.interfaces import Outputs

_MOST_UNREAD = 32  # tokens; more are read by themselves, before the next draft


class RowForward(Protocol):
    """Runs a model over the tokens of one row behind those in its cache."""

    def __call__(
        self, token_ids: Sequence[int], start: int, cache: DynamicCache, last_logits_only: bool
    ) -> tuple[Tensor, Tensor]:
        """Read tokens.

        Args:
            token_ids: the tokens.
            start: position of the first.
            cache: the cache, which is changed.
            last_logits_only: whether to compute logits after the last token only.

        Returns:
            logits ``[T, V]`` or ``[1, V]`` in float32, and hidden states ``[T, D]``.
        """
        ...


class RowByRowSession:
    """Rows being decoded by one model, each with a cache of its own.

    Args:
        forward: runs the model.
        config: the configuration of the model's text decoder.
        num_rows: how many rows start.
    """

    def __init__(self, forward: RowForward, config: Any, num_rows: int) -> None:
        self._forward = forward
        self._config = config
        self._rows = [_Row(DynamicCache(config=config)) for _ in range(num_rows)]

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens held for each row."""
        return tuple(len(row.token_ids) for row in self._rows)

    @torch.inference_mode()
    def extend(self, drafts: Sequence[Sequence[int]]) -> list[Outputs]:
        """Read each row's draft behind its tokens, in one forward pass for each row.

        Args:
            drafts: token ids of each row; at least one token each.

        Returns:
            for each row, logits and hidden states after each token of its draft.
        """
        logits_BTV, hidden_BTD = self.forward(drafts)
        return [Outputs(*outputs) for outputs in zip(logits_BTV, hidden_BTD, strict=True)]

    def truncate(self, lengths: Sequence[int]) -> None:
        """Forget each row's tokens beyond ``lengths``."""
        for number, (row, length) in enumerate(zip(self._rows, lengths, strict=True)):
            if not 0 <= length <= len(row.token_ids):
                raise ValueError(
                    f"row {number} holds {len(row.token_ids)} tokens and cannot be cut back to "
                    f"{length}"
                )
            del row.token_ids[length:]

    def keep(self, rows: Sequence[int]) -> None:
        """Drop every row that is not listed."""
        self._rows = [self._rows[row] for row in rows]

    def join(self, other: RowByRowSession) -> None:
        """Append the rows of another session of the same model, which is used up by it."""
        self._rows += other._rows

    @torch.inference_mode()
    def forward(
        self, drafts: Sequence[Sequence[int]], last_logits_only: bool = False
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Read drafts.

        Args:
            drafts: token ids of each row; at least one token each.
            last_logits_only: whether to compute logits after each row's last token only.

        Returns:
            for each row, logits ``[T, V]`` or ``[1, V]`` in float32, and hidden states ``[T, D]``.
        """
        outputs = [
            self._read(row, draft, last_logits_only)
            for row, draft in zip(self._rows, drafts, strict=True)
        ]
        return [logits_TV for logits_TV, _ in outputs], [hidden_TD for _, hidden_TD in outputs]

    def _read(
        self, row: _Row, draft: Sequence[int], last_logits_only: bool
    ) -> tuple[Tensor, Tensor]:
        num_read = self._go_back(row)
        if len(row.token_ids) - num_read > _MOST_UNREAD:
            self._forward(row.token_ids[num_read:], num_read, row.cache, True)
            num_read = len(row.token_ids)
        unread = row.token_ids[num_read:]
        # One token that stands, as the first of a draft always does, is never taken back.
        row.before = None if len(draft) == 1 else (num_read, _kept(row.cache))
        logits_TV, hidden_TD = self._forward(
            [*unread, *draft], num_read, row.cache, last_logits_only
        )
        row.token_ids += draft
        row.num_read = len(row.token_ids)
        if last_logits_only:
            return logits_TV, hidden_TD[len(unread) :]
        return logits_TV[len(unread) :], hidden_TD[len(unread) :]

    def _go_back(self, row: _Row) -> int:
        """Bring a row's cache to tokens that the row still holds; return how many."""
        if len(row.token_ids) < row.num_read:
            if row.before is not None and row.before[0] <= len(row.token_ids):
                row.num_read, row.cache = row.before
            else:  # cut back further than by a draft
                row.num_read, row.cache = 0, DynamicCache(config=self._config)
        return row.num_read


class _Row:
    """One row.

    Attributes:
        token_ids: the tokens that it holds.
        cache: what the model has read.
        num_read: how many tokens that is.
        before: the same two before the last draft, or None.
    """

    def __init__(self, cache: DynamicCache) -> None:
        self.token_ids: list[int] = []
        self.cache = cache
        self.num_read = 0
        self.before: tuple[int, DynamicCache] | None = None


def _kept(cache: DynamicCache) -> DynamicCache:
    """Return a cache that stays as it is when the model reads on with the given one.

    Layers of attention join new keys to old ones in new memory, so the old stay what they are.
    States are overwritten in place, so they are copied.
    """
    kept = copy.copy(cache)
    kept.layers = []
    for layer in cache.layers:
        kept.layers.append(copy.copy(layer))
        for name, value in vars(layer).items():
            if isinstance(value, dict):  # states, and what is known of them
                copied = {
                    key: part.clone() if isinstance(part, Tensor) else part
                    for key, part in value.items()
                }
                setattr(kept.layers[-1], name, copied)
    return kept
