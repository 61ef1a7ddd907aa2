"""An answer on its way from the engine to LlamaIndex."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from llama_index.core.base.llms.types import (
    ChatMessage,
    ContentBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
)

from nest_engine import DecodeStats, NestChunk, NestOutput
from nest_engine.generation.tool_calls import ToolCall, Turn
from nest_integrations.llama_index.events import plain
from nest_integrations.llama_index.nodes import NodeCitation, cite_nodes, node_citation
from nest_integrations.llama_index.responses import (
    NestChatResponse,
    NestCompletionResponse,
    citation_block,
)
from nest_integrations.llama_index.tools import openai_call, tool_call_block


@dataclass(frozen=True)
class PartialAnswer:
    """What LLM responses are made of.

    Fields that are meant to be serialized are filled once the answer is complete.

    Args:
        text: the text so far, without tool calls.
        citations: the citations so far.
        delta: what the last chunk added; None when the answer is not streamed.
        reasoning: what the model has said to itself in front of the answer so far.
        output: the whole answer, once it is complete.
        calls: the tool calls, once the answer is complete.
    """

    text: str
    citations: Sequence[NodeCitation]
    delta: str | None = None
    output: NestOutput | None = None
    reasoning: str = ""
    calls: Sequence[ToolCall] = ()

    @classmethod
    def complete(cls, output: NestOutput, turn: Turn) -> PartialAnswer:
        """Return a whole answer.

        Args:
            output: the answer.
            turn: how to read it: what of it is text, and what are tool calls.
        """
        shown, calls = turn.split(output.text)
        citations = _within(cast("Sequence[NodeCitation]", output.citations), shown)
        return cls(
            output.text[:shown], citations, output=output, reasoning=output.reasoning, calls=calls
        )

    def as_completion(self) -> NestCompletionResponse:
        """Return the response of ``complete`` and its variants."""
        return NestCompletionResponse(text=self.text, **self._shared())

    def as_chat(self) -> NestChatResponse:
        """Return the response of ``chat`` and its variants."""
        blocks: list[ContentBlock] = [TextBlock(text=self.text)]
        if self.reasoning:
            blocks.insert(0, ThinkingBlock(content=self.reasoning))
        if self.output:
            blocks += map(citation_block, self.citations)
        blocks += map(tool_call_block, self.calls)
        message = ChatMessage(role=MessageRole.ASSISTANT, blocks=blocks)
        if self.calls:
            message.additional_kwargs["tool_calls"] = list(map(openai_call, self.calls))
        return NestChatResponse(message=message, **self._shared())

    def _shared(self) -> dict[str, Any]:
        shared: dict[str, Any] = {"citations": list(self.citations), "delta": self.delta}
        if self.output:
            raw = plain(self.output)
            shown = [each for each in raw["citations"] if each["answer_end"] <= len(self.text)]
            shared |= {"raw": raw, "additional_kwargs": {"citations": shown}}
        return shared


@dataclass
class StreamedAnswer:
    """A streamed answer, as far as its chunks have come.

    Args:
        turn: how to read it: what of it is text, and what are tool calls.
    """

    turn: Turn
    text: str = ""
    reasoning: str = ""
    citations: list[NodeCitation] = field(default_factory=list)
    complete: NestOutput | None = None
    _shown: int = 0

    def append(self, chunk: NestChunk) -> PartialAnswer:
        """Append a chunk. Whatever may be the beginning of a tool call is held back."""
        self.text += chunk.text
        self.reasoning += chunk.reasoning
        self.citations += map(node_citation, chunk.citations)
        self.complete = cite_nodes(chunk.output) if chunk.output else None
        before, calls = self._shown, list[ToolCall]()
        if self.complete is None:
            shown = self.turn.shown(self.text)
        else:
            shown, calls = self.turn.split(self.text)
        self._shown = max(before, shown)
        return PartialAnswer(
            self.text[: self._shown],
            _within(self.citations, self._shown),
            self.text[before : self._shown],
            self.complete,
            self.reasoning,
            calls,
        )

    @property
    def output(self) -> NestOutput:
        """The answer, or as much of it as there is if the stream was closed early."""
        return self.complete or NestOutput(
            self.text,
            tuple(self.citations),
            "cancelled",
            DecodeStats(),
            reasoning=self.reasoning,
        )


@dataclass
class AnswerLog:
    """The answers and errors of a model, for callers that LlamaIndex does not pass them to."""

    answers: list[NestOutput] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)


def _within(citations: Sequence[NodeCitation], end: int) -> list[NodeCitation]:
    return [citation for citation in citations if citation.answer_end <= end]
