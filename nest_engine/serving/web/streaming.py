"""Streamed responses, and clients that disconnect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

T = TypeVar("T")
# nginx would collect a stream before it passes it on.
UNBUFFERED = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class ClosingStream(StreamingResponse):
    """A stream with a callback for its end, whether it is complete or its reader has left.

    Args:
        content: the pieces.
        media_type: their type.
        on_close: called once it is over.
    """

    def __init__(
        self, content: AsyncIterator[str | bytes], *, media_type: str, on_close: Callable[[], None]
    ) -> None:
        super().__init__(content, media_type=media_type, headers=UNBUFFERED)
        self._on_close = on_close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream until it is complete or its reader has left."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._on_close()


async def unless_disconnected(request: Request, work: Awaitable[T]) -> T:
    """Await work for a client as long as it stays connected.

    Args:
        request: its request, whose body has been read.
        work: what to await.

    Raises:
        ClientDisconnect: if the client leaves; the work is cancelled.
    """
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.add_done_callback(_retrieve_exception)
        working.cancel()
        leaving.cancel()


def _retrieve_exception(work: asyncio.Future[Any]) -> None:
    """Retrieve the exception of abandoned work: asyncio warns about those that are not."""
    if not work.cancelled():
        work.exception()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
