"""Answers in LlamaIndex's shapes, citations included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CitationBlock,
    CompletionResponse,
    MessageRole,
    TextBlock,
)
from llama_index.core.base.response.schema import (
    RESPONSE_TYPE,
    AsyncStreamingResponse,
    Response,
    StreamingResponse,
)
from llama_index.core.bridge.pydantic import Field, field_serializer
from llama_index.core.utils import truncate_text
from pydantic import InstanceOf

from nest_engine import CitedAnswer, NestOutput
from nest_engine.citations.formats import json_ready, split_answer, title_of
from nest_engine.citations.rendering import to_html_fragment
from nest_engine.retrieval.blocks import LOCATION
from nest_integrations.llama_index.nodes import NodeCitation


class NestCompletionResponse(CompletionResponse):
    """A completion and what it quotes.

    Args:
        citations: quotations so far, offsets counting in ``text``.
    """

    citations: list[InstanceOf[NodeCitation]] = Field(default_factory=list)

    @field_serializer("citations")
    def _plain_citations(self, citations: list[NodeCitation]) -> list[dict[str, Any]]:
        return _plain(citations)


class NestChatResponse(ChatResponse):
    """A chat message and what it quotes.

    The message holds the answer as one text block and, once it is complete, a ``CitationBlock`` for
    each citation and a ``ToolCallBlock`` for each tool call. The message's ``additional_kwargs``
    hold tool calls alone, because LlamaIndex prints them into the next prompt of a model without a
    chat template.

    Args:
        citations: quotations so far, offsets counting in ``message.content``.
    """

    citations: list[InstanceOf[NodeCitation]] = Field(default_factory=list)

    @field_serializer("citations")
    def _plain_citations(self, citations: list[NodeCitation]) -> list[dict[str, Any]]:
        return _plain(citations)


@dataclass
class NestResponse(Response):
    """The answer of a query engine and what it quotes.

    Args:
        citations: quotations, in the order of the answer; offsets count in ``response``.
        output: the model's answer with its statistics, or, behind another model, with its citations
            alone; None when there was nothing to answer from.
    """

    citations: list[NodeCitation] = field(default_factory=list)
    output: NestOutput | CitedAnswer | None = None

    @property
    def numbered_text(self) -> str:
        """The answer with ``[n]`` after each quotation; sources count in order of first use."""
        if self.output is None:
            return str(self)
        numbers = {source.source_key: number for number, source in enumerate(self._sources, 1)}
        pieces = split_answer(self.output)
        return "".join(
            text + (f"[{numbers[cited.source_key]}]" if cited else "") for text, cited in pieces
        )

    def get_formatted_sources(self, length: int = 100) -> str:
        """Return the quoted sources, one on each line, numbered as in ``numbered_text``.

        Args:
            length: most characters of each source's first quotation.
        """
        return "\n".join(
            f"[{number}] {_place(source)}: "
            f"{truncate_text(' '.join(source.cited_text.split()), length)}"
            for number, source in enumerate(self._sources, 1)
        )

    @property
    def _sources(self) -> list[NodeCitation]:
        """The first citation of each source."""
        first: dict[tuple[str, str], NodeCitation] = {}
        for citation in self.citations:
            first.setdefault(citation.source_key, citation)
        return list(first.values())

    def as_message(self) -> ChatMessage:
        """Return the answer as a chat message: a block of text, and one for each citation."""
        blocks = [TextBlock(text=self.response or ""), *map(citation_block, self.citations)]
        return ChatMessage(role=MessageRole.ASSISTANT, blocks=blocks)

    def _repr_html_(self) -> str:
        return to_html_fragment(self.output) if self.output else f"<p>{escape(str(self))}</p>"


@dataclass
class NestStreamingResponse(StreamingResponse):
    """A streamed answer; ``citations`` and ``output`` are filled when the stream ends."""

    citations: list[NodeCitation] = field(default_factory=list)
    output: NestOutput | CitedAnswer | None = None

    def get_response(self) -> NestResponse:
        """Return the whole answer."""
        response = _cited(super().get_response(), self)
        # A stream that has been read is empty.
        if not response.response and self.output is not None:
            response.response = self.output.text
        return response


@dataclass
class NestAsyncStreamingResponse(AsyncStreamingResponse):
    """An answer streamed to a coroutine.

    ``citations`` and ``output`` are filled when the stream ends.
    """

    citations: list[NodeCitation] = field(default_factory=list)
    output: NestOutput | CitedAnswer | None = None

    async def get_response(self) -> NestResponse:
        """Return the whole answer."""
        return _cited(await super().get_response(), self)


AnyNestResponse = NestResponse | NestStreamingResponse | NestAsyncStreamingResponse


def as_nest_response(response: RESPONSE_TYPE) -> RESPONSE_TYPE:
    """Return a response with room for citations."""
    if isinstance(response, AnyNestResponse):
        return response
    if isinstance(response, Response):
        return NestResponse(response.response, response.source_nodes, response.metadata)
    if isinstance(response, StreamingResponse):
        return NestStreamingResponse(
            response.response_gen, response.source_nodes, response.metadata
        )
    if isinstance(response, AsyncStreamingResponse):
        return NestAsyncStreamingResponse(
            response.response_gen, response.source_nodes, response.metadata
        )
    return response


def citation_block(citation: NodeCitation) -> CitationBlock:
    """Return a citation as a content block.

    ``answer_*`` count code points of the message. The source is that of the ``CitableBlock`` that
    is quoted, else the node's id; what says which block it was is in the location too.
    """
    location = citation.metadata.get(LOCATION, {})
    numbers = {name: value for name, value in location.items() if isinstance(value, int)}
    positions = {
        "answer_start": citation.answer_start,
        "answer_end": citation.answer_end,
        "source_start": citation.source_start,
        "source_end": citation.source_end,
        "document_start": citation.document_start,
        "document_end": citation.document_end,
    }
    return CitationBlock(
        cited_content=TextBlock(text=citation.cited_text),
        source=location.get("source") or citation.node_id,
        title=title_of(citation),
        additional_location_info=numbers
        | {name: value for name, value in positions.items() if value is not None},
    )


def _cited(
    response: Response, stream: NestStreamingResponse | NestAsyncStreamingResponse
) -> NestResponse:
    return NestResponse(
        response.response,
        response.source_nodes,
        response.metadata,
        citations=stream.citations,
        output=stream.output,
    )


def _place(citation: NodeCitation) -> str:
    return title_of(citation) + (f", page {citation.page_label}" if citation.page_label else "")


def _plain(citations: Sequence[NodeCitation]) -> list[dict[str, Any]]:
    return [json_ready(citation.to_dict()) for citation in citations]
