"""One answer at a time, decoded in a thread and read by an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from nest_engine.citations.formats import json_ready
from nest_engine.config import NestConfig
from nest_engine.errors import NestError
from nest_engine.records import Passage

if TYPE_CHECKING:
    from nest_engine.engine import NestEngine

Event = dict[str, Any]
"""By ``type``: a ``chunk`` (text, citations), the whole ``answer``, or an ``error`` (message)."""

_POLL_SECONDS = 0.02
_MOST_REMEMBERED = 1000  # passages whose pages can be shown
_logger = logging.getLogger(__name__)


class AnswerRunner:
    """Decode one answer at a time.

    Args:
        engine: the engine.
        patience: seconds that a question waits while another is being answered. An answer whose
            reader has left ends within one decoding step.
    """

    def __init__(self, engine: NestEngine, patience: float = 2.0) -> None:
        self.engine = engine
        self._patience = patience
        self._busy = threading.Lock()
        self._answer: RunningAnswer | None = None
        self._shown: OrderedDict[str, Passage] = OrderedDict()

    async def start(self, question: str, config: NestConfig) -> RunningAnswer | None:
        """Start answering a question.

        Args:
            question: the question.
            config: settings.

        Returns:
            the running answer, or None if another one is still running.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience
        while not self._busy.acquire(blocking=False):
            if loop.time() > deadline:
                return None
            await asyncio.sleep(_POLL_SECONDS)
        self._answer = RunningAnswer(
            self.engine, question, config, self._busy.release, self._remember
        )
        return self._answer

    def passage(self, sha256: str) -> Passage | None:
        """Return a passage of an answer that was shown, by its checksum."""
        return self._shown.get(sha256)

    def _remember(self, passages: Iterable[Passage]) -> None:
        self._shown |= {passage.sha256: passage for passage in passages}
        while len(self._shown) > _MOST_REMEMBERED:
            self._shown.popitem(last=False)

    def close(self) -> None:
        """Cancel the running answer, if there is one."""
        if self._answer is not None:
            self._answer.cancel()


class RunningAnswer:
    """An answer that is being decoded in a thread of its own.

    Args:
        engine: the engine.
        question: the question.
        config: settings.
        on_end: called when the engine is free again.
        on_passages: called with the passages of the finished answer.
    """

    def __init__(
        self,
        engine: NestEngine,
        question: str,
        config: NestConfig,
        on_end: Callable[[], None],
        on_passages: Callable[[Iterable[Passage]], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._cancelled = threading.Event()
        self._on_end = on_end
        self._on_passages = on_passages
        threading.Thread(
            target=self._work, args=(engine, question, config), name="nest-answer"
        ).start()

    async def events(self) -> AsyncIterator[Event]:
        """Yield the events of the answer as they happen."""
        while (event := await self._events.get()) is not None:
            yield event

    def cancel(self) -> None:
        """End the events now, and decoding before the next step."""
        self._cancelled.set()
        self._send(None)

    def _work(self, engine: NestEngine, question: str, config: NestConfig) -> None:
        try:
            for event in self._decode(engine, question, config):
                self._send(event)
        except NestError as error:
            self._send({"type": "error", "message": str(error)})
        except Exception as error:  # a bug must not leave the page waiting
            _logger.error(
                "%s: %s", type(error).__name__, error, exc_info=_logger.isEnabledFor(logging.DEBUG)
            )
            self._send({"type": "error", "message": f"{type(error).__name__}: {error}"})
        finally:
            self._on_end()
            self._send(None)

    def _decode(self, engine: NestEngine, question: str, config: NestConfig) -> Iterator[Event]:
        prompt = engine.format_question(question, **config.chat_template_kwargs)
        is_cancelled = self._cancelled.is_set
        for chunk in engine.stream(prompt, query=question, config=config, cancel=is_cancelled):
            citations = [citation.to_dict() for citation in chunk.citations]
            piece = {"type": "chunk", "text": chunk.text, "citations": citations}
            yield json_ready(piece | ({"reasoning": chunk.reasoning} if chunk.reasoning else {}))
            if chunk.output is not None:
                self._on_passages(chunk.output.passages)
                answer: Mapping[str, Any] = {
                    "question": question,
                    "settings": config.to_dict(),
                    **chunk.output.to_dict(),
                    "tokens": [token.to_dict() for token in chunk.output.trace],
                }
                yield {"type": "answer", "answer": json_ready(answer)}

    def _send(self, event: Event | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody reads any more
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)
