"""Server-sent events, and answers that are read side by side."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeVar

from nest_engine.scheduler import PendingAnswer
from nest_engine.server.errors import described
from nest_engine.types import NestChunk

T = TypeVar("T")

DONE = "data: [DONE]\n\n"


def event(data: dict[str, Any], name: str | None = None) -> str:
    """Return one event; JSON has no line breaks outside strings, and escapes those inside."""
    return (f"event: {name}\n" if name else "") + f"data: {json.dumps(data)}\n\n"


async def side_by_side(answers: Sequence[PendingAnswer]) -> AsyncIterator[tuple[int, NestChunk]]:
    """Yield the chunks of several answers as they come, each with the number of its answer.

    Raises:
        Exception: what the first of them failed with.
    """
    news: asyncio.Queue[tuple[int, NestChunk | Exception]] = asyncio.Queue()

    async def listen(number: int, answer: PendingAnswer) -> None:
        try:
            async for chunk in answer:
                news.put_nowait((number, chunk))
        except Exception as error:
            news.put_nowait((number, error))

    listeners = [asyncio.create_task(listen(number, answer)) for number, answer in enumerate(answers)]
    try:
        num_unfinished = len(answers)
        while num_unfinished:
            number, chunk = await news.get()
            if isinstance(chunk, Exception):
                raise chunk
            num_unfinished -= chunk.output is not None
            yield number, chunk
    finally:
        for listener in listeners:
            listener.cancel()


async def told(lines: AsyncIterator[T]) -> AsyncIterator[T | str]:
    """Pass events on; a failure becomes the last of them: a status has been sent already."""
    try:
        async for line in lines:
            yield line
    except Exception as error:
        yield event(described(error)[1])


async def put_back(first: T, rest: AsyncIterator[T]) -> AsyncIterator[T]:
    """Yield an item that was taken from an iterator, and then the others."""
    yield first
    async for item in rest:
        yield item
