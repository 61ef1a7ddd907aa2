"""Compare the methods: tokens per forward, attributed share, speed.

    python -m benchmarks.methods                                    # the shipped corpus and its 40 questions
    python -m benchmarks.methods --docs articles.jsonl --prompts 50 # "Tell me about <title>." over your articles

Methods alternate prompt by prompt, so that a machine that grows slower or faster treats them alike. Each prompt is
answered once before it is timed: passage keys are warm, as they are from the second request on.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import transformers
from rich.console import Console
from rich.progress import track
from rich.table import Table

import nest_demo
from nest_engine import METHODS, NestEngine, NestOutput
from nest_engine.retrieval import BM25Retriever, read_passages


def questions_about(titles: Sequence[str], count: int) -> list[str]:
    """Return one question for each of ``count`` titles, spread evenly over the list."""
    distinct = list(dict.fromkeys(titles))
    step = max(1, len(distinct) // count)
    return [f"Tell me about {title}." for title in distinct[::step][:count]]


def measure(
    engine: NestEngine, questions: Sequence[str], max_new_tokens: int
) -> dict[str, list[tuple[NestOutput, float]]]:
    """Answer every question with every method, in turn; return answers and seconds."""
    runs: dict[str, list[tuple[NestOutput, float]]] = {method: [] for method in METHODS}
    for question in track(questions, "answering", console=Console(stderr=True)):
        prompt = engine.format_question(question)
        passages = engine.retriever.retrieve([question], engine.config.num_passages)[0]
        for method in METHODS:
            for is_timed in (False, True):
                start = time.perf_counter()
                output = engine.generate(
                    prompt, passages=passages, query=question, method=method, max_new_tokens=max_new_tokens
                )
                if is_timed:
                    runs[method].append((output, time.perf_counter() - start))
    return runs


def summary(runs: Sequence[tuple[NestOutput, float]], baseline: Sequence[tuple[NestOutput, float]]) -> dict[str, float]:
    """Return totals over all answers; the speed ratio is the median over prompts."""
    stats = [output.stats for output, _ in runs]
    tokens = sum(s.completion_tokens for s in stats)
    drafted = sum(s.drafted_tokens for s in stats)
    speeds = [output.stats.completion_tokens / seconds for output, seconds in runs]
    baseline_speeds = [output.stats.completion_tokens / seconds for output, seconds in baseline]
    quotes = sum(len(output.citations) for output, _ in runs)
    return {
        "tokens_per_forward": tokens / sum(s.lm_forwards for s in stats),
        "attributed_share": sum(s.attributed_share * s.completion_tokens for s in stats) / tokens,
        "acceptance": sum(s.accepted_tokens for s in stats) / drafted if drafted else 0.0,
        "citations_per_answer": quotes / len(runs),
        "tokens_per_citation": sum(c.token_end - c.token_start for o, _ in runs for c in o.citations) / max(quotes, 1),
        "tokens_per_second": statistics.median(speeds),
        "speed_ratio_to_lm": statistics.median(a / b for a, b in zip(speeds, baseline_speeds, strict=True)),
    }


def main() -> None:
    """Run the comparison and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=Path, help="files or a folder to search; default: the shipped corpus")
    parser.add_argument("--model", help="hub id or folder; default: the shipped model")
    parser.add_argument("--prompts", type=int, default=50, help="questions to ask (default: 50)")
    parser.add_argument("--passages", type=int, default=10, help="passages for each question (default: 10)")
    parser.add_argument("--max-new-tokens", type=int, default=96)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()

    if arguments.docs is None:
        passages = nest_demo.load_passages()
        questions = [question.question for question in nest_demo.load_questions()][: arguments.prompts]
    else:
        passages = list(read_passages([arguments.docs]).passages)
        questions = questions_about([passage.title for passage in passages], arguments.prompts)
    model = arguments.model or str(nest_demo.model_path())
    engine = NestEngine.from_pretrained(model, dtype=torch.float32, retriever=BM25Retriever(passages))
    engine.config = engine.config.replace(num_passages=arguments.passages)

    runs = measure(engine, questions, arguments.max_new_tokens)
    results = {method: summary(runs[method], runs["lm"]) for method in METHODS}
    setting = {
        "questions": len(questions),
        "corpus_passages": len(passages),
        "passages_per_question": arguments.passages,
        "max_new_tokens": arguments.max_new_tokens,
        "model": arguments.model or "shipped",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
    }
    print_table(setting, results)
    if arguments.json:
        arguments.json.write_text(json.dumps({"setting": setting, "results": results}, indent=2) + "\n")


def print_table(setting: dict[str, object], results: dict[str, dict[str, float]]) -> None:
    """Print the figures, one method a row."""
    table = Table(title="Methods compared", caption=", ".join(f"{name} {value}" for name, value in setting.items()))
    table.add_column("method")
    for column in next(iter(results.values())):
        table.add_column(column.replace("_", " "), justify="right")
    for method, figures in results.items():
        table.add_row(method, *(f"{value:.2f}" for value in figures.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
