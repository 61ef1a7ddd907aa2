"""The benchmark of prompts that begin alike, on the shipped model."""

from __future__ import annotations

import nest_demo
from benchmarks.prompt_beginnings import main, timed


def test_it_times_three_ways(capsys):
    rows = timed(nest_demo.load_engine(), num_tokens=270, rounds=2)
    assert [row["beginning"] for row in rows] == ["in one forward", "unknown", "known"]
    assert [row["tokens known"] for row in rows] == [0, 0, 256]
    assert all(row["ms"] > 0 for row in rows)
    main(["--model", str(nest_demo.model_path()), "--tokens", "260", "--rounds", "1"])
    assert "time to the first token, 260 tokens in common" in capsys.readouterr().out
