"""What test_tensor_parallel.py starts: ``tests.tensor_parallel_script SCENARIO RANK FOLDER``."""

from __future__ import annotations

import json
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

import nest_demo
from nest_engine import NestEngine, NestOutput, Passage
from nest_engine.interfaces import ForwardCost, TokenizedPassage
from nest_engine.models import forward_time, tensor_parallel
from nest_engine.serving.scheduler import Scheduler
from tests.tiny_models import tiny_model, tiny_tokenizer

QUESTION = nest_demo.load_questions()[0]
NUM_PROCESSES = 2
_TOKENS = 20

# No clock chooses drafts here either, as in conftest.py.
forward_time.forward_cost = lambda language_model: ForwardCost(1.0, 0.02)
_FAILING = 5  # a token that the model chokes on, in the scenarios that want it


def passages() -> list[Passage]:
    shipped = nest_demo.load_passages()
    return [*[passage for passage in shipped if passage.id == QUESTION.passage_id], *shipped[:3]]


def answer(engine: NestEngine, method: str, **settings: Any) -> NestOutput:
    """Ask with drafts whose length does not follow the clock: then two runs can be compared."""
    settings = {"max_new_tokens": _TOKENS, "adaptive_draft": False} | settings
    return engine.ask(QUESTION.question, passages=passages(), method=method, **settings)


def answers(engine: NestEngine) -> dict[str, Any]:
    """Return what an engine answers, in the ways in which it can be asked."""
    outputs = {method: answer(engine, method) for method in ("nest", "ra-nest", "lossless", "lm")}
    for method in ("nest", "lossless"):
        outputs[f"{method}, sampled"] = answer(engine, method, temperature=1.0, seed=3)
    prompts = [engine.format_question(QUESTION.question), "The planet Neptune"]
    settings: dict[str, Any] = {"adaptive_draft": False, "max_new_tokens": _TOKENS}
    batch = engine.generate_batch(
        prompts, passages=[passages(), passages()[:2]], method="nest", **settings
    )
    outputs |= {f"batch, {number}": output for number, output in enumerate(batch)}
    # encodes, joins and cuts back in threads of its own
    with Scheduler(engine, max_running=2) as scheduler:
        pending = [
            scheduler.submit(prompt, passages=passages()[:3], method="nest", **settings)
            for prompt in prompts
        ]
        outputs |= {
            f"scheduler, {number}": waiting.result(600) for number, waiting in enumerate(pending)
        }
    score = engine.score(" The winds are the fastest.", prompt=prompts[0], passages=passages())
    passage = engine.language_model.tokenizer.encode_passage(passages()[0])
    return {
        **{name: _shown(output) for name, output in outputs.items()},
        "score": score.nll,
        "keys": engine.language_model.encode([passage])[0].tolist(),
        "fingerprint": engine.language_model.fingerprint,
    }


def _shown(output: NestOutput) -> dict[str, Any]:
    stats = output.stats
    return {
        "token_ids": list(output.token_ids),
        "citations": [{**citation.to_dict(), "score": None} for citation in output.citations],
        "scores": [citation.score for citation in output.citations],
        "forwards": stats.lm_forwards,
        "accepted": stats.accepted_tokens,
        "drafted": stats.drafted_tokens,
        "lambdas": list(output.lambdas),
    }


def lead_to_the_end(engine: NestEngine, rank: int) -> dict[str, Any]:
    """Process 0 asks; some requests fail, before a forward or in it; in the end it fails itself."""
    lm: Any = engine.language_model
    if rank > 0:
        with_error = _error(lambda: engine.generate("A planet"))
        lm.follow()
        return {"refused": with_error}
    results = answers(engine)
    results["too long"] = _error(lambda: engine.generate("planet " * 3000))
    results["leads"] = _error(lm.follow)
    results["in all"] = _error(lambda: lm.prefill([[_FAILING]]))
    results["in all, passages"] = _error(
        lambda: lm.encode([TokenizedPassage((1,), (_FAILING, 6, 7), (0,), (1,))])
    )
    results["afterwards"] = _shown(answer(engine, "nest"))
    return results


def fail_in_a_follower(engine: NestEngine, rank: int) -> dict[str, Any]:
    lm: Any = engine.language_model
    if rank > 0:
        return {"error": _error(lm.follow)}
    return {name: _error(lambda: lm.prefill([[_FAILING]])) for name in ("first", "second")}


def end_without_a_word(engine: NestEngine, rank: int) -> dict[str, Any]:
    lm: Any = engine.language_model
    if rank > 0:
        return {"error": _error(lm.follow)}
    lm.prefill([[1, 2, 3]])
    os._exit(7)


def kill_a_follower(engine: NestEngine, rank: int) -> dict[str, Any]:
    lm: Any = engine.language_model
    if rank > 0:
        os._exit(9)
    return {"error": _error(lambda: lm.prefill([[1, 2, 3]]))}


def close_and_go_on(engine: NestEngine, rank: int) -> dict[str, Any]:
    """Signals do not reach who follows: process 0 may have answers to finish."""
    lm: Any = engine.language_model
    pids: list[Any] = [None] * NUM_PROCESSES
    dist.all_gather_object(pids, os.getpid())
    if rank > 0:
        return {"error": _error(lm.follow)}
    lm.prefill([[1, 2, 3]])  # it follows
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(pids[1], number)
    results = {
        "after signals": _error(lambda: lm.prefill([[1, 2, 3]])),
        "another": _error(lambda: NestEngine.from_pretrained("any", tp_plan="auto")),
    }
    lm.close()
    return results | {"closed": _error(lambda: lm.prefill([[1, 2, 3]]))}


def _error(action: Any) -> str:
    try:
        action()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "none"


def _fail_at(engine: NestEngine, error: str) -> None:
    """Let the model fail in this process when it reads a certain token alone, or behind another."""
    embeddings: Any = engine.language_model.model.get_input_embeddings()  # type: ignore[attr-defined]

    def fail(_: Any, arguments: tuple[torch.Tensor, ...]) -> None:
        if _FAILING in arguments[0].flatten()[:2]:
            raise MemoryError(error)

    embeddings.register_forward_pre_hook(fail)


def main(scenario: str, rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(NUM_PROCESSES)}
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=NUM_PROCESSES
    )
    # Where all processes fail, each may be slow to report. Where one fails alone or is gone, no
    # report ever comes: waiting longer changes nothing.
    all_report = scenario == "lead_to_the_end"
    tensor_parallel._PATIENCE = timedelta(seconds=300 if all_report else 2)
    if scenario == "lead_to_the_end":
        engine = NestEngine.from_pretrained(
            str(nest_demo.model_path()), dtype=torch.float32, tp_plan="auto"
        )
        _fail_at(engine, "in every process")
    else:
        engine = NestEngine.from_pretrained(
            str(folder / "model"), dtype=torch.float32, tp_plan="auto"
        )
    if scenario == "fail_in_a_follower" and rank > 0:
        _fail_at(engine, "in this process alone")
    results = globals()[scenario](engine, rank)
    (folder / f"{rank}.json").write_text(json.dumps(results))
    if scenario == "lead_to_the_end" and rank == 0:
        raise RuntimeError("the end of process 0")


def save_tiny_model(folder: Path) -> None:
    tiny_model("llama").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
