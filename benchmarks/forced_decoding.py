"""Measure tokens per forward when the answer is given: drafting alone, whatever the model says.

    python -m benchmarks.forced_decoding                          # questions on the shipped corpus
    python -m benchmarks.forced_decoding --references FILE.jsonl  # prompt, passages, reference

The logits are forced along the reference, so every way of drafting is verified against the same
text. The oracle knows the reference: at every step it copies the longest span that stands in the
passages, at most 64 tokens, in one forward, or in two as the published schedule does. ``lossless``
drafts as much as pays on this device, or always 64 tokens, which takes more time in fewer forwards.

Would a tree of several drafts, verified in one forward, pay? "Suffix match" drafts only from places
where the end of the text so far occurred before. The best of several such places, chosen with
hindsight, bounds what a tree of them could save.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

import nest_demo
from benchmarks import report, rivals
from nest_engine import NestEngine, Passage
from nest_engine.decoding.suffix_match import SEPARATOR, SUFFIX_TOKENS, SuffixMatcher
from nest_engine.errors import InputError
from nest_engine.generation.request import prepare
from nest_engine.generation.run import Run
from nest_engine.retrieval import BM25Retriever

LONGEST = 64
_FORCED = 1e4  # logit above all others


@dataclass(frozen=True)
class Reference:
    """An answer to be decoded.

    Args:
        prompt: the prompt, without passages.
        prompt_with_passages: the prompt behind the best passages.
        passages: what may be copied.
        text: the answer.
    """

    prompt: str
    prompt_with_passages: str
    passages: Sequence[Passage]
    text: str


@dataclass(frozen=True)
class Forced:
    """What it took to decode an answer; ``forwards`` come after the prompt's.

    ``rejected`` counts the drafted tokens that verification rejected.
    """

    tokens: int
    forwards: int
    spans: int
    rejected: int


class _Force:
    """Replaces any logits by certainty about the next token of the reference."""

    def __init__(self, num_prompt: int, answer: Sequence[int]) -> None:
        self._num_prompt, self._answer = num_prompt, answer

    def __call__(self, so_far: Sequence[int], logits_V: Tensor) -> Tensor:
        position = len(so_far) - self._num_prompt
        forced = torch.zeros_like(logits_V)
        forced[self._answer[min(position, len(self._answer) - 1)]] = _FORCED
        return forced


class _ForceRows(LogitsProcessor):
    def __init__(self, force: _Force) -> None:
        self._force = force

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        return torch.stack(
            [self._force(row.tolist(), row_V) for row, row_V in zip(input_ids, scores, strict=True)]
        )


def ours(
    engine: NestEngine, reference: Reference, *, in_prompt: bool = False, **settings: Any
) -> Forced:
    """Decode by ``lossless``: drafts from passages and text, verified against the reference."""
    answer = answer_ids(engine, reference)
    config = engine.config.replace(method="lossless", max_new_tokens=len(answer), **settings)
    prompt = reference.prompt_with_passages if in_prompt else reference.prompt
    [request] = prepare(engine, [prompt], [reference.passages], [None], config)
    request = dataclasses.replace(
        request, process_logits=_Force(len(request.tokens.token_ids), answer)
    )
    run = Run(engine.language_model, engine.key_cache, eos_ids=frozenset())
    [decoding] = run.enter([request])
    for _ in run.steps():
        decoding.take()
    if list(decoding.output.token_ids) != answer:
        raise AssertionError("the decoded answer is not the reference")
    decoded = decoding.sequence
    stats = decoded.stats()
    return Forced(
        len(answer), stats.steps, len(decoded.spans), stats.drafted_tokens - stats.accepted_tokens
    )


def prompt_lookup(engine: NestEngine, reference: Reference) -> Forced:
    """Decode by transformers' prompt lookup, passages in the prompt."""
    lm: Any = engine.language_model
    answer = answer_ids(engine, reference)
    prompt = lm.tokenizer.encode_prompt(reference.prompt_with_passages).token_ids
    answered = rivals.generate(
        lm,
        [prompt],
        len(answer),
        logits_processor=LogitsProcessorList([_ForceRows(_Force(len(prompt), answer))]),
        prompt_lookup_num_tokens=rivals.LONGEST_DRAFT,
        max_matching_ngram_size=3,
        eos_token_id=None,
    )
    return Forced(len(answer), answered.num_forwards, 0, 0)


def oracle(engine: NestEngine, reference: Reference) -> Forced:
    """Copy the longest span at every step: no way of drafting can do better."""
    answer = answer_ids(engine, reference)
    encode = engine.language_model.tokenizer.encode_passage
    passages = [encode(passage).token_ids for passage in reference.passages]
    position = forwards = spans = 0
    while position < len(answer):
        longest = max(
            _common(answer[position:], passage[start:])
            for passage in passages
            for start in range(len(passage))
        )
        spans += longest > 1
        position += max(longest, 1)
        forwards += 1
    return Forced(len(answer), forwards, spans, 0)


def suffix_match(engine: NestEngine, reference: Reference, num_places: int) -> Forced:
    """Draft from places where the end of the text occurred before.

    The best of ``num_places`` is chosen with hindsight. Places with the same next token count once,
    because a tree has one branch for them.
    """
    lm: Any = engine.language_model
    answer = answer_ids(engine, reference)
    passages = [
        lm.tokenizer.encode_passage(passage).token_ids for passage in reversed(reference.passages)
    ]
    matcher = SuffixMatcher(token for passage in passages for token in (*passage, SEPARATOR))
    matcher.extend(lm.tokenizer.encode_prompt(reference.prompt).token_ids)
    position = forwards = spans = rejected = 0
    while position < len(answer):
        token, rest = answer[position], answer[position + 1 :]
        matches = sorted(
            matcher.matches([*matcher.tokens[-SUFFIX_TOKENS:], token]),
            key=lambda match: -match.length,
        )
        drafts: dict[int, list[int]] = {}
        for match in matches:
            draft = list(
                takewhile(
                    SEPARATOR.__ne__, matcher.continuation(match.position, token, LONGEST - 1)
                )
            )
            if draft and len(drafts) < num_places:
                drafts.setdefault(draft[0], draft)
        longest = max((_common(rest, draft) for draft in drafts.values()), default=0)
        rejected += sum(map(len, drafts.values())) - longest
        spans += longest > 0
        forwards += 1
        matcher.extend(answer[position : position + 1 + longest])
        position += 1 + longest
    return Forced(len(answer), forwards, spans, rejected)


def answer_ids(engine: NestEngine, reference: Reference) -> list[int]:
    """Return the tokens of the reference, as they follow the prompt."""
    encode = engine.language_model.tokenizer.encode_prompt
    return list(
        encode(reference.prompt + reference.text).token_ids[
            len(encode(reference.prompt).token_ids) :
        ]
    )


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    pairs = zip(left[:LONGEST], right, strict=False)
    return next(
        (number for number, (a, b) in enumerate(pairs) if a != b),
        min(len(left), len(right), LONGEST),
    )


def read_references(path: Path | None, engine: NestEngine, num_passages: int) -> list[Reference]:
    """Read references; without a file, those about the shipped corpus.

    Raises:
        InputError: if a line is not a reference.
    """
    if path is None:
        retriever = BM25Retriever(nest_demo.load_passages())
        lines = (
            (Path(__file__).parent / "references.jsonl").read_text(encoding="utf-8").splitlines()
        )
        records = [json.loads(line) for line in lines]
        found = retriever.retrieve([record["question"] for record in records], num_passages)
        return [
            _reference(
                engine,
                engine.format_question(record["question"]),
                passages,
                " " + record["reference"],
            )
            for record, passages in zip(records, found, strict=True)
        ]
    references = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            record = json.loads(line)
            passages = [
                Passage(passage)
                if isinstance(passage, str)
                else Passage(passage["text"], title=passage.get("title", ""))
                for passage in record["passages"]
            ]
            references.append(_reference(engine, record["prompt"], passages, record["reference"]))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path}, line {number}: expected prompt, passages and reference ({error!r})"
            ) from error
    return references


def _reference(
    engine: NestEngine, prompt: str, passages: Sequence[Passage], text: str
) -> Reference:
    [request] = prepare(engine, [prompt], [passages], [prompt], engine.config.replace(method="ra"))
    return Reference(prompt, request.prompt, passages, text)


def main() -> None:
    """Decode every reference in every way, print the table, write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--references", type=Path, help="JSONL of prompt, passages, reference")
    parser.add_argument("--model", help="hub id or folder; default: the shipped model")
    parser.add_argument(
        "--passages", type=int, default=10, help="passages for each shipped question (default: 10)"
    )
    parser.add_argument(
        "--out", type=Path, default=report.RESULTS, help="folder for forced_decoding.json"
    )
    arguments = parser.parse_args()
    engine = (
        NestEngine.from_pretrained(arguments.model, dtype=torch.float32, prompt_cache=0)
        if arguments.model
        else nest_demo.load_engine(prompt_cache=0)
    )
    references = read_references(arguments.references, engine, arguments.passages)
    ways: dict[str, Callable[[Reference], Forced]] = {
        "oracle": lambda reference: oracle(engine, reference),
        "lossless": lambda reference: ours(engine, reference),
        "lossless, always 64 tokens": lambda reference: ours(
            engine, reference, adaptive_draft=False
        ),
        "lossless, passages in prompt": lambda reference: ours(engine, reference, in_prompt=True),
        "prompt lookup, passages in prompt": lambda reference: prompt_lookup(engine, reference),
        "suffix match": lambda reference: suffix_match(engine, reference, 1),
        "suffix match, best of 2": lambda reference: suffix_match(engine, reference, 2),
        "suffix match, best of 4": lambda reference: suffix_match(engine, reference, 4),
    }
    results: dict[str, list[Forced]] = {name: [] for name in ways}
    for reference in track(references, "decoding", console=Console(stderr=True)):
        for name, decode in ways.items():
            results[name].append(decode(reference))
    best = _per_forward(results["oracle"])
    rows = []
    for name, forced in results.items():
        rows.append(_row(name, forced, _per_forward(forced), best))
        if name in ("oracle", "lossless"):
            twice = sum(each.tokens for each in forced) / sum(
                each.forwards + each.spans for each in forced
            )
            rows.append(_row(f"{name}, two forwards per span", forced, twice, best))
    report.show(f"Forced decoding of {len(references)} references", rows, list(rows[0]))
    setting = {"references": str(arguments.references or "shipped"), "passages": arguments.passages}
    report.write("forced_decoding", setting, rows, arguments.out)


def _per_forward(forced: Sequence[Forced]) -> float:
    return sum(each.tokens for each in forced) / sum(each.forwards for each in forced)


def _row(name: str, forced: Sequence[Forced], per_forward: float, best: float) -> dict[str, Any]:
    tokens = sum(each.tokens for each in forced)
    return {
        "method": name,
        "tokens": tokens,
        "tokens/forward": per_forward,
        "share of oracle": per_forward / best,
        "drafted in vain per token": sum(each.rejected for each in forced) / tokens,
    }


if __name__ == "__main__":
    main()
