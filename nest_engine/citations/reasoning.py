"""Where a model's reasoning ends and its answer begins, in a text that grows.

Models that reason do so between ``<think>`` and ``</think>``, or other marks, in front of the
answer. Some templates write the opening mark into the prompt, so that the model begins behind it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import regex

_TAGS = "think|thinking|thought|reasoning|seed:think"
_CHANNEL = r"<\|channel\|>{}<\|message\|>"  # of gpt-oss
_OPENING = rf"<(?:{_TAGS}) ?>|\[THINK\]|◁think▷|{_CHANNEL.format('analysis')}"
_CLOSING = (
    rf"</(?:{_TAGS}) ?>|\[/THINK\]|◁/think▷"
    rf"|(?:(?:<\|end\|>)?<\|start\|>assistant)?{_CHANNEL.format('final')}"
)
_AT_END = regex.compile(rf"(?:{_OPENING})\s*\Z", regex.IGNORECASE)
_OPENS = regex.compile(rf"\s*(?:{_OPENING})", regex.IGNORECASE)
_CLOSES = regex.compile(_CLOSING, regex.IGNORECASE)
# One that nothing has opened; a text that names it is about it.
_UNOPENED = regex.compile(rf"(?<![`'\"“‘(])(?:{_CLOSING})(?![`'\"”’)])\s*", regex.IGNORECASE)
_ANY_OPENING = regex.compile(_OPENING, regex.IGNORECASE)
_MARK = regex.compile(rf"\s*(?:(?P<opening>{_OPENING})|{_CLOSING})", regex.IGNORECASE)

OPENING = "<think>"
_SHOWN = frozenset(
    ["[THINK]", "[/THINK]", "◁think▷", "◁/think▷"]
    + [f"<{slash}{tag}>" for tag in _TAGS.split("|") for slash in ("", "/")]
    # around tool calls
    + ["[TOOL_CALLS]", "[CALL_ID]", "[ARGS]", "<|python_tag|>", "<tool_call>", "</tool_call>"]
    + [f"<|{mark}|>" for mark in ("tool_call", "/tool_call", "tool_call_start", "tool_call_end")]
    + ["<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"]
)
_CHANNELS = frozenset(["<|channel|>", "<|message|>", "<|start|>"])


def opens_reasoning(prompt: str) -> bool:
    """Return whether a prompt ends with the mark behind which a model reasons."""
    return _AT_END.search(prompt) is not None


def marks_among(control_strings: Collection[str]) -> frozenset[str]:
    """Return the control strings around reasoning or tool calls, or parts of them."""
    known = frozenset(control_strings)
    return known & (_SHOWN | _CHANNELS if known >= _CHANNELS else _SHOWN)


def begins_reasoning(control_string: str) -> bool:
    """Return whether a control string opens reasoning, or begins a mark that does."""
    return control_string == "<|channel|>" or _OPENS.fullmatch(control_string) is not None


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
        self._blocks: list[str] = []  # closed
        self._begin = 0  # of the block, or of what may be one
        self._seen = 0  # where its end has been looked for
        self.text = ""
        self.is_open = self._is_inside = has_begun
        self.end: int | None = None

    def read(self, text: str, *, is_final: bool) -> None:
        """Read all of the text so far.

        Args:
            text: reasoning and answer.
            is_final: whether nothing will follow.
        """
        while self.end is None:
            read = self._read_inside if self._is_inside else self._read_in_front
            if not read(text, is_final=is_final):
                break
        if is_final and self.end is None:
            self.end = len(text)

    def read_again(self, text: str) -> bool:
        """Look into a whole text that has begun as an answer for the end of reasoning.

        Some models begin to reason without a mark, where a prompt was not written by their
        template.

        Args:
            text: all of the text.

        Returns:
            whether its beginning is reasoning after all.
        """
        closing = _UNOPENED.search(text) if self.end == 0 else None
        if closing is None or _ANY_OPENING.search(text, 0, closing.start()):
            return False
        self.text, self.end = text[: closing.start()].strip(), closing.end()
        return True

    def _read_in_front(self, text: str, *, is_final: bool) -> bool:
        """Read what is no reasoning; return whether there is a mark."""
        mark = _MARK.match(text, self._begin, partial=not is_final)
        if mark is not None and not mark.partial:
            self._is_inside = mark["opening"] is not None
            self._begin = self._seen = mark.end()
            return True
        behind = text[self._begin :].lstrip()
        self.is_open = mark is not None and bool(behind)
        if mark is None:
            self.end = len(text) - len(behind) if self._begin else 0
        return False

    def _read_inside(self, text: str, *, is_final: bool) -> bool:
        """Read reasoning; return whether it is over."""
        self.is_open = True
        if self._seen == self._begin:  # the model may repeat the mark that the prompt has
            again = _OPENS.match(text, self._begin, partial=not is_final)
            if again is not None and again.partial:
                return False
            self._begin = self._seen = again.end() if again else self._begin
        closing = _CLOSES.search(text, self._seen, partial=not is_final)
        self._seen = closing.start() if closing else len(text)
        block = text[self._begin : self._seen].strip()
        self.text = "\n\n".join(filter(None, (*self._blocks, block)))
        if closing is None or closing.partial:
            return False
        self._blocks.append(block)
        self._is_inside = False
        self._begin = self._seen = closing.end()
        return True


def held_back(text: str, marks: Sequence[str]) -> int:
    """Return how many characters at the end of ``text`` may be the beginning of a mark."""
    longest = 0
    for mark in marks:
        for length in range(min(len(mark) - 1, len(text)), longest, -1):
            if text.endswith(mark[:length]):
                longest = length
                break
    return longest
