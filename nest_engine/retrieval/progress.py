"""Report the progress of long tasks."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with the amount done and the total, in the task's own unit; equal in the last call."""


def ignore(done: int, total: int) -> None:
    """Report nothing."""


def stage(progress: Progress, index: int, stages: int) -> Progress:
    """Return the progress of one of several equally long stages, as part of the whole."""

    def report(done: int, total: int) -> None:
        progress(index * total + done, stages * total)

    return report
