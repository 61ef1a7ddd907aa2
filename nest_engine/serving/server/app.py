"""The API's application: routes, and one request's way from JSON to an answer."""

from __future__ import annotations

import gc
import socket
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from nest_engine._version import __version__
from nest_engine.config import NestConfig
from nest_engine.errors import SchedulerClosedError
from nest_engine.output import NestChunk, NestOutput
from nest_engine.serving.scheduler import PendingAnswer, Scheduler
from nest_engine.serving.server import replies
from nest_engine.serving.server.access import RequireKey
from nest_engine.serving.server.chat import ChatFormat
from nest_engine.serving.server.errors import HANDLERS, UnknownModelError, error_response
from nest_engine.serving.server.events import errors_as_events, merge, prepend
from nest_engine.serving.server.limits import Limits
from nest_engine.serving.server.metrics import Measured, Metrics
from nest_engine.serving.server.openapi import description
from nest_engine.serving.server.requests import ChatRequest, ResponsesRequest
from nest_engine.serving.server.responses import ResponsesFormat
from nest_engine.serving.web.guard import Guard
from nest_engine.serving.web.listening import server
from nest_engine.serving.web.reading import json_body
from nest_engine.serving.web.streaming import ClosingStream, unless_disconnected

if TYPE_CHECKING:
    import uvicorn

_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
SECONDS_TO_CLOSE = 30  # for pending answers


def create_app(
    scheduler: Scheduler,
    *,
    model: str,
    limits: Limits | None = None,
    host: str = "127.0.0.1",
    api_key: str | None = None,
) -> Starlette:
    """Return the ASGI application of the API.

    Args:
        scheduler: decodes the answers; its engine's retriever is used where a request brings no
            passages.
        model: the name by which clients ask for the model.
        limits: what one request may ask for at most.
        host: the name or address that the server listens at. Without a key, requests for other
            names are refused.
        api_key: required on every route but ``/health``; None requires none.

    Returns:
        the application.
    """
    api = _Api(scheduler, model, limits or Limits(), Metrics(scheduler))
    routes = [
        Route("/v1/chat/completions", api.chat, methods=["POST"]),
        Route("/v1/responses", api.responses, methods=["POST"]),
        Route("/v1/models", api.models),
        Route("/v1/models/{model:path}", api.one_model),
        Route("/health", api.health),
        Route("/metrics", api.figures),
        Route("/openapi.json", api.openapi),
    ]
    # A key keeps other sites' pages out by itself, and whoever has it may use any host name.
    guard = Middleware(Guard, host=host, headers=_HEADERS, refuse=error_response)
    access = guard if api_key is None else Middleware(RequireKey, key=api_key)
    paths = frozenset(route.path for route in routes)
    return Starlette(
        routes=routes,
        middleware=[Middleware(Measured, metrics=api.metrics, routes=paths), access],
        exception_handlers=HANDLERS,
    )


class _Api:
    """The routes.

    Args:
        scheduler: decodes the answers.
        model: name of the model.
        limits: what one request may ask for at most.
        metrics: counts.
    """

    def __init__(self, scheduler: Scheduler, model: str, limits: Limits, metrics: Metrics) -> None:
        self.metrics = metrics
        self._scheduler = scheduler
        self._model = model
        self._limits = limits
        self._began = int(time.time())

    async def chat(self, request: Request) -> Response:
        """Answer a request for Chat Completions."""
        asked = ChatRequest.model_validate_json(await json_body(request, self._limits.body_bytes))
        config = asked.config(self._scheduler.engine.config)
        return await self._answer(
            request, asked, config, ChatFormat(asked, self._head("chatcmpl"), config.method)
        )

    async def responses(self, request: Request) -> Response:
        """Answer a request for Responses."""
        asked = ResponsesRequest.model_validate_json(
            await json_body(request, self._limits.body_bytes)
        )
        config = asked.config(self._scheduler.engine.config)
        return await self._answer(
            request, asked, config, ResponsesFormat(asked, self._head("resp"), config)
        )

    async def models(self, _: Request) -> Response:
        """Name the models: there is one."""
        return JSONResponse(replies.dumped(replies.Models, {"data": [self._described_model()]}))

    async def one_model(self, request: Request) -> Response:
        """Describe the model."""
        self._require_model(request.path_params["model"])
        return JSONResponse(replies.dumped(replies.Model, self._described_model()))

    async def health(self, _: Request) -> Response:
        """Tell whether requests are answered."""
        if self._scheduler.is_open:
            return JSONResponse(replies.dumped(replies.Health, {"status": "ok"}))
        return error_response(503, "the server is being closed")

    async def figures(self, _: Request) -> Response:
        """Show the figures for Prometheus."""
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4")

    async def openapi(self, request: Request) -> Response:
        """Describe the API."""
        return JSONResponse(
            description(__version__, self._model, request.scope.get("root_path", ""))
        )

    async def _answer(
        self,
        request: Request,
        asked: ChatRequest | ResponsesRequest,
        config: NestConfig,
        written: ChatFormat | ResponsesFormat,
    ) -> Response:
        """Submit a request and return its answers, whole or as a stream."""
        self._require_model(asked.model)
        answers = self._submit(asked, config)
        chunks = self.metrics.watch(merge(answers))

        def leave() -> None:
            if not all(answer.is_done for answer in answers):
                self.metrics.disconnects.inc()
            for answer in answers:
                answer.cancel()

        try:
            # Whatever is wrong with a request shows before the first chunk, while there can still
            # be a status.
            first = await unless_disconnected(request, anext(chunks))
            chunks = prepend(first, chunks)
            if asked.stream:
                return ClosingStream(
                    errors_as_events(written.stream(_until_cancelled(chunks))),
                    media_type="text/event-stream",
                    on_close=leave,
                )
            outputs = await unless_disconnected(
                request, _collected(_until_cancelled(chunks), len(answers))
            )
        except BaseException:
            leave()
            raise
        return JSONResponse(written.whole(outputs))

    def _submit(
        self, asked: ChatRequest | ResponsesRequest, config: NestConfig
    ) -> list[PendingAnswer]:
        """Submit a request once for each answer, with consecutive seeds if there is a seed."""
        self._limits.check(asked)
        passages = asked.options.given_passages()
        prompt = self._scheduler.engine.format_chat(
            asked.conversation(), **config.chat_template_kwargs
        )
        answers: list[PendingAnswer] = []
        try:
            for number in range(asked.num_choices()):
                seed = None if config.seed is None else (config.seed + number) % 2**63
                answers.append(
                    self._scheduler.submit(
                        prompt, passages=passages, query=asked.query(), config=config, seed=seed
                    )
                )
        except Exception:
            for answer in answers:
                answer.cancel()
            raise
        return answers

    def _require_model(self, name: str) -> None:
        if name != self._model:
            raise UnknownModelError(
                f"the model {name[:100]!r} does not exist here; this server has {self._model!r}"
            )

    def _described_model(self) -> dict[str, object]:
        return {"id": self._model, "created": self._began}

    def _head(self, prefix: str) -> replies.Head:
        return replies.Head(replies.new_id(prefix), int(time.time()), self._model)


def api_server(app: Starlette) -> uvicorn.Server:
    """Return a server for an application of ``create_app``.

    Once stopped, it gives pending answers ``SECONDS_TO_CLOSE`` to finish.
    """
    return server(app, seconds_to_close=SECONDS_TO_CLOSE)


def serve(app: Starlette, listening: socket.socket) -> None:
    """Serve until interrupted.

    Args:
        app: the application.
        listening: where to serve it.
    """
    freeze_loaded_objects()
    api_server(app).run(sockets=[listening])


def freeze_loaded_objects() -> None:
    """Exempt everything that is in memory now from garbage collection.

    Python would scan it again and again, for a fifth of a second each time, in the middle of an
    answer.
    """
    gc.collect()
    gc.freeze()


async def _until_cancelled(
    chunks: AsyncIterator[tuple[int, NestChunk]],
) -> AsyncIterator[tuple[int, NestChunk]]:
    """Pass chunks on; fail if an answer is cancelled while its client still waits."""
    async for number, chunk in chunks:
        if chunk.finish_reason == "cancelled":
            raise SchedulerClosedError("the server is being closed; ask again")
        yield number, chunk


async def _collected(
    chunks: AsyncIterator[tuple[int, NestChunk]], num_answers: int
) -> list[NestOutput]:
    """Return the finished answers, in order."""
    outputs = {number: chunk.output async for number, chunk in chunks if chunk.output is not None}
    return [outputs[number] for number in range(num_answers)]
