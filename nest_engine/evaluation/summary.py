"""Tables of results, with confidence intervals over the choice of examples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nest_engine.evaluation.metrics import METRICS, Metric
from nest_engine.evaluation.results import Record

RESAMPLES = 1000


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval.

    Args:
        value: the figure over all examples.
        low: 2.5th percentile over resampled examples; nan where there is no interval, because only
            one example was measured or a figure is infinite.
        high: 97.5th percentile.
        examples: how many examples had something to measure.
    """

    value: float
    low: float
    high: float
    examples: int


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Args:
        condition: ``gold``, ``no-gold`` or ``open``.
        variant: name of the method, or of its variant.
        examples: number of examples.
        failed: how many of them could not be asked; the results hold the reasons.
        estimates: figures by the name of the metric.
    """

    condition: str
    variant: str
    examples: int
    failed: int
    estimates: Mapping[str, Estimate]


def summarize(records: Iterable[Record]) -> list[Row]:
    """Return a row for each variant and condition, in the order of the records."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record["condition"], record["variant"]), []).append(record)
    return [
        Row(
            condition,
            variant,
            len(group),
            sum("error" in record for record in group),
            _estimates(group),
        )
        for (condition, variant), group in groups.items()
    ]


def _estimates(records: Sequence[Record]) -> dict[str, Estimate]:
    estimates = {}
    for name, metric in METRICS.items():
        pairs = [
            record["measures"][name] for record in records if name in record.get("measures", ())
        ]
        if sum(count for _, count in pairs):
            estimates[name] = bootstrap(metric, pairs)
    return estimates


def bootstrap(metric: Metric, pairs: Sequence[tuple[float, float]]) -> Estimate:
    """Return a figure with its bootstrap percentile interval over examples.

    Args:
        metric: how totals and counts become a figure.
        pairs: total and count of each example.
    """
    pairs_N2 = np.asarray(pairs, dtype=np.float64)
    measured = sum(count > 0 for _, count in pairs)
    sums_R2 = _resampled(pairs_N2)
    values = [metric.value(total, count) for total, count in sums_R2.tolist() if count]
    total, count = pairs_N2.sum(0).tolist()
    low, high = _interval(values, measured)
    return Estimate(metric.value(total, count), low, high, measured)


def difference(
    records: Sequence[Record], name: str, variant: str, baseline: str, condition: str
) -> Estimate | None:
    """Return the difference between two variants over the same examples, resampled in pairs.

    Args:
        records: the results.
        name: name of the metric.
        variant: the variant.
        baseline: the variant that it is compared with.
        condition: the condition.

    Returns:
        the difference; None if the variants share no example.
    """
    of: dict[str, dict[str, tuple[float, float]]] = {variant: {}, baseline: {}}
    for record in records:
        measured = record.get("measures", {})
        if record["condition"] == condition and record["variant"] in of and name in measured:
            of[record["variant"]][record["example"]] = measured[name]
    shared = [example for example in of[variant] if example in of[baseline]]
    pairs_N4 = np.asarray(
        [[*of[variant][e], *of[baseline][e]] for e in shared], dtype=np.float64
    ).reshape(-1, 4)
    if not pairs_N4.sum(0)[[1, 3]].all():
        return None
    metric = METRICS[name]

    def gap(row: Sequence[float]) -> float:
        return metric.value(row[0], row[1]) - metric.value(row[2], row[3])

    gaps = [gap(row) for row in _resampled(pairs_N4).tolist() if row[1] and row[3]]
    low, high = _interval(gaps, len(shared))
    return Estimate(gap(pairs_N4.sum(0).tolist()), low, high, len(shared))


def _resampled(values_NC: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return column sums of rows drawn with replacement, ``[RESAMPLES, C]``; deterministic."""
    size = len(values_NC)
    chances_N, draw = np.full(size, 1 / size), np.random.default_rng(0)
    with np.errstate(invalid="ignore"):  # 0 times infinity, for a perplexity
        # One by one: all at once take gigabytes for 100,000 examples.
        sums_RC: NDArray[np.float64] = np.stack(
            [draw.multinomial(size, chances_N) @ values_NC for _ in range(RESAMPLES)]
        )
    return sums_RC


def _interval(values: Sequence[float], measured: int) -> tuple[float, float]:
    if measured < 2 or not np.isfinite(values).all():
        return math.nan, math.nan
    low, high = np.percentile(values, [2.5, 97.5]).tolist()
    return low, high


def to_markdown(
    rows: Sequence[Row], metrics: Sequence[str] | None = None, *, intervals: bool = True
) -> str:
    """Return a table for each condition.

    Args:
        rows: of :func:`summarize`.
        metrics: names of the metrics to show, in order; by default all.
        intervals: whether to show the intervals.
    """
    tables = []
    for condition in dict.fromkeys(row.condition for row in rows):
        group = [row for row in rows if row.condition == condition]
        shown = [name for name in metrics or METRICS if any(name in row.estimates for row in group)]
        asked, failed = max(row.examples for row in group), max(row.failed for row in group)
        heading = f"{condition}, {asked} examples" + (
            f", up to {failed} of them could not be asked" if failed else ""
        )
        header = ["method", *(METRICS[name].label for name in shown)]
        body = [
            [row.variant, *(_cell(row.estimates.get(name), name, intervals) for name in shown)]
            for row in group
        ]
        lines = [header, ["---", *("---:" for _ in shown)], *body]
        tables.append(
            f"**{heading}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
        )
    return "\n".join(tables)


def _cell(estimate: Estimate | None, name: str, interval: bool) -> str:
    if estimate is None:
        return "–"
    digits = METRICS[name].digits
    value = f"{estimate.value:.{digits}f}"
    if not interval or math.isnan(estimate.low):
        return value
    return f"{value} ({estimate.low:.{digits}f} to {estimate.high:.{digits}f})"


def to_dicts(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the rows as plain dicts; what is no number in JSON is None."""
    return [
        {
            "condition": row.condition,
            "method": row.variant,
            "examples": row.examples,
            "failed": row.failed,
            "figures": {name: _figure(estimate) for name, estimate in row.estimates.items()},
        }
        for row in rows
    ]


def _figure(estimate: Estimate) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in vars(estimate).items()}
