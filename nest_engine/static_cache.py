"""A cache that stays where it is, and forwards of few shapes over it: what CUDA can repeat without Python.

An accelerator computes a small forward sooner than Python can ask for its kernels. Captured once as a CUDA graph, they
are launched together; but a graph has fixed shapes and addresses. So one session at a time borrows one cache that all
share, and its drafts are padded to the next power of two. The numbers are those of the plain forward, up to rounding.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, cuda

from nest_engine.errors import UnsupportedModelError
from nest_engine.row_cache import RowCache, RowCacheLayer, enlarged

Run = Callable[[], tuple[Tensor, Tensor]]
"""Computes logits ``[R, W, V]`` and hidden states ``[R, W, D]`` from inputs that lie at fixed addresses."""

Forward = Callable[[Tensor, Tensor, int, RowCache], tuple[Tensor, Tensor]]
"""Token ids ``[R, W]``, the cache slots they are written to ``[R, W]``, how many slots there are to attend to, and the
cache, to logits and hidden states."""

_capturing = threading.Lock()  # CUDA allows one capture in a process

_FEWEST_SLOTS = 1024  # of a forward: fewer would save a large model nothing, and cost a shape
_WIDEST_SHAPE = 128  # wider drafts and prompts compute long enough without


class Shape(NamedTuple):
    """What a captured forward is made for.

    Args:
        rows: rows, those without an answer included.
        width: tokens of each row, padding included.
        slots: slots of the cache that it attends to.
    """

    rows: int
    width: int
    slots: int


class StaticCache(RowCache):
    """Keys and values of every layer, ``[rows, heads, slots, width]``, that sessions borrow one after the other.

    It grows to the largest need there was, by doubling, and then everything is captured anew.

    Args:
        forward: runs the model.
        device: where tokens are read.
        capture: turns a function into one that does the same again: ``CudaGraphs(device).capture``, :func:`as_it_is`.
    """

    def __init__(self, forward: Forward, device: torch.device, capture: Callable[[Run], Run]) -> None:
        super().__init__()
        self._forward = forward
        self._device = device
        self._capture = capture
        self._captured: dict[Shape, tuple[Tensor, Run]] = {}  # inputs, and what computes with them
        self._outputs: tuple[Tensor, Tensor] | None = None  # flat: where all captured forwards leave what they compute
        self._num_rows = 0
        self._capacity = (0, 0)  # rows and slots of the buffers
        self._borrower: Callable[[], object | None] = lambda: None
        self._borrowing = threading.Lock()
        self.slots_RW = torch.empty(0)  # where the forward that runs writes
        self.num_slots = 0

    def lend(self, borrower: object, cache: RowCache) -> bool:
        """Take over a session's cache, if no other session lives that has borrowed this one and not given it back.

        Args:
            borrower: the session.
            cache: what it has read so far.

        Returns:
            whether the session may use this cache instead.
        """
        with self._borrowing:
            if self._borrower() is not None:
                return False
            self._borrower = weakref.ref(borrower)
        self._num_rows = 0
        try:
            self.join(cache)
        except BaseException:
            self._borrower = lambda: None
            raise
        return True

    def given_back(self) -> RowCache:
        """Let the next session have this cache; return another with the rows that are left."""
        own = RowCache()
        own.resemble(self)
        own.join(self)
        self._borrower = lambda: None
        return own

    def read(self, drafts: Sequence[Sequence[int]], lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Read each row's draft behind its tokens.

        Args:
            drafts: token ids of each row; at least one token each.
            lengths: tokens held for each row.

        Returns:
            logits ``[B, T, V]`` in float32 and hidden states ``[B, T, D]``.
        """
        width = max(len(draft) for draft in drafts)
        num_tokens = _power_of_two(width) if width <= _WIDEST_SHAPE else width
        slots = _power_of_two(max(max(lengths) + num_tokens, _FEWEST_SLOTS))
        shape = Shape(_power_of_two(len(drafts)), num_tokens, slots)
        self._reserve(shape.rows, shape.slots)
        self.starts = lengths
        rows = [[start, *draft] + [0] * (num_tokens - len(draft)) for start, draft in zip(lengths, drafts, strict=True)]
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
                self._captured[shape] = (
                    inputs,
                    self._capture(self._leaving_outputs(inputs, shape, logits_RWV, hidden_RWD)),
                )
        # Copies: the next forward writes to the same place.
        return (
            logits_RWV[: len(drafts), :width].to(torch.float32, copy=True),
            hidden_RWD[: len(drafts), :width].clone(),
        )

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
            self.resemble(other)
        rows, _, slots, _ = theirs[0][0].shape
        self._reserve(self._num_rows + rows, slots)
        new = slice(self._num_rows, self._num_rows + rows)
        for layer, (keys, values) in zip(self._initialized(), theirs, strict=True):
            for mine, its in ((layer.keys, keys), (layer.values, values)):
                mine[new, :, :slots] = its
                mine[new, :, slots:] = 0  # what is masked still counts where it is no number: an earlier row's overflow
        self._num_rows += rows

    def rows(self) -> list[tuple[Tensor, Tensor]]:
        """Return keys and values ``[B, heads, slots, width]`` of each layer that has its own."""
        return [(layer.keys[: self._num_rows], layer.values[: self._num_rows]) for layer in self._initialized()]

    def _run(self, inputs: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
        starts_R, token_ids_RW = inputs[:, 0], inputs[:, 1:]
        self.slots_RW = starts_R[:, None] + torch.arange(shape.width, device=inputs.device)
        self.num_slots = shape.slots
        return self._forward(token_ids_RW, self.slots_RW, shape.slots, self)

    def _leaving_outputs(self, inputs: Tensor, shape: Shape, logits_RWV: Tensor, hidden_RWD: Tensor) -> Run:
        """Return the forward of a shape, as it leaves its outputs where all leave theirs: graphs keep what they return.

        Args:
            inputs: where its inputs lie.
            shape: the shape.
            logits_RWV: logits as it has computed them.
            hidden_RWD: hidden states, likewise.
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
        """Make room, and forget the forwards that were captured for the old place."""
        old_rows, old_slots = self._capacity
        wanted = max(old_rows, _power_of_two(rows)), max(old_slots, _power_of_two(slots))
        if wanted == self._capacity:
            return
        layers = self._initialized()
        grown = [(enlarged(layer.keys, *wanted), enlarged(layer.values, *wanted)) for layer in layers]
        self._captured.clear()
        self._outputs = None
        for layer, (keys, values) in zip(layers, grown, strict=True):
            layer.keys, layer.values = keys, values
        self._capacity = wanted


class _StaticLayer(RowCacheLayer):
    """One layer of a ``StaticCache``."""

    _cache: StaticCache

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write each row at its slots; return what the forward attends to."""
        return self._written(self.keys, key_states), self._written(self.values, value_states)

    def _written(self, buffer: Tensor, states: Tensor) -> Tensor:
        slots_RW = self._cache.slots_RW
        seen = buffer[: len(slots_RW), :, : self._cache.num_slots]
        return seen.scatter_(2, slots_RW[:, None, :, None].expand_as(states), states)


class CudaGraphs:
    """CUDA graphs that share their memory: one of them runs at a time.

    Args:
        device: the device that they run on.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = cuda.graph_pool_handle()
        # Its own: torch's stream for captures is one for the whole process.
        self._stream: Any = cuda.Stream(device)  # type: ignore[no-untyped-call]
        # Kept: a pool whose graphs have all gone cannot be captured into again. And what a first capture sets up must
        # not belong to inference mode, or no later one outside could use it.
        with torch.inference_mode(False):
            self._first = self.capture(lambda: (torch.zeros(1, device=device), torch.zeros(1, device=device)))

    def capture(self, run: Run) -> Run:
        """Capture the kernels of a function; return one that launches them and returns the same tensors, written anew.

        Raises:
            UnsupportedModelError: if CUDA cannot capture them, as where the model waits for a number from the device.
            torch.OutOfMemoryError: if there is no memory for them.
        """
        with _capturing, cuda.device(self._device):
            before = cuda.current_stream(self._device)
            graph = cuda.CUDAGraph()
            try:
                # Libraries set themselves up in their first calls, which must not be captured. Running twice changes
                # nothing: the same tokens are written to the same slots.
                warming: Any = cuda.Stream(self._device)  # type: ignore[no-untyped-call]
                warming.wait_stream(before)
                with cuda.stream(warming):
                    run()
                before.wait_stream(warming)
                # Other threads may read passages meanwhile: what they allocate is none of this graph's business.
                with cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                    outputs = run()
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                raise UnsupportedModelError(
                    f"the model's forward cannot be captured as a CUDA graph ({error}); load it without static_cache"
                ) from error
            finally:
                cuda.set_stream(before)  # a capture that fails may leave its own behind

        def replay() -> tuple[Tensor, Tensor]:
            graph.replay()
            return outputs

        return replay


def as_it_is(run: Run) -> Run:
    """Return a function that just runs again: what there is to do without CUDA."""
    return run


def _power_of_two(number: int) -> int:
    """Return the smallest power of two that is not below ``number``."""
    return 1 << (number - 1).bit_length()
