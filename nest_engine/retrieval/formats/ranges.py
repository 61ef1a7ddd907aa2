"""Character ranges of a source: what of it is hidden, and what is left."""

from __future__ import annotations

from collections.abc import Iterable

Ranges = list[tuple[int, int]]


def complement(hidden: Iterable[tuple[int, int]], start: int, end: int) -> Ranges:
    """Return what is left between ranges.

    Args:
        hidden: in order; they may overlap.
        start: where what counts begins.
        end: one past its end.
    """
    left = []
    for first, last in hidden:
        if first > start:
            left.append((start, first))
        start = max(start, last)
    return [*left, (start, end)] if start < end else left
