"""The benchmarks that compare ways of decoding run, on the shipped model."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import nest_demo
from benchmarks import exactness, forced_decoding, speed
from nest_engine import Passage


def rows_of(path: Path) -> dict[str, dict[str, float]]:
    return {row["method"]: row for row in json.loads(path.read_text())["rows"]}


def test_forced_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Helium was found in the light of the sun, before anybody found it on the earth."
    reference = {"prompt": "Where was it found?", "passages": [text], "reference": f" {text}"}
    (tmp_path / "references.jsonl").write_text(json.dumps(reference))
    told = ["--references", str(tmp_path / "references.jsonl"), "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["forced_decoding", *told])
    forced_decoding.main()

    rows = rows_of(tmp_path / "forced_decoding.json")
    assert rows["oracle"]["tokens/forward"] >= rows["lossless"]["tokens/forward"] > 1
    assert rows["prompt lookup, passages in prompt"]["tokens/forward"] > 1
    assert len({row["tokens"] for row in rows.values()}) == 1


def test_speed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = ["--model", str(nest_demo.model_path()), "--prompts", "1", "--passages", "1"]
    told += ["--repeats", "1", "--max-new-tokens", "8", "--out", str(tmp_path)]
    told += [
        "--only",
        "lm",
        "nest, two forwards per span",
        "ra-nest",
        "lossless, passages in prompt",
    ]
    monkeypatch.setattr(sys, "argv", ["speed", *told])
    speed.main()

    rows = rows_of(tmp_path / "speed.json")
    assert rows["generate"]["ratio"] == rows["generate"]["answer ratio"] == 1.0
    assert rows["lm"]["tokens/forward"] == 1.0
    assert all(row["s/answer"] > 0 for row in rows.values())
    assert (tmp_path / "speed.png").exists()


def test_exactness(capsys: pytest.CaptureFixture[str]) -> None:
    model = str(nest_demo.model_path())
    exactness.main(["--model", model, "--prompts", "1", "--tokens", "8"])
    assert "1 prompts, 8 tokens each" in capsys.readouterr().out


def test_exactness_up_to_the_next_turn() -> None:
    engine = nest_demo.load_engine(None, model=str(nest_demo.model_path()))
    tokenizer = engine.language_model.tokenizer
    prompt, answer = "Question: Who?\nAnswer:", " Nobody."

    def encode(text: str) -> list[int]:
        return list(tokenizer.encode_passage(Passage(text)).token_ids)

    output = engine.generate(prompt, method="lm", max_new_tokens=1)
    ended = replace(output, text=answer, token_ids=tuple(encode(answer)))
    assert exactness.is_said(engine, prompt, ended, encode(answer))
    assert exactness.is_said(engine, prompt, ended, encode(f"{answer}\nQuestion: Why?"))
    assert not exactness.is_said(engine, prompt, ended, encode(f"{answer} Nobody at all."))
    assert not exactness.is_said(engine, prompt, ended, encode(" Everybody.\nQuestion: Why?"))
