"""The benchmark of memory, on the shipped model."""

from __future__ import annotations

from pathlib import Path

import pytest

import nest_demo
from benchmarks.memory import answered
from benchmarks.processes import alone


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_a_process_that_has_answered_has_taken_up_more() -> None:
    load = {"backend": "transformers", "dtype": "float32"}
    row = alone(answered, str(nest_demo.model_path()), load, "ra-nest", 1)
    assert (row["backend"], row["method"]) == ("transformers, float32", "ra-nest")
    assert 0 < row["libraries MB"] < row["loaded MB"] < row["peak MB"]
