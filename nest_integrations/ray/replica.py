"""A replica under Ray Serve: an engine in a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.types import ASGIApp, Message, Scope

from nest_engine import Scheduler, SchedulerClosedError
from nest_engine.serving.server import Limits, create_app
from nest_engine.serving.server.app import freeze_loaded_objects
from nest_integrations.ray.loading import LoadEngine, loaded


class Replica:
    """One engine, its scheduler, and the API on top.

    Args:
        load_engine: loads the engine.
        model: name of the model.
        api_key: what clients have to send, if anything.
        limits: what one request may ask for at most.
        max_running: most answers decoded together.
        max_waiting: most requests that wait beside them.
    """

    _scheduler: Scheduler | None = None  # while the engine is loaded

    def __init__(
        self,
        load_engine: LoadEngine,
        *,
        model: str,
        api_key: str | None,
        limits: Limits | None,
        max_running: int,
        max_waiting: int,
    ) -> None:
        self._scheduler = Scheduler(
            loaded(load_engine), max_running=max_running, max_waiting=max_waiting
        )
        freeze_loaded_objects()
        self._api: ASGIApp = create_app(
            self._scheduler, model=model, limits=limits, api_key=api_key
        )

    async def answer(self, scope: Scope, body: bytes) -> AsyncIterator[Message]:
        """Answer an HTTP request. Cancelling counts as a client that disconnects.

        Args:
            scope: the ASGI scope of the request.
            body: its whole body.

        Yields:
            the ASGI messages of the response.
        """
        messages: asyncio.Queue[Message | None] = asyncio.Queue()
        unread, left = [body], asyncio.Event()

        async def receive() -> Message:
            if unread:
                return {"type": "http.request", "body": unread.pop(), "more_body": False}
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            messages.put_nowait(message)

        async def run() -> None:
            await self._api(scope, receive, send)

        # With this version, a disconnect shows in what is received.
        scope = {**scope, "asgi": {"version": "3.0", "spec_version": "2.3"}}
        answering = asyncio.create_task(run())
        answering.add_done_callback(lambda _: messages.put_nowait(None))
        try:
            while (message := await messages.get()) is not None:
                yield message
        finally:
            left.set()
            await answering

    def check_health(self) -> None:
        """Check that requests are answered, for Ray.

        Raises:
            SchedulerClosedError: if they are not; Ray then starts another replica.
        """
        if self._scheduler is None or not self._scheduler.is_open:
            raise SchedulerClosedError(
                "the scheduler of this replica is closed; start another replica"
            )

    def __del__(self) -> None:
        """End decoding: Ray calls this when the replica is idle, or out of time."""
        if self._scheduler is not None:
            self._scheduler.close(drain=False)
