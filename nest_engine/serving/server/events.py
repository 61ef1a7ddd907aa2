"""Server-sent events, and the streams they are made of."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeVar

from nest_engine.output import NestChunk
from nest_engine.serving.scheduler import PendingAnswer
from nest_engine.serving.server.errors import as_anthropic, status_and_body

T = TypeVar("T")

_SILENCE = 10.0  # seconds
DONE = "data: [DONE]\n\n"


def event(data: dict[str, Any], name: str | None = None) -> str:
    """Return one event."""
    # JSON has no line breaks outside strings, and escapes those inside.
    return (f"event: {name}\n" if name else "") + f"data: {json.dumps(data)}\n\n"


async def merge(answers: Sequence[PendingAnswer]) -> AsyncIterator[tuple[int, NestChunk]]:
    """Yield the chunks of several answers as they come, each with the number of its answer.

    Raises:
        Exception: whatever the first failed answer failed with.
    """
    chunks: asyncio.Queue[tuple[int, NestChunk | Exception]] = asyncio.Queue()

    async def listen(number: int, answer: PendingAnswer) -> None:
        try:
            async for chunk in answer:
                chunks.put_nowait((number, chunk))
        except Exception as error:
            chunks.put_nowait((number, error))

    listeners = [
        asyncio.create_task(listen(number, answer)) for number, answer in enumerate(answers)
    ]
    try:
        num_unfinished = len(answers)
        while num_unfinished:
            number, chunk = await chunks.get()
            if isinstance(chunk, Exception):
                raise chunk
            num_unfinished -= chunk.output is not None
            yield number, chunk
    finally:
        for listener in listeners:
            listener.cancel()


async def errors_as_events(
    lines: AsyncIterator[T], *, is_anthropic: bool = False
) -> AsyncIterator[T | str]:
    """Pass events on; a failure becomes the last event, because a status has been sent already."""
    try:
        async for line in lines:
            yield line
    except Exception as error:
        status, body = status_and_body(error)
        yield event(as_anthropic(status, body), "error") if is_anthropic else event(body)


async def with_comments(lines: AsyncIterator[T], *, is_waiting: bool) -> AsyncIterator[T | str]:
    """Pass events on, with a comment whenever the next one is long awaited.

    Proxies and clients give up connections that are silent for long.

    Args:
        lines: the events.
        is_waiting: whether the first has been awaited for a while.
    """
    waiting = ": the answer is being prepared\n\n"
    if is_waiting:
        yield waiting
    coming: asyncio.Future[T] | None = None
    try:
        while True:
            coming = coming or asyncio.ensure_future(anext(lines))
            await asyncio.wait([coming], timeout=_SILENCE)
            if not coming.done():
                yield waiting
                continue
            try:
                line = coming.result()
            except StopAsyncIteration:
                return
            coming = None
            yield line
    finally:
        if coming is not None:
            coming.cancel()
