"""Answers in the shape of Chat Completions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from nest_engine.generation.tool_calls import ToolCall, Turn
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
        notices: what the client should know about its request.
    """

    def __init__(
        self, asked: ChatRequest, head: Head, method: str, notices: Sequence[str] = ()
    ) -> None:
        self._asked = asked
        self._head = {"id": head.id, "created": head.created, "model": head.model}
        self._method = method
        self._notices = notices
        self._turn = asked.turn()

    def whole(self, outputs: Sequence[NestOutput]) -> dict[str, Any]:
        """Return the finished answers."""
        choices = [self._choice(index, output) for index, output in enumerate(outputs)]
        return replies.dumped(
            ChatCompletion,
            self._head
            | {"choices": choices, "usage": replies.usage(outputs, self._asked.num_choices())},
        )

    def _choice(self, index: int, output: NestOutput) -> dict[str, Any]:
        end, calls = self._turn.split(output.text)
        return {
            "index": index,
            "message": {
                "content": output.text[:end] or (None if calls else ""),
                "tool_calls": [_call(call) for call in calls] or None,
                "reasoning_content": self._shown(output.reasoning) or None,
                "annotations": [
                    replies.chat_annotation(citation, output.text)
                    for citation in output.citations
                    if citation.answer_end <= end
                ],
            },
            "finish_reason": "tool_calls" if calls else replies.finish_reason(output),
            "nest": replies.remarks(output, self._method, self._notices),
        }

    async def stream(self, chunks: AsyncIterator[tuple[int, NestChunk]]) -> AsyncIterator[str]:
        """Yield the answers as server-sent events while they are decoded.

        Args:
            chunks: pieces of the answers, each with the number of its answer.
        """
        num_choices = self._asked.num_choices()
        shown = [_Shown(self._turn) for _ in range(num_choices)]
        outputs: dict[int, NestOutput] = {}
        for index in range(num_choices):
            yield self._chunk(index, {"role": "assistant", "content": ""})
        async for index, chunk in chunks:
            if reasoning := self._shown(chunk.reasoning):
                yield self._chunk(index, {"reasoning_content": reasoning})
            text, cited = shown[index].advance(chunk)
            if text or cited:
                annotations = {"annotations": cited} if cited else {}
                yield self._chunk(index, {"content": text} | annotations)
            if chunk.output is not None:
                outputs[index] = chunk.output
                _, calls = self._turn.split(chunk.output.text)
                called = [{"index": i} | _call(call) for i, call in enumerate(calls)]
                if called:
                    yield self._chunk(index, {"tool_calls": called})
                yield self._chunk(index, {}, chunk.output, has_called=bool(called))
        if self._asked.includes_usage:
            finished = [outputs[index] for index in sorted(outputs)]
            yield event(self._frame([]) | {"usage": replies.usage(finished, num_choices)})
        yield DONE

    def _shown(self, reasoning: str) -> str:
        return reasoning if self._asked.include_reasoning else ""

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        output: NestOutput | None = None,
        *,
        has_called: bool = False,
    ) -> str:
        choice: dict[str, Any] = {
            "index": index,
            "delta": delta,
            "finish_reason": None,
            "logprobs": None,
        }
        if output is not None:
            choice |= {
                "finish_reason": "tool_calls" if has_called else replies.finish_reason(output),
                "nest": replies.remarks(output, self._method, self._notices),
            }
        return event(self._frame([choice]))

    def _frame(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        no_usage_yet = {"usage": None} if self._asked.includes_usage else {}
        return self._head | {"object": "chat.completion.chunk", "choices": choices} | no_usage_yet


class _Shown:
    """What of a streamed answer has been shown.

    Args:
        turn: how to read the answer: what of it is text, and what are tool calls.
    """

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._text = ""
        self._shown = 0
        self._num_cited = 0
        self._waiting: list[Citation] = []

    def advance(self, chunk: NestChunk) -> tuple[str, list[dict[str, Any]]]:
        """Return the text and annotations that may be shown now.

        Annotations have the numbers by which clients put them together.
        """
        self._text += chunk.text
        self._waiting += chunk.citations
        before, end = self._shown, self._turn.shown(self._text)
        if chunk.output is not None:
            end, _ = self._turn.split(self._text)
        self._shown = max(before, end)
        final = [each for each in self._waiting if each.answer_end <= self._shown]
        self._waiting = self._waiting[len(final) :]
        annotations = [
            {"index": i} | replies.chat_annotation(citation, self._text)
            for i, citation in enumerate(final, start=self._num_cited)
        ]
        self._num_cited += len(final)
        return self._text[before : self._shown], annotations


def _call(call: ToolCall) -> dict[str, Any]:
    """Return a tool call as Chat Completions has it."""
    function = {"name": call.name, "arguments": replies.compact_json(call.arguments)}
    return {"id": call.id, "type": "function", "function": function}
