"""Tool calls in the text of a model.

Models of the Hermes, Qwen and SmolLM families write
``<tool_call>{"name": ..., "arguments": {...}}</tool_call>``, Llama's the bare object, Mistral's
``[TOOL_CALLS]`` and a list; some put them in a block of code.
"""

from __future__ import annotations

import contextlib
import json
import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import regex

from nest_engine.citations.reasoning import held_back
from nest_engine.config import Method, NestConfig
from nest_engine.errors import ConfigError

# Methods that put in words of passages, and the closest that do not: a tool call is JSON.
_OWN_WORDS: dict[Method, Method] = {"ra-nest": "ra", "nest": "lossless", "knn-lm": "lossless"}
_START, _END = "<tool_call>", "</tool_call>"
_MARKS = (_START, "[TOOL_CALLS]")
_BARE = regex.compile(r"\s*(?:```\w*\s*)?\[?\s*\{")  # a call without a mark
_BETWEEN = re.compile(r"(?:[\s;,]|```\w*|\[TOOL_CALLS\])*")


class ToolCall(NamedTuple):
    """A call that a model wants made.

    Args:
        name: of the tool.
        arguments: by name.
        id: tells it from other calls.
    """

    name: str
    arguments: dict[str, Any]
    id: str


@dataclass(frozen=True)
class Turn:
    """How to read the text of a model's turn.

    Args:
        has_tools: whether the model may call tools.
        names: of the tools; a call of any other is text. Empty takes any.
        opening: how the turn begins when a call is forced; it is part of the prompt.
        is_parallel: whether there may be several calls; what is called after the first is left out
            where there may not.
    """

    has_tools: bool = False
    opening: str = ""
    names: frozenset[str] = frozenset()
    is_parallel: bool = True

    def split(self, answer: str) -> tuple[int, list[ToolCall]]:
        """Return how many characters of a finished answer are text, and the tool calls after it.

        What looks like a tool call but cannot be parsed as one is text.
        """
        text = self.opening + answer
        start = _calls_start(text) if self.has_tools else None
        calls = [] if start is None else _read_calls(text[start:])
        if self.opening and not calls:
            calls = _read_calls(_with_last_brace(text))
        if self.names and any(call.name not in self.names for call in calls):
            calls = []
        if start is None or not calls:
            return len(answer), []
        return max(0, start - len(self.opening)), calls if self.is_parallel else calls[:1]

    def shown(self, answer: str) -> int:
        """Return how many characters of an unfinished answer are text.

        Whatever may be the beginning of a tool call is held back.
        """
        if not self.has_tools:
            return len(answer)
        if self.opening or not answer.strip():
            return 0
        start = _calls_start(answer)
        return len(answer) - held_back(answer, _MARKS) if start is None else start


def turn_of(tools: Sequence[dict[str, Any]], opening: str, *, is_parallel: bool = True) -> Turn:
    """Return how to read a turn in which a model may call tools.

    Args:
        tools: the tools in OpenAI's format.
        opening: how the turn begins.
        is_parallel: whether there may be several calls.
    """
    names = frozenset(tool["function"]["name"] for tool in tools)
    return Turn(bool(tools), opening, names, is_parallel)


def for_turn(config: NestConfig, turn: Turn) -> NestConfig:
    """Return the settings for a turn: no words of passages are put in where a call is forced."""
    if not turn.opening or config.method not in _OWN_WORDS:
        return config
    return config.replace(method=_OWN_WORDS[config.method])


def opening(tools: Sequence[dict[str, Any]], tool_choice: str | None) -> str:
    """Return the beginning of the model's turn that makes it call a tool.

    Args:
        tools: the tools in OpenAI's format.
        tool_choice: the name of a tool, ``any``, or None to leave it to the model.
    """
    names = [tool["function"]["name"] for tool in tools]
    if not names or tool_choice is None:
        return ""
    if tool_choice == "any" and len(names) > 1:
        return f'{_START}\n{{"name": "'
    name = names[0] if tool_choice == "any" else tool_choice
    return f'{_START}\n{{"name": {json.dumps(name)}, "arguments": '


def read_tool_choice(tool_choice: object, tools: Sequence[dict[str, Any]]) -> str | None:
    """Return the name of the chosen tool, ``any``, or None to leave it to the model.

    Raises:
        ConfigError: if it is none of them, or names no tool.
    """
    if tool_choice in (None, False, "auto"):
        return None
    if tool_choice in (True, "any", "required"):
        return "any"
    function = tool_choice.get("function") if isinstance(tool_choice, dict) else None
    name = function.get("name") if isinstance(function, dict) else tool_choice
    names = [tool["function"]["name"] for tool in tools]
    if name not in names:
        raise ConfigError(
            f"tool_choice={tool_choice!r} names no bound tool: give one of {', '.join(names)}, "
            f"'any', 'auto' or 'none'"
        )
    return str(name)


def read_arguments(given: object) -> dict[str, Any]:
    """Return the arguments of an earlier call, which may be JSON, and broken JSON at that."""
    if isinstance(given, str) and given.strip():
        with contextlib.suppress(ValueError, RecursionError):
            given = json.loads(given)
    if isinstance(given, dict):
        return given
    return {"arguments": given} if given else {}


def _calls_start(text: str) -> int | None:
    """Return where tool calls begin, if there are any, or where they may be about to."""
    if text.strip() and _BARE.match(text, partial=True):
        return 0
    starts = [start for mark in _MARKS if (start := text.find(mark)) >= 0]
    return min(starts, default=None)


def _read_calls(text: str) -> list[ToolCall]:
    """Return tool calls, or none at all when one of them cannot be read."""
    blocks = re.findall(f"{_START}(.*?)(?:{_END}|$)", text, re.DOTALL) if _START in text else [text]
    try:
        return [_read_call(value) for block in blocks for value in _values(block)]
    except (ValueError, RecursionError):
        return []


def _with_last_brace(text: str) -> str:
    """Return a call with one more brace: the model may not know that the prompt has opened one."""
    call, end, _ = text.partition(_END)
    return f"{call}}}{end}"


def _values(text: str) -> Iterator[Any]:
    """Yield JSON values that stand one behind another; those of lists by themselves."""
    position = _between(text, 0)
    while position < len(text):
        value, position = json.JSONDecoder().raw_decode(text, position)
        position = _between(text, position)
        yield from value if isinstance(value, list) else [value]


def _between(text: str, position: int) -> int:
    between = _BETWEEN.match(text, position)
    return between.end() if between else position


def _read_call(value: Any) -> ToolCall:
    call = value.get("function") if isinstance(value, dict) else None
    call = call if isinstance(call, dict) else value
    name = call.get("name") if isinstance(call, dict) else None
    if not isinstance(name, str):
        raise ValueError("a tool call is an object with a name")
    arguments = call.get("arguments", call.get("parameters"))
    if isinstance(arguments, str):
        arguments = json.loads(arguments or "{}")
    if arguments is None and call.keys() <= {"name", "id", "type", "arguments", "parameters"}:
        arguments = {}
    if not isinstance(arguments, dict):
        raise ValueError("the arguments of a tool call are an object")
    return ToolCall(name, arguments, f"call_{uuid.uuid4().hex[:16]}")
