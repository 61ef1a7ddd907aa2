"""Tools that the model calls: `FunctionAgent`, `AgentWorkflow`, `predict_and_call`, programs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("llama_index.core", reason="needs: pip install 'nest-engine[llama-index]'")

from llama_index.core.agent.workflow import (
    AgentStream,
    AgentWorkflow,
    FunctionAgent,
    ReActAgent,
)
from llama_index.core.base.llms.types import (
    ChatMessage,
    CitableBlock,
    CitationBlock,
    MessageRole,
    TextBlock,
    ToolCallBlock,
)
from llama_index.core.llms.custom import CustomLLM
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel

from nest_engine import ConfigError, NestConfig, Passage, UnsupportedModelError
from nest_engine.testing import EOS
from nest_integrations.llama_index import CitationCollector, NestLLM
from tests.integrations.llama_index.support import HELIUM, scripted_llm, tool_llm

QUESTION = "What is helium?"
CALL = '<tool_call>\n{"name": "lookup", "arguments": {"gas": "helium"}}\n</tool_call>'
TWO = CALL + CALL.replace("helium", "neon")
ASKED = [ChatMessage(QUESTION)]


def lookup(gas: str) -> list[CitableBlock]:
    """Look a gas up."""
    return [CitableBlock(title=gas, source=f"notes/{gas}", content=[TextBlock(text=HELIUM)])]


def weigh(gas: str) -> str:
    """Weigh a gas."""
    return f"{gas}: 4 u"


LOOKUP, WEIGH = FunctionTool.from_defaults(lookup), FunctionTool.from_defaults(weigh)


def calling(call: str, answer: str = HELIUM) -> Callable[[bytes], int]:
    """Return a script that calls a tool, and answers once a tool has been heard."""

    def script(so_far: bytes) -> int:
        prompt, _, said = so_far.rpartition(b"assistant: ")
        wanted = (answer if b"tool#" in prompt else call).encode()
        return wanted[len(said)] if len(said) < len(wanted) else EOS

    return script


def calls_of(response: Any) -> list[tuple[str, dict[str, Any]]]:
    return [
        (block.tool_name, block.tool_kwargs)
        for block in response.message.blocks
        if isinstance(block, ToolCallBlock)
    ]


# --- which models call tools


def test_a_model_calls_tools_exactly_if_its_template_writes_them() -> None:
    plain = tool_llm(template="{% for m in messages %}{{ m.content }}{% endfor %}")
    assert tool_llm().metadata.is_function_calling_model
    assert not plain.metadata.is_function_calling_model
    assert not scripted_llm().metadata.is_function_calling_model
    own_format = tool_llm(messages_to_prompt=lambda messages: "")
    assert not own_format.metadata.is_function_calling_model
    assert isinstance(plain, CustomLLM)
    assert isinstance(plain, FunctionCallingLLM)
    for llm in (plain, scripted_llm()):
        with pytest.raises(UnsupportedModelError, match="has no place for tools"):
            llm.chat_with_tools([LOOKUP], QUESTION)
        with pytest.raises(ConfigError, match="unknown setting 'tools'"):
            llm.chat(ASKED, tools=[LOOKUP.metadata.to_openai_tool()])


def test_a_workflow_takes_the_agent_that_fits_the_model() -> None:
    for llm, agent in ((tool_llm(), FunctionAgent), (scripted_llm(), ReActAgent)):
        workflow = AgentWorkflow.from_tools_or_functions([lookup], llm=llm)
        assert [type(each) for each in workflow.agents.values()] == [agent]


# --- agents


@pytest.mark.parametrize("streaming", [True, False])
def test_an_agent_calls_a_tool_and_quotes_what_it_found(streaming: bool) -> None:
    llm = tool_llm(calling(f"I look it up. {CALL}"))
    agent = FunctionAgent(tools=[lookup], llm=llm, streaming=streaming)
    deltas: list[str] = []

    async def ask() -> Any:
        handler = agent.run(QUESTION)
        async for event in handler.stream_events():
            if isinstance(event, AgentStream):
                deltas.append(event.delta)
        return await handler

    with CitationCollector() as collected:
        output = asyncio.run(ask())
    assert str(output) == HELIUM
    [call] = output.tool_calls
    assert (call.tool_name, call.tool_kwargs) == ("lookup", {"gas": "helium"})
    assert "".join(deltas) == (f"I look it up. {HELIUM}" if streaming else "")
    [cited] = [block for block in output.response.blocks if isinstance(block, CitationBlock)]
    assert (cited.source, cited.cited_content.text) == ("notes/helium", HELIUM)
    assert output.raw["citations"][0]["cited_text"] == HELIUM
    first, second = collected.outputs
    assert first.prompt == f"[lookup] user: {QUESTION}\nassistant: "
    assert second.prompt == (
        f"[lookup] user: {QUESTION}\n"
        f'assistant: I look it up. <{call.tool_id} lookup {{"gas": "helium"}}>\n'
        f"tool#{call.tool_id}: \nassistant: "
    )


def test_a_workflow_runs_several_calls() -> None:
    workflow = AgentWorkflow.from_tools_or_functions(
        [weigh], llm=tool_llm(calling(TWO.replace("lookup", "weigh"), "Both are light."))
    )
    heard: list[str] = []

    async def ask() -> Any:
        handler = workflow.run(QUESTION)
        async for event in handler.stream_events():
            if type(event).__name__ == "ToolCallResult":
                heard.append(event.tool_output.content)
        return await handler

    assert str(asyncio.run(ask())) == "Both are light."
    assert sorted(heard) == ["helium: 4 u", "neon: 4 u"]


def test_the_first_call_of_an_agent_can_be_chosen() -> None:
    # The script goes on where the beginning of the turn, which the choice dictates, ends.
    llm = tool_llm(calling('<tool_call>\n{"name": "weigh", "arguments": {"gas": "helium"}}', "Ok."))
    agent = FunctionAgent(tools=[lookup, weigh], llm=llm, initial_tool_choice="weigh")

    async def ask() -> Any:
        return await agent.run(QUESTION)

    output = asyncio.run(ask())
    assert [call.tool_output.content for call in output.tool_calls] == ["helium: 4 u"]


# --- calls in responses


def test_calls_are_blocks_and_openais() -> None:
    llm = tool_llm(calling(f"First. {TWO}"))
    response = llm.chat_with_tools([LOOKUP], QUESTION, allow_parallel_tool_calls=True)
    assert response.message.content == "First. "
    assert calls_of(response) == [("lookup", {"gas": "helium"}), ("lookup", {"gas": "neon"})]
    sent = response.message.additional_kwargs["tool_calls"]
    assert [json.loads(call["function"]["arguments"])["gas"] for call in sent] == ["helium", "neon"]
    selected = llm.get_tool_calls_from_response(response)
    assert [call.tool_kwargs["gas"] for call in selected] == ["helium", "neon"]
    assert [call.tool_id for call in selected] == [call["id"] for call in sent]
    assert json.loads(response.model_dump_json())
    assert response.raw["text"] == f"First. {TWO}"


async def _all(stream: Any) -> list[Any]:
    return [response async for response in await stream]


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("is_parallel", [False, True])
def test_streams_hold_calls_back(is_async: bool, is_parallel: bool) -> None:
    llm = tool_llm(calling(f"I <b>look</b>. {TWO}"))
    given = {"user_msg": QUESTION, "allow_parallel_tool_calls": is_parallel}
    responses: list[Any]
    if is_async:
        responses = asyncio.run(_all(llm.astream_chat_with_tools([LOOKUP], **given)))
    else:
        responses = list(llm.stream_chat_with_tools([LOOKUP], **given))
    text = ""
    for response in responses:
        text += response.delta
        assert response.message.content == text
    assert text == "I <b>look</b>. "
    assert [calls_of(response) for response in responses[:-1]] == [[]] * (len(responses) - 1)
    assert len(calls_of(responses[-1])) == (2 if is_parallel else 1)
    whole = llm.chat_with_tools([LOOKUP], **given)
    assert calls_of(whole) == calls_of(responses[-1])


def test_what_only_looks_like_a_call_is_text() -> None:
    said = "<tool_call>{oops"
    *_, last = tool_llm(calling(said)).stream_chat_with_tools([LOOKUP], QUESTION)
    assert (last.message.content, calls_of(last)) == (said, [])
    without_tools = tool_llm(calling(CALL)).chat(ASKED)
    assert (without_tools.message.content, calls_of(without_tools)) == (CALL, [])


def test_no_call_is_an_error_if_one_is_needed() -> None:
    llm = tool_llm("No.")
    with pytest.raises(ValueError, match="the model called no tool; it answered 'No"):
        llm.predict_and_call([LOOKUP], QUESTION)
    answered = llm.predict_and_call([LOOKUP], QUESTION, error_on_no_tool_call=False)
    assert (str(answered), answered.sources) == ("No.", [])


def test_quotations_stand_in_the_text_alone() -> None:
    llm = tool_llm(calling(f"{HELIUM} {CALL.replace('helium', HELIUM)}"))
    response = llm.chat_with_tools([LOOKUP], QUESTION, passages=[Passage(HELIUM)])
    assert [citation.answer_start for citation in response.citations] == [0]
    assert [each["answer_start"] for each in response.additional_kwargs["citations"]] == [0]
    assert calls_of(response) == [("lookup", {"gas": HELIUM})]


# --- choices


@pytest.mark.parametrize(
    ("choice", "begins"),
    [
        ({"tool_required": True}, '<tool_call>\n{"name": "'),
        ({"tool_choice": "any"}, '<tool_call>\n{"name": "'),
        ({"tool_choice": "weigh"}, '<tool_call>\n{"name": "weigh", "arguments": '),
        ({"tool_choice": {"type": "function", "function": {"name": "weigh"}}}, "<tool_call>\n"),
        ({"tool_choice": "auto"}, ""),
        ({"tool_choice": "none"}, ""),
        ({}, ""),
    ],
)
def test_tool_choice(choice: dict[str, Any], begins: str) -> None:
    with CitationCollector() as collected:
        tool_llm("x").chat_with_tools([LOOKUP, WEIGH], QUESTION, **choice)
    [output] = collected.outputs
    _, _, begun = output.prompt.partition("assistant: ")
    assert begun.startswith(begins)
    assert bool(begun) == bool(begins)
    assert ("[weigh]" in output.prompt) == (choice.get("tool_choice") != "none")


def test_an_unknown_choice_is_refused() -> None:
    with pytest.raises(ConfigError, match="names no bound tool: give one of lookup"):
        tool_llm().chat_with_tools([LOOKUP], QUESTION, tool_choice="fly")


def test_a_forced_call_is_the_models_own_words() -> None:
    llm = tool_llm('{"gas": "helium"}}', config=NestConfig.ra_nest())
    passages = [Passage(HELIUM)]
    with CitationCollector() as collected:
        response = llm.chat_with_tools([LOOKUP], QUESTION, tool_required=True, passages=passages)
    assert calls_of(response) == [("lookup", {"gas": "helium"})]
    assert HELIUM in collected.outputs[0].prompt


@pytest.mark.parametrize("is_async", [False, True])
def test_predict_and_call(is_async: bool) -> None:
    llm = tool_llm(calling(TWO.replace("lookup", "weigh")))
    if is_async:
        answered = asyncio.run(llm.apredict_and_call([WEIGH], QUESTION))
    else:
        answered = llm.predict_and_call([WEIGH], QUESTION)
    assert str(answered) == "helium: 4 u"


class Element(BaseModel):
    """A chemical element."""

    name: str
    number: int


def test_structured_predict_is_a_forced_call() -> None:
    llm = tool_llm('{"name": "Helium", "number": 2}}\n</tool_call>')
    prompt, expected = PromptTemplate("Describe {what}."), Element(name="Helium", number=2)
    assert llm.structured_predict(Element, prompt, what="helium") == expected
    assert asyncio.run(llm.astructured_predict(Element, prompt, what="helium")) == expected


def test_structured_streams_end_with_the_object() -> None:
    said = (
        '<tool_call>{"name": "Element", "arguments": {"name": "Helium", "number": 2}}</tool_call>'
    )
    prompt = PromptTemplate("Describe {what}.")
    *_, last = tool_llm(said).stream_structured_predict(Element, prompt, what="helium")
    assert last == Element(name="Helium", number=2)


def test_calls_of_other_models_are_written_too() -> None:
    llm = tool_llm()
    called = ToolCallBlock(tool_call_id="c1", tool_name="weigh", tool_kwargs='{"gas": "neon"}')
    turns = [
        ChatMessage(QUESTION),
        ChatMessage(blocks=[called], role=MessageRole.ASSISTANT),
        ChatMessage("20 u", role=MessageRole.TOOL, additional_kwargs={"tool_call_id": "c1"}),
    ]
    assert isinstance(llm, NestLLM)
    assert llm.messages_to_prompt(turns) == (
        f'user: {QUESTION}\nassistant: <c1 weigh {{"gas": "neon"}}>\ntool#c1: 20 u\nassistant: '
    )
