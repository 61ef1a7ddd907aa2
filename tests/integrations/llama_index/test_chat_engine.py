"""Chat engines, where a postprocessor is the only hook."""

from __future__ import annotations

import asyncio
import contextvars

import pytest

pytest.importorskip("llama_index.core", reason="llama-index-core is not installed")

from llama_index.core.chat_engine import CondensePlusContextChatEngine, ContextChatEngine
from llama_index.core.memory import ChatMemoryBuffer, Memory

from nest_integrations.llama_index import CitationCollector, NestNodePostprocessor
from tests.integrations.llama_index.support import (
    HELIUM,
    NEON,
    FixedRetriever,
    answering,
    node,
    scored,
    scripted_llm,
)


def _chat(engine):
    return engine.chat("What?").response


def _stream(engine):
    return "".join(engine.stream_chat("What?").response_gen)


def _achat(engine):
    return asyncio.run(engine.achat("What?")).response


def _astream(engine):
    async def read():
        response = await engine.astream_chat("What?")
        return "".join([piece async for piece in response.async_response_gen()])

    return asyncio.run(read())


WAYS = {"chat": _chat, "stream_chat": _stream, "achat": _achat, "astream_chat": _astream}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("engine_type", [ContextChatEngine, CondensePlusContextChatEngine])
def test_chat_engines_quote_the_nodes_they_retrieve(engine_type, way):
    llm = scripted_llm(answering(HELIUM))
    retriever = FixedRetriever(
        [node(HELIUM, id_="he", metadata={"file_name": "he.txt"}), node(NEON)]
    )
    engine = engine_type.from_defaults(
        retriever=retriever,
        llm=llm,
        memory=ChatMemoryBuffer.from_defaults(token_limit=10_000),
        node_postprocessors=[NestNodePostprocessor()],
    )
    with CitationCollector() as collected:
        assert WAYS[way](engine) == HELIUM
    assert [(citation.node_id, citation.cited_text) for citation in collected.citations] == [
        ("he", HELIUM)
    ]
    assert retriever.queries == ["What?"]
    assert HELIUM in str(engine.chat_history[-1].content)


def test_a_conversation_goes_on():
    engine = ContextChatEngine.from_defaults(
        retriever=FixedRetriever([node(HELIUM, id_="he")]),
        llm=scripted_llm(answering(HELIUM)),
        memory=Memory.from_defaults(token_limit=10_000),
        node_postprocessors=[NestNodePostprocessor()],
    )
    with CitationCollector() as collected:
        engine.chat("What?")
        engine.chat("And again?")
    assert [citation.node_id for citation in collected.citations] == ["he", "he"]
    assert "cited_text" not in collected.outputs[1].prompt


@pytest.mark.parametrize("way", WAYS)
def test_a_rewritten_question_quotes_no_earlier_answer(way):
    """The answer of the first turn, in the history, is the whole text of a node."""
    engine = CondensePlusContextChatEngine.from_defaults(
        retriever=FixedRetriever([node(HELIUM, id_="he")]),
        llm=scripted_llm(answering(HELIUM)),
        memory=ChatMemoryBuffer.from_defaults(token_limit=10_000),
        condense_prompt="{chat_history}\n{question}\nAnswer: ",
        node_postprocessors=[NestNodePostprocessor()],
    )

    def converse():
        with CitationCollector() as collected:
            for _ in range(3):
                WAYS[way](engine)
        return [[citation.node_id for citation in each.citations] for each in collected.outputs]

    assert contextvars.Context().run(converse) == [["he"], *[[], ["he"]] * 2]


def _offer(*nodes):
    found = scored(*nodes)
    assert NestNodePostprocessor().postprocess_nodes(found) == found


def test_offered_nodes_are_used_only_by_prompts_that_hold_them():
    def run():
        _offer(node(HELIUM))
        assert scripted_llm(HELIUM).complete("Say something else. ").citations == []
        assert scripted_llm(HELIUM).complete(f"{HELIUM}\n\nWhat? ").citations

    contextvars.Context().run(run)


def test_a_prompt_may_be_asked_again():
    def run():
        _offer(node(HELIUM))
        llm = scripted_llm(HELIUM)
        assert llm.complete(f"{HELIUM}\n\nWhat? ").citations
        assert llm.complete(f"{HELIUM}\n\nWhat? ").citations
        assert llm.complete(f"{HELIUM}\n\nWhat? {HELIUM} Again? ").citations
        assert llm.complete(f"What? {HELIUM} Rewrite this: ").citations == []

    contextvars.Context().run(run)


def test_offered_nodes_may_have_space_around_them():
    def run():
        _offer(node(f"\t{HELIUM}\n\n"))
        [citation] = scripted_llm(HELIUM).complete(f"{HELIUM}\n\nWhat? ").citations
        assert (citation.source_start, citation.cited_text) == (1, HELIUM)

    contextvars.Context().run(run)


def test_offered_nodes_replace_those_before_them():
    def run():
        _offer(node(HELIUM))
        _offer(node(NEON))
        assert scripted_llm(HELIUM).complete(f"{HELIUM}\n\nWhat? ").citations == []

    contextvars.Context().run(run)


def test_offered_nodes_stay_in_their_task():
    llm = scripted_llm(HELIUM)

    async def retrieve_and_ask(has_offered, other_has_asked):
        await NestNodePostprocessor().apostprocess_nodes(scored(node(HELIUM)))
        has_offered.set()
        await other_has_asked.wait()
        return (await llm.acomplete(f"{HELIUM}\n\nWhat? ")).citations

    async def ask(has_offered, other_has_asked):
        await has_offered.wait()
        citations = (await llm.acomplete(f"{HELIUM}\n\nWhat? ")).citations
        other_has_asked.set()
        return citations

    async def both():
        events = asyncio.Event(), asyncio.Event()
        return await asyncio.gather(retrieve_and_ask(*events), ask(*events))

    offered, other = contextvars.Context().run(asyncio.run, both())
    assert offered
    assert other == []


def test_bound_nodes_win_over_offered_ones():
    def run():
        _offer(node(HELIUM, id_="offered"))
        bound = scripted_llm(HELIUM).with_passages([node(HELIUM, id_="bound")])
        assert bound.complete(f"{HELIUM}\n\nWhat? ").citations[0].node_id == "bound"

    contextvars.Context().run(run)
