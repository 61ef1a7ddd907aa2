"""Measure the effect of the number format of keys: float32 in memory, fp16 and int8 on disk.

    python -m benchmarks.key_precision                       # the shipped model, corpus, questions
    python -m benchmarks.key_precision --articles wiki.jsonl.xz --model HuggingFaceTB/SmolLM2-360M

The model predicts the beginnings of documents, with the document among the passages and without (as
for `nest tune`). Before each token, p_M is compared with p_M by float32 keys. Their total-variation
distance, half the sum of all differences, is the share of draws that could differ. Then questions
are answered greedily.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

import nest_demo
from benchmarks import quality, report
from benchmarks.predicted_texts import Sample, make_samples
from benchmarks.speed import questions_about
from nest_demo.training_data import read_articles
from nest_engine import KeyCache, KeyStore, NestEngine, NestError, Passage
from nest_engine.datastore.key_store import KEY_FORMATS
from nest_engine.datastore.passage_keys import encode_passages
from nest_engine.evaluation.conditions import CONDITIONS
from nest_engine.generation.request import prepare
from nest_engine.generation.scoring import ForcedText
from nest_engine.retrieval import BM25Retriever

FLOAT32 = "float32"
COLUMNS = (
    "keys",
    "tokens",
    "bytes/token",
    "key error, mean",
    "key error, max",
    "TV, mean",
    "TV, max",
    "same argmax",
    *(f"perplexity, {condition}" for condition in CONDITIONS),
    "same answer",
)


@dataclass
class Predictions:
    """The predictions along texts by keys of one format, compared with float32."""

    distances: list[Tensor] = field(default_factory=list)
    agreements: list[Tensor] = field(default_factory=list)
    nlls: dict[str, list[Tensor]] = field(
        default_factory=lambda: {condition: [] for condition in CONDITIONS}
    )

    def add(
        self, condition: str, probs_TV: Tensor, reference_TV: Tensor, targets: Sequence[int]
    ) -> None:
        """Compare p_M along a text with that of float32 keys."""
        self.distances.append(0.5 * (probs_TV - reference_TV).abs().sum(-1))
        self.agreements.append(probs_TV.argmax(-1) == reference_TV.argmax(-1))
        targets_T1 = torch.tensor(targets, device=probs_TV.device)[:, None]
        self.nlls[condition].append(-probs_TV.gather(1, targets_T1)[:, 0].log())

    def summary(self) -> dict[str, Any]:
        """Return the figures over all texts."""
        distances, agreements = torch.cat(self.distances), torch.cat(self.agreements)
        perplexities = {
            f"perplexity, {c}": math.exp(float(torch.cat(nlls).mean()))
            for c, nlls in self.nlls.items()
        }
        return {
            "tokens": len(distances),
            "TV, mean": float(distances.mean()),
            "TV, max": float(distances.max()),
            "same argmax": float(agreements.float().mean()),
            **perplexities,
        }


def hold_keys(engine: NestEngine, passages: Sequence[Passage], folder: Path) -> dict[str, KeyCache]:
    """Compute keys and hold them in every format: float32 in memory, the others on disk."""
    language_model, exact = engine.language_model, KeyCache(2**40)
    for passage in track(passages, "computing keys", console=Console(stderr=True)):
        [keys] = encode_passages(language_model, [passage])
        exact.put(language_model.fingerprint, passage, replace(keys, keys_TD=keys.keys_TD.float()))
    stores = {
        key_format: KeyStore.build(
            folder / key_format, language_model, passages, key_format=key_format
        )
        for key_format in KEY_FORMATS
    }
    return {FLOAT32: exact, **{name: KeyCache(0, store=store) for name, store in stores.items()}}


def compare_keys(
    engine: NestEngine, passages: Sequence[Passage], exact: KeyCache, held: KeyCache
) -> dict[str, float]:
    """Return the size of keys, and their distance from float32 keys, relative to their length."""
    model, errors, num_keys = engine.language_model.fingerprint, [], 0
    for passage in passages:
        wanted, found = exact.get(model, passage), held.get(model, passage)
        if wanted is None or found is None:  # a passage without a key
            continue
        lengths_T = wanted.keys_TD.norm(dim=-1)
        errors.append((found.keys_TD.float() - wanted.keys_TD).norm(dim=-1) / lengths_T)
        num_keys += len(lengths_T)
    num_bytes = held.store.nbytes if held.store else held.nbytes
    errors_N = torch.cat(errors)
    return {
        "bytes/token": round(num_bytes / num_keys),
        "key error, mean": float(errors_N.mean()),
        "key error, max": float(errors_N.max()),
    }


def predict(
    engine: NestEngine, samples: Sequence[Sample], held: dict[str, KeyCache]
) -> dict[str, dict[str, float]]:
    """Predict texts by keys of every format; return the figures of each."""
    predictions = {name: Predictions() for name in held}
    for sample in track(samples, "predicting", console=Console(stderr=True)):
        [request] = prepare(
            engine, [sample.prompt], [sample.passages], [sample.query], engine.config
        )
        forced = [
            ForcedText(engine.language_model, cache, request, sample.text)
            for cache in held.values()
        ]
        for pieces in zip(*(each.predict() for each in forced), strict=True):
            mixtures = [piece.mixture(engine.config).probs_QV for piece in pieces]
            for name, probs_TV in zip(held, mixtures, strict=True):
                predictions[name].add(sample.condition, probs_TV, mixtures[0], pieces[0].targets)
    return {name: each.summary() for name, each in predictions.items()}


def answer(
    engine: NestEngine,
    questions: Sequence[str],
    found: Sequence[Sequence[Passage]],
    held: dict[str, KeyCache],
    max_new_tokens: int,
) -> dict[str, float]:
    """Return, for each format, the share of answers identical to those by float32 keys."""
    same: dict[str, list[bool]] = {name: [] for name in held}
    for question, passages in track(
        list(zip(questions, found, strict=True)), "answering", console=Console(stderr=True)
    ):
        outputs = []
        for name, cache in held.items():
            by = NestEngine(engine.language_model, config=engine.config, key_cache=cache)
            prompt = by.format_question(question)
            outputs.append(
                by.generate(
                    prompt, passages=passages, query=question, max_new_tokens=max_new_tokens
                )
            )
            same[name].append(
                (outputs[-1].text, outputs[-1].citations) == (outputs[0].text, outputs[0].citations)
            )
    return {name: statistics.mean(each) for name, each in same.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Compare the formats, print the table, write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--articles",
        type=Path,
        nargs="+",
        help='lines of {"title", "text"}, .xz and .gz too; default: shipped corpus',
    )
    parser.add_argument("--model", help="hub id or folder; default: the shipped model")
    parser.add_argument(
        "--passages", type=int, default=5000, help="cut from --articles (default: 5000)"
    )
    parser.add_argument(
        "--texts", type=int, default=100, help="documents to predict, each twice (default: 100)"
    )
    parser.add_argument("--questions", type=int, default=40, help="to answer (default: 40)")
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument(
        "--out", type=Path, default=report.RESULTS, help="folder for key_precision.json"
    )
    arguments = parser.parse_args(argv)

    engine = (
        NestEngine.from_pretrained(arguments.model, dtype=torch.float32, prompt_cache=0)
        if arguments.model
        else nest_demo.load_engine(prompt_cache=0)
    )
    # Word by word, where keys decide every token.
    engine.config = engine.config.replace(method="nest", **quality.WORD_BY_WORD)
    if arguments.articles:
        passages = quality.corpus(
            read_articles(arguments.articles), frozenset(), arguments.passages
        )
        questions = questions_about([passage.title for passage in passages], arguments.questions)
    else:
        passages = nest_demo.load_passages()
        questions = [
            shipped.question for shipped in nest_demo.load_questions()[: arguments.questions]
        ]
    engine.retriever = BM25Retriever(passages)
    samples = make_samples(engine, engine.retriever, passages, arguments.texts)
    found = engine.retriever.retrieve(questions, engine.config.passages_to_find)
    searched = [
        each for group in (*(sample.passages for sample in samples), *found) for each in group
    ]
    needed = list({(each.title, each.text): each for each in searched}.values())

    with tempfile.TemporaryDirectory() as folder:
        held = hold_keys(engine, needed, Path(folder))
        predictions = predict(engine, samples, held)
        answers = answer(engine, questions, found, held, arguments.max_new_tokens)
        rows = [
            {
                "keys": name,
                **compare_keys(engine, needed, held[FLOAT32], cache),
                **predictions[name],
                "same answer": answers[name],
            }
            for name, cache in held.items()
        ]
    setting = {
        "model": report.shown(arguments.model) if arguments.model else "shipped",
        "passages": len(needed),
        "texts": len(samples),
        "questions": len(questions),
        "max_new_tokens": arguments.max_new_tokens,
    }
    report.show("Keys, by number format", rows, COLUMNS)
    report.write("key_precision", setting, rows, arguments.out)


if __name__ == "__main__":
    try:
        main()
    except NestError as error:
        raise SystemExit(f"error: {error}") from error
