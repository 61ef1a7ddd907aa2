"""Measure forwards by their width: plain, over a static cache, and the bound set by the memory.

    python -m benchmarks.forward_time         # 7 billion random weights, bfloat16, on a GPU
    python -m benchmarks.forward_time --shape small --device cpu --dtype float32

A draft of a few tokens costs a large model hardly more than one token, because every weight has to
be read once either way. The bound is the size of the weights and of the context's keys and values,
divided by the memory's bandwidth, which is measured by copying unless it is given. The table also
gives transformers' `generate`, plain and (on a GPU) compiled, in milliseconds per token. All take
turns, and the figures are medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from transformers import AutoModelForCausalLM, AutoTokenizer, MistralConfig, PreTrainedModel

import nest_demo
from benchmarks import report
from nest_engine import NestError
from nest_engine.errors import InputError
from nest_engine.models.huggingface import HuggingFaceLanguageModel

COLUMNS = (
    "tokens",
    "plain, ms",
    "static cache, ms",
    "bound, ms",
    "static / bound",
    "plain / static",
)
GENERATE = ("generate", "generate, compiled")
SHAPES = {
    "7b": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 32000,
    },
    "small": {
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 16384,
    },
}
_COPIED = 2**28  # bytes, for measuring the bandwidth: more than any cache holds


def random_model(shape: str, dtype: str, device: str, context: int) -> PreTrainedModel:
    """Return a model with random weights, created on its device."""
    config = MistralConfig(
        **SHAPES[shape],
        sliding_window=None,
        max_position_embeddings=max(4096, 2 * context),
        eos_token_id=None,
    )
    with torch.device(device):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            config, dtype=getattr(torch, dtype)
        )
    return model.eval()


def bytes_of_a_forward(model: PreTrainedModel, context: int) -> int:
    """Return the bytes that every forward reads: weights, without embeddings, and context."""
    config: Any = model.config
    embeddings: Any = model.get_input_embeddings()
    weights = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    weights -= embeddings.weight.numel() * embeddings.weight.element_size()
    kv_width = config.hidden_size // config.num_attention_heads * config.num_key_value_heads
    return int(
        weights
        + 2 * config.num_hidden_layers * kv_width * context * embeddings.weight.element_size()
    )


def measured_bandwidth(device: str) -> float:
    """Return the memory's bandwidth in bytes/s, reading and writing, as copying reaches it."""
    source = torch.empty(_COPIED, dtype=torch.uint8, device=device).zero_()
    target = torch.empty_like(source)
    seconds = []
    for _ in range(10):
        _wait(device)
        start = time.perf_counter()
        target.copy_(source)
        _wait(device)
        seconds.append(time.perf_counter() - start)
    return 2 * _COPIED / min(seconds)


def measure(
    model: PreTrainedModel,
    widths: Sequence[int],
    *,
    context: int,
    generated: int,
    repeats: int,
    device: str,
) -> dict[tuple[str, int], float]:
    """Return the median seconds of a forward, by kind and width.

    For ``generate`` it is the time of one token, at width 1.
    """
    tokenizer = AutoTokenizer.from_pretrained(nest_demo.model_path())
    kinds = {
        "plain": HuggingFaceLanguageModel(model, tokenizer),
        "static": HuggingFaceLanguageModel(model, tokenizer, static_cache=True),
    }
    prompt = [5 + i % 1000 for i in range(context)]
    sessions = {kind: language_model.prefill([prompt])[0] for kind, language_model in kinds.items()}

    def forward(kind: str, width: int) -> float:
        session = sessions[kind]
        session.truncate([context])
        # Reading a number waits for the device.
        float(session.extend([[7] * width])[0].logits_TV[-1, 0])
        return 1.0

    def generate(**options: Any) -> float:
        ids = torch.tensor([prompt], device=device)
        model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=generated,
            min_new_tokens=generated,
            do_sample=False,
            pad_token_id=0,
            **options,
        )
        return generated

    runs: dict[tuple[str, int], Callable[[], float]] = {
        (kind, width): lambda kind=kind, width=width: forward(kind, width)  # type: ignore[misc]
        for width in widths
        for kind in kinds
    }
    runs["generate", 1] = generate
    if device == "cuda":  # elsewhere transformers does not compile
        runs["generate, compiled", 1] = lambda: generate(cache_implementation="static")
    seconds: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
    # The first two rounds capture graphs and compile code.
    for repeat in track(range(-2, repeats), "Measuring"):
        for name, run in runs.items():
            start = time.perf_counter()
            units = run()
            if repeat >= 0:
                seconds[name].append((time.perf_counter() - start) / units)
    return {name: statistics.median(each) for name, each in seconds.items()}


def table(
    seconds: dict[tuple[str, int], float], widths: Sequence[int], bound: float
) -> list[dict[str, Any]]:
    """Return a row for each width, in milliseconds."""
    rows = []
    for width in widths:
        plain, static = seconds["plain", width], seconds["static", width]
        figures = (width, 1e3 * plain, 1e3 * static, 1e3 * bound, static / bound, plain / static)
        rows.append(dict(zip(COLUMNS, figures, strict=True)))
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table and write it to a folder."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.forward_time",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--shape", choices=SHAPES, default="7b", help="of the model (default: 7b)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    parser.add_argument(
        "--context", type=int, default=1024, help="tokens before the draft (default: 1024)"
    )
    parser.add_argument(
        "--widest", type=int, default=64, help="tokens of the widest draft (default: 64)"
    )
    parser.add_argument(
        "--generated", type=int, default=64, help="tokens for generate (default: 64)"
    )
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument(
        "--bandwidth", type=float, help="of the memory, bytes/s; measured when left out"
    )
    parser.add_argument(
        "--out", type=Path, default=report.RESULTS, help="folder for forward_time.json"
    )
    arguments = parser.parse_args(argv)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "there is no CUDA device here; give --device cpu, and --shape small with it"
        )
    for name in ("context", "widest", "generated", "repeats"):
        if getattr(arguments, name) < 1:
            raise InputError(f"--{name} is {getattr(arguments, name)}; give at least 1")

    widths = [2**power for power in range(arguments.widest.bit_length())]
    model = random_model(arguments.shape, arguments.dtype, arguments.device, arguments.context)
    bandwidth = arguments.bandwidth or measured_bandwidth(arguments.device)
    bound = bytes_of_a_forward(model, arguments.context) / bandwidth
    seconds = measure(
        model,
        widths,
        context=arguments.context,
        generated=arguments.generated,
        repeats=arguments.repeats,
        device=arguments.device,
    )
    rows = table(seconds, widths, bound)
    generate_ms = {kind: 1e3 * seconds[kind, 1] for kind in GENERATE if (kind, 1) in seconds}
    title = ", ".join(f"{kind} {value:.3g} ms a token" for kind, value in generate_ms.items())
    report.show(f"A forward by its width; {title}", rows, COLUMNS)
    names = ("shape", "device", "dtype", "context", "generated", "repeats")
    setting = {name: getattr(arguments, name) for name in names} | {"bandwidth": bandwidth}
    report.write(
        "forward_time",
        setting | {f"{kind}, ms": ms for kind, ms in generate_ms.items()},
        rows,
        arguments.out,
    )


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    try:
        main()
    except NestError as error:
        raise SystemExit(f"error: {error}") from error
