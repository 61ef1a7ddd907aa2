"""A graph is captured behind a first run and then replayed; here CUDA is a fake."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nest_engine import UnsupportedModelError
from nest_engine.models import cuda_graphs


class FakeCuda:
    """Streams and graphs that only remember what happened on them."""

    def __init__(self) -> None:
        self.on, self.events = "default", []

    graph_pool_handle = staticmethod(object)
    device = staticmethod(lambda _: contextlib.nullcontext())

    class CUDAGraph:
        replays = 0

        def replay(self) -> None:
            self.replays += 1

    def Stream(self, _: Any) -> Any:  # noqa: N802
        return SimpleNamespace(
            wait_stream=lambda other: self.events.append("wait"), name=len(self.events)
        )

    def current_stream(self, _: Any) -> Any:
        return SimpleNamespace(wait_stream=lambda other: self.events.append("wait"), name="default")

    def set_stream(self, stream: Any) -> None:
        self.on = stream.name

    @contextlib.contextmanager
    def stream(self, stream: Any) -> Iterator[None]:
        self.on = "warming"
        yield
        self.on = "default"

    @contextlib.contextmanager
    def graph(self, graph: Any, **_: Any) -> Iterator[None]:
        self.on = "capturing"
        yield  # an error leaves it as it is, as torch does
        self.on = "default"


def test_a_graph_is_captured_behind_a_first_run_and_replayed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = FakeCuda()
    monkeypatch.setattr(cuda_graphs, "cuda", fake)
    ran: list[str] = []
    outputs = torch.zeros(1), torch.ones(1)

    def run() -> tuple[torch.Tensor, torch.Tensor]:
        ran.append(fake.on)
        return outputs

    graphs = cuda_graphs.CudaGraphs(torch.device("cpu"))
    replay = graphs.capture(run)
    assert ran == ["warming", "capturing"]
    assert replay() is outputs
    assert ran == ["warming", "capturing"], "Python has no part in it any more"


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (RuntimeError("operation not permitted when stream is capturing"), UnsupportedModelError),
        (torch.OutOfMemoryError("no room"), torch.OutOfMemoryError),
    ],
)
def test_a_capture_that_fails_leaves_the_stream(
    monkeypatch: pytest.MonkeyPatch, error: Exception, raised: type[Exception]
) -> None:
    fake = FakeCuda()
    monkeypatch.setattr(cuda_graphs, "cuda", fake)
    graphs = cuda_graphs.CudaGraphs(torch.device("cpu"))

    def run() -> tuple[torch.Tensor, torch.Tensor]:
        if fake.on == "capturing":
            raise error
        return torch.zeros(1), torch.zeros(1)

    with pytest.raises(raised, match=str(error)):
        graphs.capture(run)
    assert fake.on == "default"
    graphs.capture(lambda: (torch.zeros(1), torch.zeros(1)))  # the next one is not waited for
