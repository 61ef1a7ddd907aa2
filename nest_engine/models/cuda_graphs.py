"""CUDA graphs: the kernels of a forward, captured once and then launched together."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, cuda

from nest_engine.errors import UnsupportedModelError

Run = Callable[[], tuple[Tensor, Tensor]]
"""Computes two tensors from inputs at fixed addresses."""

_capturing = threading.Lock()  # CUDA allows one capture in a process


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
        # Kept: a pool whose graphs have all gone cannot be captured into again. And what a first
        # capture sets up must not belong to inference mode, or no later one outside could use it.
        with torch.inference_mode(False):
            self._first = self.capture(
                lambda: (torch.zeros(1, device=device), torch.zeros(1, device=device))
            )

    def capture(self, run: Run) -> Run:
        """Capture the kernels of a function.

        Args:
            run: the function; it is called twice, so it must do the same each time.

        Returns:
            a function that launches the kernels and returns the same tensors, written anew.

        Raises:
            UnsupportedModelError: if CUDA cannot capture them, as where the model waits for a
                number from the device.
            torch.OutOfMemoryError: if there is no memory for them.
        """
        with _capturing, cuda.device(self._device):
            before = cuda.current_stream(self._device)
            graph = cuda.CUDAGraph()
            try:
                # Libraries set themselves up in their first calls, which must not be captured.
                # Running twice changes nothing: the same tokens are written to the same slots.
                warming: Any = cuda.Stream(self._device)  # type: ignore[no-untyped-call]
                warming.wait_stream(before)
                with cuda.stream(warming):
                    run()
                before.wait_stream(warming)
                # Other threads may read passages meanwhile; their allocations are not part of this
                # graph.
                with cuda.graph(
                    graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
                ):
                    outputs = run()
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                raise UnsupportedModelError(
                    f"the model's forward cannot be captured as a CUDA graph ({error}); load it "
                    f"without static_cache"
                ) from error
            finally:
                cuda.set_stream(before)  # a capture that fails may leave its own behind

        def replay() -> tuple[Tensor, Tensor]:
            graph.replay()
            return outputs

        return replay


def eager(run: Run) -> Run:
    """Return the function itself: without CUDA there is nothing to capture."""
    return run
