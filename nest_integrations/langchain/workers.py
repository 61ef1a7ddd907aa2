"""Blocking work next to an event loop, and work with a time limit."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent import futures
from contextvars import copy_context
from typing import TypeVar

from langchain_core.runnables.config import run_in_executor

T = TypeVar("T")

Cancel = Callable[[], bool]
"""Called between decoding steps; True ends decoding."""


async def in_thread(work: Callable[[Cancel], T]) -> T:
    """Run blocking work in a thread; cancelling the task ends the work before its next step."""
    abandoned = threading.Event()
    try:
        return await run_in_executor(None, work, abandoned.is_set)
    finally:
        abandoned.set()


async def iterate_in_thread(start: Callable[[Cancel], Iterator[T]]) -> AsyncIterator[T]:
    """Iterate in worker threads, one item at a time: nothing runs while nobody waits.

    Closing the iteration or cancelling the task ends the work before its next step.
    """
    abandoned = threading.Event()
    try:
        items = await run_in_executor(None, start, abandoned.is_set)
        while (item := await run_in_executor(None, _next, items)) is not None:
            yield item
    finally:
        abandoned.set()


def with_deadline(work: Callable[[], T], seconds: float | None) -> T:
    """Return the result of ``work``.

    Work that is late goes on in a daemon thread, and its result is dropped: Python cannot end a
    thread.

    Raises:
        TimeoutError: if it takes longer than ``seconds``; None sets no limit.
    """
    if seconds is None:
        return work()
    future: futures.Future[T] = futures.Future()

    def fulfil() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=copy_context().run, args=(fulfil,), daemon=True).start()
    if not futures.wait([future], seconds).done:
        raise TimeoutError
    return future.result()


def cancel_after(seconds: float | None, cancel: Cancel | None) -> Cancel | None:
    """Return ``cancel`` with a time limit, which begins now.

    Raises:
        TimeoutError: from the returned callable, once the time is over.
    """
    if seconds is None:
        return cancel
    end = time.monotonic() + seconds

    def is_cancelled() -> bool:
        if time.monotonic() > end:
            raise TimeoutError(
                f"the answer took longer than timeout={seconds:g} seconds; raise it or lower "
                "max_tokens"
            )
        return cancel is not None and cancel()

    return is_cancelled


def _next(items: Iterator[T]) -> T | None:
    return next(items, None)
