"""Where a base model goes on behind its answer: with the next turn of a conversation.

A model without a chat template reads ``Question: ... Answer:`` as a text, and so writes what comes
next in such texts: another question, in whatever form it has seen.
"""

from __future__ import annotations

import regex

_ASKING = "question|query|q|human|user|background"
_ANSWERING = "answer|assistant|ai"


def _label(names: str) -> str:
    """Return a pattern for a line's beginning such as ``Question:`` or ``### **Question 2:**``."""
    return (
        rf"[^\S\n]*[*#_>]{{0,6}} ?(?:{names})(?: ?\d{{1,3}})?[*_ ]{{0,3}}[:\N{{FULLWIDTH COLON}}]"
    )


NEXT_TURN = regex.compile(
    # An answer may begin with its own label.
    rf"\s*\n(?:{_label(_ASKING)}|(?<=\S\s*){_label(_ANSWERING)})",
    regex.IGNORECASE,
)
"""The next turn in an answer, with the white space in front of it."""

_LAST_TURN = regex.compile(
    rf"^[^\S\n]*(?:\w+ ){{0,2}}{_label(f'{_ASKING}|{_ANSWERING}|a')}.*\s*\Z",
    regex.IGNORECASE | regex.MULTILINE,
)


def is_a_turn(prompt: str) -> bool:
    """Return whether the last line of a prompt is a turn, such as ``Helpful Answer:``."""
    return _LAST_TURN.search(prompt) is not None
