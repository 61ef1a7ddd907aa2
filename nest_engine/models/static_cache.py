"""A cache at fixed addresses, over which forwards of few shapes run: what CUDA graphs need.

An accelerator computes a small forward sooner than Python can ask for its kernels. Captured once as
a CUDA graph, they are launched together; but a graph has fixed shapes and addresses. So one session
at a time holds one cache that all share, and its drafts are padded to the next power of two. The
numbers are those of the plain forward, up to rounding.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nest_engine.models.cuda_graphs import Run
from nest_engine.models.row_cache import (
    Forward,
    RowCache,
    RowCacheLayer,
    column_of_each_row,
    enlarged,
)

_FEWEST_SLOTS = 1024  # of a forward: fewer would save a large model nothing, and cost a shape
_WIDEST_SHAPE = 128  # wider drafts and prompts keep the device busy without a graph


class Shape(NamedTuple):
    """What a captured forward is made for.

    Args:
        rows: rows, those that only fill the shape included.
        width: tokens of each row, padding included.
        slots: slots of the cache that it attends to.
    """

    rows: int
    width: int
    slots: int


class StaticCache(RowCache):
    """Keys and values of every layer, ``[R, heads, slots, width]``, held by one session at a time.

    It grows to the largest need so far, by doubling, and then every forward is captured anew.

    Args:
        forward: runs the model.
        device: where the model reads tokens.
        capture: turns a function into one that does the same again: ``CudaGraphs(device).capture``,
            or ``eager``.
    """

    def __init__(
        self, forward: Forward, device: torch.device, capture: Callable[[Run], Run]
    ) -> None:
        super().__init__(forward, device)
        self._capture = capture
        self._captured: dict[Shape, tuple[Tensor, Run]] = {}  # inputs, and what computes with them
        # Flat buffers to which all captured forwards write what they compute.
        self._outputs: tuple[Tensor, Tensor] | None = None
        self._num_rows = 0
        self._capacity = (0, 0)  # rows and slots of the buffers
        self._holder: Callable[[], object | None] = lambda: None
        self._acquiring = threading.Lock()
        self.slots_RW = torch.empty(0)  # where the forward that runs writes
        self.num_slots = 0

    def acquire(self, session: object, cache: RowCache) -> RowCache:
        """Move a session's rows here, unless another session that is still alive holds this cache.

        Args:
            session: the session.
            cache: the cache that holds its rows.

        Returns:
            the cache that holds its rows now.
        """
        if cache is self:
            return self
        with self._acquiring:
            if self._holder() is not None:
                return cache
            self._holder = weakref.ref(session)
        self._num_rows = 0
        try:
            self.join(cache)
        except BaseException:
            self._holder = lambda: None
            raise
        return self

    def release(self) -> RowCache:
        """Let the next session have this cache; return another for the session that held it."""
        own = RowCache(self._forward, self._device)
        own.add_layers_of(self)
        own.join(self)
        self._holder = lambda: None
        return own

    def read(
        self,
        drafts: Sequence[Sequence[int]],
        lengths: Sequence[int],
        last_logits_only: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Read each row's draft behind its tokens; arguments and values as for ``RowCache.read``.

        All logits are computed, even where only the last ones are asked for: one shape less.
        """
        width = max(len(draft) for draft in drafts)
        num_tokens = _power_of_two(width) if width <= _WIDEST_SHAPE else width
        slots = _power_of_two(max(max(lengths) + num_tokens, _FEWEST_SLOTS))
        shape = Shape(_power_of_two(len(drafts)), num_tokens, slots)
        self._reserve(shape.rows, shape.slots)
        self.starts = lengths
        rows = [
            [start, *draft] + [0] * (num_tokens - len(draft))
            for start, draft in zip(lengths, drafts, strict=True)
        ]
        rows += [[0] * (1 + num_tokens)] * (shape.rows - len(rows))
        given = torch.tensor(rows)
        if shape in self._captured:
            inputs, run = self._captured[shape]
            inputs.copy_(given)
            logits_RWV, hidden_RWD = run()
        else:
            inputs = given.to(self._device)
            logits_RWV, hidden_RWD = self._run(inputs, shape)
            if width <= _WIDEST_SHAPE:  # from the next time on
                run = self._with_shared_outputs(inputs, shape, logits_RWV, hidden_RWD)
                self._captured[shape] = inputs, self._capture(run)
        if last_logits_only:
            last = [len(draft) - 1 for draft in drafts]
            logits_BTV = column_of_each_row(logits_RWV, last).float()
        else:
            # Copies, here and below: the next forward writes to the same place.
            logits_BTV = logits_RWV[: len(drafts), :width].to(torch.float32, copy=True)
        return logits_BTV, hidden_RWD[: len(drafts), :width].clone()

    def keep(self, rows: Sequence[int], slots: int) -> None:
        """Drop the other rows; the buffers stay, and what lies in them beyond ``slots``."""
        kept = torch.tensor(list(rows), dtype=torch.long, device=self._device)
        first = slice(len(rows))
        for layer in self._initialized():
            layer.keys[first, :, :slots] = layer.keys[kept, :, :slots]
            layer.values[first, :, :slots] = layer.values[kept, :, :slots]
        self._num_rows = len(rows)

    def join(self, other: RowCache) -> None:
        """Append another cache's rows; if there is no memory for them, nothing is changed."""
        theirs = other.rows()
        if not self.layers:
            self.add_layers_of(other)
        rows, _, slots, _ = theirs[0][0].shape
        self._reserve(self._num_rows + rows, slots)
        new = slice(self._num_rows, self._num_rows + rows)
        for layer, (keys, values) in zip(self._initialized(), theirs, strict=True):
            for mine, its in ((layer.keys, keys), (layer.values, values)):
                mine[new, :, :slots] = its
                # An earlier row may have left NaN, which spoils attention even where it is masked.
                mine[new, :, slots:] = 0
        self._num_rows += rows

    def rows(self) -> list[tuple[Tensor, Tensor]]:
        """Return keys and values ``[B, heads, slots, width]`` of each layer that has its own."""
        return [
            (layer.keys[: self._num_rows], layer.values[: self._num_rows])
            for layer in self._initialized()
        ]

    def _run(self, inputs: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
        starts_R, token_ids_RW = inputs[:, 0], inputs[:, 1:]
        self.slots_RW = starts_R[:, None] + torch.arange(shape.width, device=inputs.device)
        self.num_slots = shape.slots
        return self._forward(token_ids_RW, self.slots_RW, shape.slots, self)

    def _with_shared_outputs(
        self, inputs: Tensor, shape: Shape, logits_RWV: Tensor, hidden_RWD: Tensor
    ) -> Run:
        """Return the forward of a shape, writing to the shared buffers: a graph keeps its outputs.

        Args:
            inputs: where its inputs lie.
            shape: the shape.
            logits_RWV: logits of the same type and shape.
            hidden_RWD: hidden states of the same type and shape.
        """
        if self._outputs is None:
            most = self._capacity[0] * _WIDEST_SHAPE
            self._outputs = (
                logits_RWV.new_empty(most * logits_RWV.shape[-1]),
                hidden_RWD.new_empty(most * hidden_RWD.shape[-1]),
            )
        places = [
            flat[: like.numel()].view(like.shape)
            for flat, like in zip(self._outputs, (logits_RWV, hidden_RWD), strict=True)
        ]

        def run() -> tuple[Tensor, Tensor]:
            logits, hidden = self._run(inputs, shape)
            return places[0].copy_(logits), places[1].copy_(hidden)

        return run

    def _new_layer(self) -> RowCacheLayer:
        return _StaticLayer(self)

    def _reserve(self, rows: int, slots: int) -> None:
        """Make room, and forget the forwards that were captured at the old addresses."""
        old_rows, old_slots = self._capacity
        wanted = max(old_rows, _power_of_two(rows)), max(old_slots, _power_of_two(slots))
        if wanted == self._capacity:
            return
        layers = self._initialized()
        grown = [
            (enlarged(layer.keys, *wanted), enlarged(layer.values, *wanted)) for layer in layers
        ]
        self._captured.clear()
        self._outputs = None
        for layer, (keys, values) in zip(layers, grown, strict=True):
            layer.keys, layer.values = keys, values
        self._capacity = wanted


class _StaticLayer(RowCacheLayer):
    """One layer of a ``StaticCache``."""

    _cache: StaticCache

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write each row at its slots; return what the forward attends to."""
        return self._written(self.keys, key_states), self._written(self.values, value_states)

    def _written(self, buffer: Tensor, states: Tensor) -> Tensor:
        slots_RW = self._cache.slots_RW
        seen = buffer[: len(slots_RW), :, : self._cache.num_slots]
        return seen.scatter_(2, slots_RW[:, None, :, None].expand_as(states), states)


def _power_of_two(number: int) -> int:
    """Return the smallest power of two that is not below ``number``."""
    return 1 << (number - 1).bit_length()
