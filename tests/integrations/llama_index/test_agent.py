"""Agents: NEST stays out of Thought and Action, and comes in as a tool."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("llama_index.core", reason="llama-index-core is not installed")

from llama_index.core.agent.workflow import ReActAgent
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.tools import QueryEngineTool

from nest_engine.testing import EOS
from nest_integrations.llama_index import CitationCollector, NestSynthesizer
from tests.integrations.llama_index.support import (
    HELIUM,
    QA,
    FixedRetriever,
    answering,
    node,
    scripted_llm,
)

CALL = 'Thought: I need the tool.\nAction: gases\nAction Input: {"input": "What is helium?"}'
DONE = "Thought: I can answer without using any more tools.\nAnswer: Helium is a gas."


def _agent_script(so_far: bytes) -> int:
    prompt, _, said = so_far.rpartition(b"assistant: ")
    wanted = (DONE if HELIUM.encode() in prompt else CALL).encode()
    return wanted[len(said)] if len(said) < len(wanted) else EOS


@pytest.mark.parametrize("streaming", [True, False])
def test_react_agent_with_a_citing_tool(streaming):
    engine = RetrieverQueryEngine(
        FixedRetriever([node(HELIUM, id_="he")]),
        NestSynthesizer(scripted_llm(answering(HELIUM)), text_qa_template=QA),
    )
    tool = QueryEngineTool.from_defaults(engine, name="gases", description="Knows gases.")
    agent = ReActAgent(
        tools=[tool], llm=scripted_llm(_agent_script, max_new_tokens=200), streaming=streaming
    )

    async def ask():
        with CitationCollector() as collected:
            return await agent.run("What is helium?"), collected

    output, collected = asyncio.run(ask())
    assert str(output) == "Helium is a gas."
    [call] = output.tool_calls
    assert call.tool_output.content == HELIUM
    assert [citation.node_id for citation in call.tool_output.raw_output.citations] == ["he"]
    assert [answer.text for answer in collected.outputs] == [CALL, HELIUM, DONE]
    assert [len(answer.citations) for answer in collected.outputs] == [0, 1, 0]
