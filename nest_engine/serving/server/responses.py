"""Answers in the shape of Responses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from nest_engine.config import NestConfig
from nest_engine.output import NestChunk, NestOutput
from nest_engine.records import Citation
from nest_engine.serving.server import replies
from nest_engine.serving.server.events import event
from nest_engine.serving.server.replies import (
    Head,
    OutputMessage,
    OutputText,
    ReasoningItem,
    Response,
)
from nest_engine.serving.server.requests import ResponsesRequest


class ResponsesFormat:
    """Write the answer to one request.

    Args:
        asked: the request.
        head: what every piece repeats.
        config: settings of the answer.
        notices: what the client should know about its request.
    """

    def __init__(
        self,
        asked: ResponsesRequest,
        head: Head,
        config: NestConfig,
        notices: Sequence[str] = (),
    ) -> None:
        self._notices = notices
        self._config = config
        self._ids = {"reasoning": replies.new_id("rs"), "message": replies.new_id("msg")}
        self._items: list[str] = []  # of a stream: the kinds of item that were begun
        self._shows_reasoning = asked.include_reasoning
        self._frame = {
            "id": head.id,
            "created_at": head.created,
            "model": head.model,
            "instructions": asked.instructions,
            "max_output_tokens": config.max_new_tokens,
            "metadata": asked.metadata or {},
            "temperature": config.temperature,
            "top_p": config.top_p,
        }
        self._num_events = 0

    def whole(self, outputs: Sequence[NestOutput]) -> dict[str, Any]:
        """Return the finished answer."""
        [output] = outputs
        is_cut = output.finish_reason == "length"
        status = "incomplete" if is_cut else "completed"
        usage = replies.usage(outputs, 1)
        reasoning = output.reasoning if self._shows_reasoning else ""
        return replies.dumped(
            Response,
            self._frame
            | {
                "status": status,
                "output": [
                    *([self._reasoning(status, reasoning)] if reasoning else []),
                    self._message(status, [self._part(output.text, output.citations)]),
                ],
                "incomplete_details": {} if is_cut else None,
                "usage": {
                    "input_tokens": usage["prompt_tokens"],
                    "input_tokens_details": usage["prompt_tokens_details"],
                    "output_tokens": usage["completion_tokens"],
                    "total_tokens": usage["total_tokens"],
                },
                "nest": replies.remarks(output, self._config.method, self._notices),
            },
        )

    async def stream(self, chunks: AsyncIterator[tuple[int, NestChunk]]) -> AsyncIterator[str]:
        """Yield the answer as server-sent events while it is decoded.

        Args:
            chunks: pieces of the answer.
        """
        begun = replies.dumped(Response, self._frame | {"status": "in_progress", "output": []})
        yield self._event("response.created", response=begun)
        yield self._event("response.in_progress", response=begun)
        num_cited, reasoning, text = 0, "", ""
        async for _, chunk in chunks:
            if chunk.reasoning and self._shows_reasoning:
                if not reasoning:
                    yield self._added("reasoning", self._reasoning("in_progress", ""))
                reasoning += chunk.reasoning
                yield self._part_event("response.reasoning_text.delta", delta=chunk.reasoning)
            if "message" not in self._items and (chunk.text or chunk.output):
                if reasoning:
                    yield self._part_event("response.reasoning_text.done", text=reasoning)
                    yield self._done(self._reasoning("completed", reasoning))
                yield self._added("message", self._message("in_progress", []))
                yield self._part_event("response.content_part.added", part=self._part("", ()))
            text += chunk.text
            if chunk.text:
                yield self._part_event("response.output_text.delta", delta=chunk.text, logprobs=[])
            for citation in chunk.citations:
                cited = {
                    "annotation_index": num_cited,
                    "annotation": replies.annotation(citation, text),
                }
                yield self._part_event("response.output_text.annotation.added", **cited)
                num_cited += 1
            if chunk.output is not None:
                for line in self._end(chunk.output):
                    yield line

    def _end(self, output: NestOutput) -> list[str]:
        """Return the events that close what is open, from the text to the response."""
        response = self.whole([output])
        message = response["output"][-1]
        return [
            self._part_event("response.output_text.done", text=output.text, logprobs=[]),
            self._part_event("response.content_part.done", part=message["content"][0]),
            self._done(message),
            self._event(f"response.{response['status']}", response=response),
        ]

    def _reasoning(self, status: str, text: str) -> dict[str, Any]:
        content = [{"text": text}] if text else []
        return replies.dumped(
            ReasoningItem, {"id": self._ids["reasoning"], "status": status, "content": content}
        )

    def _message(self, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
        return replies.dumped(
            OutputMessage, {"id": self._ids["message"], "status": status, "content": content}
        )

    def _added(self, kind: str, item: dict[str, Any]) -> str:
        self._items.append(kind)
        return self._event(
            "response.output_item.added", output_index=len(self._items) - 1, item=item
        )

    def _done(self, item: dict[str, Any]) -> str:
        return self._event(
            "response.output_item.done", output_index=len(self._items) - 1, item=item
        )

    def _part(self, text: str, citations: Sequence[Citation]) -> dict[str, Any]:
        return replies.dumped(
            OutputText,
            {"text": text, "annotations": [replies.annotation(each, text) for each in citations]},
        )

    def _part_event(self, kind: str, **fields: Any) -> str:
        """Return an event about the only part of the last item."""
        place = {
            "item_id": self._ids[self._items[-1]],
            "output_index": len(self._items) - 1,
            "content_index": 0,
        }
        return self._event(kind, **place, **fields)

    def _event(self, kind: str, **fields: Any) -> str:
        number, self._num_events = self._num_events, self._num_events + 1
        return event({"type": kind, "sequence_number": number, **fields}, kind)
