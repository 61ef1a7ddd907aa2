"""Continuous batching: requests of many callers share the forward passes of one thread.

    with Scheduler(engine) as scheduler:
        answers = [scheduler.submit(prompt, method="ra-nest") for prompt in prompts]
        for chunk in answers[0]:
            print(chunk.text, end="")
        answers[1].result().citations

A small pool of threads prepares each request: it searches, reads passages that are new to the
model, and tokenizes. The request then waits for a place in the batch, enters between two steps and
leaves when it is done. Its answer is the one that ``engine.generate`` returns, whatever else is in
the batch.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nest_engine._validation import require_count
from nest_engine.config import NestConfig
from nest_engine.errors import DecodingError, QueueFullError, SchedulerClosedError
from nest_engine.generation.datastores import read_ahead
from nest_engine.generation.request import prepare
from nest_engine.generation.run import Run
from nest_engine.output import NestChunk, NestOutput
from nest_engine.records import DecodeStats, Passage
from nest_engine.serving.pending_answer import PendingAnswer
from nest_engine.serving.scheduled_request import ScheduledRequest, State

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from nest_engine.engine import NestEngine

__all__ = ["PendingAnswer", "Scheduler"]

_logger = logging.getLogger(__name__)


class Scheduler:
    """Decode the requests of many callers together, in one thread.

    Requests with different methods, settings and seeds share a batch. A request whose passages,
    search or length are at fault fails alone; a model that fails in a step fails the answers of
    that step, and the scheduler goes on with the next.

    Args:
        engine: the engine; its ``generate`` and ``stream`` may be used beside the scheduler.
        max_running: most answers decoded together.
        max_waiting: most requests that wait beside them; further ones are refused.
        max_searching: most requests that are prepared at a time; each has a thread.

    Raises:
        ConfigError: if a limit is out of range.
    """

    def __init__(
        self,
        engine: NestEngine,
        *,
        max_running: int = 8,
        max_waiting: int = 64,
        max_searching: int = 4,
    ) -> None:
        require_count("max_running", max_running)
        require_count("max_waiting", max_waiting, 0)
        require_count("max_searching", max_searching)
        self.engine = engine
        self.max_running = max_running
        self.max_waiting = max_waiting
        self._changed = threading.Condition()  # guards what follows
        self._scheduled: dict[PendingAnswer, ScheduledRequest] = {}  # all that have not finished
        self._ready: deque[ScheduledRequest] = deque()
        self._running: list[ScheduledRequest] = []  # the cancelled ones included
        self._is_closed = False
        self._searchers = ThreadPoolExecutor(max_searching, thread_name_prefix="nest-search")
        self._decoder = threading.Thread(target=self._decode, name="nest-decode", daemon=True)
        self._decoder.start()

    @property
    def is_open(self) -> bool:
        """Whether requests can be submitted."""
        return not self._is_closed

    @property
    def num_running(self) -> int:
        """Number of answers that are being decoded."""
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        """Number of requests that wait for their passages, or for a place in the batch."""
        with self._changed:
            return len(self._scheduled) - len(self._running)

    def submit(
        self,
        prompt: str,
        *,
        passages: Sequence[Passage] | None = None,
        query: str | None = None,
        config: NestConfig | None = None,
        reads_reasoning: bool = True,
        **settings: Any,
    ) -> PendingAnswer:
        """Ask for an answer, and return at once; other arguments as for ``NestEngine.generate``.

        Args:
            prompt: as for ``generate``.
            passages: as for ``generate``.
            query: as for ``generate``.
            config: as for ``generate``.
            reads_reasoning: whether what a model says to itself is told from its answer; where it
                is not, all that it says is the answer, marks included.
            settings: as for ``generate``.

        Returns:
            the pending answer. Whatever is wrong with prompt, passages or search is raised when
            the answer is read.

        Raises:
            ConfigError: if a setting is unknown or not valid.
            QueueFullError: if too many requests wait already.
            SchedulerClosedError: if the scheduler is closed.
        """
        chosen = self.engine.config.merged(config, settings)
        scheduled = ScheduledRequest(PendingAnswer(self._cancel))
        with self._changed:
            if self._is_closed:
                raise SchedulerClosedError(
                    "the scheduler is closed and takes no more requests; make another one"
                )
            if len(self._scheduled) >= self.max_waiting + self.max_running:
                raise QueueFullError(
                    f"{self.num_running} answers are being decoded and {self.num_waiting} wait; at "
                    f"most {self.max_running} and {self.max_waiting} can: ask again in a while, or "
                    f"raise max_waiting"
                )
            self._scheduled[scheduled.answer] = scheduled
            self._searchers.submit(
                self._prepare, scheduled, prompt, passages, query, chosen, reads_reasoning
            )
        return scheduled.answer

    def close(self, *, drain: bool = True) -> None:
        """Take no more requests, wait for the end of those submitted, and end the threads.

        Args:
            drain: let the answers come to their end; False cancels them.
        """
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            if not drain:
                for answer in list(self._scheduled):
                    answer.cancel()
        self._decoder.join()
        self._searchers.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(drain=error is None)

    # Called by any thread.

    def _cancel(self, answer: PendingAnswer) -> None:
        with self._changed:
            scheduled = self._scheduled.get(answer)
            if scheduled is None:
                return
            if scheduled.state in (State.RUNNING, State.CANCELLED):
                scheduled.state = State.CANCELLED  # the decoder ends it before the next step
                return
            self._finish(scheduled)
        answer._append(NestChunk("", output=NestOutput("", (), "cancelled", DecodeStats())))

    def _fail(self, scheduled: ScheduledRequest, error: Exception) -> None:
        if self._finish(scheduled):
            scheduled.answer._fail(error)

    def _finish(self, scheduled: ScheduledRequest) -> bool:
        """Take a request out, wherever it stands; return False if it had finished already."""
        with self._changed:
            if scheduled.state is State.FINISHED:
                return False
            if scheduled.state is State.READY:
                self._ready.remove(scheduled)
            elif scheduled.state in (State.RUNNING, State.CANCELLED):
                self._running.remove(scheduled)
            scheduled.state = State.FINISHED
            del self._scheduled[scheduled.answer]
            self._changed.notify_all()
            return True

    # Called by the pool.

    def _prepare(
        self,
        scheduled: ScheduledRequest,
        prompt: str,
        passages: Sequence[Passage] | None,
        query: str | None,
        config: NestConfig,
        reads_reasoning: bool,
    ) -> None:
        """Find passages, read those that are new to the model, and tokenize."""
        if scheduled.state is State.FINISHED:  # cancelled
            return
        try:
            [request] = prepare(self.engine, [prompt], [passages], [query], config)
            request = replace(request, reads_reasoning=reads_reasoning)
            request.require_room(self.engine.language_model.context_length)
            request = read_ahead(self.engine.language_model, self.engine.key_cache, request)
        except Exception as error:
            self._fail(scheduled, error)
            return
        with self._changed:
            if scheduled.state is State.PREPARING:  # not cancelled meanwhile
                scheduled.state, scheduled.request = State.READY, request
                self._ready.append(scheduled)
                self._changed.notify_all()

    # Called by the thread that decodes.

    def _decode(self) -> None:
        """Decode until the scheduler is closed and nothing is left."""
        try:
            run = self._new_run()
            while self._wait_for_work():
                self._admit(run)
                self._end_cancelled()
                try:
                    run.step()
                except Exception as error:  # nobody knows what the session holds now
                    _logger.error(
                        "decoding failed: %s: %s", type(error).__name__, error, exc_info=error
                    )
                    self._fail_running(error)
                    with contextlib.suppress(Exception):  # a model that has failed may fail again
                        run.close()
                    run = self._new_run()
                self._deliver()
        finally:  # whatever happens, nobody is left waiting
            with self._changed:
                self._is_closed = True
                left = list(self._scheduled.values())
            for scheduled in left:
                self._fail(
                    scheduled,
                    SchedulerClosedError(
                        "the scheduler has ended before the answer; make another one"
                    ),
                )

    def _new_run(self) -> Run:
        return Run(self.engine.language_model, self.engine.key_cache)

    def _wait_for_work(self) -> bool:
        """Wait until there is something to decode; return False once there never will be."""

        def is_over() -> bool:
            return self._is_closed and not self._scheduled

        with self._changed:
            self._changed.wait_for(lambda: self._running or self._ready or is_over())
            return not is_over()

    def _admit(self, run: Run) -> None:
        """Let the next request into the batch, if there is a place.

        One at a time: the others wait for a single prompt only.
        """
        with self._changed:
            if not self._ready or len(self._running) >= self.max_running:
                return
            scheduled = self._ready.popleft()
            scheduled.state = State.RUNNING
            self._running.append(scheduled)
        assert scheduled.request is not None
        try:
            [scheduled.decoding] = run.enter([scheduled.request])
        except Exception as error:
            self._fail(scheduled, error)

    def _end_cancelled(self) -> None:
        for scheduled in self._running:
            if scheduled.state is State.CANCELLED and scheduled.decoding is not None:
                scheduled.decoding.cancel()

    def _deliver(self) -> None:
        """Give every running answer what the last step has made final."""
        for scheduled in list(self._running):
            assert scheduled.decoding is not None  # whoever enters does so before the step
            try:
                chunk = scheduled.decoding.take()
            except Exception as error:
                self._fail(scheduled, error)
                continue
            if chunk.output is not None:
                self._finish(scheduled)
            if not chunk.is_empty:
                scheduled.answer._append(chunk)

    def _fail_running(self, error: Exception) -> None:
        failed = list(self._running)
        for scheduled in failed:
            # Each gets an error of its own: a traceback grows wherever its error is raised.
            failure = DecodingError(
                f"the model failed while decoding {len(failed)} answers ({type(error).__name__}: "
                f"{error}); ask again"
            )
            failure.__cause__ = error
            self._fail(scheduled, failure)
