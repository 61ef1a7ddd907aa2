"""The cache of attention keys and values, to which every row of a batch writes at its own length.

Rows advance and are cut back independently, with no holes and no padding between their tokens: the
mask is made of positions.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from nest_engine.models.batching import padded
from nest_engine.models.prompt_cache import Piece


class Forward(Protocol):
    """Runs a model over tokens behind those in a cache."""

    def __call__(
        self,
        token_ids_BT: Tensor,
        slots_BT: Tensor,
        num_slots: int,
        cache: RowCache,
        **options: Any,
    ) -> tuple[Tensor, Tensor]:
        """Read tokens.

        Args:
            token_ids_BT: the tokens; each row may end with padding.
            slots_BT: the cache slot that each is written to, which is its position.
            num_slots: how many slots there are to attend to.
            cache: the cache.
            options: anything else for the model.

        Returns:
            logits ``[B, T, V]`` and hidden states ``[B, T, D]``.
        """
        ...


class RowCache(Cache):
    """Keys and values of every layer; row ``b`` writes at ``starts[b]``.

    Args:
        forward: runs the model.
        device: where the model reads tokens.

    Attributes:
        starts: tokens held for each row, before the forward that comes next.
    """

    def __init__(self, forward: Forward, device: torch.device) -> None:
        super().__init__(layer_class_to_replicate=RowCacheLayer)
        self.starts: Sequence[int] = ()
        self._forward = forward
        self._device = device

    def read(
        self,
        drafts: Sequence[Sequence[int]],
        lengths: Sequence[int],
        last_logits_only: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Read each row's draft behind its tokens.

        Args:
            drafts: token ids of each row; at least one token each.
            lengths: tokens held for each row.
            last_logits_only: whether to compute logits after each row's last token only. A prompt
                needs no others, and a vocabulary times a prompt is large.

        Returns:
            logits ``[B, T, V]`` in float32, ``[B, 1, V]`` of the last tokens only, and hidden
            states ``[B, T, D]``.
        """
        self.starts = lengths
        token_ids_BT = padded(drafts, self._device)
        width = token_ids_BT.shape[1]
        starts_B = torch.tensor(lengths, device=self._device)
        slots_BT = starts_B[:, None] + torch.arange(width, device=self._device)
        last_T = sorted({len(draft) - 1 for draft in drafts})
        # On the CPU: an index from there suits the last layer on any device.
        options = {"logits_to_keep": torch.tensor(last_T)} if last_logits_only else {}
        logits_BTV, hidden_BTD = self._forward(
            token_ids_BT, slots_BT, max(lengths) + width, self, **options
        )
        logits_BTV = logits_BTV.to(self._device, torch.float32)
        if last_logits_only:
            logits_BTV = column_of_each_row(
                logits_BTV, [last_T.index(len(draft) - 1) for draft in drafts]
            )
        return logits_BTV, hidden_BTD.to(self._device)

    def keep(self, rows: Sequence[int], slots: int) -> None:
        """Drop the other rows.

        Args:
            rows: numbers of the rows to keep.
            slots: slots to keep of each, so that a long row that has left leaves no wide buffer.
        """
        for layer in self._initialized():
            kept = torch.tensor(list(rows), dtype=torch.long, device=layer.device)
            layer.keys, layer.values = layer.keys[kept, :, :slots], layer.values[kept, :, :slots]

    def join(self, other: RowCache) -> None:
        """Append another cache's rows; nothing is changed before everything has been computed."""
        layers = self._initialized()
        joined = [
            (_stacked(layer.keys, keys), _stacked(layer.values, values))
            for layer, (keys, values) in zip(layers, other.rows(), strict=True)
        ]
        for layer, (keys, values) in zip(layers, joined, strict=True):
            layer.keys, layer.values = keys, values

    def begin(self, pieces: Sequence[Piece]) -> None:
        """Hold the beginning of the only row, which an empty cache has read before."""
        for layers in zip(*(piece.layers for piece in pieces), strict=True):
            layer = self._new_layer()
            held = [states for states in layers if states is not None]
            if held:
                keys, values = (
                    torch.cat(states, dim=1)[None] for states in zip(*held, strict=True)
                )
                layer.lazy_initialization(keys, values)
                layer.keys, layer.values = _grown(keys, 256), _grown(values, 256)
            self.layers.append(layer)

    def piece(self, start: int, end: int, hidden_TD: Tensor) -> Piece:
        """Return a copy of what the only row holds of some tokens."""
        return Piece(
            [
                (layer.keys[0, :, start:end].clone(), layer.values[0, :, start:end].clone())
                if layer.is_initialized
                else None
                for layer in self.layers
            ],
            hidden_TD,
        )

    def release(self) -> RowCache:
        """Return the cache with which a session that has lost all its rows goes on: this one."""
        return self

    def rows(self) -> list[tuple[Tensor, Tensor]]:
        """Return keys and values ``[B, heads, slots, width]`` of each layer that has its own."""
        return [(layer.keys, layer.values) for layer in self._initialized()]

    def add_layers_of(self, other: RowCache) -> None:
        """Add layers like those of another cache, without its rows."""
        for layer in other.layers:
            mine = self._new_layer()
            if layer.is_initialized:
                mine.lazy_initialization(layer.keys[:0], layer.values[:0])
            self.layers.append(mine)

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> Any:
        """Write a layer's new keys and values; return all that there is to attend to."""
        while len(self.layers) <= layer_idx:
            self.layers.append(self._new_layer())
        return self.layers[layer_idx].update(key_states, value_states)

    def _new_layer(self) -> RowCacheLayer:
        return RowCacheLayer(self)

    def _initialized(self) -> list[Any]:
        """Return the layers except those that share another's keys: they have none of their own."""
        return [layer for layer in self.layers if layer.is_initialized]


class RowCacheLayer(CacheLayerMixin):
    """One layer's keys and values, ``[B, heads, slots, width]``, in a buffer that doubles."""

    is_sliding = False

    def __init__(self, cache: RowCache) -> None:
        super().__init__()
        # Weak: a cache that is dropped frees its memory at once, not when cycles are collected.
        self._cache: Any = weakref.proxy(cache)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Begin without slots, for rows like these."""
        self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
        self.dtype, self.device = key_states.dtype, key_states.device
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write new keys and values behind each row's; return all that there is to attend to."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        starts, width = self._cache.starts, key_states.shape[2]
        length = max(starts) + width
        self.keys = _write_rows(_grown(self.keys, length), key_states, starts)
        self.values = _write_rows(_grown(self.values, length), value_states, starts)
        return self.keys[:, :, :length], self.values[:, :, :length]

    def get_seq_length(self) -> int:
        """Return the tokens held for the longest row."""
        return max(self._cache.starts, default=0)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return how many slots there are to attend to, and the first of them."""
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        """Return that there is no limit."""
        return -1

    get_max_cache_shape = get_max_length  # its name in the first releases of transformers 5


def enlarged(buffer: Tensor, rows: int, slots: int) -> Tensor:
    """Return a buffer of so many rows and slots, with the old contents in front.

    The rest is zeros: unset memory may hold NaN, which spoils attention even where it is masked.
    """
    old_rows, heads, old_slots, width = buffer.shape
    larger = buffer.new_zeros(rows, heads, slots, width)
    larger[:old_rows, :, :old_slots] = buffer
    return larger


def column_of_each_row(values_BTV: Tensor, columns: Sequence[int]) -> Tensor:
    """Return ``[B, 1, V]``: of each row the column that is listed for it."""
    columns_B = torch.tensor(columns, device=values_BTV.device)
    rows_B = torch.arange(len(columns), device=values_BTV.device)
    return values_BTV[rows_B, columns_B][:, None]


def _grown(buffer: Tensor, length: int) -> Tensor:
    """Return a buffer of at least ``length`` slots, with the old contents."""
    rows, _, slots, _ = buffer.shape
    return buffer if length <= slots else enlarged(buffer, rows, max(length, 2 * slots, 256))


def _stacked(buffer: Tensor, other: Tensor) -> Tensor:
    """Return the rows of both buffers in one, as wide as the wider."""
    rows = buffer.shape[0]
    stacked = enlarged(buffer, rows + other.shape[0], max(buffer.shape[2], other.shape[2]))
    stacked[rows:, :, : other.shape[2]] = other
    return stacked


def _write_rows(buffer: Tensor, states: Tensor, starts: Sequence[int]) -> Tensor:
    width = states.shape[2]
    if len(set(starts)) == 1:
        buffer[:, :, starts[0] : starts[0] + width] = states
    else:
        for row, start in enumerate(starts):
            buffer[row, :, start : start + width] = states[row]
    return buffer
