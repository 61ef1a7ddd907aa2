"""Answers in the shape of Chat Completions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from nest_engine.output import NestChunk, NestOutput
from nest_engine.records import Citation
from nest_engine.serving.server import replies
from nest_engine.serving.server.events import DONE, event
from nest_engine.serving.server.replies import ChatCompletion, Head
from nest_engine.serving.server.requests import ChatRequest


class ChatFormat:
    """Write the answers to one request.

    Args:
        asked: the request.
        head: what every piece repeats.
        method: how the answers are decoded.
    """

    def __init__(self, asked: ChatRequest, head: Head, method: str) -> None:
        self._asked = asked
        self._head = {"id": head.id, "created": head.created, "model": head.model}
        self._method = method

    def whole(self, outputs: Sequence[NestOutput]) -> dict[str, Any]:
        """Return the finished answers."""
        choices = [
            {
                "index": index,
                "message": {
                    "content": output.text,
                    "reasoning_content": self._shown(output.reasoning) or None,
                    "annotations": [
                        replies.chat_annotation(citation) for citation in output.citations
                    ],
                },
                "finish_reason": replies.finish_reason(output),
                "nest": replies.remarks(output, self._method),
            }
            for index, output in enumerate(outputs)
        ]
        return replies.dumped(
            ChatCompletion, self._head | {"choices": choices, "usage": replies.usage(outputs)}
        )

    async def stream(self, chunks: AsyncIterator[tuple[int, NestChunk]]) -> AsyncIterator[str]:
        """Yield the answers as server-sent events while they are decoded.

        Args:
            chunks: pieces of the answers, each with the number of its answer.
        """
        num_choices = self._asked.num_choices()
        num_cited = [0] * num_choices
        outputs: list[NestOutput] = []
        for index in range(num_choices):
            yield self._chunk(index, {"role": "assistant", "content": ""})
        async for index, chunk in chunks:
            if reasoning := self._shown(chunk.reasoning):
                yield self._chunk(index, {"reasoning_content": reasoning})
            if chunk.text or chunk.citations:
                cited = self._annotations(chunk.citations, num_cited[index])
                num_cited[index] += len(chunk.citations)
                yield self._chunk(
                    index, {"content": chunk.text} | ({"annotations": cited} if cited else {})
                )
            if chunk.output is not None:
                outputs.append(chunk.output)
                yield self._chunk(index, {}, chunk.output)
        if self._asked.includes_usage:
            yield event(self._frame([]) | {"usage": replies.usage(outputs)})
        yield DONE

    def _shown(self, reasoning: str) -> str:
        return reasoning if self._asked.include_reasoning else ""

    def _annotations(self, citations: Sequence[Citation], first: int) -> list[dict[str, Any]]:
        """Return citations with the numbers by which clients put them together."""
        return [
            {"index": i} | replies.chat_annotation(citation)
            for i, citation in enumerate(citations, start=first)
        ]

    def _chunk(self, index: int, delta: dict[str, Any], output: NestOutput | None = None) -> str:
        choice: dict[str, Any] = {
            "index": index,
            "delta": delta,
            "finish_reason": None,
            "logprobs": None,
        }
        if output is not None:
            choice |= {
                "finish_reason": replies.finish_reason(output),
                "nest": replies.remarks(output, self._method),
            }
        return event(self._frame([choice]))

    def _frame(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        no_usage_yet = {"usage": None} if self._asked.includes_usage else {}
        return self._head | {"object": "chat.completion.chunk", "choices": choices} | no_usage_yet
