"""Does a model say by ``lm`` and ``lossless`` what its library says by itself, and how fast?

    python -m benchmarks.exactness                                   # the offline default, float32
    python -m benchmarks.exactness --dtypes float32 bfloat16 --prompts 4
    python -m benchmarks.exactness --gguf model.gguf                 # against llama.cpp

Each prompt is a question with its passages, and answers go on to the same number of tokens. In
float32 they must be the same, token for token; in bfloat16, and in quantized files, the width of a
forward decides how it rounds, and an answer changes where two tokens are almost equally probable.
A model without a chat template ends its answer where it begins the next "Question:", which the
library by itself does not: those are compared up to there.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch

import nest_demo
from benchmarks.rivals import LlamaCpp
from nest_engine import NestEngine, NestOutput
from nest_engine.citations.next_turn import next_turn_after
from nest_engine.cli.console import progress_bar, show_rows
from nest_engine.retrieval import BM25Retriever

METHODS = ("lm", "lossless")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="hub id, folder or .gguf file; default: the offline one")
    parser.add_argument("--gguf", help="file for llama.cpp, instead of transformers")
    parser.add_argument("--dtypes", nargs="+", default=["float32"])
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=128)
    options = parser.parse_args(arguments)
    rows = []
    if options.gguf:
        engine = nest_demo.load_engine(model=options.gguf, backend="llama.cpp", prompt_cache=0)
        alone = LlamaCpp(options.gguf, engine.language_model.eos_ids, flash_attn=False)

        def by_llama_cpp(prompt: str) -> Sequence[int]:
            token_ids = engine.language_model.tokenizer.encode_prompt(prompt).token_ids
            return alone.answer(token_ids, options.tokens).token_ids

        rows = compared(engine, by_llama_cpp, "llama.cpp", options.prompts, options.tokens)
    for dtype in () if options.gguf else options.dtypes:
        engine = nest_demo.load_engine(model=options.model, dtype=dtype, prompt_cache=0)
        generate = partial(generated, engine, num_tokens=options.tokens)
        rows += compared(engine, generate, dtype, options.prompts, options.tokens)
    show_rows(f"{options.prompts} prompts, {options.tokens} tokens each", rows)


def compared(
    engine: NestEngine,
    generate: Callable[[str], Sequence[int]],
    name: str,
    num_prompts: int,
    num_tokens: int,
) -> list[dict[str, object]]:
    """Return a row for what the library does by itself and for each method: how much agrees.

    Args:
        engine: the engine.
        generate: answers a prompt by the library alone.
        name: of the library or the number format.
        num_prompts: how many of the shipped questions to ask.
        num_tokens: tokens of each answer, unless the model ends before.
    """
    passages = nest_demo.load_passages()
    engine.retriever = BM25Retriever(passages)
    questions = [shipped.question for shipped in nest_demo.load_questions()[:num_prompts]]
    prompts = [engine.ask(question, method="ra", max_new_tokens=1).prompt for question in questions]
    equal, seconds, tokens = ({name: 0.0 for name in ("by itself", *METHODS)} for _ in range(3))
    with progress_bar(f"comparing, {name}") as progress:
        for number, prompt in enumerate(prompts, 1):
            stands = [passage for passage in passages if passage.text in prompt]
            start = time.perf_counter()
            expected = list(generate(prompt))
            seconds["by itself"] += time.perf_counter() - start
            tokens["by itself"] += len(expected)
            equal["by itself"] += 1
            for method in METHODS:
                start = time.perf_counter()
                output = engine.generate(
                    prompt, passages=stands, method=method, max_new_tokens=num_tokens
                )
                seconds[method] += time.perf_counter() - start
                tokens[method] += len(output.token_ids)
                equal[method] += is_said(engine, prompt, output, expected)
            progress(number, num_prompts)
    return [
        {
            "by": name,
            "": method,
            "the same as by itself": f"{equal[method]:.0f} of {len(prompts)}",
            "tokens/s": round(tokens[method] / seconds[method], 1),
        }
        for method in equal
    ]


def is_said(engine: NestEngine, prompt: str, output: NestOutput, expected: Sequence[int]) -> bool:
    """Return whether an answer is what the library says, up to the next turn if it ends there.

    Args:
        engine: the engine.
        prompt: the prompt.
        output: the answer.
        expected: the library's tokens, which may go on with another turn.
    """
    said, text = list(output.token_ids), engine.language_model.tokenizer.decode(expected)
    next_turn = next_turn_after(prompt)
    ends_there = next_turn is not None and next_turn.match(text, len(output.text)) is not None
    return said == list(expected) or (ends_there and said == list(expected[: len(said)]))


def generated(engine: NestEngine, prompt: str, num_tokens: int) -> list[int]:
    """Return the tokens that transformers generates behind a prompt, greedily."""
    model = engine.language_model.model  # type: ignore[attr-defined]
    ids = torch.tensor([engine.language_model.tokenizer.encode_prompt(prompt).token_ids])
    with torch.inference_mode():
        output = model.generate(
            ids.to(model.device),
            attention_mask=torch.ones_like(ids).to(model.device),
            max_new_tokens=num_tokens,
            do_sample=False,
            eos_token_id=sorted(engine.language_model.eos_ids),
            pad_token_id=min(engine.language_model.eos_ids),
        )
    return [int(token) for token in output[0, ids.shape[1] :]]


if __name__ == "__main__":
    main()
