"""How far a long task has come, for whoever draws a bar."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with the amount done and the total, in a unit that the task names; the last call has both equal."""


def ignore(done: int, total: int) -> None:
    """Report to nobody."""


def stage(progress: Progress, index: int, stages: int) -> Progress:
    """Return the progress of one of several stages of equal length, as a part of the whole."""

    def report(done: int, total: int) -> None:
        progress(index * total + done, stages * total)

    return report
