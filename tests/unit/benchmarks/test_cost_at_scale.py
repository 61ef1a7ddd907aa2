"""`benchmarks/cost_at_scale.py` computes what follows from its numbers, and refuses bad ones."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import cost_at_scale
from benchmarks.cost_at_scale import Measured, Setting, batch_seconds, forward_seconds, key_bytes
from nest_engine.errors import InputError

# Round numbers: 1,000 bytes of weights at 1,000 bytes/s take a second; ten tokens take as long to
# compute.
ROUND = Setting(
    parameters=500,
    weight_bytes=2,
    devices=1,
    bandwidth=2000,
    reached_bandwidth=0.5,
    flops=20_000,
    reached_flops=0.5,
    layers=10,
    all_reduce=0.0,
    context=30,
    answer_tokens=10,
    tokens_per_forward=2,
    request_passages=4,
    passage_tokens=10,
    known_passages=0.75,
)


def test_a_forward_takes_the_longer_of_reading_weights_and_computing_tokens():
    assert forward_seconds(ROUND, 1) == forward_seconds(ROUND, 10) == pytest.approx(1.0)
    assert forward_seconds(ROUND, 30) == pytest.approx(3.0)
    shared = replace(ROUND, devices=2, all_reduce=0.01)
    assert forward_seconds(shared, 30) == pytest.approx(1.5 + 2 * 10 * 0.01)


def test_answers_take_their_prompts_and_their_forwards():
    # 20 tokens of prompt, then ten forwards
    assert batch_seconds(ROUND, 1, 1) == pytest.approx(2 + 10)
    # ten tokens of passages more, half as many forwards
    assert batch_seconds(ROUND, 1, 5) == pytest.approx(3 + 5)
    assert batch_seconds(ROUND, 4, 5) == pytest.approx(4 * 3 + 5 * 2)  # forwards over 20 tokens


def test_a_key_has_a_number_for_each_dimension_and_its_overhead():
    measured = Measured({"fp16": 12, "int8": 16}, {}, 1, 1)
    setting = replace(ROUND, width=100, passage_tokens=10)
    assert (key_bytes(setting, measured, "fp16"), key_bytes(setting, measured, "int8")) == (
        2120,
        1160,
    )


def test_the_page_is_written_from_the_results_in_the_repository(tmp_path: Path):
    out = tmp_path / "scale.md"
    cost_at_scale.main(["--out", str(out), "--passages", "1e6", "--rows", "4"])
    page = out.read_text(encoding="utf-8")
    assert "over 1 million passages" in page
    assert "| 4 | 64 |" in page
    assert "| `--passages` | 1e+06 |" in page
    assert str(tmp_path) not in page


def test_the_page_in_the_documentation_is_that_of_the_command(tmp_path: Path):
    out = tmp_path / "scale.md"
    cost_at_scale.main(["--out", str(out)])
    shown = cost_at_scale.OUT.read_text(encoding="utf-8")
    written = out.read_text(encoding="utf-8")
    assert shown[shown.index("## One forward") :] == written[written.index("## One forward") :]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--devices", "0"], "--devices 0 must be positive"),
        (["--reached-flops", "1.5"], "--reached-flops 1.5 is a share"),
        (
            ["--answer-tokens", "4000"],
            "--answer-tokens 4000 leaves no room for a prompt in --context 2048",
        ),
    ],
)
def test_numbers_that_make_no_sense_are_refused(arguments: list[str], message: str, tmp_path: Path):
    with pytest.raises(InputError, match=message):
        cost_at_scale.main([*arguments, "--out", str(tmp_path / "scale.md")])


def test_a_missing_result_names_its_command(tmp_path: Path):
    (tmp_path / "scale.json").write_text(json.dumps({"rows": []}), encoding="utf-8")
    with pytest.raises(InputError, match=r"python -m benchmarks\.key_precision measures it"):
        cost_at_scale.main(["--results", str(tmp_path), "--out", str(tmp_path / "scale.md")])
