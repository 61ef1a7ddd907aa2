"""Continuous batching: requests of many callers share the forward passes of one thread.

    with Scheduler(engine) as scheduler:
        answers = [scheduler.submit(prompt, method="ra-nest") for prompt in prompts]
        for chunk in answers[0]:
            print(chunk.text, end="")
        answers[1].result().citations

A small pool searches for a request, reads passages that are new to the model, and tokenizes. Then the request waits for
a place, enters between two steps and leaves when it is done; its answer is the one that ``engine.generate`` gives,
whoever decodes beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from nest_engine.config import NestConfig
from nest_engine.datastore import read_ahead
from nest_engine.errors import DecodingError, QueueFullError, SchedulerClosedError
from nest_engine.run import Decoding, Run
from nest_engine.types import DecodeStats, NestChunk, NestOutput, Passage, require_count

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from nest_engine.engine import NestEngine
    from nest_engine.request import Request

_logger = logging.getLogger(__name__)


class PendingAnswer:
    """The answer to a submitted request, in pieces while it is decoded.

    ``for chunk in answer`` and ``async for chunk in answer`` give every chunk from the first one on, any number of
    times and in any thread or event loop, and raise what the request failed with. Nobody needs to listen: decoding
    goes on until the answer ends or is cancelled.

    Args:
        cancel: called with the answer when it is cancelled.
    """

    def __init__(self, cancel: Callable[[PendingAnswer], None]) -> None:
        self._cancel = cancel
        self._changed = threading.Condition()
        self._chunks: list[NestChunk] = []
        self._error: Exception | None = None
        self._listeners: list[Callable[[], None]] = []

    @property
    def is_done(self) -> bool:
        """Whether the answer has ended, by itself, by a failure or cancelled."""
        return self._error is not None or bool(self._chunks and self._chunks[-1].output)

    def cancel(self) -> None:
        """End the answer before the next step, with what it has; one that still waits ends at once, empty.

        The last chunk and :meth:`result` have ``finish_reason="cancelled"``. After the end nothing happens.
        """
        self._cancel(self)

    def result(self, timeout: float | None = None) -> NestOutput:
        """Wait for the whole answer.

        Args:
            timeout: seconds to wait; None waits for ever.

        Raises:
            TimeoutError: if the answer takes longer; it goes on.
            Exception: what the request failed with.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self.is_done, timeout):
                raise TimeoutError(f"the answer has not ended within {timeout} seconds; wait longer, or cancel() it")
        if self._error is not None:
            raise self._error
        output = self._chunks[-1].output
        assert output is not None
        return output

    def __iter__(self) -> Iterator[NestChunk]:
        """Yield the chunks, waiting for each."""
        number = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self.is_done or len(self._chunks) > number)  # noqa: B023
                chunks = self._chunks[number:]
            yield from chunks
            number += len(chunks)
            if not chunks:
                break
        if self._error is not None:
            raise self._error

    async def __aiter__(self) -> AsyncIterator[NestChunk]:
        """Yield the chunks, leaving the event loop to others until there is one."""
        loop, news, number = asyncio.get_running_loop(), asyncio.Event(), 0

        def listener() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
                loop.call_soon_threadsafe(news.set)

        with self._changed:
            self._listeners.append(listener)
        try:
            while True:
                news.clear()  # before looking: what comes after the look sets it again
                with self._changed:
                    chunks, is_done = self._chunks[number:], self.is_done
                for chunk in chunks:
                    yield chunk
                number += len(chunks)
                if is_done:
                    break
                if not chunks:
                    await news.wait()
        finally:
            with self._changed:
                self._listeners.remove(listener)
        if self._error is not None:
            raise self._error

    def _tell(self, chunk: NestChunk) -> None:
        with self._changed:
            self._chunks.append(chunk)
            self._wake()

    def _fail(self, error: Exception) -> None:
        with self._changed:
            self._error = error
            self._wake()

    def _wake(self) -> None:
        self._changed.notify_all()
        for listener in self._listeners:
            listener()


class Scheduler:
    """Decode the requests of many callers together, in one thread.

    Requests with different methods, settings and seeds share a batch. A request that fails, by its passages, its
    search or its length, fails alone; a model that fails in a step fails the answers of that step, and the scheduler
    goes on with the next.

    Args:
        engine: the engine; its ``generate`` and ``stream`` may be used beside the scheduler.
        max_running: most answers decoded together.
        max_waiting: most requests that wait beside them; a further one is refused.
        max_searching: most requests that are made ready at a time; each has a thread.

    Raises:
        ConfigError: if a limit is out of range.
    """

    def __init__(
        self, engine: NestEngine, *, max_running: int = 8, max_waiting: int = 64, max_searching: int = 4
    ) -> None:
        require_count("max_running", max_running)
        require_count("max_waiting", max_waiting, 0)
        require_count("max_searching", max_searching)
        self.engine = engine
        self.max_running = max_running
        self.max_waiting = max_waiting
        self._changed = threading.Condition()  # guards what follows
        self._waiting: set[PendingAnswer] = set()  # submitted, not decoded yet
        self._ready: deque[tuple[PendingAnswer, Request]] = deque()  # those of them that have been searched for
        self._running: dict[PendingAnswer, Decoding | None] = {}  # None while the prompt is read
        self._cancelled: set[PendingAnswer] = set()  # those of them that shall end
        self._is_closed = False
        self._searchers = ThreadPoolExecutor(max_searching, thread_name_prefix="nest-search")
        self._decoder = threading.Thread(target=self._work, name="nest-decode", daemon=True)
        self._decoder.start()

    @property
    def is_open(self) -> bool:
        """Whether requests can be submitted."""
        return not self._is_closed

    @property
    def num_running(self) -> int:
        """Answers that are being decoded."""
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        """Requests that wait: for their passages, or for a place among the running."""
        return len(self._waiting)

    def submit(
        self,
        prompt: str,
        *,
        passages: Sequence[Passage] | None = None,
        query: str | None = None,
        config: NestConfig | None = None,
        **settings: Any,
    ) -> PendingAnswer:
        """Ask for an answer; arguments as for ``NestEngine.generate``. Returns at once.

        Returns:
            the answer in the making. What is wrong with prompt, passages or search, it raises when it is read.

        Raises:
            ConfigError: if a setting is unknown or not valid.
            QueueFullError: if too many requests wait already.
            SchedulerClosedError: if the scheduler is closed.
        """
        chosen = self.engine.configure(config, settings)
        answer = PendingAnswer(self._cancel)
        with self._changed:
            if self._is_closed:
                raise SchedulerClosedError("the scheduler is closed and takes no more requests; make another one")
            if len(self._waiting) + len(self._running) >= self.max_waiting + self.max_running:
                raise QueueFullError(
                    f"{len(self._running)} answers are being decoded and {len(self._waiting)} wait; at most "
                    f"{self.max_running} and {self.max_waiting} can: ask again in a while, or raise max_waiting"
                )
            self._waiting.add(answer)
            self._searchers.submit(self._prepare, answer, prompt, passages, query, chosen)
        return answer

    def close(self, *, drain: bool = True) -> None:
        """Take no more requests, wait for the end of those submitted, and end the threads.

        Args:
            drain: let the answers come to their end; False cancels them.
        """
        with self._changed:
            self._is_closed = True
            submitted = [] if drain else [*self._waiting, *self._running]
            self._changed.notify_all()
        for answer in submitted:
            answer.cancel()
        self._decoder.join()
        self._searchers.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(drain=error is None)

    # Called by those who ask.

    def _cancel(self, answer: PendingAnswer) -> None:
        with self._changed:
            if answer in self._running:
                self._cancelled.add(answer)
            waited = self._stop_waiting(answer)
        if waited:
            answer._tell(NestChunk("", output=NestOutput("", (), "cancelled", DecodeStats())))

    # Called by the pool of searchers.

    def _prepare(
        self,
        answer: PendingAnswer,
        prompt: str,
        passages: Sequence[Passage] | None,
        query: str | None,
        config: NestConfig,
    ) -> None:
        """Find passages for a request, read those that are new to the model, and tokenize: then it can be decoded."""
        if answer.is_done:  # cancelled
            return
        try:
            [request] = self.engine.prepare([prompt], [passages], [query], config)
            request.require_room(self.engine.language_model.context_length)
            request = read_ahead(self.engine.language_model, self.engine.key_cache, request)
        except Exception as error:
            if self._stop_waiting(answer):
                answer._fail(error)
            return
        with self._changed:
            if answer in self._waiting:
                self._ready.append((answer, request))
                self._changed.notify_all()

    # Called by the thread that decodes.

    def _work(self) -> None:
        """Decode until the scheduler is closed and nothing is left."""
        try:
            run = self._new_run()
            while self._wait_for_work():
                self._admit(run)
                self._cancel_running()
                try:
                    run.step()
                except Exception as error:  # nobody knows what the session holds now
                    _logger.error("decoding failed: %s: %s", type(error).__name__, error, exc_info=error)
                    self._fail_running(error)
                    with contextlib.suppress(Exception):  # a model that has failed may fail again
                        run.close()
                    run = self._new_run()
                self._hand_out()
        finally:  # whatever happens, nobody is left waiting
            with self._changed:
                self._is_closed = True
                left = [*self._waiting, *self._running]
                self._waiting.clear()
                self._running.clear()
            for answer in left:
                answer._fail(SchedulerClosedError("the scheduler has ended before the answer; make another one"))

    def _new_run(self) -> Run:
        return Run(self.engine.language_model, self.engine.key_cache)

    def _wait_for_work(self) -> bool:
        """Wait until there is something to decode; return False when there never will be."""

        def is_over() -> bool:
            return self._is_closed and not self._waiting and not self._running

        with self._changed:
            self._changed.wait_for(lambda: self._running or self._ready or is_over())
            return not is_over()

    def _admit(self, run: Run) -> None:
        """Let the next request enter, if there is a place: one at a time, so that nobody waits for many prompts."""
        with self._changed:
            while self._ready and self._ready[0][0] not in self._waiting:
                self._ready.popleft()  # cancelled
            if not self._ready or len(self._running) >= self.max_running:
                return
            answer, request = self._ready.popleft()
            self._waiting.remove(answer)
            self._running[answer] = None
        try:
            [decoding] = run.enter([request])
        except Exception as error:
            self._end(answer)
            answer._fail(error)
            return
        with self._changed:
            self._running[answer] = decoding

    def _cancel_running(self) -> None:
        with self._changed:
            cancelled = [self._running[answer] for answer in self._cancelled]
        for decoding in cancelled:
            if decoding is not None:
                decoding.cancel()

    def _hand_out(self) -> None:
        """Give every running answer what its last step has made final."""
        for answer, decoding in list(self._running.items()):
            assert decoding is not None  # only one request enters at a time, and before the step
            try:
                chunk = decoding.take()
            except Exception as error:
                self._end(answer)
                answer._fail(error)
                continue
            if chunk.output is not None:
                self._end(answer)
            if chunk.text or chunk.citations or chunk.output:
                answer._tell(chunk)

    def _fail_running(self, error: Exception) -> None:
        """Fail every running answer, each with an error of its own: tracebacks grow where an error is raised."""
        failed = list(self._running)
        for answer in failed:
            self._end(answer)
            failure = DecodingError(
                f"the model failed while decoding {len(failed)} answers ({type(error).__name__}: {error}); ask again"
            )
            failure.__cause__ = error
            answer._fail(failure)

    def _end(self, answer: PendingAnswer) -> None:
        with self._changed:
            del self._running[answer]
            self._cancelled.discard(answer)

    def _stop_waiting(self, answer: PendingAnswer) -> bool:
        """Take a request from those that wait; return whether it was one of them."""
        with self._changed:
            waited = answer in self._waiting
            self._waiting.discard(answer)
            self._changed.notify_all()
            return waited
