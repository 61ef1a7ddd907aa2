"""Citations behind query engines whose model is not ours."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

pytest.importorskip("llama_index.core", reason="llama-index-core is not installed")

from llama_index.core.base.llms.types import CompletionResponse, LLMMetadata
from llama_index.core.base.response.schema import Response
from llama_index.core.llms import CustomLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.schema import NodeWithScore, TextNode

from nest_engine import InputError
from nest_integrations.llama_index import (
    CitationCollector,
    CitingQueryEngine,
    NestAsyncStreamingResponse,
    NestResponse,
    NestStreamingResponse,
    cite_response,
)
from tests.integrations.llama_index.support import FixedRetriever

HELIUM = "Helium was first detected in 1868 as an unknown, yellow spectral line. It is inert."
ARGON = "Argon is the third-most abundant gas in the Earth's atmosphere."
NODES = [
    NodeWithScore(node=TextNode(text=HELIUM, id_="he", metadata={"title": "Helium"}), score=2),
    NodeWithScore(node=TextNode(text=ARGON, id_="ar"), score=1),
]
ANSWER = (
    "As you ask: helium was first detected in 1868 as an unknown, yellow spectral line. "
    "Argon is the third-most abundant gas in the Earth’s atmosphere. That is all."
)
CITED = [
    ("he", "was first detected in 1868 as an unknown, yellow spectral line."),
    ("ar", "Argon is the third-most abundant gas in the Earth's atmosphere."),
]


class OtherLLM(CustomLLM):
    """A model that is not ours."""

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata()

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return CompletionResponse(text=ANSWER)

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        for end in range(0, len(ANSWER) + 7, 7):
            delta = ANSWER[max(0, end - 7) : end]
            yield CompletionResponse(text=ANSWER[:end], delta=delta)


def engine(*, streaming: bool = False, use_async: bool = False) -> CitingQueryEngine:
    synthesizer = get_response_synthesizer(llm=OtherLLM(), streaming=streaming, use_async=use_async)
    plain = RetrieverQueryEngine(
        FixedRetriever([each.node for each in NODES]), response_synthesizer=synthesizer
    )
    return CitingQueryEngine(plain)


def require_cited(response: Any) -> None:
    assert [(c.node_id, c.cited_text) for c in response.citations] == CITED
    for citation in response.citations:
        said = ANSWER[citation.answer_start : citation.answer_end]
        assert said.replace("’", "'") == citation.cited_text
    assert response.output.text == ANSWER
    assert list(response.output.citations) == response.citations
    assert [s.kind for s in response.output.sentences] == ["spliced", "quoted", "own"]


def test_a_query() -> None:
    with CitationCollector() as collected:
        response = engine().query("Who?")
    assert isinstance(response, NestResponse)
    assert str(response) == ANSWER
    assert [node.node_id for node in response.source_nodes] == ["he", "ar"]
    require_cited(response)
    assert [c.node_id for c in collected.citations] == ["he", "ar"]
    assert "line.[1] Argon" in response.numbered_text
    assert "‡" in response._repr_html_()


def test_an_asynchronous_query() -> None:
    require_cited(asyncio.run(engine(use_async=True).aquery("Who?")))


def test_a_stream_has_citations_before_its_end() -> None:
    response = engine(streaming=True).query("Who?")
    assert isinstance(response, NestStreamingResponse)
    known = []
    text = ""
    for token in response.response_gen:
        text += token
        known.append(len(response.citations))
    assert text == ANSWER
    assert known[-1] >= 1
    assert known.index(1) < len(known) - 3
    require_cited(response)
    require_cited(response.get_response())


def test_an_asynchronous_stream() -> None:
    async def read() -> Any:
        response = await engine(streaming=True, use_async=True).aquery("Who?")
        assert isinstance(response, NestAsyncStreamingResponse)
        assert "".join([token async for token in response.response_gen]) == ANSWER
        return response

    require_cited(asyncio.run(read()))


def test_a_message_has_a_citation_block_for_each_node() -> None:
    message = engine().query("Who?").as_message()
    text, *blocks = message.blocks
    assert text.text == message.content == ANSWER
    assert [(block.source, block.cited_content.text) for block in blocks] == CITED
    assert blocks[0].title == "Helium"
    place = blocks[0].additional_location_info
    assert HELIUM[place["source_start"] : place["source_end"]] == CITED[0][1]


def test_any_response_can_be_cited() -> None:
    require_cited(cite_response(Response(ANSWER, source_nodes=NODES), "Who?"))


@pytest.mark.parametrize("nodes", [[], [NodeWithScore(node=TextNode(text=""))]])
def test_nothing_to_cite(nodes: Sequence[NodeWithScore]) -> None:
    response = cite_response(Response(ANSWER, source_nodes=list(nodes)))
    assert response.citations == []
    assert cite_response(Response(None, source_nodes=NODES)).citations == []


def test_what_is_cited_already_stays_as_it_is() -> None:
    response = CitingQueryEngine(engine()).query("Who?")
    assert [c.node_id for c in response.citations] == ["he", "ar"]


def test_retrieving_and_synthesizing_work_through_it() -> None:
    from llama_index.core.schema import QueryBundle

    query = QueryBundle("Who?")
    nodes = engine().retrieve(query)
    assert [node.node_id for node in nodes] == ["he", "ar"]
    require_cited(engine().synthesize(query, nodes))
    require_cited(asyncio.run(engine().asynthesize(query, nodes)))
    assert any("text_qa_template" in name for name in engine().get_prompts())


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(InputError, match="min_words"):
        CitingQueryEngine(engine(), min_words=0)
