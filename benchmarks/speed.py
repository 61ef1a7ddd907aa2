"""Compare speed with transformers, prompt lookup, suffix decoding and NEST as published.

    python -m benchmarks.speed                               # the shipped corpus and questions
    python -m benchmarks.speed --docs articles --prompts 48  # "Tell me about TITLE." on your files
    python -m benchmarks.speed --docs articles --prompts 48 --out results

Every row answers the same questions in batches of eight. The rows take turns batch by batch, so
that a machine that becomes slower or faster treats them alike. A ratio compares with transformers'
``generate`` on the same prompts in the same pass; the table gives its median over the passes, its
lowest and its highest. Passage keys are warm, as they are from the second request on, unless a row
says cold.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track

import nest_demo
from benchmarks import report, rivals
from benchmarks.rivals import Answered, TwoForwards
from nest_engine import METHODS, KeyCache, NestEngine, NestOutput, Passage, PhaseSeconds
from nest_engine.generation.request import prepare
from nest_engine.interfaces import PassageRetriever
from nest_engine.retrieval import BM25Retriever, read_passages

BATCH = 8
PLAIN, IN_PROMPT = "generate", "generate, passages in prompt"
SHOWN = (
    "method",
    "batch",
    "tokens/s",
    "ratio",
    "lowest",
    "highest",
    "tokens/forward",
    "acceptance",
    "mean span",
    "copied",
)


@dataclass(frozen=True)
class Case:
    """A question with everything that any method needs to answer it.

    Args:
        question: the question.
        prompt: the question in the model's format.
        prompt_with_passages: the same after the best passages.
        passages: what the first-stage search found.
        irrelevant: passages that it found for another question.
    """

    question: str
    prompt: str
    prompt_with_passages: str
    passages: Sequence[Passage]
    irrelevant: Sequence[Passage]


@dataclass(frozen=True)
class Row:
    """A way to answer.

    Args:
        method: its name.
        answer: answers cases together, and returns what it cost.
        baseline: name of the row to compare with.
        batch: questions answered together.
    """

    method: str
    answer: Callable[[Sequence[Case]], tuple[Answered, list[NestOutput]]]
    baseline: str
    batch: int = 1

    @property
    def name(self) -> str:
        """Unique name of the row."""
        return f"{self.method}, batch {self.batch}"


def rows(engine: NestEngine, max_new_tokens: int) -> list[Row]:
    """Return every way to answer, each after its baseline."""
    lm: Any = engine.language_model
    published = NestEngine(TwoForwards(lm), config=engine.config, key_cache=engine.key_cache)
    forgetful = NestEngine(lm, config=engine.config, key_cache=KeyCache(0))

    def ours(
        method: str, *, in_prompt: bool = False, irrelevant: bool = False, by: NestEngine = engine
    ) -> Callable[[Sequence[Case]], tuple[Answered, list[NestOutput]]]:
        def answer(cases: Sequence[Case]) -> tuple[Answered, list[NestOutput]]:
            began = time.perf_counter()
            before = getattr(by.language_model, "num_forwards", 0)
            outputs = by.generate_batch(
                [case.prompt_with_passages if in_prompt else case.prompt for case in cases],
                passages=[case.irrelevant if irrelevant else case.passages for case in cases],
                queries=[case.question for case in cases],
                method=method,
                max_new_tokens=max_new_tokens,
            )
            forwards = getattr(by.language_model, "num_forwards", 0) - before
            stats = [output.stats for output in outputs]
            return Answered(
                sum(each.completion_tokens for each in stats),
                forwards or sum(each.lm_forwards for each in stats),
                time.perf_counter() - began,
                sum(each.drafted_tokens for each in stats),
                sum(each.accepted_tokens for each in stats),
            ), outputs

        return answer

    def rival(
        decode: Callable[..., Answered], *, in_prompt: bool = False
    ) -> Callable[[Sequence[Case]], tuple[Answered, list[NestOutput]]]:
        def answer(cases: Sequence[Case]) -> tuple[Answered, list[NestOutput]]:
            texts = [case.prompt_with_passages if in_prompt else case.prompt for case in cases]
            prompts = [lm.tokenizer.encode_prompt(text).token_ids for text in texts]
            return decode(
                lm, prompts if decode is rivals.generate else prompts[0], max_new_tokens
            ), []

        return answer

    found = [
        Row(PLAIN, rival(rivals.generate), PLAIN),
        Row("lm", ours("lm"), PLAIN),
        Row("nest, two forwards per span", ours("nest", by=published), PLAIN),
        Row("nest", ours("nest"), PLAIN),
        Row("nest, cold", ours("nest", by=forgetful), PLAIN),
        Row("nest, no relevant passage", ours("nest", irrelevant=True), PLAIN),
        Row("knn-lm", ours("knn-lm"), PLAIN),
        Row("lossless", ours("lossless"), PLAIN),
        Row(IN_PROMPT, rival(rivals.generate, in_prompt=True), IN_PROMPT),
        Row(
            "prompt lookup, passages in prompt",
            rival(rivals.prompt_lookup, in_prompt=True),
            IN_PROMPT,
        ),
        Row("lossless, passages in prompt", ours("lossless", in_prompt=True), IN_PROMPT),
        Row("ra", ours("ra"), IN_PROMPT),
        Row("ra-nest", ours("ra-nest"), IN_PROMPT),
        Row("ra-nest, cold", ours("ra-nest", by=forgetful), IN_PROMPT),
    ]
    try:
        import arctic_inference.suffix_decoding  # noqa: F401

        at = [row.method for row in found].index("lossless, passages in prompt")
        found.insert(
            at,
            Row(
                "suffix decoding, passages in prompt",
                rival(rivals.suffix_decoding, in_prompt=True),
                IN_PROMPT,
            ),
        )
    except ModuleNotFoundError:
        Console(stderr=True).print(
            "suffix decoding is left out: pip install arctic-inference", style="yellow"
        )
    batched = [
        Row(PLAIN, rival(rivals.generate), PLAIN, BATCH),
        *(Row(m, ours(m), PLAIN, BATCH) for m in ("lm", "nest")),
    ]
    batched += [Row(IN_PROMPT, rival(rivals.generate, in_prompt=True), IN_PROMPT, BATCH)]
    batched += [Row(m, ours(m), IN_PROMPT, BATCH) for m in ("ra", "ra-nest")]
    batched += [
        Row("lossless, passages in prompt", ours("lossless", in_prompt=True), IN_PROMPT, BATCH)
    ]
    return found + batched


def measure(
    cases: Sequence[Case], ways: Sequence[Row], repeats: int
) -> dict[str, list[list[tuple[Answered, Any]]]]:
    """Answer all cases by all rows, in turn.

    Returns:
        for each row's name, for each pass, what each batch cost, with the outputs.
    """
    measured: dict[str, list[list[tuple[Answered, Any]]]] = {row.name: [] for row in ways}
    batches = [cases[start : start + BATCH] for start in range(0, len(cases), BATCH)]
    for row in ways:  # warm up: allocations, code
        row.answer(batches[0][: row.batch])
    work = [(number, batch) for number in range(repeats) for batch in batches]
    for number, batch in track(work, "answering", console=Console(stderr=True)):
        for row in ways:
            if len(measured[row.name]) <= number:
                measured[row.name].append([])
            for start in range(0, len(batch), row.batch):
                measured[row.name][number].append(row.answer(batch[start : start + row.batch]))
    return measured


def summary(
    ways: Sequence[Row], measured: dict[str, list[list[tuple[Answered, Any]]]]
) -> list[dict[str, Any]]:
    """Return the figures of each row."""
    speeds = {
        name: [_total(run, "num_tokens") / _total(run, "seconds") for run in runs]
        for name, runs in measured.items()
    }
    figures = []
    for row in ways:
        alone = f"{row.baseline}, batch {row.batch}"
        ratios = [mine / its for mine, its in zip(speeds[row.name], speeds[alone], strict=True)]
        everything = [answered for run in measured[row.name] for answered in run]
        tokens = _total(everything, "num_tokens")
        drafted = _total(everything, "drafted")
        outputs: list[NestOutput] = [output for _, batch in everything for output in batch]
        spans = [output.stats for output in outputs if output.stats.drafted_tokens]
        figures.append(
            {
                "method": row.method,
                "batch": row.batch,
                "against": row.baseline,
                "tokens/s": statistics.median(speeds[row.name]),
                "ratio": statistics.median(ratios),
                "lowest": min(ratios),
                "highest": max(ratios),
                "tokens/forward": tokens / _total(everything, "num_forwards")
                if outputs or row.batch == 1
                else tokens / _total(everything, "num_forwards") / row.batch,
                "acceptance": _total(everything, "accepted") / drafted if drafted else None,
                "mean span": statistics.mean(stats.mean_accepted_span for stats in spans)
                if spans
                else None,
                "copied": sum(
                    output.stats.attributed_share * output.stats.completion_tokens
                    for output in outputs
                )
                / tokens
                if outputs
                else None,
                "encoded passages": sum(output.stats.encoded_passages for output in outputs)
                if outputs
                else None,
                "milliseconds per answer": _breakdown(
                    outputs, _total(everything, "seconds"), row.batch
                ),
                "tokens": tokens,
            }
        )
    return figures


def _total(answered: Sequence[tuple[Answered, Any]], name: str) -> Any:
    return sum(getattr(each, name) for each, _ in answered)


def _breakdown(
    outputs: Sequence[NestOutput], seconds: float, batch: int
) -> dict[str, float] | None:
    """Return the time of one answer by phase; the answers of a batch share its phases."""
    if not outputs:
        return None
    phases = {
        field.name: 1000
        * sum(getattr(output.stats.seconds, field.name) for output in outputs)
        / len(outputs)
        for field in fields(PhaseSeconds)
    }
    total = 1000 * seconds / len(outputs) * batch
    return {
        name: round(value, 3)
        for name, value in {**phases, "rest": total - sum(phases.values())}.items()
    }


def make_cases(
    engine: NestEngine, retriever: PassageRetriever, questions: Sequence[str]
) -> list[Case]:
    """Search for every question, and write its prompts."""
    config = engine.config.replace(method="ra")
    found = retriever.retrieve(questions, config.num_passages)
    cases = []
    for number, (question, passages) in enumerate(zip(questions, found, strict=True)):
        prompt = engine.format_question(question)
        [request] = prepare(engine, [prompt], [passages], [question], config)
        titles = {passage.title for passage in passages[:3]}
        other = found[(number + len(questions) // 2) % len(questions)]
        irrelevant = [passage for passage in other if passage.title not in titles]
        cases.append(Case(question, prompt, request.prompt, passages, irrelevant))
    return cases


def questions_about(titles: Sequence[str], count: int) -> list[str]:
    """Return one question for each of ``count`` titles, spread evenly over the list."""
    distinct = list(dict.fromkeys(titles))
    step = max(1, len(distinct) // count)
    return [f"Tell me about {title}." for title in distinct[::step][:count]]


def main() -> None:
    """Run the comparison, print the table, write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--docs", type=Path, help="files or a folder to search; default: the shipped corpus"
    )
    parser.add_argument("--model", help="hub id or folder; default: the shipped model")
    parser.add_argument("--prompts", type=int, default=24, help="questions to ask (default: 24)")
    parser.add_argument(
        "--passages", type=int, default=10, help="passages for each question (default: 10)"
    )
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument(
        "--repeats", type=int, default=5, help="passes over all questions (default: 5)"
    )
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="METHOD",
        help="rows of the table; what they are compared with is added",
    )
    parser.add_argument(
        "--out", type=Path, default=report.RESULTS, help="folder for speed.json and speed.png"
    )
    arguments = parser.parse_args()

    if arguments.docs is None:
        passages = nest_demo.load_passages()
        questions = [question.question for question in nest_demo.load_questions()][
            : arguments.prompts
        ]
    else:
        passages = list(read_passages([arguments.docs]).passages)
        questions = questions_about([passage.title for passage in passages], arguments.prompts)
    engine = (
        NestEngine.from_pretrained(arguments.model, dtype=torch.float32, prompt_cache=0)
        if arguments.model
        else nest_demo.load_engine(prompt_cache=0)
    )
    engine.key_cache = KeyCache(2**33)
    engine.config = engine.config.replace(num_passages=arguments.passages)
    cases = make_cases(engine, BM25Retriever(passages), questions)
    for case in track(cases, "computing keys", console=Console(stderr=True)):
        engine.generate(
            case.prompt,
            passages=[*case.passages, *case.irrelevant],
            method="nest",
            max_new_tokens=1,
        )
    ways = rows(engine, arguments.max_new_tokens)
    if arguments.only:
        wanted = set(arguments.only)
        unknown = wanted - {row.method for row in ways}
        if unknown:
            parser.error(
                f"--only {min(unknown)!r} is not known: one of "
                f"{', '.join(repr(row.method) for row in ways)}"
            )
        kept = {(row.baseline, row.batch) for row in ways if row.method in wanted}
        ways = [row for row in ways if row.method in wanted or (row.method, row.batch) in kept]
    figures = summary(ways, measure(cases, ways, arguments.repeats))
    setting = {
        "questions": len(questions),
        "corpus_passages": len(passages),
        "passages": arguments.passages,
        "max_new_tokens": arguments.max_new_tokens,
        "repeats": arguments.repeats,
        "model": arguments.model or "shipped",
        "settings": {
            method: {
                name: getattr(engine.config.replace(method=method), name)
                for name in ("alpha", "tau", "delta", "gamma", "max_draft_tokens")
            }
            for method in METHODS
        },
    }
    report.show("Speed, by method", figures, SHOWN)
    report.write("speed", setting, figures, arguments.out)
    report.bars(
        "Tokens per second, against transformers' generate",
        "ratio: median, lowest and highest of all passes",
        [
            (f"{row['method']} ({row['batch']})", row["ratio"], row["lowest"], row["highest"])
            for row in figures
        ],
        arguments.out / "speed.png",
    )
    Console(stderr=True).print(
        f"written: {arguments.out / 'speed.json'}, {arguments.out / 'speed.png'}"
    )


if __name__ == "__main__":
    main()
