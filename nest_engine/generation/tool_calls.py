"""Tool calls in the text of a model.

Models of the Hermes, Qwen and SmolLM families write
``<tool_call>{"name": ..., "arguments": {...}}</tool_call>``, Llama's the bare object or one behind
``<|python_tag|>``, Mistral's ``[TOOL_CALLS]`` and a list, or a name, ``[ARGS]`` and the arguments;
Qwen's coders and GLM have elements for each argument, LFM2, Gemma and Llama calls of Python. Some
put them in a block of code.
"""

from __future__ import annotations

import ast
import contextlib
import json
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import regex

from nest_engine.citations.reasoning import held_back
from nest_engine.config import Method, NestConfig
from nest_engine.errors import ConfigError

# Methods that put in words of passages, and the closest that do not: a tool call is JSON.
_OWN_WORDS: dict[Method, Method] = {"ra-nest": "ra", "nest": "lossless", "knn-lm": "lossless"}
_START, _END = "<tool_call>", "</tool_call>"
_FUNCTION_START = "<function="
_PYTHON_TAG, _LIST_MARKS = "<|python_tag|>", ("<|tool_call|>", "<|tool_call_start|>")
_MARKS = (_START, _FUNCTION_START, "[TOOL_CALLS]", _PYTHON_TAG, *_LIST_MARKS, "```tool_code")
# A call without a mark; a call of Python in a list.
_BARE = regex.compile(r"\s*(?:(?:```\w*\s*)?\[?\s*\{|\[\s*[A-Za-z_][\w.]*\()")
_BETWEEN = re.compile(
    r"(?:[\s;,]|```\w*|\[TOOL_CALLS\]|<\|python_tag\|>|<\|/?tool_call(?:_start|_end)?\|>)*"
)
_FUNCTION = re.compile(r"<function=([^>\s]+)>(.*?)</function>", re.DOTALL)
_PARAMETER = re.compile(r"<parameter=([^>\s]+)>\n?(.*?)\n?</parameter>", re.DOTALL)
_WITH_KEYS = re.compile(r"\s*([\w.-]+)\s*((?:<arg_key>.*</arg_value>\s*)?)", re.DOTALL)
_KEY = re.compile(r"<arg_key>(.*?)</arg_key>\s*<arg_value>\n?(.*?)\n?</arg_value>", re.DOTALL)
_WITH_ARGS = re.compile(r"([\w.-]+)\s*(?:\[CALL_ID\]\w*)?\[ARGS\]")
_CONSTANTS = {"true": True, "false": False, "null": None}
_Schemas = Mapping[str, Mapping[str, Any]]


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
        schemas: the parameters of tools by name, as JSON Schema; they tell the types of arguments
            that a model writes without quotation marks.
    """

    has_tools: bool = False
    opening: str = ""
    names: frozenset[str] = frozenset()
    is_parallel: bool = True
    schemas: _Schemas = field(default_factory=dict)

    def split(self, answer: str) -> tuple[int, list[ToolCall]]:
        """Return how many characters of a finished answer are text, and the tool calls after it.

        What looks like a tool call but cannot be parsed as one is text.
        """
        text = self.opening + answer
        start = _calls_start(text) if self.has_tools else None
        calls = [] if start is None else _read_calls(text[start:], self.schemas)
        if self.opening and not calls:
            calls = _read_calls(_with_last_brace(text), self.schemas)
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
    schemas = schemas_of(tools)
    return Turn(bool(tools), opening, frozenset(schemas), is_parallel, schemas)


def schemas_of(tools: Sequence[dict[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return the parameters of tools in OpenAI's format by their names."""
    functions = [tool["function"] for tool in tools]
    return {function["name"]: function.get("parameters") or {} for function in functions}


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


def _read_calls(text: str, schemas: _Schemas) -> list[ToolCall]:
    """Return tool calls, or none at all when one of them cannot be read."""
    blocks = re.findall(f"{_START}(.*?)(?:{_END}|$)", text, re.DOTALL) if _START in text else [text]
    try:
        return [_read_call(value) for block in blocks for value in _values(block, schemas)]
    except (ValueError, SyntaxError, RecursionError, MemoryError):  # of Python's parser
        return []


def _with_last_brace(text: str) -> str:
    """Return a call with one more brace: the model may not know that the prompt has opened one."""
    call, end, _ = text.partition(_END)
    return f"{call}}}{end}"


def _values(text: str, schemas: _Schemas) -> Iterator[Any]:
    """Yield the calls in a block as JSON values; those of lists by themselves."""
    position = _between(text, 0)
    if text.startswith(_FUNCTION_START, position):
        yield from _functions(text[position:].removesuffix(_END), schemas)
        return
    keyed = _WITH_KEYS.fullmatch(text)
    if keyed and (keyed[2] or keyed[1] in schemas):
        yield _of_texts(keyed[1], _KEY.findall(keyed[2]), schemas)
        return
    if _is_python(text[position:]):
        yield from _python_calls(text[position:])
        return
    while position < len(text):
        named = _WITH_ARGS.match(text, position)
        value, position = _value(text, named.end() if named else position)
        position = _between(text, position)
        if named:
            value = {"name": named[1], "arguments": value}
        yield from value if isinstance(value, list) else [value]


def _value(text: str, position: int) -> tuple[Any, int]:
    """Return the object at a place and where it ends; the last one may be written as in Python."""
    try:
        return json.JSONDecoder().raw_decode(text, position)
    except ValueError:
        return ast.literal_eval(_without_end(text[position:])), len(text)


def _without_end(text: str) -> str:
    return re.sub(r"(?:<\|/?tool_call(?:_end)?\|>|```)\s*\Z", "", text.strip()).strip()


def _functions(text: str, schemas: _Schemas) -> Iterator[dict[str, Any]]:
    """Yield ``<function=name>``, with JSON or an element for each parameter."""
    if _FUNCTION.sub("", text).strip():
        raise ValueError("there is more than functions")
    for name, said in _FUNCTION.findall(text):
        if said.lstrip().startswith("{"):
            yield {"name": name, "arguments": said}
            continue
        if _PARAMETER.sub("", said).strip():
            raise ValueError("there is more than parameters")
        yield _of_texts(name, _PARAMETER.findall(said), schemas)


def _of_texts(name: str, said: Sequence[tuple[str, str]], schemas: _Schemas) -> dict[str, Any]:
    """Return a call whose arguments are written as they are, without quotation marks."""
    properties = schemas.get(name, {}).get("properties") or {}
    arguments = {key: _typed(text, properties.get(key)) for key, text in said}
    return {"name": name, "arguments": arguments}


def _typed(text: str, schema: Any) -> Any:
    """Return an argument: a text, unless its schema wants something else."""
    types = set(_types_in(schema))
    constant = text.strip().lower()
    if types <= {"string"} or ("string" in types and not (constant == "null" and "null" in types)):
        return text
    if constant in _CONSTANTS or constant == "none":  # as Python writes them
        return _CONSTANTS.get(constant)
    with contextlib.suppress(ValueError):
        return json.loads(text)
    return text


def _types_in(schema: Any) -> Iterator[str]:
    if not isinstance(schema, dict):
        return
    types = schema.get("type") or []
    yield from [types] if isinstance(types, str) else types
    if "$ref" in schema:  # of an object, mostly
        yield "object"
    for one_of in ("anyOf", "oneOf"):
        for each in schema.get(one_of) or ():
            yield from _types_in(each)


def _is_python(text: str) -> bool:
    return re.match(r"\[?\s*[A-Za-z_][\w.]*\(", text) is not None


def _python_calls(text: str) -> Iterator[dict[str, Any]]:
    """Yield calls as Python writes them: ``[find(gas="neon"), weigh()]``."""
    parsed = ast.parse(_without_end(text), mode="eval").body
    for call in parsed.elts if isinstance(parsed, (ast.List, ast.Tuple)) else [parsed]:
        if not isinstance(call, ast.Call) or call.args or any(k.arg is None for k in call.keywords):
            raise ValueError("a call has a name and named arguments")
        arguments = {keyword.arg: _constant(keyword.value) for keyword in call.keywords}
        yield {"name": ast.unparse(call.func), "arguments": arguments}


def _constant(value: ast.expr) -> Any:
    if isinstance(value, ast.Name) and value.id in _CONSTANTS:  # as JSON writes them
        return _CONSTANTS[value.id]
    return ast.literal_eval(value)


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
