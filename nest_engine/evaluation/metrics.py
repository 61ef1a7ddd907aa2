"""Measures of an answer's text against its reference.

A measure is a pair ``(total, count)``. Over several answers, totals and counts are summed before
they are divided: a share of tokens is a share of all tokens, and a mean over answers has count 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from nest_engine._optional import require
from nest_engine.evaluation.matching import names, words_of

Measure = tuple[float, float]
Measures = dict[str, Measure]


@dataclass(frozen=True)
class Metric:
    """How a measure is shown, and which published number it corresponds to.

    Args:
        label: heading of its column.
        meaning: what it measures, and in which of the paper's tables.
        higher_is_better: None if neither is.
        scale: factor of the mean; 100 for percent.
        transform: applied to the mean.
        digits: decimals shown.
    """

    label: str
    meaning: str
    higher_is_better: bool | None
    scale: float = 1.0
    transform: Callable[[float], float] | None = None
    digits: int = 1

    def value(self, total: float, count: float) -> float:
        """Return the figure of summed totals and counts; ``count`` is not 0."""
        mean = self.scale * total / count
        return self.transform(mean) if self.transform else mean


def _exp(mean: float) -> float:
    return math.exp(mean) if mean < 700 else math.inf


METRICS: dict[str, Metric] = {
    "perplexity": Metric(
        "PPL",
        "of the true text under p_M, or p_LM where a method mixes nothing (Table 1a)",
        False,
        transform=_exp,
    ),
    "rouge1": Metric(
        "ROUGE-1", "F-measure against the true text, times 100 (Tables 1a and 3)", True, 100
    ),
    "rouge2": Metric("ROUGE-2", "the same over pairs of words (Table 1a)", True, 100),
    "rougeL": Metric(
        "ROUGE-L", "the same over the longest common subsequence (Table 1a)", True, 100
    ),
    "answer_recall": Metric(
        "answer recall %",
        "answers that contain one of the right answers (Tables 1b and 3)",
        True,
        100,
    ),
    "delta_bleu": Metric(
        "ΔBLEU",
        "BLEU against the nearest true answer less the nearest false one (Table 1b)",
        True,
        digits=2,
    ),
    "delta_rouge1": Metric(
        "ΔROUGE-1", "the same with ROUGE-1, times 100 (Table 1b)", True, 100, digits=2
    ),
    "accuracy": Metric(
        "accuracy %",
        "questions whose right choice has the lowest perplexity (Table 1b, MMLU)",
        True,
        100,
    ),
    "factual_precision": Metric(
        "facts right %",
        "numbers, dates and proper names of the answer that the article contains; no judge model "
        "is asked. It stands where the paper has FActScore (Tables 1b and 3) and is not comparable "
        "with it",
        True,
        100,
    ),
    "facts": Metric("facts", "numbers, dates and proper names in an answer", None),
    "attributed_share": Metric("attributed %", "answer tokens with a source (Table 2)", None, 100),
    "mean_span": Metric("mean span", "tokens copied in a row from one passage (Table 2)", None),
    "quote_precision": Metric(
        "quotes exact %", "citations whose text stands at the cited place; must be 100", True, 100
    ),
    "quoted_sentences": Metric(
        "quoted %", "characters in sentences that are one stretch of one source", True, 100
    ),
    "spliced_sentences": Metric(
        "spliced %",
        "characters in sentences pieced together, from several places or with the model's words",
        False,
        100,
    ),
    "own_sentences": Metric(
        "own %", "characters in sentences that are the model's own words", None, 100
    ),
    "quotes": Metric("quote %", "answers that quote", None, 100),
    "nll": Metric(
        "NLL",
        "of the answer's tokens, in nats, under the model alone with the passages in its prompt",
        False,
        digits=2,
    ),
    "odd_tokens": Metric(
        "odd %", "tokens of the answer that the model there gives less than 0.001", False, 100
    ),
    "worth": Metric(
        "worth %",
        "answers that are right, each times the shares that are neither spliced nor odd",
        True,
        100,
    ),
    "off_topic": Metric(
        "off topic %",
        "answer tokens copied from passages that are neither about the subject nor mention it",
        False,
        100,
    ),
    "article_found": Metric(
        "found %", "answers that had a passage of the subject's article to copy from", None, 100
    ),
    "mean_lambda": Metric(
        "λ", "mean interpolation coefficient; 1 is the model alone", None, digits=2
    ),
    "length": Metric("tokens", "length of an answer (Table 1a)", None),
    "tokens_per_forward": Metric(
        "tokens/forward", "answer tokens for each forward pass of the model", True, digits=2
    ),
    "seconds": Metric(
        "s/answer", "the same clock, for a whole answer with its prompt", False, digits=2
    ),
    "tokens_per_second": Metric(
        "tokens/s", "wall clock, passage keys known, search left out (Figure 2)", True, digits=0
    ),
}


def rouge(answer: str, reference: str) -> Measures:
    """Return ROUGE-1, ROUGE-2 and ROUGE-L of an answer (Table 1a), F-measures from 0 to 1."""
    scores = _rouge_scorer().score(reference, answer)
    return {name: (scores[name].fmeasure, 1) for name in ("rouge1", "rouge2", "rougeL")}


def answer_recall(answer: str, aliases: Sequence[str]) -> Measures:
    """Return the answer-level recall of Table 1b: does the answer contain a right one?"""
    said = words_of(answer)
    return {"answer_recall": (float(any(names(said, alias) for alias in aliases)), 1)}


def truthful_deltas(answer: str, correct: Sequence[str], incorrect: Sequence[str]) -> Measures:
    """Compare the similarities to the nearest true and false answer: TruthfulQA in Table 1b.

    The difference is positive when the answer is closer to a true one. BLEU is sacreBLEU's with the
    benchmark's settings.
    """

    def delta(similarity: Callable[[str, str], float]) -> float:
        nearest = [
            max(similarity(answer, other) for other in others) for others in (correct, incorrect)
        ]
        return nearest[0] - nearest[1]

    rouge1 = delta(lambda said, true: float(_rouge_scorer().score(true, said)["rouge1"].fmeasure))
    return {"delta_bleu": (delta(_bleu), 1), "delta_rouge1": (rouge1, 1)}


def _bleu(answer: str, reference: str) -> float:
    sacrebleu = require("sacrebleu", "sacrebleu", "eval")
    return float(
        sacrebleu.corpus_bleu([answer], [[reference]], smooth_method="exp", tokenize="intl").score
    )


@cache
def _rouge_scorer() -> Any:
    require("rouge_score", "rouge-score", "eval")
    from rouge_score.rouge_scorer import RougeScorer
    from rouge_score.tokenizers import DefaultTokenizer

    # Without a tokenizer the package logs a message, which sets up the program's root logger.
    return RougeScorer(
        ["rouge1", "rouge2", "rougeL"], tokenizer=DefaultTokenizer(use_stemmer=False)
    )


def require_libraries() -> None:
    """Raise ``MissingDependencyError`` unless the metrics' packages are installed."""
    require("sacrebleu", "sacrebleu", "eval")
    _rouge_scorer()
