"""Messages through the model's chat template."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    convert_to_openai_messages,
)

from nest_engine import InputError, NestEngine, UnsupportedModelError
from nest_engine.generation.tool_calls import read_arguments
from nest_engine.models.chat_template import ChatTemplate
from nest_integrations.langchain.documents import as_source_block

_MEDIA = {"image", "audio", "video", "file"}


def template_messages(messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
    """Return messages as chat templates read them.

    Raises:
        InputError: if there are no messages, or one holds more than text.
    """
    if not messages:
        raise InputError("there are no messages; give at least one")
    return [_as_template_message(message) for message in messages]


def chat_template_of(engine: NestEngine, tokenizer: Any, chat_template: str | None) -> ChatTemplate:
    """Return the chat template that formats messages.

    Args:
        engine: the engine, whose tokenizer is used when no other is given.
        tokenizer: a tokenizer of transformers, or None.
        chat_template: a template in place of the tokenizer's own.

    Raises:
        UnsupportedModelError: if there is no template.
    """
    tokenizer = tokenizer or getattr(engine.language_model.tokenizer, "hf_tokenizer", None)
    if tokenizer is None:
        raise UnsupportedModelError(
            f"{type(engine.language_model).__name__} has no chat template: give tokenizer= one of "
            f"transformers"
        )
    template = ChatTemplate(tokenizer, chat_template)
    if not template.text:
        raise UnsupportedModelError(
            "the model has no chat template: give chat_template=, use an instruction-tuned model, "
            "or use NestLLM"
        )
    return template


def last_question(messages: Sequence[BaseMessage]) -> str | None:
    """Return the text of the last human message; None when there is none."""
    return next(
        (_text_of(message) for message in reversed(messages) if isinstance(message, HumanMessage)),
        None,
    )


def _as_template_message(message: BaseMessage) -> dict[str, Any]:
    content = message.content if isinstance(message.content, list) else []
    if any(as_source_block(block) for block in content):  # these are passages
        others = [block for block in content if not as_source_block(block)]
        message = message.model_copy(update={"content": others})
    if media := _media_in(message):
        raise InputError(
            f"the message of type {message.type!r} holds {', '.join(media)}: this model reads text "
            f"only"
        )
    text = _text_of(message)
    converted = convert_to_openai_messages(message.model_copy(update={"content": text}))
    assert isinstance(converted, dict)  # one message in, one out
    calls = [_as_template_call(call) for call in converted.get("tool_calls", ())]
    return converted | {"content": text} | ({"tool_calls": calls} if calls else {})


def _media_in(message: BaseMessage) -> list[str]:
    """Return the kinds of block that are no text."""
    kinds: set[str | None]
    try:
        kinds = {block["type"] for block in message.content_blocks}
    except KeyError:  # of core, over a block that it does not know
        kinds = {block.get("type") for block in message.content if isinstance(block, dict)}
    return sorted(_MEDIA.intersection(filter(None, kinds)))


def _text_of(message: BaseMessage) -> str:
    """Return the text of a message; its blocks are lines, but for those of an answer."""
    if isinstance(message.content, str):
        return message.content
    texts = [_text_in(block) for block in message.content]
    return ("" if isinstance(message, AIMessage) else "\n").join(filter(None, texts))


def _text_in(block: str | dict[str, Any]) -> str:
    if isinstance(block, str):
        return block
    if block.get("type") == "json":
        return json.dumps(block.get("json"), ensure_ascii=False)
    is_text = block.get("type") in ("text", "input_text", "output_text", None)
    return str(block.get("text") or "") if is_text else ""


def _as_template_call(call: dict[str, Any]) -> dict[str, Any]:
    """Return a tool call with its arguments as a mapping, as templates expect it.

    In OpenAI's format they are a string.
    """
    function = call["function"]
    return call | {"function": function | {"arguments": read_arguments(function["arguments"])}}
