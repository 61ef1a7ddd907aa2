"""A model split over two processes answers as a whole one; a failure leaves nobody waiting."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from nest_engine import ConfigError, NestEngine, UnsupportedModelError
from nest_engine.models.tensor_parallel import TensorParallelLanguageModel, _require_equal_shares
from tests.tensor_parallel_script import NUM_PROCESSES, QUESTION, answers, save_tiny_model
from tests.tiny_models import tiny_model

_SECONDS = 600  # far more than any scenario takes on a busy machine: longer means a process hangs
ANSWERS = (
    *("nest", "ra-nest", "lossless", "lm", "nest, sampled", "lossless, sampled"),
    *("batch, 0", "batch, 1", "scheduler, 0", "scheduler, 1"),
)
_ROUNDED = {"lambdas": None, "scores": None}


class Ended(NamedTuple):
    """What the processes of a scenario have left: exit codes, stderr, results."""

    codes: list[int]
    stderr: list[str]
    results: list[Any]


def run(scenario: str, folder: Path) -> Ended:
    """Run a scenario of the script in processes that meet by a file, and wait for all of them."""
    save_tiny_model(folder / "model")
    command = [sys.executable, "-m", "tests.tensor_parallel_script", scenario]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    processes = [
        subprocess.Popen(
            [*command, str(rank), str(folder)], env=environment, stderr=subprocess.PIPE, text=True
        )
        for rank in range(NUM_PROCESSES)
    ]
    try:
        stderr = [process.communicate(timeout=_SECONDS)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    files = [folder / f"{rank}.json" for rank in range(NUM_PROCESSES)]
    results = [json.loads(file.read_text()) if file.exists() else None for file in files]
    return Ended([process.returncode for process in processes], stderr, results)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    ended = run("lead_to_the_end", tmp_path_factory.mktemp("processes"))
    assert ended.results[0] is not None, ended.stderr[0]
    return ended


@pytest.fixture(scope="module")
def split(ended: Ended) -> dict[str, Any]:
    """What process 0 of two answered."""
    return dict(ended.results[0])


@pytest.fixture(scope="module")
def whole(demo_engine: NestEngine) -> dict[str, Any]:
    """What one process answers."""
    return answers(demo_engine)


@pytest.mark.parametrize("name", ANSWERS)
def test_two_processes_answer_as_one(
    name: str, split: dict[str, Any], whole: dict[str, Any]
) -> None:
    found, expected = split[name], whole[name]
    assert {**found, **_ROUNDED} == {**expected, **_ROUNDED}
    assert len(found["token_ids"]) > 5
    # Sums over parts of a row come in another order: the last bits differ.
    assert found["lambdas"] == pytest.approx(expected["lambdas"], abs=1e-5)
    assert found["scores"] == pytest.approx(expected["scores"], abs=1e-5)


def test_quotations_are_among_the_answers(whole: dict[str, Any]) -> None:
    assert all(whole[name]["citations"] for name in ("nest", "ra-nest", "batch, 0"))


def test_keys_are_near_and_shared(split: dict[str, Any], whole: dict[str, Any]) -> None:
    found, expected = torch.tensor(split["keys"]), torch.tensor(whole["keys"])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert split["fingerprint"] == whole["fingerprint"]
    assert split["score"] == pytest.approx(whole["score"], rel=1e-4)


def test_a_request_that_fails_leaves_the_processes_in_step(split: dict[str, Any]) -> None:
    assert split["too long"].startswith("ContextOverflowError: the prompt has")
    assert split["in all"] == "MemoryError: in every process"
    assert split["in all, passages"] == "MemoryError: in every process"
    assert split["afterwards"] == split["nest"]


def test_each_process_has_its_part(ended: Ended, split: dict[str, Any]) -> None:
    assert split["leads"] == "ConfigError: process 0 of 2 leads: follow() is for the others"
    assert ended.results[1]["refused"].startswith(
        "ConfigError: process 1 of 2 follows process 0: call language_model."
    )


def test_a_failure_of_process_0_releases_the_others(ended: Ended) -> None:
    assert ended.codes == [1, 0]
    assert "the end of process 0" in ended.stderr[0]


def test_a_failure_in_one_process_shows_in_process_0(tmp_path: Path) -> None:
    (at_first, follower), results = (
        (ended := run("fail_in_a_follower", tmp_path)).codes,
        ended.results,
    )
    assert (at_first, follower) == (0, 0), ended.stderr
    failed = "First to fail was process 1 of 2: MemoryError: in this process alone"
    assert results[0]["first"].startswith(
        "DecodingError: a forward pass has failed in some of 2 processes"
    )
    assert results[0]["first"].endswith(failed)
    assert results[1]["error"].endswith(failed)
    assert results[0]["second"].startswith(
        "DecodingError: the other 1 processes of the model do not follow any more"
    )


def test_a_killed_process_0_releases_the_others(tmp_path: Path) -> None:
    ended = run("end_without_a_word", tmp_path)
    assert ended.codes == [7, 0], ended.stderr
    assert ended.results[1]["error"].startswith(
        "DecodingError: process 0 of 2 has ended without a word"
    )


def test_a_killed_follower_shows_in_process_0(tmp_path: Path) -> None:
    ended = run("kill_a_follower", tmp_path)
    assert ended.codes == [0, 9], ended.stderr
    assert ended.results[0]["error"].startswith(
        "DecodingError: a forward pass has failed in some of 2 processes"
    )
    assert (
        "nothing was heard from process 1: was it killed, or does it not call"
        in ended.results[0]["error"]
    )


def test_signals_are_for_process_0_and_a_closed_model_releases_the_others(tmp_path: Path) -> None:
    ended = run("close_and_go_on", tmp_path)
    assert ended.codes == [0, 0], ended.stderr
    first, second = ended.results
    assert (first["after signals"], second["error"]) == ("none", "none")
    assert first["another"].startswith("ConfigError: these processes hold a split model already")
    assert first["closed"].startswith(
        "DecodingError: the other 1 processes of the model do not follow"
    )


def torchrun(*arguments: str) -> str:
    """Run `nest` in two processes; return what both wrote to stdout."""
    nest = "from nest_engine.cli import main; main()"
    start = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "--no-python",
    ]
    ended = subprocess.run(
        [*start, sys.executable, "-c", nest, *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=_SECONDS,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_command_line_under_torchrun(tmp_path: Path) -> None:
    """The first process builds and answers, once; the second follows, or leaves if it need not."""
    (tmp_path / "neptune.md").write_text(
        "# Neptune\n\nNeptune is the eighth planet from the Sun.\n"
    )
    index = str(tmp_path / "notes.index")
    assert (
        torchrun("index", "build", str(tmp_path / "neptune.md"), "--out", index).count(
            "passages: 1"
        )
        == 1
    )
    answered = torchrun(
        "ask", QUESTION.question, "--docs", index, "--max-new-tokens", "8", "--json"
    )
    assert json.loads(answered)["stats"]["completion_tokens"] > 0


@pytest.mark.parametrize(
    "make", [NestEngine.from_pretrained, TensorParallelLanguageModel.from_pretrained]
)
def test_one_process_alone_is_told_how_to_start_more(make: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"this is the only one: start .* `torchrun --nproc-per-node 2"
    ):
        make("anything", tp_plan="auto")


def test_processes_share_heads_equally() -> None:
    _require_equal_shares(tiny_model("llama"), 2)
    with pytest.raises(
        UnsupportedModelError,
        match="LlamaForCausalLM has 2 key-value heads, which 3 processes cannot",
    ):
        _require_equal_shares(tiny_model("llama"), 3)
