"""Citations behind chat models that are not ours."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.documents import Document
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolCall
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableGenerator, RunnablePassthrough
from langchain_core.tools import create_retriever_tool
from pydantic import Field

from nest_engine import ConfigError, InputError, Passage
from nest_integrations.langchain import CitationCallback, CiteMiddleware, CiteSources

DOCUMENTS = [
    Document(
        "Helium was first detected in 1868 as an unknown, yellow spectral line. It is inert.",
        metadata={"title": "Helium", "source": "https://a.org/he"},
    ),
    Document("Argon is the third-most abundant gas in the Earth's atmosphere.", id="argon"),
]
ANSWER = (
    "As you ask: helium was first detected in 1868 as an unknown, yellow spectral line. "
    "Argon is the third-most abundant gas in the Earth’s atmosphere. That is all."
)
CITED = [
    "was first detected in 1868 as an unknown, yellow spectral line.",
    "Argon is the third-most abundant gas in the Earth's atmosphere.",
]


class Titles(BaseRetriever):
    """Find all documents; remember what was asked."""

    asked: list[str] = Field(default_factory=list)

    def _get_relevant_documents(self, query: str, **kwargs: Any) -> list[Document]:
        self.asked.append(query)
        return DOCUMENTS


def model(*answers: str | AIMessage) -> GenericFakeChatModel:
    return GenericFakeChatModel(messages=iter(answers or [ANSWER]))


def require_cited(message: AIMessage, *, text: str = ANSWER) -> None:
    assert message.text == text
    [block] = [block for block in message.content_blocks if block["type"] == "text"]
    annotations: Sequence[Any] = block["annotations"]
    assert [citation["cited_text"] for citation in annotations] == CITED
    assert message.response_metadata["citations"] == annotations
    for citation in annotations:
        said = text[citation["start_index"] : citation["end_index"]]
        assert said.replace("’", "'") == citation["cited_text"]
    assert annotations[0]["url"] == "https://a.org/he"
    assert annotations[1]["extras"]["match"] == "normalized"
    assert [sentence["kind"] for sentence in message.response_metadata["sentences"]] == [
        "spliced",
        "quoted",
        "own",
    ]


@pytest.mark.parametrize("has_index", [False, True])
def test_citations_count_within_their_block(has_index: bool) -> None:
    half = ANSWER.index(CITED[1][:8])
    blocks = [
        {"type": "text", "text": text} | ({"index": number} if has_index else {})
        for number, text in enumerate((ANSWER[:half], ANSWER[half:]))
    ]
    whole = CiteSources(DOCUMENTS).invoke(AIMessage(blocks))
    found = [whole]
    if has_index:
        chunks = [AIMessageChunk([{**b, "text": c}]) for b in blocks for c in str(b["text"])]
        pieces = CiteSources(DOCUMENTS).transform(iter(chunks))
        total = next(pieces)
        for piece in pieces:
            total += piece
        found.append(total)
    for message in found:
        assert message.text == ANSWER
        for block, cited in zip(message.content, CITED, strict=True):
            assert isinstance(block, dict)
            [annotation] = block["annotations"]
            said = block["text"][annotation["start_index"] : annotation["end_index"]]
            assert said.replace("’", "'") == annotation["cited_text"] == cited
        [_, second] = message.response_metadata["citations"]
        assert ANSWER[second["start_index"] :].startswith(CITED[1][:8])


def test_behind_a_model() -> None:
    message = (model() | CiteSources(DOCUMENTS)).invoke("Who?")
    assert isinstance(message, AIMessage)
    assert message.content == ANSWER
    require_cited(message)


def test_in_front_of_a_parser() -> None:
    callback = CitationCallback()
    chain = model() | CiteSources(DOCUMENTS) | StrOutputParser()
    assert chain.invoke("Who?", config={"callbacks": [callback]}) == ANSWER
    assert [citation["cited_text"] for citation in callback.citations] == CITED


def test_behind_a_text() -> None:
    require_cited((model() | StrOutputParser() | CiteSources(DOCUMENTS)).invoke("Who?"))


def chain_with_documents() -> Any:
    """Return what many people have: documents, question and answer in the chain's output."""
    prompt = ChatPromptTemplate.from_template("{context}\n\n{question}")
    return (
        RunnablePassthrough.assign(context=itemgetter("question") | Titles())
        | RunnablePassthrough.assign(answer=prompt | model())
        | CiteSources()
    )


def test_documents_of_the_chain() -> None:
    output = chain_with_documents().invoke({"question": "Who?"})
    assert set(output) == {"question", "context", "answer"}
    require_cited(output["answer"])


def test_a_chain_that_streams() -> None:
    chunks = list(chain_with_documents().stream({"question": "Who?"}))
    answers = [chunk["answer"] for chunk in chunks if "answer" in chunk]
    total = answers[0]
    for chunk in answers[1:]:
        total += chunk
    require_cited(total)
    came = [
        number for number, chunk in enumerate(answers) if "citations" in chunk.response_metadata
    ]
    assert len(came) == 2
    assert came[0] < len(answers) - 5  # long before the end


def test_an_asynchronous_chain_that_streams() -> None:
    async def read() -> AIMessageChunk:
        total: Any = None
        async for chunk in chain_with_documents().astream({"question": "Who?"}):
            if "answer" in chunk:
                total = chunk["answer"] if total is None else total + chunk["answer"]
        return total

    require_cited(asyncio.run(read()))


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
def test_a_retriever_is_asked_for_the_answer_where_nobody_knows_the_question(way: str) -> None:
    retriever = Titles(asked=[])
    chain: Any = model() | CiteSources(retriever=retriever)

    async def read() -> Any:
        return sum_of([chunk async for chunk in chain.astream("Who?")])

    message = {
        "invoke": lambda: chain.invoke("Who?"),
        "ainvoke": lambda: asyncio.run(chain.ainvoke("Who?")),
        "stream": lambda: sum_of(list(chain.stream("Who?"))),
        "astream": lambda: asyncio.run(read()),
    }[way]()
    require_cited(message)
    assert retriever.asked == [ANSWER]


def sum_of(chunks: Sequence[Any]) -> Any:
    total = chunks[0]
    for chunk in chunks[1:]:
        total += chunk
    return total


def test_a_retriever_is_asked_the_question_of_the_chain() -> None:
    retriever = Titles(asked=[])
    output = CiteSources(retriever=retriever).invoke({"input": "Who?", "answer": ANSWER})
    require_cited(output["answer"])
    assert retriever.asked == ["Who?"]


def test_citations_are_events() -> None:
    async def read() -> list[str]:
        chain = model() | CiteSources(DOCUMENTS)
        events = [event async for event in chain.astream_events("Who?", version="v2")]
        return [event["data"]["cited_text"] for event in events if event["name"] == "nest_citation"]

    assert asyncio.run(read()) == CITED


def test_blocks_keep_their_blocks() -> None:
    given = AIMessage(
        [{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": ANSWER}], id="m"
    )
    message = CiteSources(DOCUMENTS).invoke(given)
    assert [block["type"] for block in message.content] == ["reasoning", "text"]
    require_cited(message)
    assert message.id == "m"
    assert "annotations" not in str(given.content)


def test_an_answer_cited_twice_has_its_citations_once() -> None:
    cite = CiteSources(DOCUMENTS)
    once = cite.invoke(AIMessage([{"type": "text", "text": ANSWER}]))
    assert cite.invoke(once).content == once.content


def test_blocks_may_be_plain_texts() -> None:
    message = CiteSources(DOCUMENTS).invoke(AIMessage([ANSWER]))
    require_cited(message)


def test_half_a_surrogate_pair_is_no_error() -> None:
    text = f"\ud83d {ANSWER}"
    message = CiteSources(DOCUMENTS).invoke(AIMessage(text))
    assert message.content == text
    assert len(message.response_metadata["citations"]) == 2


def test_streamed_blocks() -> None:
    pieces = [ANSWER[i : i + 9] for i in range(0, len(ANSWER), 9)]
    chunks = [AIMessageChunk([{"type": "text", "text": each, "index": 0}]) for each in pieces]

    def speak(_: Iterator[Any]) -> Iterator[AIMessageChunk]:
        yield from chunks

    chain: Any = RunnableGenerator(speak) | CiteSources(DOCUMENTS)
    require_cited(sum_of(list(chain.stream("Who?"))))


def test_calls_of_tools_stay_as_they_are() -> None:
    call = AIMessage("", tool_calls=[ToolCall(name="search", args={"q": "x"}, id="1")])
    assert CiteSources(DOCUMENTS).invoke(call) == call
    streamed = sum_of(list(CiteSources(DOCUMENTS).stream(call)))
    assert [each["name"] for each in streamed.tool_calls] == ["search"]


@pytest.mark.parametrize(
    ("sources", "given", "message"),
    [
        ({}, ANSWER, "no documents"),
        ({}, {"answer": ANSWER}, "no documents"),
        ({}, {"context": DOCUMENTS}, "no answer"),
        ({"documents": DOCUMENTS}, {"text": ANSWER}, "answer_key"),
        ({"documents": DOCUMENTS}, 5, "got int"),
    ],
)
def test_what_is_missing_is_named(sources: dict[str, Any], given: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        CiteSources(**sources).invoke(given)


def test_bad_arguments_are_refused_at_once() -> None:
    with pytest.raises(InputError, match="Document"):
        CiteSources([1])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="cannot search"):
        CiteSources(retriever=5)
    with pytest.raises(InputError, match="min_words"):
        CiteSources(DOCUMENTS, min_words=0)


def test_keys_can_be_named() -> None:
    cite = CiteSources(answer_key="text", documents_key="found", question_key="asked")
    output = cite.invoke({"text": ANSWER, "found": DOCUMENTS, "asked": "Who?", "answer": "no"})
    require_cited(output["text"])
    assert output["answer"] == "no"


def test_passages_serve_as_documents() -> None:
    passages = [Passage(document.page_content) for document in DOCUMENTS]
    message = CiteSources(passages).invoke(ANSWER)
    assert len(message.response_metadata["citations"]) == 2


class ToolCallingModel(GenericFakeChatModel):
    """A scripted model that takes tools."""

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self


def agent(**arguments: Any) -> Any:
    tool = create_retriever_tool(
        Titles(asked=[]), "search", "Search.", response_format="content_and_artifact"
    )
    call = AIMessage("", tool_calls=[ToolCall(name="search", args={"query": "x"}, id="1")])
    return create_agent(
        ToolCallingModel(messages=iter([call, ANSWER])),
        [tool],
        middleware=[CiteMiddleware(**arguments)],
    )


def test_an_agent_cites_what_its_tools_have_found() -> None:
    output = agent().invoke({"messages": [HumanMessage("Who?")]})
    require_cited(output["messages"][-1])
    assert [message.type for message in output["messages"]] == ["human", "ai", "tool", "ai"]


def test_an_asynchronous_agent() -> None:
    output = asyncio.run(agent().ainvoke({"messages": [HumanMessage("Who?")]}))
    require_cited(output["messages"][-1])


@pytest.mark.parametrize("way", ["documents", "retriever"])
def test_an_agent_without_tools(way: str) -> None:
    sources: Any = {"documents": DOCUMENTS} if way == "documents" else {"retriever": Titles()}
    plain = create_agent(
        ToolCallingModel(messages=iter([ANSWER])), middleware=[CiteMiddleware(**sources)]
    )
    output = plain.invoke({"messages": [HumanMessage("Who?")]})
    require_cited(output["messages"][-1])
