"""A model's chat template: one way to write conversations, for the engine and every adapter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError

from nest_engine.errors import InputError

# What is decided here, and is no variable of a template.
_OURS = frozenset(
    [
        *("add_generation_prompt", "chat_template", "continue_final_message", "conversation"),
        *("messages", "tokenize", "tools"),
    ]
)


def require_variables(variables: Mapping[str, Any]) -> None:
    """Raise `InputError` if one of ``chat_template_kwargs`` is no variable of a template."""
    if taken := _OURS & variables.keys():
        raise InputError(
            f"chat_template_kwargs={{{min(taken)!r}: ...}} cannot be set: it is no variable of "
            "the template"
        )


def require_place_for_tools(tools: Sequence[Mapping[str, Any]], template: str) -> None:
    """Raise `InputError` if there are tools that a template does not write."""
    if tools and "tools" not in template:
        raise InputError(
            "the model's chat template has no place for tools: leave them out, or use a model that "
            "was trained to call tools"
        )


def is_prefilled(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether the last turn of a conversation is the beginning of the model's answer."""
    last = messages[-1] if messages else {}
    is_text = bool(last.get("content")) and not last.get("tool_calls")
    return is_text and last.get("role") == "assistant"


class ChatTemplate:
    """Writes a conversation as the model was trained to read it.

    Args:
        tokenizer: a tokenizer of transformers.
        text: the template; None takes the tokenizer's own.
    """

    def __init__(self, tokenizer: Any, text: str | None = None) -> None:
        self._tokenizer = tokenizer
        self.text: str | None = text or getattr(tokenizer, "chat_template", None)

    def write(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """Return the prompt for a conversation, ready for the model's answer.

        A last turn of the assistant is the beginning of that answer.

        Instructions of a ``developer`` are those of the ``system`` for a template that does not
        know developers.

        Args:
            messages: the turns, first to last, with ``role``, ``content`` and what else the
                template reads.
            tools: tools in OpenAI's format.
            variables: the template's own settings, such as ``enable_thinking``
                (``chat_template_kwargs``).

        Raises:
            InputError: if the template refuses the conversation, or a variable is none of its own.
        """
        require_variables(variables or {})
        knows_developers = "developer" in str(self.text)
        turns = [
            {**message, "role": "system"}
            if message["role"] == "developer" and not knows_developers
            else dict(message)
            for message in messages
        ]
        is_begun = is_prefilled(turns)
        try:
            prompt = self._tokenizer.apply_chat_template(
                turns,
                **(variables or {}),
                tools=list(tools) if tools else None,
                chat_template=self.text,
                tokenize=False,
                add_generation_prompt=not is_begun,
                continue_final_message=is_begun,
            )
        except ValueError as error:  # of transformers: the template shows turns in another way
            if not is_begun:
                raise
            raise InputError(
                "the model's chat template cannot continue an answer that was begun; leave out the "
                f"last message, of the assistant: {error}"
            ) from error
        except TemplateError as error:
            roles = ", ".join(turn["role"] for turn in turns)
            raise InputError(
                f"the model's chat template refuses the roles {roles}: {error}"
            ) from error
        assert isinstance(prompt, str)  # tokenize=False
        return prompt
