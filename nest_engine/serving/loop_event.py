"""A signal from any thread to a coroutine."""

from __future__ import annotations

import asyncio
import contextlib


class LoopEvent:
    """An ``asyncio.Event`` of the running event loop that any thread may set."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def set(self) -> None:
        """Wake the coroutine that waits. Does nothing once the loop is closed."""
        with contextlib.suppress(RuntimeError):  # closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._event.set)

    def clear(self) -> None:
        """Reset the event."""
        self._event.clear()

    async def wait(self) -> None:
        """Wait until the event is set."""
        await self._event.wait()
