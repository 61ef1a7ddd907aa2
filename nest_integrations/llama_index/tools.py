"""Tools that a chat model may call, between LlamaIndex and the model's chat template."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    MessageRole,
    ToolCallBlock,
)
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.tools.types import BaseTool

from nest_engine import UnsupportedModelError
from nest_engine.generation.tool_calls import ToolCall, Turn, opening, read_tool_choice


class ToolCalling(FunctionCallingLLM):
    """What LlamaIndex's agents and programs ask of a model that calls tools."""

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        tool_choice: str | dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Return the arguments of ``chat`` that let the model call tools.

        Raises:
            UnsupportedModelError: if the chat template has no place for tools.
        """
        if isinstance(user_msg, str):
            user_msg = ChatMessage(role=MessageRole.USER, content=user_msg) if user_msg else None
        messages = [*(chat_history or ()), *([user_msg] if user_msg else ())]
        if not tools:
            return {"messages": messages, **kwargs}
        if not self.metadata.is_function_calling_model:
            raise UnsupportedModelError(
                f"the chat template of {self.metadata.model_name} has no place for tools; use a "
                "model that was trained to call tools, or a ReActAgent"
            )
        return {
            "messages": messages,
            "tools": [tool.metadata.to_openai_tool(skip_length_check=True) for tool in tools],
            "tool_choice": tool_choice or ("required" if tool_required else None),
            "parallel_tool_calls": allow_parallel_tool_calls,
            **kwargs,
        }

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """Return the tool calls in a response.

        Raises:
            ValueError: if there are none, unless ``error_on_no_tool_call`` is False.
        """
        calls = [
            ToolSelection(
                tool_id=block.tool_call_id or "",
                tool_name=block.tool_name,
                tool_kwargs=_as_object(block.tool_kwargs),
            )
            for block in response.message.blocks
            if isinstance(block, ToolCallBlock)
        ]
        if error_on_no_tool_call and not calls:
            raise ValueError(
                f"the model called no tool; it answered {response.message.content!r}: give "
                "tool_required=True, or error_on_no_tool_call=False"
            )
        return calls


@dataclass(frozen=True)
class SingleCall(Turn):
    """A turn in which the model may make one call; what it calls after that is left out."""

    def split(self, answer: str) -> tuple[int, list[ToolCall]]:
        """Return how many characters of a finished answer are text, and the call after it."""
        shown, calls = super().split(answer)
        return shown, calls[:1]


def take_tools(kwargs: dict[str, Any]) -> tuple[list[dict[str, Any]], Turn]:
    """Take the tools out of a call's arguments.

    Args:
        kwargs: ``tools`` in OpenAI's format, ``tool_choice`` and ``parallel_tool_calls`` leave it.

    Returns:
        the tools, and how to read the model's turn.

    Raises:
        ConfigError: if ``tool_choice`` names no tool.
    """
    tools, choice = kwargs.pop("tools", None) or [], kwargs.pop("tool_choice", None)
    turn = SingleCall if kwargs.pop("parallel_tool_calls", None) is False else Turn
    if choice == "none" or not tools:
        return [], Turn()
    return tools, turn(True, opening(tools, read_tool_choice(choice, tools)))


def template_turn(message: ChatMessage) -> dict[str, Any]:
    """Return a message as chat templates read it, with its tool calls in OpenAI's format."""
    turn: dict[str, Any] = {"role": message.role.value, "content": message.content or ""}
    calls = [
        _openai_call(block.tool_name, _as_object(block.tool_kwargs), block.tool_call_id)
        for block in message.blocks
        if isinstance(block, ToolCallBlock)
    ]
    if calls:
        turn["tool_calls"] = calls
    if message.role == MessageRole.TOOL:
        turn["tool_call_id"] = message.additional_kwargs.get("tool_call_id")
    return turn


def tool_call_block(call: ToolCall) -> ToolCallBlock:
    """Return a tool call as a content block."""
    return ToolCallBlock(
        tool_call_id=call.id, tool_name=call.name, tool_kwargs=dict(call.arguments)
    )


def openai_call(call: ToolCall) -> dict[str, Any]:
    """Return a tool call in OpenAI's format."""
    return _openai_call(call.name, json.dumps(call.arguments, ensure_ascii=False), call.id)


def _openai_call(name: str, arguments: Any, call_id: str | None) -> dict[str, Any]:
    return {
        "type": "function",
        "id": call_id,
        "function": {"name": name, "arguments": arguments},
    }


def _as_object(arguments: dict[str, Any] | str) -> Any:
    """Return the arguments of a call that another model may have written as JSON."""
    if not isinstance(arguments, str):
        return arguments
    try:
        return json.loads(arguments)
    except ValueError:
        return {}
