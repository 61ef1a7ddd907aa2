"""Blocking work beside an event loop."""

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
    """One thread that decodes for coroutines: the loop stays free, and no two of them share the model at a time.

    Work is a function of a ``cancel`` callable, which turns true when nobody waits for the result any more. Streams
    take turns step by step, so a stream that is read slowly holds nobody up.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="nest")

    async def run(self, work: Callable[[Cancel], T]) -> T:
        """Return the result of work; its errors are raised here."""
        stop = threading.Event()
        try:
            return await self._call(work, stop.is_set)
        finally:
            stop.set()

    async def iterate(self, work: Callable[[Cancel], Iterator[T]]) -> AsyncGenerator[T, None]:
        """Start work that yields, and return what it yields."""
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
        in_context = partial(copy_context().run, function, *args)  # spans and tags follow into the thread
        return await asyncio.get_running_loop().run_in_executor(self._thread, in_context)
