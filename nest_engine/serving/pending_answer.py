"""The answer to a submitted request, and how its chunks reach threads and event loops."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator

from nest_engine.output import NestChunk, NestOutput
from nest_engine.serving.loop_event import LoopEvent


class PendingAnswer:
    """The answer to a submitted request, in pieces while it is decoded.

    ``for chunk in answer`` and ``async for chunk in answer`` yield every chunk from the first one
    on, any number of times and in any thread or event loop, and raise whatever the request failed
    with. Nobody has to listen: decoding goes on until the answer ends or is cancelled.

    Args:
        cancel: called with the answer when it is cancelled.
    """

    def __init__(self, cancel: Callable[[PendingAnswer], None]) -> None:
        self._cancel = cancel
        self._changed = threading.Condition()  # guards what follows
        self._chunks: list[NestChunk] = []
        self._error: Exception | None = None
        self._listeners: list[LoopEvent] = []

    @property
    def is_done(self) -> bool:
        """Whether the answer has finished, failed or been cancelled."""
        return self._error is not None or bool(self._chunks and self._chunks[-1].output)

    def cancel(self) -> None:
        """End the answer before the next step and keep what it has.

        A request that is still waiting ends at once, with an empty answer. The last chunk and
        :meth:`result` have ``finish_reason="cancelled"``. Cancelling a finished answer does
        nothing.
        """
        self._cancel(self)

    def result(self, timeout: float | None = None) -> NestOutput:
        """Wait for the whole answer.

        Args:
            timeout: seconds to wait; None waits for ever.

        Returns:
            the finished answer.

        Raises:
            TimeoutError: if the answer takes longer; decoding goes on.
            Exception: whatever the request failed with.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self.is_done, timeout):
                raise TimeoutError(
                    f"the answer has not ended within {timeout} seconds; wait longer, or cancel() "
                    f"it"
                )
        if self._error is not None:
            raise self._error
        output = self._chunks[-1].output
        assert output is not None
        return output

    def __iter__(self) -> Iterator[NestChunk]:
        """Yield the chunks, waiting for each."""
        num_read = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self.is_done or len(self._chunks) > num_read)  # noqa: B023
                chunks = self._chunks[num_read:]
            yield from chunks
            num_read += len(chunks)
            if not chunks:
                break
        if self._error is not None:
            raise self._error

    async def __aiter__(self) -> AsyncIterator[NestChunk]:
        """Yield the chunks; the event loop is free while there is none."""
        num_read, changed = 0, LoopEvent()
        with self._changed:
            self._listeners.append(changed)
        try:
            while True:
                changed.clear()  # before looking: a chunk that comes afterwards sets it again
                with self._changed:
                    chunks, is_done = self._chunks[num_read:], self.is_done
                for chunk in chunks:
                    yield chunk
                num_read += len(chunks)
                if is_done:
                    break
                if not chunks:
                    await changed.wait()
        finally:
            with self._changed:
                self._listeners.remove(changed)
        if self._error is not None:
            raise self._error

    def _append(self, chunk: NestChunk) -> None:
        with self._changed:
            self._chunks.append(chunk)
            self._notify()

    def _fail(self, error: Exception) -> None:
        with self._changed:
            self._error = error
            self._notify()

    def _notify(self) -> None:
        self._changed.notify_all()
        for listener in self._listeners:
            listener.set()
