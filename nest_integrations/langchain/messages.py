"""Messages through the model's chat template."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage, convert_to_openai_messages

from nest_engine import InputError, NestEngine, UnsupportedModelError

_MEDIA = {"image", "audio", "video", "file"}


def format_chat(
    tokenizer: Any, messages: Sequence[BaseMessage], tools: Sequence[dict[str, Any]] | None
) -> str:
    """Format messages as a prompt, ready for the model's turn.

    Args:
        tokenizer: has ``apply_chat_template``.
        messages: the conversation.
        tools: tools in OpenAI's format.

    Raises:
        InputError: if there are no messages, or one holds more than text.
    """
    if not messages:
        raise InputError("there are no messages; give at least one")
    prompt = tokenizer.apply_chat_template(
        [_as_template_message(message) for message in messages],
        tools=list(tools) if tools else None,
        tokenize=False,
        add_generation_prompt=True,
    )
    assert isinstance(prompt, str)  # tokenize=False
    return prompt


def chat_tokenizer(engine: NestEngine, tokenizer: Any, chat_template: str | None) -> Any:
    """Return the tokenizer whose chat template formats messages.

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
    if chat_template is not None:
        return _WithTemplate(tokenizer, chat_template)
    if not getattr(tokenizer, "chat_template", None):
        raise UnsupportedModelError(
            "the model has no chat template: give chat_template=, use an instruction-tuned model, "
            "or use NestLLM"
        )
    return tokenizer


def last_question(messages: Sequence[BaseMessage]) -> str | None:
    """Return the text of the last human message; None when there is none."""
    return next(
        (message.text for message in reversed(messages) if isinstance(message, HumanMessage)), None
    )


class _WithTemplate:
    """A tokenizer with another chat template; the shared tokenizer itself does not change."""

    def __init__(self, tokenizer: Any, chat_template: str) -> None:
        self._tokenizer = tokenizer
        self.chat_template = chat_template

    def apply_chat_template(self, messages: Sequence[dict[str, Any]], **options: Any) -> Any:
        return self._tokenizer.apply_chat_template(
            messages, chat_template=self.chat_template, **options
        )


def _as_template_message(message: BaseMessage) -> dict[str, Any]:
    media = sorted({block["type"] for block in message.content_blocks} & _MEDIA)
    if media:
        raise InputError(
            f"the message of type {message.type!r} holds {', '.join(media)}: this model reads text "
            f"only"
        )
    text = str(message.text)
    converted = convert_to_openai_messages(message.model_copy(update={"content": text}))
    assert isinstance(converted, dict)  # one message in, one out
    calls = [_as_template_call(call) for call in converted.get("tool_calls", ())]
    return converted | {"content": text} | ({"tool_calls": calls} if calls else {})


def _as_template_call(call: dict[str, Any]) -> dict[str, Any]:
    """Return a tool call with its arguments as a mapping, as templates expect it.

    In OpenAI's format they are a string.
    """
    function = call["function"]
    return call | {"function": function | {"arguments": json.loads(function["arguments"])}}
