"""Time to the first token of prompts that begin like an earlier one.

    python -m benchmarks.prompt_beginnings            # the offline default, 400 tokens in common

Three ways take turns over the same prompts: in one forward (nothing is kept), in pieces behind an
unknown beginning, and in pieces behind a known one. Medians over the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time

import nest_demo
from nest_engine import NestEngine
from nest_engine.cli.console import progress_bar, show_rows
from nest_engine.models.huggingface import HuggingFaceLanguageModel
from nest_engine.models.precision import default_dtype

ENDINGS = (" What is it?", " Who has said so?")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="hub id, folder or .gguf file; default: the offline one")
    parser.add_argument("--dtype", help="number format; default: what suits the processor")
    parser.add_argument("--tokens", type=int, default=400, help="in common (default: 400)")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args(arguments)
    dtype = options.dtype or str(default_dtype(None, None, None)).removeprefix("torch.")
    engine = nest_demo.load_engine(model=options.model, dtype=dtype)
    show_rows(
        f"time to the first token, {options.tokens} tokens in common, {dtype}",
        timed(engine, options.tokens, options.rounds),
    )


def timed(engine: NestEngine, num_tokens: int, rounds: int) -> list[dict[str, object]]:
    """Return a row for each way to read prompts.

    Args:
        engine: on a model of transformers that keeps the beginnings of prompts.
        num_tokens: tokens that the prompts of a round have in common.
        rounds: each has a beginning of its own.
    """
    model = engine.language_model
    assert isinstance(model, HuggingFaceLanguageModel)
    kept = model._prompt_cache
    assert kept is not None
    text = " ".join(passage.text for passage in nest_demo.load_passages())
    tokens = model.tokenizer.encode_prompt(text).token_ids
    seconds: dict[str, list[float]] = {"in one forward": [], "unknown": [], "known": []}
    known = 0
    with progress_bar("reading") as progress:
        for number in range(rounds):
            begin = tokens[number * num_tokens : (number + 1) * num_tokens]
            first, second = (
                [*begin, *model.tokenizer.encode_prompt(ending).token_ids] for ending in ENDINGS
            )
            model._prompt_cache = None
            seconds["in one forward"].append(_seconds(model, first)[0])
            model._prompt_cache = kept
            seconds["unknown"].append(_seconds(model, first)[0])
            elapsed, known = _seconds(model, second)
            seconds["known"].append(elapsed)
            progress(number + 1, rounds)
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    return [
        {
            "beginning": name,
            "ms": round(1000 * median, 1),
            "against one forward": round(medians["in one forward"] / median, 2),
            "tokens known": known if name == "known" else 0,
        }
        for name, median in medians.items()
    ]


def _seconds(model: HuggingFaceLanguageModel, prompt: list[int]) -> tuple[float, int]:
    """Return the time from a prompt to its next token, and how much of it was known."""
    start = time.perf_counter()
    _, [prefill] = model.prefill([prompt])
    int(prefill.frontier.logits_V.argmax())  # reading a number waits for the device
    return time.perf_counter() - start, prefill.num_known


if __name__ == "__main__":
    main()
