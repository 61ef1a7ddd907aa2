"""Where a model's reasoning ends and its answer begins, in a text that grows.

Models that reason do so between ``<think>`` and ``</think>`` in front of the answer. Some templates
write the opening mark into the prompt, so that the model begins behind it.
"""

from __future__ import annotations

from collections.abc import Sequence

OPENING, CLOSING = "<think>", "</think>"


class Reasoning:
    """Tell the reasoning in front of an answer from the answer.

    Args:
        has_begun: whether the prompt ends with the opening mark.

    Attributes:
        text: the reasoning so far, without its marks and the space around them.
        is_open: whether the text so far ends inside the reasoning, or in what may become its
            opening mark.
        end: characters in front of the answer, marks and the space behind them included; None
            while nobody can tell.
    """

    def __init__(self, *, has_begun: bool) -> None:
        self._has_begun = has_begun
        self.text = ""
        self.is_open = has_begun
        self.end: int | None = None

    def read(self, text: str, *, is_final: bool) -> None:
        """Read all of the text so far.

        Args:
            text: reasoning and answer.
            is_final: whether nothing will follow.
        """
        if self.end is not None:
            return
        beginning = text.lstrip()
        is_marked = beginning.startswith(OPENING)
        may_be_marked = OPENING.startswith(beginning) and not is_final
        if not (self._has_begun or is_marked):
            self.is_open = may_be_marked and bool(beginning)
            self.end = None if may_be_marked else 0
            return
        begin = len(text) - len(beginning) + len(OPENING) if is_marked else 0
        inside, closing, behind = text[begin:].partition(CLOSING)
        self.is_open = not closing
        # A mark that is being written is no reasoning.
        shown = len(inside) if closing or is_final else len(inside) - held_back(inside, [CLOSING])
        self.text = inside[:shown].strip()
        if behind.strip() or is_final:
            self.end = len(text) - len(behind.lstrip())


def held_back(text: str, marks: Sequence[str]) -> int:
    """Return how many characters at the end of ``text`` may be the beginning of a mark."""
    longest = 0
    for mark in marks:
        for length in range(min(len(mark) - 1, len(text)), longest, -1):
            if text.endswith(mark[:length]):
                longest = length
                break
    return longest
