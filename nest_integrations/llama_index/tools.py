"""Tools that a chat model may call, between LlamaIndex and the model's chat template."""

from __future__ import annotations

import json
from collections.abc import Sequence
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
from nest_engine.generation.tool_calls import (
    ToolCall,
    Turn,
    opening,
    read_arguments,
    read_tool_choice,
    schemas_of,
)

# LlamaIndex has names of its own for these.
_ROLES = {"model": "assistant", "chatbot": "assistant", "function": "tool"}


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
                tool_kwargs=read_arguments(block.tool_kwargs),
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
    is_parallel = kwargs.pop("parallel_tool_calls", None) is not False
    if choice == "none" or not tools:
        return [], Turn()
    begun = opening(tools, read_tool_choice(choice, tools))
    return tools, Turn(True, begun, is_parallel=is_parallel, schemas=schemas_of(tools))


def template_turn(message: ChatMessage) -> dict[str, Any]:
    """Return a message as chat templates read it, with its tool calls in OpenAI's format."""
    role = message.role.value
    turn: dict[str, Any] = {"role": _ROLES.get(role, role), "content": message.content or ""}
    calls = [
        _openai_call(block.tool_name, read_arguments(block.tool_kwargs), block.tool_call_id)
        for block in message.blocks
        if isinstance(block, ToolCallBlock)
    ]
    if not calls:  # of a model without blocks for them
        given = message.additional_kwargs.get("tool_calls") or ()
        calls = [_openai_call_of(each) for each in given]
    if calls:
        turn["tool_calls"] = calls
    if turn["role"] == "tool":
        names = ("tool_call_id", "name")
        turn |= {name: message.additional_kwargs.get(name) for name in names}
    return turn


def _openai_call_of(given: Any) -> dict[str, Any]:
    """Return a call in OpenAI's format, as JSON or an object of its client, for a template."""
    call = given if isinstance(given, dict) else given.model_dump()
    function = call["function"]
    return _openai_call(function["name"], read_arguments(function["arguments"]), call.get("id"))


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
