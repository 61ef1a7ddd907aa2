"""Compare speed with transformers, llama.cpp, prompt lookup, suffix decoding, NEST as published.

    python -m benchmarks.speed                               # the shipped corpus and questions
    python -m benchmarks.speed --gguf model.gguf --model org/model   # and the same with llama.cpp
    python -m benchmarks.speed --docs articles --prompts 48  # "Tell me about TITLE." on your files
    python -m benchmarks.speed --docs articles --prompts 48 --out results

Without ``--model`` and ``--gguf``, the offline model (SmolLM2-135M-Instruct where its package is
installed), and llama.cpp on the same file where llama-cpp-python is installed.

Every row answers the same questions in batches of eight. The rows take turns batch by batch, so
that a machine that becomes slower or faster treats them alike. A ratio compares with what the row's
library does by itself on the same prompts in the same pass, ``generate`` or llama.cpp: tokens a
second (the median over the passes, the lowest and the highest) and whole answers, which end earlier
where sentences are quoted. No prompt is known beforehand. Passage keys are warm, as they are from
the second request on, unless a row says cold.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

import nest_demo
from benchmarks import report, rivals
from benchmarks.rivals import Answered, TwoForwards
from nest_engine import METHODS, KeyCache, NestEngine, NestOutput, Passage, PhaseSeconds
from nest_engine.generation.request import prepare
from nest_engine.interfaces import PassageRetriever, Tokenizer
from nest_engine.retrieval import BM25Retriever, read_passages

BATCH = 8
PLAIN, IN_PROMPT = "generate", "generate, passages in prompt"
LLAMA_CPP = "llama.cpp, passages in prompt"
SHOWN = (
    "method",
    "batch",
    "s/answer",
    "first token",
    "tokens/s",
    "ratio",
    "lowest",
    "highest",
    "answer ratio",
    "tokens/forward",
    "acceptance",
    "mean span",
    "copied",
    "recall",
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
        answer: what a right answer says; empty if that is not known.
    """

    question: str
    prompt: str
    prompt_with_passages: str
    passages: Sequence[Passage]
    irrelevant: Sequence[Passage]
    answer: str = ""


Answer = Callable[[Sequence[Case], int], tuple[Answered, list[NestOutput]]]
"""Answers cases together with at most so many tokens each, and says what it cost."""


@dataclass(frozen=True)
class Row:
    """A way to answer.

    Args:
        method: its name.
        answer: how cases are answered together.
        baseline: name of the row to compare with.
        batch: questions answered together.
    """

    method: str
    answer: Answer
    baseline: str
    tokenizer: Tokenizer
    batch: int = 1

    @property
    def name(self) -> str:
        """Unique name of the row."""
        return f"{self.method}, batch {self.batch}"


def ours(
    engine: NestEngine, method: str, *, in_prompt: bool = False, irrelevant: bool = False
) -> Answer:
    """Return how an engine answers by a method.

    Args:
        engine: the engine.
        method: the method.
        in_prompt: whether the passages stand in the prompt from the beginning.
        irrelevant: whether to give passages that another question has found.
    """

    def answer(cases: Sequence[Case], max_new_tokens: int) -> tuple[Answered, list[NestOutput]]:
        began = time.perf_counter()
        before = getattr(engine.language_model, "num_forwards", 0)
        outputs = engine.generate_batch(
            [case.prompt_with_passages if in_prompt else case.prompt for case in cases],
            passages=[case.irrelevant if irrelevant else case.passages for case in cases],
            queries=[case.question for case in cases],
            method=method,
            max_new_tokens=max_new_tokens,
        )
        forwards = getattr(engine.language_model, "num_forwards", 0) - before
        stats = [output.stats for output in outputs]
        return Answered(
            tuple(token for output in outputs for token in output.token_ids),
            forwards or sum(each.lm_forwards for each in stats),
            time.perf_counter() - began,
            sum(each.drafted_tokens for each in stats),
            sum(each.accepted_tokens for each in stats),
        ), outputs

    return answer


def transformers_rows(engine: NestEngine) -> list[Row]:
    """Return every way to answer with a model of transformers, each after its baseline."""
    lm: Any = engine.language_model
    published = NestEngine(TwoForwards(lm), config=engine.config, key_cache=engine.key_cache)
    forgetful = NestEngine(lm, config=engine.config, key_cache=KeyCache(0))

    def row(method: str, answer: Answer, baseline: str, batch: int = 1) -> Row:
        return Row(method, answer, baseline, lm.tokenizer, batch)

    def rival(decode: Callable[..., Answered], *, in_prompt: bool = False) -> Answer:
        def answer(cases: Sequence[Case], max_new_tokens: int) -> tuple[Answered, list[NestOutput]]:
            texts = [case.prompt_with_passages if in_prompt else case.prompt for case in cases]
            prompts = [lm.tokenizer.encode_prompt(text).token_ids for text in texts]
            return decode(
                lm, prompts if decode is rivals.generate else prompts[0], max_new_tokens
            ), []

        return answer

    found = [
        row(PLAIN, rival(rivals.generate), PLAIN),
        row("lm", ours(engine, "lm"), PLAIN),
        row("nest, two forwards per span", ours(published, "nest"), PLAIN),
        row("nest", ours(engine, "nest"), PLAIN),
        row("nest, cold", ours(forgetful, "nest"), PLAIN),
        row("nest, no relevant passage", ours(engine, "nest", irrelevant=True), PLAIN),
        row("knn-lm", ours(engine, "knn-lm"), PLAIN),
        row("lossless", ours(engine, "lossless"), PLAIN),
        row(IN_PROMPT, rival(rivals.generate, in_prompt=True), IN_PROMPT),
        row(
            "prompt lookup, passages in prompt",
            rival(rivals.prompt_lookup, in_prompt=True),
            IN_PROMPT,
        ),
        row("lossless, passages in prompt", ours(engine, "lossless", in_prompt=True), IN_PROMPT),
        row("ra", ours(engine, "ra"), IN_PROMPT),
        row("ra-nest", ours(engine, "ra-nest"), IN_PROMPT),
        row("ra-nest, cold", ours(forgetful, "ra-nest"), IN_PROMPT),
    ]
    if find_spec("arctic_inference"):
        at = [row.method for row in found].index("lossless, passages in prompt")
        suffixes = rival(rivals.suffix_decoding, in_prompt=True)
        found.insert(at, row("suffix decoding, passages in prompt", suffixes, IN_PROMPT))
    else:
        Console(stderr=True).print(
            "suffix decoding is left out: pip install arctic-inference", style="yellow"
        )
    batched = [
        row(PLAIN, rival(rivals.generate), PLAIN, BATCH),
        *(row(m, ours(engine, m), PLAIN, BATCH) for m in ("lm", "nest")),
    ]
    batched += [row(IN_PROMPT, rival(rivals.generate, in_prompt=True), IN_PROMPT, BATCH)]
    batched += [row(m, ours(engine, m), IN_PROMPT, BATCH) for m in ("ra", "ra-nest")]
    batched += [
        row(
            "lossless, passages in prompt",
            ours(engine, "lossless", in_prompt=True),
            IN_PROMPT,
            BATCH,
        )
    ]
    return found + batched


def llama_cpp_rows(engine: NestEngine, file: str) -> list[Row]:
    """Return every way to answer with llama.cpp, its own first."""
    lm = engine.language_model

    def rival(decode: Callable[[Sequence[int], int], Answered]) -> Answer:
        def answer(cases: Sequence[Case], max_new_tokens: int) -> tuple[Answered, list[NestOutput]]:
            [case] = cases
            prompt = lm.tokenizer.encode_prompt(case.prompt_with_passages).token_ids
            return decode(prompt, max_new_tokens), []

        return answer

    ways: list[tuple[str, Answer]] = [
        (LLAMA_CPP, rival(rivals.LlamaCpp(file, lm.eos_ids).answer)),
        (
            "llama.cpp, prompt lookup, passages in prompt",
            rival(rivals.LlamaCppLookup(file, lm.eos_ids).answer),
        ),
        ("llama.cpp: lm, passages in prompt", ours(engine, "lm", in_prompt=True)),
        ("llama.cpp: lossless, passages in prompt", ours(engine, "lossless", in_prompt=True)),
        ("llama.cpp: ra-nest", ours(engine, "ra-nest")),
    ]
    return [Row(method, answer, LLAMA_CPP, lm.tokenizer) for method, answer in ways]


def measure(
    cases: Sequence[Case], ways: Sequence[Row], repeats: int, max_new_tokens: int
) -> dict[str, list[list[tuple[Answered, Any]]]]:
    """Answer all cases by all rows, in turn.

    Returns:
        for each row's name, for each pass, what each batch cost, with the outputs.
    """
    measured: dict[str, list[list[tuple[Answered, Any]]]] = {row.name: [] for row in ways}
    batches = [cases[start : start + BATCH] for start in range(0, len(cases), BATCH)]
    for row in ways:  # warm up: allocations, code
        row.answer(batches[0][: row.batch], max_new_tokens)
    work = [(number, batch) for number in range(repeats) for batch in batches]
    for number, batch in track(work, "answering", console=Console(stderr=True)):
        for row in ways:
            if len(measured[row.name]) <= number:
                measured[row.name].append([])
            for start in range(0, len(batch), row.batch):
                measured[row.name][number].append(
                    row.answer(batch[start : start + row.batch], max_new_tokens)
                )
    return measured


def seconds_to_first_token(cases: Sequence[Case], ways: Sequence[Row]) -> dict[str, float]:
    """Return the median time of an answer of one token, by the name of the row."""
    seconds: dict[str, list[float]] = {row.name: [] for row in ways}
    for case in cases[:BATCH]:
        for row in ways:
            if row.batch == 1:
                seconds[row.name].append(row.answer([case], 1)[0].seconds)
    return {name: statistics.median(found) for name, found in seconds.items() if found}


def recall(row: Row, cases: Sequence[Case], run: Sequence[tuple[Answered, Any]]) -> float | None:
    """Return the share of answers, each alone, that hold what a right one says, without case."""
    if row.batch > 1 or not all(case.answer for case in cases):
        return None
    texts = [
        outputs[0].text if outputs else row.tokenizer.decode(answered.token_ids)
        for answered, outputs in run
    ]
    said = [
        case.answer.casefold() in text.casefold() for case, text in zip(cases, texts, strict=True)
    ]
    return sum(said) / len(said)


def summary(
    cases: Sequence[Case],
    ways: Sequence[Row],
    measured: dict[str, list[list[tuple[Answered, Any]]]],
) -> list[dict[str, Any]]:
    """Return the figures of each row."""
    first_token = seconds_to_first_token(cases, ways)
    seconds = {name: [_total(run, "seconds") for run in runs] for name, runs in measured.items()}
    speeds = {
        name: [
            _total(run, "num_tokens") / elapsed
            for run, elapsed in zip(runs, seconds[name], strict=True)
        ]
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
                "s/answer": statistics.median(seconds[row.name]) / len(cases),
                "first token": first_token.get(row.name),
                "tokens/s": statistics.median(speeds[row.name]),
                "ratio": statistics.median(ratios),
                "lowest": min(ratios),
                "highest": max(ratios),
                "answer ratio": statistics.median(
                    its / mine for mine, its in zip(seconds[row.name], seconds[alone], strict=True)
                ),
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
                "recall": recall(row, cases, measured[row.name][0]),
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
    engine: NestEngine,
    retriever: PassageRetriever,
    questions: Sequence[str],
    answers: Sequence[str],
) -> list[Case]:
    """Search for every question, and write its prompts."""
    config = engine.config.replace(method="ra")
    found = retriever.retrieve(questions, config.num_passages)
    cases = []
    for number, (question, answer, passages) in enumerate(
        zip(questions, answers, found, strict=True)
    ):
        prompt = engine.format_question(question)
        [request] = prepare(engine, [prompt], [passages], [question], config)
        titles = {passage.title for passage in passages[:3]}
        other = found[(number + len(questions) // 2) % len(questions)]
        irrelevant = [passage for passage in other if passage.title not in titles]
        cases.append(Case(question, prompt, request.prompt, passages, irrelevant, answer))
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
    parser.add_argument("--model", help="hub id or folder; default: the offline model")
    parser.add_argument("--dtype", help="of transformers (default: the machine's best)")
    parser.add_argument("--gguf", help="file for llama.cpp; default: that of the offline model")
    parser.add_argument("--prompts", type=int, default=20, help="questions to ask (default: 20)")
    parser.add_argument(
        "--passages", type=int, default=5, help="passages for each question (default: 5)"
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
        shipped = nest_demo.load_questions()[: arguments.prompts]
        questions = [question.question for question in shipped]
        answers = [question.answer for question in shipped]
    else:
        passages = list(read_passages([arguments.docs]).passages)
        questions = questions_about([passage.title for passage in passages], arguments.prompts)
        answers = [""] * len(questions)
    engine = NestEngine.from_pretrained(
        arguments.model or nest_demo.default_model(),
        backend="transformers",
        prompt_cache=0,
        **({"dtype": arguments.dtype} if arguments.dtype else {}),
    )
    lm: Any = engine.language_model
    engine.key_cache = KeyCache(2**33)
    engine.config = engine.config.replace(num_passages=arguments.passages)
    cases = make_cases(engine, BM25Retriever(passages), questions, answers)
    for case in track(cases, "computing keys", console=Console(stderr=True)):
        engine.generate(
            case.prompt,
            passages=[*case.passages, *case.irrelevant],
            method="nest",
            max_new_tokens=1,
        )
    ways = transformers_rows(engine)
    file = arguments.gguf or (None if arguments.model else nest_demo.smollm2_file())
    if file and find_spec("llama_cpp"):
        by_llama_cpp = NestEngine.from_pretrained(str(file), backend="llama.cpp", prompt_cache=0)
        by_llama_cpp.config = engine.config
        ways += llama_cpp_rows(by_llama_cpp, str(file))
    else:
        Console(stderr=True).print(
            "llama.cpp is left out: pip install 'nest-engine[llama-cpp]', and give --gguf",
            style="yellow",
        )
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
    measured = measure(cases, ways, arguments.repeats, arguments.max_new_tokens)
    figures = summary(cases, ways, measured)
    setting = {
        "questions": len(questions),
        "corpus_passages": len(passages),
        "passages": arguments.passages,
        "max_new_tokens": arguments.max_new_tokens,
        "repeats": arguments.repeats,
        "model": arguments.model or "offline",
        "dtype": str(lm.model.dtype),
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
        "Tokens per second, against what the library does by itself",
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
