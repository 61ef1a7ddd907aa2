"""A model's chat template: one way to write conversations, for the engine and every adapter."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any, TypeAlias

from jinja2 import TemplateError

from nest_engine.errors import InputError

Turn: TypeAlias = dict[str, Any]
Form: TypeAlias = Callable[[Sequence[Turn]], list[Turn]]

_MARK = "nestmark"
_INSTRUCTING = ("system", "developer")
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


def without_empty_end(messages: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Return a conversation without a last turn in which the assistant has not begun."""
    last = messages[-1] if len(messages) > 1 else {}
    is_empty = not (last.get("content") or last.get("tool_calls"))
    return messages[:-1] if is_empty and last.get("role") == "assistant" else messages


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
        know developers. A template that refuses a conversation, or leaves some of it out, gets it
        in other words: neighbours of one role in one turn, then instructions in a turn of the user
        as well, then what tools were asked and have said as text; then all that with texts as lists
        of parts.

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
        if not messages:
            raise InputError("there are no messages; give at least one")
        known = {"function": "tool"} | (
            {} if "developer" in str(self.text) else {"developer": "system"}
        )
        turns = [
            {**message, "role": known.get(message["role"], message["role"])}
            for message in without_empty_end(messages)
        ]
        marked, marks = _marked(turns)
        for form in _FORMS if _has_calls(turns) else _FORMS_OF_TEXT:
            try:
                written = self._render(form(marked), tools, variables)
            except InputError:
                continue
            # A call, or a part, as Python writes it is none that a model knows.
            as_python = f"{{'{_MARK}'", f"'text': 'text{_MARK}"
            if all(mark in written for mark in marks) and not any(map(written.count, as_python)):
                return self._render(form(turns), tools, variables)
        return self._render(turns, tools, variables)

    def _render(
        self,
        turns: Sequence[Turn],
        tools: Sequence[Mapping[str, Any]] | None,
        variables: Mapping[str, Any] | None,
    ) -> str:
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
        except Exception as error:  # a template is a program, and may fail in any way
            roles = ", ".join(turn["role"] for turn in turns)
            reason = str(error) if isinstance(error, TemplateError) else repr(error)
            raise InputError(
                "the model's chat template cannot continue an answer that was begun; leave out the "
                f"last message, of the assistant: {error}"
                if is_begun and isinstance(error, ValueError)  # transformers cannot find its end
                else f"the model's chat template refuses the roles {roles}: {reason}"
            ) from error
        assert isinstance(prompt, str)  # tokenize=False
        return prompt


def _has_calls(turns: Sequence[Turn]) -> bool:
    return any(turn.get("tool_calls") for turn in turns)


def _marked(turns: Sequence[Turn]) -> tuple[list[Turn], list[str]]:
    """Return a conversation with marks for its texts, and those that a prompt must hold.

    Marks are words that templates leave as they are. What is said beside a call may be left out:
    some templates take it for reasoning.
    """
    marked, marks = [], []
    for number, turn in enumerate(turns):
        calls = []
        for place, call in enumerate(turn.get("tool_calls") or ()):
            name, value = (f"{kind}{_MARK}{number}x{place}x" for kind in ("name", "value"))
            marks += [name, value]
            calls.append({**call, "function": {"name": name, "arguments": {_MARK: value}}})
        text = f"text{_MARK}{number}x" if turn.get("content") else turn.get("content")
        if text and not calls:
            marks.append(text)
        marked.append({**turn, "content": text} | ({"tool_calls": calls} if calls else {}))
    return marked, marks


def _merged(turns: Sequence[Turn]) -> list[Turn]:
    """Return a conversation with neighbours of one role in one turn."""
    merged: list[Turn] = []
    for turn in turns:
        pair = [*merged[-1:], turn]
        is_same = len({each["role"] for each in pair}) < len(pair)
        if is_same and turn["role"] != "tool" and not _has_calls(pair):
            text = "\n\n".join(filter(None, (each.get("content") for each in pair)))
            merged[-1] = {**pair[0], "content": text}
        else:
            merged.append(turn)
    return merged


def _instructions_by_user(turns: Sequence[Turn]) -> list[Turn]:
    """Return a conversation that the user begins, with the instructions."""
    spoken = [{**turn, "role": "user"} if turn["role"] in _INSTRUCTING else turn for turn in turns]
    if len(spoken) > 1 and spoken[0]["role"] == "assistant" and not _has_calls(spoken[:1]):
        spoken[0] = {**spoken[0], "role": "user"}  # a greeting
    return _merged(spoken)


def _all_by_two(turns: Sequence[Turn]) -> list[Turn]:
    """Return a conversation of user and assistant, with tool calls and results as text."""
    spoken: list[Turn] = []
    for turn in turns:
        text = str(turn.get("content") or "")
        if turn["role"] == "tool":
            text = f"<tool_response>\n{text}\n</tool_response>"
        calls = [
            f"<tool_call>\n{json.dumps(call['function'], ensure_ascii=False)}\n</tool_call>"
            for call in turn.get("tool_calls") or ()
        ]
        role = turn["role"] if turn["role"] in ("assistant", *_INSTRUCTING) else "user"
        spoken.append({"role": role, "content": "\n".join(filter(None, (text, *calls)))})
    return _instructions_by_user(spoken)


def _with_calls(turns: Sequence[Turn], *, as_json: bool, text: str | None) -> list[Turn]:
    """Return a conversation whose calls are as some templates expect them.

    Args:
        turns: the conversation.
        as_json: whether arguments are JSON, as in OpenAI's format.
        text: what stands where nothing is said beside a call.
    """
    written = []
    for turn in turns:
        if turn.get("tool_calls"):
            turn = {**turn, "content": turn.get("content") or text}
        if as_json and turn.get("tool_calls"):
            turn["tool_calls"] = [
                {**call, "function": {**function, "arguments": json.dumps(function["arguments"])}}
                for call in turn["tool_calls"]
                for function in [call["function"]]
            ]
        written.append(turn)
    return written


def _in_parts(form: Form) -> Form:
    """Return a form whose texts are lists of parts, as templates of models that see know them."""

    def written(turns: Sequence[Turn]) -> list[Turn]:
        return [
            {**turn, "content": [{"type": "text", "text": turn["content"]}]}
            if turn.get("content")
            else turn
            for turn in form(turns)
        ]

    return written


_TEXT_FORMS: tuple[Form, ...] = (list, _merged, _instructions_by_user, _all_by_two)
_FORMS_OF_TEXT = (*_TEXT_FORMS, *map(_in_parts, _TEXT_FORMS))


def _composed(form: Form, as_json: bool, text: str | None) -> Form:
    return lambda turns: _with_calls(form(turns), as_json=as_json, text=text)


_WITH_CALLS = (
    *(
        _composed(form, as_json, text)
        for form in _TEXT_FORMS[:-1]
        for as_json, text in product((False, True), ("", None))
    ),
    _all_by_two,
)
_FORMS = (*_WITH_CALLS, *map(_in_parts, _WITH_CALLS))
