"""NEST inside what people build: chains, graphs, tools, batches."""

from __future__ import annotations

from operator import itemgetter
from typing import Any

import pytest

pytest.importorskip("langchain_core", reason="needs: pip install 'nest-engine[langchain]'")
pytest.importorskip("bm25s", reason="bm25s runs the engine's keyword search")

from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda, RunnablePassthrough
from langchain_core.tools import create_retriever_tool

from nest_engine import NestEngine, Passage
from nest_engine.retrieval import BM25Retriever
from nest_engine.testing import ScriptedLanguageModel
from nest_integrations.langchain import ChatNest, CitationCallback, NestLLM, NestRetriever
from tests.integrations.langchain.conftest import SENTENCE
from tests.integrations.langchain.support import (
    PLAIN_TEMPLATE,
    Recorder,
    replies,
    tool_tokenizer,
    verify,
)

PROMPT = PromptTemplate.from_template("{context}\n\nQuestion: {question}\nAnswer:")
TOPICS = ["the planet Neptune", "the planet Uranus", "Jupiter", "Saturn"]


@pytest.fixture(scope="module")
def retriever(demo_passages: list[Passage]) -> NestRetriever:
    return NestRetriever(retriever=BM25Retriever(demo_passages), k=2)


@pytest.fixture(scope="module")
def sources(demo_passages: list[Passage]) -> dict[str, str]:
    return {passage.id: passage.text for passage in demo_passages}


def join(documents: list[Document]) -> str:
    return "\n\n".join(document.page_content for document in documents)


def reusing_chain(llm: NestLLM, retriever: NestRetriever) -> Runnable[Any, str]:
    """The documented one-line pattern: a step's documents are bound to the model."""
    return (
        RunnablePassthrough.assign(documents=itemgetter("question") | retriever)
        | RunnablePassthrough.assign(context=itemgetter("documents") | RunnableLambda(join))
        | (lambda found: PROMPT | llm.bind(passages=found["documents"]))
        | StrOutputParser()
    )


async def test_retrieved_documents_are_reused(
    retriever: NestRetriever, demo_engine: NestEngine, sources: Any
):
    chain = reusing_chain(NestLLM(engine=demo_engine, max_tokens=40, max_draft_tokens=8), retriever)
    question = {"question": "Tell me about the planet Neptune."}
    cited, seen = CitationCallback(), Recorder()
    answer = chain.invoke(question, {"callbacks": [cited, seen]})
    assert seen.count("on_retriever_start") == 1
    assert cited.citations
    verify(cited.citations, answer, sources)
    pieces = list(chain.stream(question))
    assert len(pieces) > 1
    assert "".join(pieces) == answer
    assert "".join([piece async for piece in chain.astream(question)]) == answer
    assert await chain.ainvoke(question) == answer


def test_documents_in_the_prompt_cost_no_further_forward(
    retriever: NestRetriever, demo_engine: NestEngine
):
    seen = Recorder()
    llm = NestLLM(engine=demo_engine, max_tokens=16, method="ra-nest")
    reusing_chain(llm, retriever).invoke({"question": "Tell me about gold."}, {"callbacks": [seen]})
    [(_, [result], _)] = seen.named("on_llm_end")
    assert result.generations[0][0].generation_info["stats"]["encoded_passages"] == 0


def test_a_batch_of_sixteen(
    retriever: NestRetriever, demo_engine: NestEngine, demo_passages: Any, sources: Any
):
    chain = PromptTemplate.from_template("Question: {question}\nAnswer:") | NestLLM(
        engine=demo_engine, retriever=retriever, max_tokens=24, num_passages=2
    )
    questions = [{"question": f"Tell me about {passage.title}."} for passage in demo_passages[:16]]
    cited = [CitationCallback() for _ in questions]
    answers = chain.batch(questions, [{"callbacks": [callback]} for callback in cited])
    assert sum(bool(callback.citations) for callback in cited) >= 12
    for answer, question, callback in zip(answers, questions, cited, strict=True):
        found = {
            str(d.id) for d in retriever.invoke(f"Question: {question['question']}\nAnswer:", k=2)
        }
        assert {citation["extras"]["document_id"] for citation in callback.citations} <= found
        verify(callback.citations, answer, sources)
    assert answers == [chain.invoke(question) for question in questions]


async def test_a_batch_through_the_reusing_chain(
    retriever: NestRetriever, demo_engine: NestEngine, sources: Any
):
    chain = reusing_chain(NestLLM(engine=demo_engine, max_tokens=16), retriever)
    questions = [{"question": f"Tell me about {topic}."} for topic in TOPICS]
    cited = [CitationCallback() for _ in questions]
    answers = await chain.abatch(questions, [{"callbacks": [callback]} for callback in cited])
    assert answers == chain.batch(questions)
    for answer, callback in zip(answers, cited, strict=True):
        verify(callback.citations, answer, sources)


async def test_the_event_stream_of_a_chain(retriever: NestRetriever, demo_engine: NestEngine):
    llm = NestLLM(engine=demo_engine, retriever=retriever, max_tokens=24, num_passages=2)
    chain = PromptTemplate.from_template("Question: {question}\nAnswer:") | llm | StrOutputParser()
    events = [
        event
        async for event in chain.astream_events({"question": "Tell me about gold."}, version="v2")
    ]
    run_of = {event["event"]: event for event in events}
    searched, ended = run_of["on_retriever_end"], run_of["on_llm_end"]
    assert searched["parent_ids"][-1] == ended["run_id"]
    custom = [event["data"] for event in events if event["event"] == "on_custom_event"]
    assert custom == ended["data"]["output"]["generations"][0][0]["generation_info"]["citations"]


def test_a_chat_chain_searches_with_the_chain_as_parent(
    retriever: NestRetriever, demo_engine: NestEngine
):
    from langchain_core.prompts import ChatPromptTemplate

    chat = ChatNest(
        engine=demo_engine, retriever=retriever, chat_template=PLAIN_TEMPLATE, max_tokens=24
    )
    chain = ChatPromptTemplate.from_messages([("human", "Tell me about {topic}.")]) | chat
    seen, cited = Recorder(), CitationCallback()
    pieces = list(chain.stream({"topic": "gold"}, {"callbacks": [seen, cited]}))
    assert seen.count("on_retriever_start") == 1
    assert (
        cited.citations
        == [c for piece in pieces for c in piece.response_metadata["citations"]]
        != []
    )


async def test_a_chat_chain_tells_citations_in_version_2_events(
    retriever: NestRetriever, demo_engine: NestEngine
):
    from langchain_core.prompts import ChatPromptTemplate

    chat = ChatNest(
        engine=demo_engine, retriever=retriever, chat_template=PLAIN_TEMPLATE, max_tokens=24
    )
    chain = ChatPromptTemplate.from_messages([("human", "Tell me about {topic}.")]) | chat
    events = [event async for event in chain.astream_events({"topic": "gold"}, version="v2")]
    told = [event["data"] for event in events if event["name"] == "nest_citation"]
    chunks = [
        event["data"]["chunk"] for event in events if event["event"] == "on_chat_model_stream"
    ]
    assert (
        told
        == [
            citation
            for chunk in chunks
            for citation in chunk.response_metadata.get("citations", [])
        ]
        != []
    )


async def test_a_node_of_a_graph(retriever: NestRetriever, demo_engine: NestEngine, sources: Any):
    graphs = pytest.importorskip("langgraph.graph", reason="langgraph runs graphs")
    chat = ChatNest(
        engine=demo_engine,
        retriever=retriever,
        chat_template=PLAIN_TEMPLATE,
        max_tokens=32,
        max_draft_tokens=8,
    )

    async def answer(state: dict[str, Any]) -> dict[str, Any]:
        return {"messages": [await chat.ainvoke(state["messages"])]}

    builder = graphs.StateGraph(graphs.MessagesState)
    builder.add_node("answer", answer)
    builder.add_edge(graphs.START, "answer")
    graph = builder.compile()
    question = {"messages": [HumanMessage("Tell me about the planet Neptune.")]}
    message = (await graph.ainvoke(question))["messages"][-1]
    citations = message.content_blocks[0]["annotations"]
    assert citations
    verify(citations, message.text, sources)
    streamed = [piece async for piece, _ in graph.astream(question, stream_mode="messages")]
    assert "".join(piece.text for piece in streamed) == message.text
    assert [
        c for piece in streamed for c in piece.response_metadata.get("citations", [])
    ] == citations


def test_an_agent_that_quotes_what_its_tool_found():
    documents = BM25Retriever(
        [Passage(SENTENCE, id="helium"), Passage("Neon glows in signs.", id="neon")]
    )
    tool = create_retriever_tool(
        NestRetriever(retriever=documents, k=1),
        "search",
        "Search the encyclopedia.",
        response_format="content_and_artifact",
    )

    def said(prompt: str) -> str:
        if "[tool]" in prompt:
            return SENTENCE
        return '<tool_call>{"name": "search", "arguments": {"query": "colourless gas"}}</tool_call>'

    engine = NestEngine(ScriptedLanguageModel(replies(said)))
    chat = ChatNest(engine=engine, tokenizer=tool_tokenizer(), method="lossless").bind_tools([tool])
    conversation: list[Any] = [HumanMessage("What is helium?")]
    called = chat.invoke(conversation)
    assert isinstance(called, AIMessage)
    conversation += [called, tool.invoke(called.tool_calls[0])]
    assert isinstance(conversation[-1], ToolMessage)
    answer = chat.invoke(conversation)
    [citation] = answer.response_metadata["citations"]
    assert citation["extras"]["document_id"] == "helium"
    verify([citation], answer.text, {"helium": SENTENCE})
    # it stands in the prompt, in the tool's message
    assert answer.response_metadata["stats"]["encoded_passages"] == 0


@pytest.mark.parametrize("pauses", [False, True])
def test_an_agent_of_langgraph(pauses: bool):
    prebuilt = pytest.importorskip("langgraph.prebuilt", reason="langgraph runs agents")
    graphs = pytest.importorskip("langgraph.graph", reason="langgraph runs graphs")
    tool = create_retriever_tool(
        NestRetriever(retriever=BM25Retriever([Passage(SENTENCE, id="helium")]), k=1),
        "search",
        "Search the encyclopedia.",
        response_format="content_and_artifact",
    )

    def said(prompt: str) -> str:
        if "[tool]" in prompt:
            return SENTENCE
        return '<tool_call>{"name": "search", "arguments": {"query": "gas"}}</tool_call>'

    engine = NestEngine(ScriptedLanguageModel(replies(said)))
    chat = ChatNest(engine=engine, tokenizer=tool_tokenizer(), method="lossless").bind_tools([tool])
    builder = graphs.StateGraph(graphs.MessagesState)
    builder.add_node("model", lambda state: {"messages": [chat.invoke(state["messages"])]})
    builder.add_node("tools", prebuilt.ToolNode([tool]))
    builder.add_edge(graphs.START, "model")
    builder.add_conditional_edges("model", prebuilt.tools_condition)
    builder.add_edge("tools", "model")
    memory = pytest.importorskip("langgraph.checkpoint.memory", reason="langgraph keeps states")
    graph = builder.compile(memory.InMemorySaver(), interrupt_after=["tools"] if pauses else None)
    thread = {"configurable": {"thread_id": "1"}}
    messages = graph.invoke({"messages": [HumanMessage("What is helium?")]}, thread)["messages"]
    if pauses:  # what the tool has found comes back from the checkpoint
        messages = graph.invoke(None, thread)["messages"]
    assert [message.type for message in messages] == ["human", "ai", "tool", "ai"]
    assert [c["extras"]["document_id"] for c in messages[-1].content_blocks[0]["annotations"]] == [
        "helium"
    ]
