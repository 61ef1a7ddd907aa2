"""The figures at `/metrics`, for Prometheus."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nest_engine.output import NestChunk, NestOutput
from nest_engine.serving.scheduler import Scheduler
from nest_engine.serving.server.access import path_below

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Counters of one server.

    Args:
        scheduler: knows how many answers run and wait.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.requests = Counter(
            "nest_requests", "Requests that were answered.", ["route", "status"], registry=registry
        )
        self.disconnects = Counter(
            "nest_disconnects", "Clients that left before the end of an answer.", registry=registry
        )
        self._seconds = Histogram(
            "nest_request_seconds",
            "From a request to its last byte.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._first_seconds = Histogram(
            "nest_first_text_seconds",
            "From a request to the first text of an answer.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._prompt_tokens = Counter("nest_prompt_tokens", "Tokens of prompts.", registry=registry)
        self._completion_tokens = Counter(
            "nest_completion_tokens", "Tokens of answers.", registry=registry
        )
        self._copied_tokens = Counter(
            "nest_copied_tokens", "Tokens of answers with a known source.", registry=registry
        )
        self._forwards = Counter(
            "nest_forwards", "Forward passes, counted for each answer in them.", registry=registry
        )
        self._citations = Counter("nest_citations", "Citations.", registry=registry)
        running = Gauge("nest_running", "Answers that are being decoded.", registry=registry)
        running.set_function(lambda: scheduler.num_running)
        waiting = Gauge("nest_waiting", "Requests that wait to be decoded.", registry=registry)
        waiting.set_function(lambda: scheduler.num_waiting)

    def text(self) -> bytes:
        """Return all figures in Prometheus' format."""
        return generate_latest(self.registry)

    async def watch(
        self, chunks: AsyncIterator[tuple[int, NestChunk]]
    ) -> AsyncIterator[tuple[int, NestChunk]]:
        """Pass chunks on, and count the answers they complete."""
        start = time.perf_counter()
        has_text = False
        async for number, chunk in chunks:
            if chunk.text and not has_text:
                has_text = True
                self._first_seconds.observe(time.perf_counter() - start)
            if chunk.output is not None:
                self._count(chunk.output)
            yield number, chunk

    def _count(self, output: NestOutput) -> None:
        self._prompt_tokens.inc(output.stats.prompt_tokens)
        self._completion_tokens.inc(output.stats.completion_tokens)
        self._copied_tokens.inc(sum(source is not None for source in output.provenance))
        self._forwards.inc(output.stats.lm_forwards)
        self._citations.inc(len(output.citations))

    def observe(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self.requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)


class Measured:
    """Count requests by route and status; unknown paths count together.

    Args:
        app: the application behind it.
        metrics: where to count.
        routes: the known paths.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, routes: frozenset[str]) -> None:
        self._app = app
        self._metrics = metrics
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        status = 499  # as nginx has it: the client left before the response

        async def send_noting_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_noting_status)
        finally:
            path = path_below(scope)
            self._metrics.observe(
                path if path in self._routes else "other", status, time.perf_counter() - start
            )
