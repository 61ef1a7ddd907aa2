"""Tool calls in the spellings of many models, and what only looks like one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nest_engine.generation.tool_calls import Turn, read_arguments, turn_of

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
