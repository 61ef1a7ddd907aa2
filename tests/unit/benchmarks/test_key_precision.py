"""`benchmarks/key_precision.py`: formats are told apart, and a planted error is found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import key_precision
from nest_engine.datastore.key_store import KeyStore


def run(tmp_path: Path) -> dict[str, dict[str, Any]]:
    counts = ["--texts", "4", "--questions", "3", "--max-new-tokens", "16"]
    key_precision.main([*counts, "--out", str(tmp_path)])
    record = json.loads((tmp_path / "key_precision.json").read_text(encoding="utf-8"))
    assert set(record["rows"][0]) == set(key_precision.COLUMNS)
    assert record["setting"]["texts"] == 8  # each in both conditions
    return {row["keys"]: row for row in record["rows"]}


def test_coarser_keys_are_further_from_float32(tmp_path: Path) -> None:
    rows = run(tmp_path)
    float32, fp16, int8 = (rows[name] for name in ("float32", "fp16", "int8"))
    width = float32["bytes/token"] / 4
    assert width == int(width)
    assert 2 * width < fp16["bytes/token"] < 4 * width
    assert width < int8["bytes/token"] < fp16["bytes/token"]
    for figure in ("key error, mean", "key error, max", "TV, mean", "TV, max"):
        assert 0 == float32[figure] < fp16[figure] < int8[figure] < 1
    assert float32["same argmax"] == float32["same answer"] == 1
    assert float32["perplexity, gold"] < float32["perplexity, no-gold"]
    for row in (fp16, int8):
        assert row["perplexity, gold"] == pytest.approx(float32["perplexity, gold"], rel=0.05)


def test_keys_of_the_wrong_tokens_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    get = KeyStore.get

    def reversed_keys(self: KeyStore, *arguments: Any) -> Any:
        keys = get(self, *arguments)
        assert keys is not None
        return type(keys)(keys.tokens, keys.first, keys.keys_TD.flip(0))

    monkeypatch.setattr(KeyStore, "get", reversed_keys)
    int8 = run(tmp_path)["int8"]
    assert int8["key error, mean"] > 0.1
    assert int8["TV, mean"] > 0.1
    assert int8["same argmax"] < 0.9
    assert int8["same answer"] < 1


def test_total_variation_is_half_the_sum_of_the_differences() -> None:
    predictions = key_precision.Predictions()
    for condition in key_precision.CONDITIONS:
        probs, reference = torch.tensor([[0.5, 0.5, 0.0]]), torch.tensor([[0.25, 0.5, 0.25]])
        predictions.add(condition, probs, reference, [0])
    assert predictions.summary() == {
        "tokens": 2,
        "TV, mean": 0.25,
        "TV, max": 0.25,
        "same argmax": 0.0,
        "perplexity, gold": pytest.approx(2.0),
        "perplexity, no-gold": pytest.approx(2.0),
    }
