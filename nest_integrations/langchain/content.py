"""A model's turn as messages, content blocks and streamed events of LangChain."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

from langchain_core.messages import AIMessage, AIMessageChunk, ToolCall
from langchain_core.messages.block_translators import register_translator
from langchain_core.messages.content import Citation, ContentBlock
from langchain_core.messages.tool import tool_call, tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk

from nest_engine import NestChunk, NestOutput
from nest_engine.generation import tool_calls
from nest_engine.generation.tool_calls import Turn
from nest_integrations.langchain.answers import PROVIDER, citations_of, closing_info, usage_of
from nest_integrations.langchain.search import Found


def generation_of(output: NestOutput, found: Found, turn: Turn, model_name: str) -> ChatGeneration:
    """Return a finished answer as a message."""
    shown, calls = turn.split(output.text)
    citations = _within(citations_of(output), shown)
    info = {"model_provider": PROVIDER, "citations": citations} | closing_info(
        output, model_name, found.failure
    )
    message = AIMessage(
        content=output.text[:shown],
        additional_kwargs=_reasoning(output.reasoning),
        tool_calls=_as_calls(calls),
        usage_metadata=usage_of([output]),
        response_metadata=info,
    )
    return ChatGeneration(message=message, generation_info=info)


class TurnStream:
    """Turn the pieces of one answer into chunks or events.

    Args:
        turn: how to read the answer: what of it is text, and what are tool calls.
        model_name: goes into the metadata.
        message_id: id of the message, for events.

    Attributes:
        fresh_citations: citations that the last piece has added.
    """

    def __init__(self, turn: Turn, model_name: str, message_id: str | None = None) -> None:
        self._turn = turn
        self._model_name = model_name
        self._message_id = message_id
        self._text = ""
        self._shown = 0
        self._waiting: list[Citation] = []
        self._citations: list[Citation] = []
        self._has_started = False
        self._open: str | None = None  # the block that is being written
        self._blocks = 0  # finished
        self._reasoning = ""
        self.fresh_citations: list[Citation] = []

    def chunk(self, piece: NestChunk, found: Found) -> ChatGenerationChunk | None:
        """Return what a piece of the answer adds, as a message chunk; None when it adds nothing."""
        text, citations, calls = self._advance(piece)
        if not (text or citations or piece.reasoning or piece.output):
            return None
        info: dict[str, Any] = {"model_provider": PROVIDER, "citations": citations}
        reasoning = _reasoning(piece.reasoning)
        message = AIMessageChunk(content=text, additional_kwargs=reasoning, response_metadata=info)
        if piece.output is not None:
            info |= closing_info(piece.output, self._model_name, found.failure)
            message = AIMessageChunk(
                content=text,
                additional_kwargs=reasoning,
                response_metadata=info,
                tool_call_chunks=[
                    tool_call_chunk(
                        name=call["name"],
                        args=json.dumps(call["args"]),
                        id=call["id"],
                        index=number,
                    )
                    for number, call in enumerate(calls)
                ],
                usage_metadata=usage_of([piece.output]),
                chunk_position="last",
            )
        return ChatGenerationChunk(message=message, generation_info=info)

    def events(self, piece: NestChunk, found: Found) -> list[dict[str, Any]]:
        """Return what a piece of the answer adds, as events of the content-block protocol.

        Citations come twice: each as soon as it is final, and all of them when the text block that
        holds them is finished.
        """
        text, citations, calls = self._advance(piece)
        events: list[dict[str, Any]] = []
        if not self._has_started:
            self._has_started = True
            events.append(self._message_start())
        if piece.reasoning:
            self._reasoning += piece.reasoning
            events += self._block("reasoning")
            events.append(self._delta({"type": "reasoning-delta", "reasoning": piece.reasoning}))
        if text:
            events += self._block("text")
            events.append(self._delta({"type": "text-delta", "text": text}))
        if citations:
            fields = {"type": "text", "annotations": citations}
            events.append(self._delta({"type": "block-delta", "fields": fields}))
        if piece.output is not None:
            events += self._block(None)
            for number, call in enumerate(calls, self._blocks):
                events += [
                    _block_start(number, dict(call) | {"args": {}}),
                    _block_finish(number, dict(call)),
                ]
            events.append(self._message_finish(piece.output, found))
        return events

    def _advance(self, piece: NestChunk) -> tuple[str, list[Citation], list[ToolCall]]:
        """Return the text and citations that may be shown now; at the end, the tool calls too."""
        self._text += piece.text
        self._waiting += citations_of(piece)
        before = self._shown
        calls: list[ToolCall] = []
        if piece.output is None:
            self._shown = max(self._shown, self._turn.shown(self._text))
        else:
            self._shown, made = self._turn.split(self._text)
            calls = _as_calls(made)
        citations = _within(self._waiting, self._shown)
        self._waiting = [citation for citation in self._waiting if citation not in citations]
        self._citations += citations
        self.fresh_citations = citations
        return self._text[before : self._shown], citations, calls

    def _block(self, kind: str | None) -> list[dict[str, Any]]:
        """Return the events that finish the open block, if it is another, and start one."""
        if kind == self._open:
            return []
        events = []
        if self._open is not None:
            finished = (
                _text_block(self._text[: self._shown], self._citations)
                if self._open == "text"
                else {"type": "reasoning", "reasoning": self._reasoning}
            )
            events.append(_block_finish(self._blocks, finished))
            self._blocks += 1
        self._open = kind
        if kind is not None:
            events.append(_block_start(self._blocks, {"type": kind, kind: ""}))
        return events

    def _delta(self, delta: dict[str, Any]) -> dict[str, Any]:
        return {"event": "content-block-delta", "index": self._blocks, "delta": delta}

    def _message_start(self) -> dict[str, Any]:
        metadata = {"provider": PROVIDER, "model": self._model_name}
        return {
            "event": "message-start",
            "role": "ai",
            "id": self._message_id or "",
            "metadata": metadata,
        }

    def _message_finish(self, output: NestOutput, found: Found) -> dict[str, Any]:
        info = {"citations": self._citations} | closing_info(
            output, self._model_name, found.failure
        )
        return {"event": "message-finish", "usage": usage_of([output]), "metadata": info}


def _as_calls(calls: Sequence[tool_calls.ToolCall]) -> list[ToolCall]:
    return [tool_call(name=call.name, args=call.arguments, id=call.id) for call in calls]


def _reasoning(text: str) -> dict[str, Any]:
    """Return what a model said to itself under the name that LangChain's providers share."""
    return {"reasoning_content": text} if text else {}


def _within(citations: Sequence[Citation], end: int) -> list[Citation]:
    return [citation for citation in citations if citation["end_index"] <= end]


def _block_start(index: int, block: dict[str, Any]) -> dict[str, Any]:
    return {"event": "content-block-start", "index": index, "content": block}


def _block_finish(index: int, block: dict[str, Any]) -> dict[str, Any]:
    return {"event": "content-block-finish", "index": index, "content": block}


def _text_block(text: str, citations: Sequence[Citation]) -> dict[str, Any]:
    block: dict[str, Any] = {"type": "text", "text": text}
    return block | ({"annotations": list(citations)} if citations else {})


def _translate(message: AIMessage) -> list[ContentBlock]:
    """Return the content blocks of one of our messages or message chunks."""
    if not isinstance(message.content, str):
        raise NotImplementedError  # content blocks already: core reads them
    citations = message.response_metadata.get("citations") or []
    reasoning = message.additional_kwargs.get("reasoning_content")
    blocks = [{"type": "reasoning", "reasoning": reasoning}] if reasoning else []
    blocks += [_text_block(message.content, citations)] if message.content or citations else []
    return cast("list[ContentBlock]", blocks + [dict(call) for call in message.tool_calls])


register_translator(PROVIDER, _translate, _translate)
