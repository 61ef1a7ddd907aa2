r"""Compute what a large model over millions of passages costs, and write docs/scale.md.

    python -m benchmarks.cost_at_scale
    python -m benchmarks.cost_at_scale --parameters 7.2e9 --layers 32 --width 4096 --devices 1 \
        --passages 1e6

Whatever can be measured on a small machine is taken from `benchmarks/results/`: bytes of a key,
latency and size of an index by number of passages. The rest are assumptions, each with an option:
the devices, how much of them is reached, tokens per forward, prices. The page keeps the two apart.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import report
from nest_engine import NestError
from nest_engine.errors import InputError

OUT = Path(__file__).parents[1] / "docs" / "scale.md"
WIDTHS = (1, 8, 16, 32, 64, 128, 256, 512)  # tokens of a forward, over all rows
DRAFTS = (1, 16, 64)
NUMBER_BYTES = {"fp16": 2, "int8": 1}  # of a key, by the format that it is kept in


@dataclass(frozen=True)
class Setting:
    """The model, the machine and the load; every field is an option of the command.

    Args:
        parameters: weights of the model.
        layers: transformer layers.
        width: width of the hidden state, which is the width of a key.
        kv_width: key-value heads times their width.
        weight_bytes: bytes of a weight.
        devices: accelerators that share each layer (tensor parallel).
        bandwidth: memory bandwidth of one, bytes/s.
        flops: dense matrix operations of one, 1/s.
        device_memory: memory of one, bytes.
        reached_bandwidth: share of the bandwidth that a forward reaches.
        reached_flops: share of the operations that a wide forward reaches.
        all_reduce: seconds of one of the two all-reduces of a layer; there are none on one device.
        passages: passages that can be searched.
        passage_tokens: tokens of a passage.
        request_passages: passages whose tokens one request searches.
        rows: requests decoded together.
        context: tokens of prompt and answer.
        answer_tokens: tokens of an answer.
        tokens_per_forward: tokens that a forward of NEST yields.
        known_passages: share of a request's passages whose keys are known.
        device_price: price of a device for an hour.
        disk_price: price of a gigabyte on disk for a month.
        memory_price: price of a gigabyte of memory for an hour.
    """

    parameters: float = 70.6e9
    layers: int = 80
    width: int = 8192
    kv_width: int = 1024
    weight_bytes: float = 2
    devices: int = 8
    bandwidth: float = 3.35e12
    flops: float = 989e12
    device_memory: float = 80e9
    reached_bandwidth: float = 0.7
    reached_flops: float = 0.5
    all_reduce: float = 15e-6
    passages: float = 33e6
    passage_tokens: float = 180
    request_passages: int = 40
    rows: int = 8
    context: int = 2048
    answer_tokens: int = 256
    tokens_per_forward: float = 2.0
    known_passages: float = 0.5
    device_price: float = 2.5
    disk_price: float = 0.1
    memory_price: float = 0.005

    def check(self) -> None:
        """Raise ``InputError`` if a number makes no sense."""
        for name, value in vars(self).items():
            least = (
                0 if name in ("all_reduce", "known_passages") or name.endswith("_price") else 1e-9
            )
            if not least <= value < math.inf:
                raise InputError(
                    f"--{_option(name)} {value:g} must be {'positive' if least else 'at least 0'}"
                )
        for name in ("reached_bandwidth", "reached_flops", "known_passages"):
            if getattr(self, name) > 1:
                raise InputError(f"--{_option(name)} {getattr(self, name):g} is a share: at most 1")
        if self.answer_tokens >= self.context:
            raise InputError(
                f"--answer-tokens {self.answer_tokens} leaves no room for a prompt in --context "
                f"{self.context}"
            )


@dataclass(frozen=True)
class Measured:
    """Figures from `benchmarks/results/`.

    Args:
        key_overhead: bytes of a token apart from the numbers of its key, by format: scale, token,
            offsets.
        latency: p95 in milliseconds of a search over the largest measured number of passages, by
            kind of search.
        largest: that number.
        index_bytes: bytes of an index for each passage, vectors included.
    """

    key_overhead: dict[str, float]
    latency: dict[str, float]
    largest: int
    index_bytes: float


def forward_seconds(setting: Setting, tokens: float) -> float:
    """Return the seconds of a forward over ``tokens`` tokens.

    The larger of two times counts (a roofline): reading the weights once, and computing each token.
    Two all-reduces for each layer are added. Attention to the context is left out: at a few
    thousand tokens it is small compared with the weights.
    """
    read = (
        setting.parameters * setting.weight_bytes / (setting.bandwidth * setting.reached_bandwidth)
    )
    computed = 2 * setting.parameters * tokens / (setting.flops * setting.reached_flops)
    shared = 2 * setting.layers * setting.all_reduce if setting.devices > 1 else 0
    return max(read, computed) / setting.devices + shared


def key_bytes(setting: Setting, measured: Measured, key_format: str) -> float:
    """Return the bytes of the keys of one passage."""
    return setting.passage_tokens * (
        setting.width * NUMBER_BYTES[key_format] + measured.key_overhead[key_format]
    )


def batch_seconds(setting: Setting, rows: int, draft: int) -> float:
    """Return the seconds of ``rows`` answers decoded together, from first prompt to last token.

    Prompts are read one after the other, with the passages whose keys are not known. Then every
    forward yields one token of every row, or ``tokens_per_forward`` with drafts.

    Args:
        setting: the model, the machine and the load.
        rows: answers.
        draft: tokens of a draft; 1 is the model alone, without passages.
    """
    is_nest = draft > 1
    prompt = setting.context - setting.answer_tokens
    reading = forward_seconds(setting, prompt + (unknown_tokens(setting) if is_nest else 0))
    forwards = setting.answer_tokens / (setting.tokens_per_forward if is_nest else 1)
    return rows * reading + forwards * forward_seconds(setting, rows * draft)


def unknown_tokens(setting: Setting) -> float:
    """Return the number of tokens in passages of one request whose keys are not known."""
    return setting.request_passages * (1 - setting.known_passages) * setting.passage_tokens


def page(setting: Setting, measured: Measured, command: str) -> str:
    """Return the page."""
    billions, millions = (
        f"{setting.parameters / 1e9:.0f} billion",
        f"{setting.passages / 1e6:g} million",
    )
    prompt, read = setting.context - setting.answer_tokens, unknown_tokens(setting)
    # float32 while it is searched
    searched = setting.request_passages * setting.passage_tokens * setting.width * 4
    searching = 1000 * searched / (setting.bandwidth * setting.reached_bandwidth)
    reading = 1000 * forward_seconds(setting, read)
    index, of_index = setting.passages * measured.index_bytes, measured.index_bytes
    index_price = index / 1e9 * setting.memory_price
    of_request = (
        setting.known_passages * setting.request_passages * key_bytes(setting, measured, "int8")
    )
    return f"""# At scale

What a model of {billions} parameters on {setting.devices} devices costs over {millions} passages. \
**Computed, not
measured: no such machine was at hand.** Written by

```
{command}
```

Every number follows from what was measured and what is assumed, both below; \
every assumption is an option of the
command. Prices are in the currency of the assumed ones.

## One forward

{_table(_forwards(setting))}
As long as the weights take longer to read than the tokens to compute, drafted tokens are free. \
Beyond, a draft must
yield what it costs.

## Answers

{prompt:,} tokens of prompt, {setting.answer_tokens} of answer; \
with drafts {setting.tokens_per_forward:g} tokens per
forward, and {setting.known_passages:.0%} of the passages' keys known:

{_table(_answers(setting))}
Reading the other passages, {read:,.0f} tokens for each request, takes {reading:.0f} ms. \
The token search reads
{_size(searched)} of keys, {searching:.2f} ms on one device. \
With many rows short drafts are the better ones:
`adaptive_draft` chooses by what a wide forward costs.

## Memory

{_table(_memory(setting, searched))}
The passage index (text, keywords, vectors) takes {_size(index)}; \
all of it in main memory would cost {index_price:.2f}
an hour, beside {setting.devices * setting.device_price:.2f} for the devices. \
It is memory-mapped and need not be there
as a whole.

## Keys on disk

{_table(_keys(setting, measured))}
One request reads {_size(of_request)} of `int8` keys, where they are known. \
What is asked about often is worth storing;
the rest is read by the model when it is first found, and kept in memory.

## First-stage search

{_table(_searches(setting, measured))}
In proportion is the worst case: between 25,000 and {measured.largest:,} passages keyword search \
grew by less, and
clustered vectors are searched in a share of their clusters ([retrieval.md](retrieval.md)). \
Exact vectors do grow in
proportion: so many of them want clusters, or a vector store on machines of its own \
([stores.md](stores.md)).

## Measured

`benchmarks/results/scale.json`, `key_precision.json`: p95 of searches over {measured.largest:,} \
passages on two cores;
{of_index:,.0f} bytes of index for a passage, with vectors of 384 dimensions; \
beside its numbers a key takes
{measured.key_overhead["fp16"]:.0f} bytes in `fp16` and {measured.key_overhead["int8"]:.0f} in \
`int8`.

## Assumed

{_table(_assumptions(setting))}
Tokens per forward decide, and belong to model, passages and settings: \
`python -m benchmarks.speed --model M` measures
them. The paper reports 1.8 times the speed of the model alone for 70 billion parameters on \
biographies.
"""


def _forwards(setting: Setting) -> list[dict[str, Any]]:
    one = forward_seconds(setting, 1)
    return [
        {"tokens of a forward": tokens, "ms": 1000 * seconds, "against one token": seconds / one}
        for tokens in WIDTHS
        for seconds in (forward_seconds(setting, tokens),)
    ]


def _answers(setting: Setting) -> list[dict[str, Any]]:
    hourly = setting.devices * setting.device_price
    return [
        {
            "answers together": rows,
            "draft": draft if draft > 1 else "none (the model alone)",
            "seconds": seconds,
            "tokens/s in all": rows * setting.answer_tokens / seconds,
            "price of 1,000 answers": f"{1000 * seconds / rows * hourly / 3600:.2f}",
        }
        for rows in (1, setting.rows)
        for draft in DRAFTS
        for seconds in (batch_seconds(setting, rows, draft),)
    ]


def _memory(setting: Setting, searched: float) -> list[dict[str, Any]]:
    weights = setting.parameters * setting.weight_bytes
    cache = (
        2
        * setting.layers
        * setting.kv_width
        * setting.weight_bytes
        * setting.context
        * setting.rows
    )
    keys = setting.rows * searched
    parts = {
        "weights": weights,
        f"key-value cache, {setting.rows} rows of {setting.context:,} tokens": cache,
        f"keys of {setting.rows} requests, float32": keys,
        f"together, of {_size(setting.devices * setting.device_memory)}": weights + cache + keys,
    }
    return [{"of the devices": name, "bytes": _size(value)} for name, value in parts.items()]


def _keys(setting: Setting, measured: Measured) -> list[dict[str, Any]]:
    return [
        {
            "keys": name,
            "of a passage": _size(one),
            "of all": _size(setting.passages * one),
            "all on disk, a month": f"{setting.passages * one / 1e9 * setting.disk_price:,.0f}",
        }
        for name in NUMBER_BYTES
        for one in (key_bytes(setting, measured, name),)
    ]


def _searches(setting: Setting, measured: Measured) -> list[dict[str, Any]]:
    times = setting.passages / measured.largest
    return [
        {
            "search": name,
            f"p95 ms at {measured.largest:,}": f"{milliseconds:.2f}",
            f"at {setting.passages:,.0f}, in proportion": f"{milliseconds * times:,.0f}",
        }
        for name, milliseconds in measured.latency.items()
    ]


def _assumptions(setting: Setting) -> list[dict[str, Any]]:
    return [
        {"option": f"`--{_option(name)}`", "value": f"{value:,g}"}
        for name, value in vars(setting).items()
    ]


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    return report.markdown(rows, list(rows[0]))


def _option(name: str) -> str:
    return name.replace("_", "-")


def _size(num_bytes: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if num_bytes >= size:
            return f"{num_bytes / size:.3g} {unit}"
    return f"{num_bytes / 1e3:.3g} kB"


def read_measured(folder: Path) -> Measured:
    """Read the results of the other benchmarks.

    Raises:
        InputError: if a result is missing; the message names the command that measures it.
    """
    scale, precision = _read(folder, "scale"), _read(folder, "key_precision")
    largest = max(row["passages"] for row in scale)
    at_largest = [row for row in scale if row["passages"] == largest]
    exact_numbers = next(row["bytes/token"] for row in precision if row["keys"] == "float32") // 4
    overhead = {
        row["keys"]: row["bytes/token"] - exact_numbers * NUMBER_BYTES[row["keys"]]
        for row in precision
        if row["keys"] in NUMBER_BYTES
    }
    index = next(row["index MB"] for row in at_largest if row.get("vectors") == "clustered")
    latency = {row["search"]: row["p95 ms"] for row in at_largest if "search" in row}
    return Measured(overhead, latency, largest, index * 1e6 / largest)


def _read(folder: Path, name: str) -> list[dict[str, Any]]:
    path = folder / f"{name}.json"
    if not path.is_file():
        raise InputError(
            f"{path.name} is not in {folder.name}: python -m benchmarks.{name} measures it"
        )
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Compute, and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, value in vars(Setting()).items():
        parser.add_argument(
            f"--{_option(name)}", type=type(value), default=value, help=f"default: {value:g}"
        )
    parser.add_argument(
        "--results", type=Path, default=report.RESULTS, help="folder of measured results"
    )
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args(argv)
    setting = Setting(**{name: getattr(arguments, name) for name in vars(Setting())})
    setting.check()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(
        page(setting, read_measured(arguments.results), report.command()), encoding="utf-8"
    )


if __name__ == "__main__":
    try:
        main()
    except NestError as error:
        raise SystemExit(f"error: {error}") from error
