"""`benchmarks/forward_time.py`: every width is measured, what has to be read counted right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import forward_time
from nest_engine.errors import InputError

SMALL = ["--shape", "small", "--device", "cpu", "--dtype", "float32", "--context", "40"]


def test_every_width_is_measured(tmp_path: Path) -> None:
    counts = ["--widest", "8", "--generated", "4", "--repeats", "1", "--bandwidth", "1e9"]
    forward_time.main([*SMALL, *counts, "--out", str(tmp_path)])
    record = json.loads((tmp_path / "forward_time.json").read_text(encoding="utf-8"))
    assert [row["tokens"] for row in record["rows"]] == [1, 2, 4, 8]
    for row in record["rows"]:
        assert set(row) == set(forward_time.COLUMNS)
        assert row["plain / static"] == pytest.approx(row["plain, ms"] / row["static cache, ms"])
        assert row["static / bound"] == pytest.approx(row["static cache, ms"] / row["bound, ms"])
        assert min(row.values()) > 0
    assert record["setting"]["generate, ms"] > 0
    assert "generate, compiled, ms" not in record["setting"]  # that takes a GPU


def test_a_forward_reads_weights_and_context() -> None:
    model = forward_time.random_model("small", "float32", "cpu", 10)
    hidden, inner, layers, vocabulary, kv_width = 128, 256, 2, 16384, 64
    layer = 2 * hidden * hidden + 2 * hidden * kv_width + 3 * hidden * inner + 2 * hidden
    weights = layers * layer + hidden + vocabulary * hidden
    assert forward_time.bytes_of_a_forward(model, 0) == 4 * weights
    assert forward_time.bytes_of_a_forward(model, 10) == 4 * (weights + 2 * layers * kv_width * 10)


def test_copying_has_a_bandwidth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward_time, "_COPIED", 2**22)
    assert forward_time.measured_bandwidth("cpu") > 0


def test_what_cannot_be_measured_is_said() -> None:
    with pytest.raises(InputError, match="--widest is 0; give at least 1"):
        forward_time.main([*SMALL, "--widest", "0"])
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="there is no CUDA device here; give --device cpu"):
            forward_time.main([])
