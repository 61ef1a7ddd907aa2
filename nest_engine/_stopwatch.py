"""Measure where the time of a request goes."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from nest_engine.records import PhaseSeconds


class Stopwatch:
    """Seconds by phase.

    Args:
        other: a stopwatch whose seconds to start from.
    """

    def __init__(self, other: Stopwatch | None = None) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        if other is not None:
            self.add(other)

    def add(self, other: Stopwatch) -> None:
        """Add the seconds of another stopwatch, for a phase that several answers waited for."""
        for name, seconds in other.seconds.items():
            self.seconds[name] += seconds

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time of the block to a phase."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start

    def reading(self) -> PhaseSeconds:
        """Return the seconds so far."""
        return PhaseSeconds(**self.seconds)
