"""The API's application: routes, and one request's way from JSON to an answer."""

from __future__ import annotations

import asyncio
import base64
import gc
import socket
import time
from collections.abc import AsyncIterator, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from nest_engine._version import __version__
from nest_engine.config import NestConfig
from nest_engine.errors import InputError, SchedulerClosedError
from nest_engine.generation.tool_calls import Turn, for_turn
from nest_engine.models.chat_template import require_variables
from nest_engine.output import NestChunk, NestOutput
from nest_engine.serving.scheduler import PendingAnswer, Scheduler
from nest_engine.serving.server import replies
from nest_engine.serving.server.access import access
from nest_engine.serving.server.chat import ChatFormat
from nest_engine.serving.server.completions import CompletionsFormat
from nest_engine.serving.server.errors import HANDLERS, UnknownModelError, error_response
from nest_engine.serving.server.events import errors_as_events, merge, with_comments
from nest_engine.serving.server.limits import Limits
from nest_engine.serving.server.messages import (
    CountedTokens,
    CountRequest,
    MessagesFormat,
    MessagesRequest,
)
from nest_engine.serving.server.metrics import Measured, Metrics
from nest_engine.serving.server.openapi import description
from nest_engine.serving.server.requests import (
    Asked,
    ChatRequest,
    CompletionsRequest,
    EmbeddingsRequest,
    ResponsesRequest,
)
from nest_engine.serving.server.responses import ResponsesFormat
from nest_engine.serving.web.listening import server
from nest_engine.serving.web.reading import json_body
from nest_engine.serving.web.streaming import ClosingStream, unless_disconnected

if TYPE_CHECKING:
    import uvicorn

SECONDS_TO_CLOSE = 30  # for pending answers
_PATIENCE = 1.0  # seconds until a stream begins, whatever it holds
T = TypeVar("T")


class Format(Protocol):
    """Writes the answers to one request in the shape of an API."""

    def whole(self, outputs: Sequence[NestOutput]) -> dict[str, Any]:
        """Return the finished answers."""
        ...

    def stream(self, chunks: AsyncIterator[tuple[int, NestChunk]]) -> AsyncIterator[str]:
        """Yield the answers as server-sent events while they are decoded."""
        ...


def create_app(
    scheduler: Scheduler,
    *,
    model: str,
    limits: Limits | None = None,
    host: str = "127.0.0.1",
    api_key: str | None = None,
    allow_hosts: Sequence[str] = (),
    allow_origins: Sequence[str] = (),
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
        allow_hosts: other names that the server is reached by, such as a container's.
        allow_origins: pages of other sites that may ask, such as ``app://obsidian.md``.

    Returns:
        the application.
    """
    api = _Api(scheduler, model, limits or Limits(), Metrics(scheduler))
    routes = [
        Route("/v1/chat/completions", api.chat, methods=["POST"]),
        Route("/v1/completions", api.completions, methods=["POST"]),
        Route("/v1/responses", api.responses, methods=["POST"]),
        Route("/v1/messages", api.messages, methods=["POST"]),
        Route("/v1/messages/count_tokens", api.count_tokens, methods=["POST"]),
        Route("/v1/embeddings", api.embeddings, methods=["POST"]),
        Route("/v1/models", api.models),
        Route("/v1/models/{model:path}", api.one_model),
        Route("/health", api.health),
        Route("/metrics", api.figures),
        Route("/openapi.json", api.openapi),
    ]
    paths = frozenset(route.path for route in routes)
    return Starlette(
        routes=routes,
        middleware=[
            Middleware(Measured, metrics=api.metrics, routes=paths),
            *access(host, api_key, allow_hosts, allow_origins),
        ],
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
        config, notices = self._settings(asked)
        return await self._answer(
            request,
            asked,
            config,
            ChatFormat(asked, self._head("chatcmpl"), config.method, notices),
        )

    async def responses(self, request: Request) -> Response:
        """Answer a request for Responses."""
        asked = ResponsesRequest.model_validate_json(
            await json_body(request, self._limits.body_bytes)
        )
        config, notices = self._settings(asked)
        return await self._answer(
            request, asked, config, ResponsesFormat(asked, self._head("resp"), config, notices)
        )

    async def completions(self, request: Request) -> Response:
        """Answer a request for Completions."""
        asked = CompletionsRequest.model_validate_json(
            await json_body(request, self._limits.body_bytes)
        )
        config, notices = self._settings(asked)
        written = CompletionsFormat(asked, self._head("cmpl"), config.method, notices)
        return await self._answer(request, asked, config, written)

    async def messages(self, request: Request) -> Response:
        """Answer a request for Messages, Anthropic's API."""
        asked = MessagesRequest.model_validate_json(
            await json_body(request, self._limits.body_bytes)
        )
        config, notices = self._settings(asked)
        written = MessagesFormat(asked, self._head("msg"), config.method, notices)
        return await self._answer(request, asked, config, written)

    async def count_tokens(self, request: Request) -> Response:
        """Count the tokens of a request for Messages."""
        asked = CountRequest.model_validate_json(await json_body(request, self._limits.body_bytes))
        self._require_model(asked.model)
        config, _ = self._settings(asked)
        tokenizer = self._scheduler.engine.language_model.tokenizer
        texts = [passage.text for passage in asked.sources.passages]
        counted = [self._prompt(asked, config), *texts]
        number = sum(len(tokenizer.encode_prompt(text).token_ids) for text in counted)
        return JSONResponse(replies.dumped(CountedTokens, {"input_tokens": number}))

    async def embeddings(self, request: Request) -> Response:
        """Return the vectors of texts, by the embedder of the passage search."""
        asked = EmbeddingsRequest.model_validate_json(
            await json_body(request, self._limits.body_bytes)
        )
        self._require_model(asked.model)
        embedder = self._scheduler.engine.sentence_embedder
        if embedder is None:
            raise UnknownModelError(
                "this server has no embedder; start it with --docs and --search dense or hybrid"
            )
        texts = [asked.input] if isinstance(asked.input, str) else asked.input
        vectors = await run_in_threadpool(embedder.embed, texts)
        if asked.dimensions not in (None, vectors.shape[1]):
            raise InputError(
                f"dimensions={asked.dimensions} was asked for; the embedder has {vectors.shape[1]}"
            )
        is_packed = asked.encoding_format == "base64"
        data = [
            {
                "index": index,
                "embedding": base64.b64encode(vector.astype("<f4").tobytes()).decode()
                if is_packed
                else vector.tolist(),
            }
            for index, vector in enumerate(vectors)
        ]
        return JSONResponse(
            replies.dumped(replies.Embeddings, {"model": self._model, "data": data})
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
        asked: Asked,
        config: NestConfig,
        written: Format,
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
            if asked.stream:
                # Whatever is wrong with a request mostly shows at once, while there can still be a
                # status; a search, or a long prompt, keeps the client waiting no longer.
                first = asyncio.ensure_future(anext(chunks))
                await unless_disconnected(request, asyncio.wait([first], timeout=_PATIENCE))
                if first.done():
                    first.result()
                events = written.stream(_until_cancelled(_after(first, chunks)))
                return ClosingStream(
                    with_comments(
                        errors_as_events(events, is_anthropic=isinstance(asked, MessagesRequest)),
                        is_waiting=not first.done(),
                    ),
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

    def _settings(self, asked: Asked) -> tuple[NestConfig, list[str]]:
        """Return the settings of a request, and what to say about them."""
        most = self._limits.new_tokens
        default = self._scheduler.engine.config
        if default.max_new_tokens == NestConfig().max_new_tokens:  # nobody has set it
            default = default.replace(max_new_tokens=None)
        config = for_turn(asked.config(default, most), Turn(opening=asked.opening()))
        return config, asked.notices(most)

    def _prompts(self, asked: Asked, config: NestConfig) -> list[tuple[str, str | None]]:
        """Return the prompts of a request, each with what to search for."""
        if isinstance(asked, CompletionsRequest):
            query = asked.options.query
            return [(text, query or text.strip() or None) for text in asked.texts]
        return [(self._prompt(asked, config), asked.query())]

    def _prompt(self, asked: Asked, config: NestConfig) -> str:
        require_variables(config.chat_template_kwargs)
        written = self._scheduler.engine.format_chat(
            asked.conversation(), tools=asked.tool_definitions(), **config.chat_template_kwargs
        )
        return written + asked.opening()

    def _submit(self, asked: Asked, config: NestConfig) -> list[PendingAnswer]:
        """Submit a request once for each answer, with consecutive seeds if there is a seed."""
        passages = asked.given_passages()
        self._limits.check(asked, passages or ())
        prompts = self._prompts(asked, config)
        answers: list[PendingAnswer] = []
        try:
            for (prompt, query), number in product(prompts, range(asked.num_choices())):
                seed = None if config.seed is None else (config.seed + number) % 2**63
                answers.append(
                    self._scheduler.submit(
                        prompt,
                        passages=passages,
                        query=query,
                        config=config,
                        reads_reasoning=not isinstance(asked, CompletionsRequest),
                        seed=seed,
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


async def _after(first: asyncio.Future[T], rest: AsyncIterator[T]) -> AsyncIterator[T]:
    """Yield what is awaited already, and then the items of an iterator."""
    try:
        yield await first
    finally:
        first.cancel()
    async for item in rest:
        yield item


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
