"""Blocking work next to an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")
Cancel = Callable[[], bool]

_END: Any = object()


class Worker:
    """One thread that decodes for coroutines, one at a time, while the event loop stays free.

    Work is a function of a ``cancel`` callable, which returns True once nobody waits for the result
    any more. Streams take turns step by step, so one that is read slowly does not delay the others.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="nest")

    async def run(self, work: Callable[[Cancel], T]) -> T:
        """Return the result of work, or raise its error."""
        stop = threading.Event()
        try:
            return await self._call(work, stop.is_set)
        finally:
            stop.set()

    async def iterate(self, work: Callable[[Cancel], Iterator[T]]) -> AsyncGenerator[T, None]:
        """Start work that returns an iterator, and return its items."""
        stop = threading.Event()
        try:
            items = await self._call(work, stop.is_set)
        except BaseException:
            stop.set()
            raise
        return self._rest(items, stop)

    async def _rest(self, items: Iterator[T], stop: threading.Event) -> AsyncGenerator[T, None]:
        try:
            while (item := await self._call(next, items, _END)) is not _END:
                yield item
        finally:
            stop.set()

    async def _call(self, function: Callable[..., T], *args: Any) -> T:
        # Spans and tags follow into the thread.
        in_context = partial(copy_context().run, function, *args)
        return await asyncio.get_running_loop().run_in_executor(self._thread, in_context)
