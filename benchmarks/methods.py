"""Compare the methods with transformers' own `generate`: tokens per forward, attributed share, speed.

    python -m benchmarks.methods                                    # the shipped corpus and its 40 questions
    python -m benchmarks.methods --docs articles --prompts 50       # "Tell me about <title>." over your files

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
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from rich.console import Console
from rich.progress import track
from rich.table import Table

import nest_demo
from nest_engine import METHODS, NestEngine, NestOutput
from nest_engine.retrieval import BM25Retriever, read_passages

BASELINE = "generate"


def questions_about(titles: Sequence[str], count: int) -> list[str]:
    """Return one question for each of ``count`` titles, spread evenly over the list."""
    distinct = list(dict.fromkeys(titles))
    step = max(1, len(distinct) // count)
    return [f"Tell me about {title}." for title in distinct[::step][:count]]


@dataclass(frozen=True)
class Answered:
    """One timed answer; ``output`` is None for transformers' own."""

    num_tokens: int
    num_forwards: int
    seconds: float
    output: NestOutput | None = None


def measure(engine: NestEngine, questions: Sequence[str], max_new_tokens: int) -> dict[str, list[Answered]]:
    """Answer every question with every method, in turn."""
    runs: dict[str, list[Answered]] = {BASELINE: [], **{method: [] for method in METHODS}}
    for question in track(questions, "answering", console=Console(stderr=True)):
        prompt = engine.format_question(question)
        passages = engine.retriever.retrieve([question], engine.config.num_passages)[0]
        for name in runs:
            for is_timed in (False, True):
                start = time.perf_counter()
                if name == BASELINE:
                    num_tokens = generate(engine, prompt, max_new_tokens)
                    answered = Answered(num_tokens, num_tokens, time.perf_counter() - start)
                else:
                    output = engine.generate(
                        prompt, passages=passages, query=question, method=name, max_new_tokens=max_new_tokens
                    )
                    stats, seconds = output.stats, time.perf_counter() - start
                    answered = Answered(stats.completion_tokens, stats.lm_forwards, seconds, output)
                if is_timed:
                    runs[name].append(answered)
    return runs


def generate(engine: NestEngine, prompt: str, max_new_tokens: int) -> int:
    """Answer with transformers alone; return the number of tokens."""
    token_ids = torch.tensor([engine.language_model.tokenizer.encode_prompt(prompt).token_ids])
    model = engine.language_model.model
    output = model.generate(token_ids, max_new_tokens=max_new_tokens, do_sample=False, attention_mask=token_ids >= 0)
    return output.shape[1] - token_ids.shape[1]


def summary(runs: Sequence[Answered], baseline: Sequence[Answered]) -> dict[str, float]:
    """Return totals over all answers; speed and its ratio are medians over prompts."""
    tokens = sum(answered.num_tokens for answered in runs)
    outputs = [answered.output for answered in runs if answered.output]
    drafted = sum(output.stats.drafted_tokens for output in outputs)
    quotes = [citation for output in outputs for citation in output.citations]
    ratios = [b.seconds / b.num_tokens * a.num_tokens / a.seconds for a, b in zip(runs, baseline, strict=True)]
    return {
        "tokens_per_forward": tokens / sum(answered.num_forwards for answered in runs),
        "attributed_share": sum(o.stats.attributed_share * o.stats.completion_tokens for o in outputs) / tokens,
        "acceptance": sum(output.stats.accepted_tokens for output in outputs) / drafted if drafted else 0.0,
        "citations_per_answer": len(quotes) / len(runs),
        "tokens_per_citation": sum(c.token_end - c.token_start for c in quotes) / max(len(quotes), 1),
        "tokens_per_second": statistics.median(answered.num_tokens / answered.seconds for answered in runs),
        f"speed_ratio_to_{BASELINE}": statistics.median(ratios),
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
    retriever = BM25Retriever(passages)
    if arguments.model:
        engine = NestEngine.from_pretrained(arguments.model, dtype=torch.float32, retriever=retriever)
    else:
        engine = nest_demo.load_engine(retriever)
    engine.config = engine.config.replace(num_passages=arguments.passages)

    runs = measure(engine, questions, arguments.max_new_tokens)
    results = {name: summary(answers, runs[BASELINE]) for name, answers in runs.items()}
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
