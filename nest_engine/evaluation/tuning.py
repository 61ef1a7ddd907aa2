"""Finding a model's own settings: by its answers to questions about the user's own documents.

The questions are made without labels (``questions.py``), and their passages come with them, as in
a chain. Half of them choose: one setting after the other takes the value whose answers are worth
most, the others being kept. The other half decides whether that is better than what there was
before; where it is not, nothing is recommended.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nest_engine.config import NestConfig
from nest_engine.engine import NestEngine
from nest_engine.errors import InputError
from nest_engine.evaluation.articles import Articles
from nest_engine.evaluation.examples import Example, fingerprint
from nest_engine.evaluation.questions import make_questions
from nest_engine.evaluation.results import Record, Results
from nest_engine.evaluation.runner import evaluate, identity, plan
from nest_engine.evaluation.summary import Estimate, Row, difference, summarize

__all__ = ["Tuning", "make_questions", "tune"]

Progress = Callable[[int, int], None]

# What is tried, in this order. Sentence by sentence, distances hardly matter.
_BY_SENTENCE: Mapping[str, Sequence[float]] = {
    "own_words": (0.0, 0.05, 0.1, 0.3, 0.6),
    "plausibility": (0.005, 0.02, 0.08),
}
_WORD_BY_WORD: Mapping[str, Sequence[float]] = {
    "knn_temperature": (0.03, 0.1, 0.3, 1.0),
    "alpha": (0.0, 0.3, 0.6),
    "delta": (0.2, 0.5, 0.8),
    "gamma": (5e-4, 5e-2, 0.5),
}
_TOKENS = 64  # of an answer, at most
_FEWEST = 4  # questions: two to choose by, two to check


@dataclass(frozen=True)
class Tuning:
    """Recommended settings and the evidence for them.

    Args:
        method: the method they are for.
        settings: the settings that differ from those before; empty if nothing better was found.
        chosen: what the first half of the questions chose.
        tried: figures of everything that was tried, over the first half.
        checked: figures over the other half, before and with what was chosen.
        gain: what that adds to the worth of an answer there, in points; None if nothing differs.
    """

    method: str
    settings: Mapping[str, float]
    chosen: Mapping[str, float] = field(default_factory=dict)
    tried: Sequence[Row] = ()
    checked: Sequence[Row] = ()
    gain: Estimate | None = None


def tune(
    engine: NestEngine,
    questions: Sequence[Example],
    folder: str | os.PathLike[str],
    *,
    progress: Progress = lambda done, total: None,
) -> Tuning:
    """Choose settings by what answers are worth: right, whole, and such as the model could say.

    Args:
        engine: its configuration names the method, and is what others are compared with.
        questions: of :func:`make_questions`.
        folder: where results are kept; a stopped run goes on there.
        progress: called with the number of answers so far and the most there can be.

    Returns:
        the settings and the evidence.

    Raises:
        InputError: if there are too few questions, or the model can be asked none of them.
    """
    if len(questions) < _FEWEST:
        raise InputError(
            f"{len(questions)} questions are too few to choose settings and to check them: "
            f"{_FEWEST} at least, each about another passage; give more text"
        )
    limit = min(engine.config.max_new_tokens or _TOKENS, _TOKENS)
    before = engine.config.replace(max_new_tokens=limit)
    grid = _BY_SENTENCE if before.by_sentence else _WORD_BY_WORD
    half = (len(questions) + 1) // 2
    own = Path(folder, _digest(questions, before))
    choosing = _Measurement(engine, questions[:half], own / "choosing")
    checking = _Measurement(engine, questions[half:], own / "checking")
    num_tried = sum(len({getattr(before, name), *values}) for name, values in grid.items())
    total = half * num_tried + 2 * (len(questions) - half)
    told = 0

    def measure(where: _Measurement, variants: Mapping[str, NestConfig]) -> list[Record]:
        nonlocal told
        records = where.measure(variants, lambda done, _: progress(told + done, total))
        told += len(records)
        if all("error" in record for record in records):
            raise InputError(
                f"none of {len(where.questions)} questions can be asked: {records[0]['error']}"
            )
        return records

    chosen: dict[str, float] = {}
    tried: dict[str, Row] = {}
    for name, values in grid.items():
        now = before.replace(**chosen)
        kept = getattr(now, name)
        configs = {value: now.replace(**{name: value}) for value in (kept, *values)}
        variants = {_named(config, grid): config for config in configs.values()}
        rows = {row.variant: row for row in summarize(measure(choosing, variants))}
        tried |= rows
        best = max(configs, key=lambda value: _rank(rows[_named(configs[value], grid)]))
        least = _rank(rows[_named(configs[kept], grid)])
        if _rank(rows[_named(configs[best], grid)])[0] > least[0]:
            chosen[name] = best
    after = before.replace(**chosen)
    records = measure(checking, {"before": before} | ({"chosen": after} if chosen else {}))
    progress(total, total)
    gain = difference(records, "worth", "chosen", "before", "gold") if chosen else None
    return Tuning(
        method=before.method,
        settings=dict(chosen) if gain is not None and gain.value > 0 else {},
        chosen=chosen,
        tried=[*tried.values()],
        checked=summarize(records),
        gain=gain,
    )


def _digest(questions: Sequence[Example], before: NestConfig) -> str:
    """Return a name for what results depend on: others go into another folder."""
    settings = json.dumps(before.to_dict(), sort_keys=True, default=str)
    return hashlib.sha256(f"{fingerprint(questions)} {settings}".encode()).hexdigest()[:12]


class _Measurement:
    """Answers to some questions, kept in a folder."""

    def __init__(self, engine: NestEngine, questions: Sequence[Example], folder: Path) -> None:
        self._engine = engine
        self.questions = questions
        self._folder = folder

    def measure(self, variants: Mapping[str, NestConfig], progress: Progress) -> list[Record]:
        """Return the results of variants, with what each answer is worth."""
        nowhere = Articles(())
        planned = plan("qa", self.questions, variants, nowhere, conditions=("gold",))
        settings = {name: config.to_dict() for name, config in variants.items()}
        results = Results(self._folder, identity(planned, self._engine, nowhere), settings)
        records = evaluate(planned, self._engine, nowhere, results, progress=progress)
        return [_with_worth(record) for record in records]


def _with_worth(record: Record) -> Record:
    """Return a result with the worth of its answer: right or not, less what is spliced or odd."""
    measures = record.get("measures")
    if measures is None:
        return record
    whole, usual = (1 - _share(measures, name) for name in ("spliced_sentences", "odd_tokens"))
    worth = measures["answer_recall"][0] * whole * usual
    return record | {"measures": measures | {"worth": (worth, 1)}}


def _share(measures: Mapping[str, Sequence[float]], name: str) -> float:
    total, count = measures.get(name, (0.0, 0.0))
    return total / count if count else 0.0


def _rank(row: Row) -> tuple[float, float]:
    """Return what a row is worth; of equal ones, the faster one is better."""
    worth, speed = (row.estimates.get(name) for name in ("worth", "tokens_per_forward"))
    return worth.value if worth else 0.0, speed.value if speed else 0.0


def _named(config: NestConfig, grid: Mapping[str, object]) -> str:
    return " ".join(f"{name}={getattr(config, name):g}" for name in grid)
