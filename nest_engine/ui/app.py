"""The page's server: three files, what there is to ask, and one endpoint that streams an answer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from nest_engine.config import Method, NestConfig
from nest_engine.errors import InputError, NestError
from nest_engine.types import require_text
from nest_engine.ui.answering import Desk, RunningAnswer
from nest_engine.ui.guard import Guard

if TYPE_CHECKING:
    from nest_engine.engine import NestEngine

BUSY = "another question is being answered; ask again when it is done"

_STATIC = Path(__file__).parent / "static"
_LONGEST_BODY = 65_536  # bytes
_SETTINGS = ("method", "gamma", "max_new_tokens")
_SUMMARIES: dict[Method, str] = {
    "nest": "mixes model and passages, copies and verifies spans",
    "ra-nest": "the same, with the best passages in the prompt as well",
    "lossless": "copies only what the model would have said anyway",
    "ra": "passages in the prompt, nothing else",
    "knn-lm": "fixed mixture, token by token",
    "lm": "the model alone",
}


@dataclass(frozen=True)
class About:
    """What the page says about itself.

    Args:
        model: name of the model.
        corpus: what the answers quote from.
        questions: examples to ask.
    """

    model: str
    corpus: str
    questions: tuple[str, ...] = field(default=())


def create_app(engine: NestEngine, about: About, *, host: str = "127.0.0.1", patience: float = 2.0) -> Starlette:
    """Return the ASGI application of the page.

    Args:
        engine: answers the questions, one at a time.
        about: what the page says about itself.
        host: the name or address that the server listens at; requests for other names are refused.
        patience: seconds a question waits while another is being answered, before it is turned away.
    """
    desk = Desk(engine, patience)

    async def index(_: Request) -> Response:
        return FileResponse(_STATIC / "index.html")

    async def describe(_: Request) -> Response:
        config = engine.config
        return JSONResponse(
            {
                "model": about.model,
                "corpus": about.corpus,
                "questions": list(about.questions),
                "method": config.method,
                "max_new_tokens": config.max_new_tokens,
                "methods": [_method(config.replace(method=method)) for method in _SUMMARIES],
            }
        )

    async def ask(request: Request) -> Response:
        try:
            question, settings = _read(request.headers.get("content-type", ""), await _body(request))
            config = engine.config.replace(**settings)
        except NestError as error:
            return JSONResponse({"error": str(error)}, 400)
        except ClientDisconnect:  # in the middle of the question
            return Response(status_code=400)
        answer = await desk.start(question, config)
        if answer is None:
            return JSONResponse({"error": BUSY}, 503, headers={"Retry-After": "1"})
        return AnswerResponse(answer)

    app = Starlette(
        routes=[
            Route("/", index),
            Route("/api/about", describe),
            Route("/api/ask", ask, methods=["POST"]),
            Mount("/static", StaticFiles(directory=_STATIC)),
        ],
        middleware=[Middleware(Guard, host=host)],
    )
    app.state.desk = desk
    return app


class AnswerResponse(StreamingResponse):
    """An answer as lines of JSON while it is made; a closed connection cancels it.

    Args:
        answer: the answer in the making.
    """

    def __init__(self, answer: RunningAnswer) -> None:
        super().__init__(_lines(answer), media_type="application/x-ndjson")
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer, until it is complete or nobody reads it any more."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._answer.cancel()


async def _lines(answer: RunningAnswer) -> AsyncIterator[str]:
    async for event in answer.events():
        yield json.dumps(event) + "\n"


def _method(config: NestConfig) -> dict[str, Any]:
    """Return what the page needs to know of a method; ``gamma`` is None where nothing depends on it."""
    relaxes = config.uses_datastore and config.method != "lossless" and config.max_draft_tokens > 1
    gamma = config.gamma if relaxes else None
    return {"name": config.method, "summary": _SUMMARIES[config.method], "gamma": gamma}


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _LONGEST_BODY:
            raise InputError(f"the request is longer than {_LONGEST_BODY:,} bytes; ask a shorter question")
    return bytes(body)


def _read(content_type: str, body: bytes) -> tuple[str, dict[str, Any]]:
    """Return the question and the settings of a request.

    Raises:
        InputError: if there are none.
    """
    # A page of another site can send plain text without asking first, but not this type.
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise InputError(f"the request is of type {content_type[:100]!r}; send application/json")
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the request is not JSON: {error}") from error
    if not isinstance(asked, Mapping):
        raise InputError(f"the request holds a JSON {type(asked).__name__}; send an object with a question")
    settings = dict(asked)
    question = settings.pop("question", "")
    require_text("question", question)
    if not question.strip():
        raise InputError("the question is empty")
    if unknown := settings.keys() - set(_SETTINGS):
        raise InputError(f"{min(unknown)!r} cannot be set here; question and {', '.join(_SETTINGS)} can")
    return question, settings
