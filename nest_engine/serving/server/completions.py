"""Answers in the shape of Completions: a prompt is continued as it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from nest_engine.output import NestChunk, NestOutput
from nest_engine.serving.server import replies
from nest_engine.serving.server.events import DONE, event
from nest_engine.serving.server.replies import Completion, Head
from nest_engine.serving.server.requests import CompletionsRequest


class CompletionsFormat:
    """Write the answers to one request.

    Args:
        asked: the request.
        head: what every piece repeats.
        method: how the answers are decoded.
        notices: what the client should know about its request.
    """

    def __init__(
        self, asked: CompletionsRequest, head: Head, method: str, notices: Sequence[str] = ()
    ) -> None:
        self._asked = asked
        self._head = {"id": head.id, "created": head.created, "model": head.model}
        self._method = method
        self._notices = notices

    def whole(self, outputs: Sequence[NestOutput]) -> dict[str, Any]:
        """Return the finished answers."""
        choices = [
            self._ending(index, output)
            | {
                "text": output.text,
                "annotations": [
                    replies.annotation(citation, output.text) for citation in output.citations
                ],
            }
            for index, output in enumerate(outputs)
        ]
        return replies.dumped(
            Completion,
            self._head
            | {"choices": choices, "usage": replies.usage(outputs, self._asked.num_choices())},
        )

    async def stream(self, chunks: AsyncIterator[tuple[int, NestChunk]]) -> AsyncIterator[str]:
        """Yield the answers as server-sent events while they are decoded."""
        to_each = self._asked.num_choices()
        texts = [""] * (len(self._asked.texts) * to_each)
        outputs: dict[int, NestOutput] = {}
        async for index, chunk in chunks:
            texts[index] += chunk.text
            cited = [replies.annotation(each, texts[index]) for each in chunk.citations]
            if chunk.text or cited:
                choice = {"index": index, "text": chunk.text, "finish_reason": None}
                yield self._event([choice | ({"annotations": cited} if cited else {})])
            if chunk.output is not None:
                outputs[index] = chunk.output
                yield self._event([self._ending(index, chunk.output) | {"text": ""}])
        if self._asked.includes_usage:
            finished = [outputs[index] for index in sorted(outputs)]
            yield event(self._frame([]) | {"usage": replies.usage(finished, to_each)})
        yield DONE

    def _ending(self, index: int, output: NestOutput) -> dict[str, Any]:
        return {
            "index": index,
            "finish_reason": replies.finish_reason(output),
            "nest": replies.remarks(output, self._method, self._notices),
        }

    def _event(self, choices: list[dict[str, Any]]) -> str:
        return event(self._frame(choices))

    def _frame(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return self._head | {"object": "text_completion", "choices": choices}
