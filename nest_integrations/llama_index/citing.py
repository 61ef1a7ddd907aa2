"""Citations behind any query engine: :class:`CitingQueryEngine`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing, closing
from typing import Any

from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.response.schema import RESPONSE_TYPE
from llama_index.core.prompts.mixin import PromptMixinType
from llama_index.core.schema import NodeWithScore, QueryBundle
from llama_index.core.types import TokenAsyncGen, TokenGen
from llama_index_instrumentation import get_dispatcher

from nest_engine import CitationStream, CitedAnswer, Citer
from nest_engine.citing import MIN_WORDS, citable
from nest_integrations.llama_index.events import NestCitationEvent
from nest_integrations.llama_index.nodes import cite_nodes, node_citation, passages_of
from nest_integrations.llama_index.responses import (
    AnyNestResponse,
    NestAsyncStreamingResponse,
    NestResponse,
    NestStreamingResponse,
    as_nest_response,
)

_dispatcher = get_dispatcher(__name__)


class CitingQueryEngine(BaseQueryEngine):
    """Cite the answers of a query engine, whichever model writes them.

    ``CitingQueryEngine(index.as_query_engine(llm=llm)).query("...").citations``

    Responses have the same text and become ``NestResponse`` objects, or their streaming variants:
    what the answer has word for word from the nodes that it was made from. In a stream citations
    come as soon as nothing that follows can change them.

    Args:
        query_engine: answers.
        min_words: fewest words of a quotation.

    Raises:
        InputError: if ``min_words`` is not valid.
    """

    def __init__(self, query_engine: BaseQueryEngine, *, min_words: int = MIN_WORDS) -> None:
        super().__init__(callback_manager=query_engine.callback_manager)
        self._engine = query_engine
        self._min_words = min_words
        Citer([], min_words=min_words)  # refuses what is not a number of words

    def retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        """Return what the query engine finds."""
        return self._engine.retrieve(query_bundle)

    def synthesize(
        self,
        query_bundle: QueryBundle,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
    ) -> RESPONSE_TYPE:
        """Answer from nodes, with citations."""
        response = self._engine.synthesize(query_bundle, nodes, additional_source_nodes)
        return cite_response(response, query_bundle.query_str, min_words=self._min_words)

    async def asynthesize(
        self,
        query_bundle: QueryBundle,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
    ) -> RESPONSE_TYPE:
        """Answer from nodes, with citations."""
        response = await self._engine.asynthesize(query_bundle, nodes, additional_source_nodes)
        return cite_response(response, query_bundle.query_str, min_words=self._min_words)

    def _query(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        response = self._engine.query(query_bundle)
        return cite_response(response, query_bundle.query_str, min_words=self._min_words)

    async def _aquery(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        response = await self._engine.aquery(query_bundle)
        return cite_response(response, query_bundle.query_str, min_words=self._min_words)

    def _get_prompt_modules(self) -> PromptMixinType:
        return {"query_engine": self._engine}


def cite_response(
    response: RESPONSE_TYPE, question: str | None = None, *, min_words: int = MIN_WORDS
) -> RESPONSE_TYPE:
    """Return a response with its citations: what it has word for word from its source nodes.

    Args:
        response: of a query engine or synthesizer; a structured one stays as it is, and one that
            has its citations already.
        question: what was asked; words that stand in it prove nothing in an answer.
        min_words: fewest words of a quotation.

    Returns:
        a ``NestResponse``, or its streaming variant, whose citations grow while it is read.

    Raises:
        InputError: if ``min_words`` is not valid.
    """
    if isinstance(response, AnyNestResponse):
        return response
    cited = as_nest_response(response)
    citer = Citer(passages_of(cited.source_nodes), min_words=min_words)
    stream = citer.stream(question=question)
    if isinstance(cited, NestResponse):
        _finish(cited, citer.cite(citable(cited.response or ""), question=question))
    elif isinstance(cited, NestStreamingResponse):
        cited.response_gen = _citing(cited, stream, cited.response_gen)
    elif isinstance(cited, NestAsyncStreamingResponse):
        cited.response_gen = _async_citing(cited, stream, cited.response_gen)
    return cited


def _citing(response: NestStreamingResponse, stream: CitationStream, tokens: TokenGen) -> TokenGen:
    with closing(tokens):
        for token in tokens:
            _push(response, stream, token)
            yield token
    _close(response, stream)


async def _async_citing(
    response: NestAsyncStreamingResponse, stream: CitationStream, tokens: TokenAsyncGen
) -> TokenAsyncGen:
    async with aclosing(tokens):
        async for token in tokens:
            _push(response, stream, token)
            yield token
    _close(response, stream)


def _push(response: AnyNestResponse, stream: CitationStream, text: str) -> None:
    response.citations += map(node_citation, stream.push(citable(text)))


def _close(response: AnyNestResponse, stream: CitationStream) -> None:
    stream.close()
    _finish(response, stream.answer)


def _finish(response: AnyNestResponse, answer: CitedAnswer) -> None:
    response.output = output = cite_nodes(answer)
    response.citations[:] = map(node_citation, answer.citations)
    event: Any = NestCitationEvent(output=output)
    _dispatcher.event(event)
