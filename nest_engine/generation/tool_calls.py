"""Tool calls in the text of a model.

Models of the Hermes, Qwen and SmolLM families write
``<tool_call>{"name": ..., "arguments": {...}}</tool_call>``, Llama's the bare object.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from nest_engine.config import Method, NestConfig
from nest_engine.errors import ConfigError

# Methods that put in words of passages, and the closest that do not: a tool call is JSON.
_OWN_WORDS: dict[Method, Method] = {"ra-nest": "ra", "nest": "lossless", "knn-lm": "lossless"}
_START, _END = "<tool_call>", "</tool_call>"


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
    """

    has_tools: bool = False
    opening: str = ""
    names: frozenset[str] = frozenset()

    def split(self, answer: str) -> tuple[int, list[ToolCall]]:
        """Return how many characters of a finished answer are text, and the tool calls after it.

        What looks like a tool call but cannot be parsed as one is text.
        """
        text = self.opening + answer
        start = _calls_start(text) if self.has_tools else None
        calls = [] if start is None else _read_calls(text[start:])
        if self.names and any(call.name not in self.names for call in calls):
            calls = []
        if start is None or not calls:
            return len(answer), []
        return max(0, start - len(self.opening)), calls

    def shown(self, answer: str) -> int:
        """Return how many characters of an unfinished answer are text.

        Whatever may be the beginning of a tool call is held back.
        """
        if not self.has_tools:
            return len(answer)
        if self.opening or not answer.strip():
            return 0
        start = _calls_start(answer)
        held = next(
            (size for size in range(len(_START) - 1, 0, -1) if answer.endswith(_START[:size])), 0
        )
        return len(answer) - held if start is None else start


def turn_of(tools: Sequence[dict[str, Any]], opening: str) -> Turn:
    """Return how to read a turn in which a model may call tools.

    Args:
        tools: the tools in OpenAI's format.
        opening: how the turn begins.
    """
    return Turn(bool(tools), opening, frozenset(tool["function"]["name"] for tool in tools))


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


def _calls_start(text: str) -> int | None:
    """Return where tool calls begin, if there are any."""
    if text.lstrip().startswith("{"):
        return 0
    start = text.find(_START)
    return None if start < 0 else start


def _read_calls(text: str) -> list[ToolCall]:
    """Return tool calls, or none at all when one of them cannot be read."""
    blocks = re.findall(f"{_START}(.*?)(?:{_END}|$)", text, re.DOTALL) if _START in text else [text]
    try:
        return [_read_call(block) for block in blocks]
    except ValueError:
        return []


def _read_call(text: str) -> ToolCall:
    value, end = json.JSONDecoder().raw_decode(text.strip())
    if text.strip()[end:].strip():
        raise ValueError("there is more than a call")
    name = value.get("name") if isinstance(value, dict) else None
    arguments = value.get("arguments", value.get("parameters")) if name else None
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise ValueError("a tool call is an object with a name and arguments that are an object")
    return ToolCall(name, arguments, f"call_{uuid.uuid4().hex[:16]}")
