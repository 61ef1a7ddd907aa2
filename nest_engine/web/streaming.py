"""Responses that are made while they are read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

T = TypeVar("T")


class ClosingStream(StreamingResponse):
    """A stream that tells when it is over: at its end, or when nobody reads it any more.

    Args:
        content: the pieces.
        media_type: their type.
        on_close: called once it is over.
    """

    def __init__(self, content: AsyncIterator[str | bytes], *, media_type: str, on_close: Callable[[], None]) -> None:
        super().__init__(content, media_type=media_type)
        self._on_close = on_close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream, until it is complete or nobody reads it any more."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._on_close()


async def unless_disconnected(request: Request, work: Awaitable[T]) -> T:
    """Do something for a client as long as it waits for it; the request's body has been read.

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
        working.add_done_callback(_say_nothing)
        working.cancel()
        leaving.cancel()


def _say_nothing(work: asyncio.Future[Any]) -> None:
    """Take note of how work ended that nobody waits for any more; asyncio would complain that nobody did."""
    if not work.cancelled():
        work.exception()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
