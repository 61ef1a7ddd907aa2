"""Tool calls in the spellings of many models, and what only looks like one."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from nest_engine.generation.tool_calls import Turn, read_arguments, turn_of
from nest_engine.models.tokenization import TextTokenizer
from tests.tiny_models import tiny_tokenizer

TOOLS = [{"function": {"name": "find"}}, {"function": {"name": "weigh"}}]
FIND = '{"name": "find", "arguments": {"gas": "neon"}}'
TURN = turn_of(TOOLS, "")


def calls_in(text: str, turn: Turn = TURN) -> list[tuple[str, dict[str, Any]]]:
    """Return the calls in an answer, which is never shown before it is known to be text."""
    end, calls = turn.split(text)
    assert all(turn.shown(text[:cut]) <= end for cut in range(len(text) + 1)), text
    return [(call.name, call.arguments) for call in calls]


@pytest.mark.parametrize(
    "text",
    [
        FIND,
        f"<tool_call>{FIND}</tool_call>",
        f"Wait.<tool_call>\n{FIND}",
        f"```json\n{FIND}\n```",
        f"<tool_call>```json\n{FIND}\n```</tool_call>",
        f"[{FIND}]",
        f"[TOOL_CALLS][{FIND}]",
        f"Wait. [TOOL_CALLS] [{FIND}]",
        '{"name": "find", "parameters": {"gas": "neon"}}',
        json.dumps({"name": "find", "arguments": '{"gas": "neon"}'}),
        json.dumps({"type": "function", "function": json.loads(FIND)}),
        # of Llama
        f"<|python_tag|>{FIND}",
        '<function=find>{"gas": "neon"}</function>',
        '[find(gas="neon")]',
        # of Gemma, and of small models that mix Python into JSON
        'Wait.\n```tool_code\nfind(gas="neon")\n```',
        "{'name': 'find', 'arguments': {'gas': 'neon'}}",
        "<tool_call>\n{'name': 'find', 'arguments': {'gas': 'neon'}}\n</tool_call>",
        # of Mistral
        '[TOOL_CALLS]find[ARGS]{"gas": "neon"}',
        'Wait. [TOOL_CALLS]find[CALL_ID]a1[ARGS]{"gas": "neon"}',
        # of Qwen's coders, which forget the mark in front
        "Wait.\n<tool_call>\n<function=find>\n<parameter=gas>\nneon\n</parameter>\n</function>\n"
        "</tool_call>",
        "<function=find>\n<parameter=gas>\nneon\n</parameter>\n</function>\n</tool_call>",
        # of GLM, LFM2, Granite and Phi
        "<tool_call>find\n<arg_key>gas</arg_key>\n<arg_value>neon</arg_value>\n</tool_call>",
        "<|tool_call_start|>[find(gas='neon')]<|tool_call_end|>",
        f"Wait.<|tool_call|>[{FIND}]",
        f"<|tool_call|>[{FIND}]<|/tool_call|>",
    ],
)
def test_a_call_has_many_spellings(text: str) -> None:
    assert calls_in(text) == [("find", {"gas": "neon"})]


@pytest.mark.parametrize(
    "text",
    [
        f'{FIND}; {{"name": "weigh"}}',
        f'[{FIND}, {{"name": "weigh", "arguments": null}}]',
        f'<tool_call>{FIND}</tool_call><tool_call>{{"name": "weigh"}}</tool_call>',
        f'{FIND}\n{{"name": "weigh", "arguments": ""}}',
        '[TOOL_CALLS]find[ARGS]{"gas": "neon"}[TOOL_CALLS]weigh[ARGS]{}',
        '<|python_tag|>{"name": "find", "parameters": {"gas": "neon"}}; {"name": "weigh"}',
        "<|tool_call_start|>[find(gas='neon'), weigh()]<|tool_call_end|>",
        "<tool_call><function=find><parameter=gas>neon</parameter></function></tool_call>\n"
        "<tool_call>\n<function=weigh>\n</function>\n</tool_call>",
        "<tool_call>find<arg_key>gas</arg_key><arg_value>neon</arg_value></tool_call>"
        "<tool_call>weigh</tool_call>",
    ],
)
def test_several_calls(text: str) -> None:
    assert calls_in(text) == [("find", {"gas": "neon"}), ("weigh", {})]
    alone = turn_of(TOOLS, "", is_parallel=False)
    assert calls_in(text, alone) == [("find", {"gas": "neon"})]


@pytest.mark.parametrize(
    "text",
    [
        "[1] Neon is a gas.",
        "```python\nprint(1)\n```",
        '{"name": "Neon"}',
        '{"name": "find", "age": 3}',
        f"{FIND} is what I would ask.",
        "[TOOL_CALLS] nothing",
        f"<tool_call>{'[' * 100_000}",
        "[]",
        "",
        "<function=find> is how a call begins.",
        "<tool_call><function=find><parameter=gas>ne",
        "<function=find>neon</function>",
        "[find(neon)]",
        "[find(gas=neon)]",
        "[find(" + "[" * 100_000,
        "[find(x) is the function](x)",
        "<|python_tag|>print(1)",
    ],
)
def test_what_is_no_call_is_text(text: str) -> None:
    end, calls = TURN.split(text)
    assert (end, calls) == (len(text), [])


def test_arguments_of_an_earlier_call() -> None:
    assert read_arguments('{"a": 1}') == read_arguments({"a": 1}) == {"a": 1}
    assert read_arguments(None) == read_arguments("") == read_arguments("null") == {}
    assert read_arguments("[" * 100_000)
    assert read_arguments('{"a": ') == {"arguments": '{"a": '}


@pytest.mark.parametrize("end", ["", "\n", "</tool_call>", "\n</tool_call>\n"])
def test_a_forced_call_may_lack_the_brace_that_the_prompt_has_opened(end: str) -> None:
    turn = turn_of(TOOLS, '<tool_call>\n{"name": "find", "arguments": ')
    assert calls_in('{"gas": {"he": 2}}' + end, turn) == [("find", {"gas": {"he": 2}})]
    assert calls_in('{"gas": {"he": 2}' + end, turn) == []
    assert calls_in(f"<tool_call>{FIND[:-1]}{end}") == []


def test_arguments_without_quotation_marks_have_the_types_of_the_schema() -> None:
    properties = {
        "text": {"type": "string"},
        "number": {"type": "integer"},
        "flag": {"type": "boolean"},
        "maybe": {"anyOf": [{"type": "number"}, {"type": "null"}]},
        "either": {"type": ["string", "null"]},
        "list": {"type": "array"},
    }
    said = {
        "text": ("12", "12"),
        "number": ("12", 12),
        "flag": ("True", True),
        "maybe": ("None", None),
        "either": ("null", None),
        "list": ('["a", 1]', ["a", 1]),
        "other": ("5", "5"),
    }
    schema = {"type": "object", "properties": properties}
    turn = turn_of([{"function": {"name": "find", "parameters": schema}}], "")
    expected = [("find", {name: value for name, (_, value) in said.items()})]
    parameters = "".join(
        f"<parameter={name}>\n{text}\n</parameter>\n" for name, (text, _) in said.items()
    )
    assert calls_in(f"<tool_call>\n<function=find>\n{parameters}</function></tool_call>", turn) == (
        expected
    )
    keyed = "".join(
        f"<arg_key>{name}</arg_key>\n<arg_value>{text}</arg_value>\n"
        for name, (text, _) in said.items()
    )
    assert calls_in(f"<tool_call>find\n{keyed}</tool_call>", turn) == expected
    assert calls_in("[find(flag=true, maybe=null, number=-1)]", turn) == [
        ("find", {"flag": True, "maybe": None, "number": -1})
    ]


def test_marks_that_are_special_tokens_are_read() -> None:
    owner = copy.deepcopy(tiny_tokenizer())
    marks = ["[TOOL_CALLS]", "[ARGS]", "<|python_tag|>", "<|tool_call_start|>", "<|tool_call_end|>"]
    owner.add_special_tokens({"additional_special_tokens": marks})
    tokenizer = TextTokenizer(owner)
    for said in (
        '[TOOL_CALLS]find[ARGS]{"gas": "neon"}',
        f"Wait.<|python_tag|>{FIND}",
        "Wait.<|tool_call_start|>[find(gas='neon')]<|tool_call_end|>",
    ):
        text = tokenizer.decode(tokenizer.encode_prompt(said).token_ids)
        assert calls_in(text) == [("find", {"gas": "neon"})]
