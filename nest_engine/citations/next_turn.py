"""Where a base model goes on behind its answer: with the next turn of a conversation.

A model without a chat template reads ``Question: ... Answer:`` as a text, and so writes what comes
next in such texts: another question, in whatever form it has seen.
"""

from __future__ import annotations

import regex

_ASKING = "question|query|q|human|user|background"
_SAYING = "assistant|ai"


def _label(names: str) -> str:
    """Return a pattern for a line's beginning such as ``Question:`` or ``### **Question 2:**``."""
    return (
        rf"[^\S\n]*[*#_>]{{0,6}} ?(?P<label>{names})(?: ?\d{{1,3}})?[*_ ]{{0,3}}"
        r"[:\N{FULLWIDTH COLON}]"
    )


def _turn(answering: str) -> regex.Pattern[str]:
    """Return a pattern for a turn and the white space in front of it.

    Args:
        answering: labels of answers; an answer may begin with one, and not go on with one.
    """
    return regex.compile(
        rf"\s*\n(?:{_label(_ASKING)}|(?<=\S\s*){_label(answering)})", regex.IGNORECASE
    )


_LAST_TURN = regex.compile(
    rf"^(?:\w+ ){{0,2}}{_label(f'{_ASKING}|{_SAYING}|answer|a')}.*\s*\Z",
    regex.IGNORECASE | regex.MULTILINE,
)
# The turns of an agent end with "Answer:".
_AFTER_ANSWER, _AFTER_OTHERS = _turn(f"{_SAYING}|answer"), _turn(_SAYING)


def next_turn_after(prompt: str) -> regex.Pattern[str] | None:
    """Return what ends the answer to a prompt: a turn, if the prompt's last line is one.

    Args:
        prompt: the prompt, such as one that ends with ``Helpful Answer:``.
    """
    last = _LAST_TURN.search(prompt)
    if last is None:
        return None
    return _AFTER_ANSWER if last["label"].lower() in ("answer", "a") else _AFTER_OTHERS
