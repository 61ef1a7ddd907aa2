"""The page's server: static files, a description, and one endpoint that streams an answer."""

from __future__ import annotations

import io
import json
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from nest_engine._validation import require_text
from nest_engine.config import Method, NestConfig
from nest_engine.errors import InputError, NestError
from nest_engine.records import Citation
from nest_engine.retrieval.page_picture import page_picture
from nest_engine.serving.ui.answering import AnswerRunner, RunningAnswer
from nest_engine.serving.web.guard import Guard
from nest_engine.serving.web.listening import server
from nest_engine.serving.web.reading import json_body
from nest_engine.serving.web.streaming import ClosingStream

if TYPE_CHECKING:
    import uvicorn

    from nest_engine.engine import NestEngine

BUSY = "another question is being answered; ask again when it is done"

_STATIC = Path(__file__).parent / "static"
_LONGEST_BODY = 65_536  # bytes
_SECONDS_TO_CLOSE = 5  # for a client that has sent half a question
# The page runs its own script and style and talks to its own server only. Trusted Types turns any
# attempt to make HTML out of a string into an error.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_SETTINGS = ("method", "own_words", "gamma", "max_new_tokens")
_SUMMARIES: dict[Method, str] = {
    "ra-nest": "passages in the prompt, and the sentences that answer quoted whole",
    "nest": "the same, without the passages in the prompt",
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


def create_app(
    engine: NestEngine, about: About, *, host: str = "127.0.0.1", patience: float = 2.0
) -> Starlette:
    """Return the ASGI application of the page.

    Args:
        engine: answers the questions, one at a time.
        about: what the page says about itself.
        host: the name or address that the server listens at; requests for other names are refused.
        patience: seconds a question waits while another is being answered, before it is turned
            away.

    Returns:
        the application.
    """
    runner = AnswerRunner(engine, patience)

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
            question, settings = _read(await json_body(request, _LONGEST_BODY))
            config = engine.config.replace(**settings)
        except NestError as error:
            return _refuse(400, str(error))
        except ClientDisconnect:  # in the middle of the question
            return Response(status_code=400)
        answer = await runner.start(question, config)
        if answer is None:
            return JSONResponse({"error": BUSY}, 503, headers={"Retry-After": "1"})
        return ClosingStream(
            _lines(answer), media_type="application/x-ndjson", on_close=answer.cancel
        )

    async def page(request: Request) -> Response:
        # Only what the server itself has read and shown: no path comes from the request.
        given = request.query_params
        passage = runner.passage(given.get("passage", ""))
        if passage is None:
            return _refuse(404, "no answer that was shown has this passage; ask again")
        try:
            span = int(given.get("start", "")), int(given.get("end", ""))
            citation = Citation.of(passage, span, (0, 0))
            picture = await run_in_threadpool(page_picture, citation)
        except (ValueError, NestError) as error:
            return _refuse(404, str(error))
        written = io.BytesIO()
        picture.save(written, "PNG")
        return Response(written.getvalue(), media_type="image/png")

    app = Starlette(
        routes=[
            Route("/", index),
            Route("/api/about", describe),
            Route("/api/ask", ask, methods=["POST"]),
            Route("/api/page", page),
            Mount("/static", StaticFiles(directory=_STATIC)),
        ],
        middleware=[Middleware(Guard, host=host, headers=_HEADERS, refuse=_refuse)],
    )
    app.state.runner = runner
    return app


def page_server(app: Starlette) -> uvicorn.Server:
    """Return a server for an application of ``create_app``; stopping it cancels the answer."""
    return server(app, seconds_to_close=_SECONDS_TO_CLOSE, on_stop=app.state.runner.close)


def serve(app: Starlette, listening: socket.socket) -> None:
    """Serve until interrupted.

    Args:
        app: the application.
        listening: where to serve it.
    """
    page_server(app).run(sockets=[listening])


async def _lines(answer: RunningAnswer) -> AsyncIterator[str]:
    async for event in answer.events():
        yield json.dumps(event) + "\n"


def _method(config: NestConfig) -> dict[str, Any]:
    """Describe a method for the page; what has no effect on it is None."""
    relaxes = config.uses_datastore and config.method != "lossless" and config.max_draft_tokens > 1
    return {
        "name": config.method,
        "summary": _SUMMARIES[config.method],
        "own_words": config.own_words if config.by_sentence else None,
        "gamma": config.gamma if relaxes else None,
    }


def _refuse(status: int, reason: str) -> Response:
    return JSONResponse({"error": reason}, status)


def _read(body: bytes) -> tuple[str, dict[str, Any]]:
    """Return the question and the settings of a request.

    Raises:
        InputError: if they are not valid.
    """
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the request is not JSON: {error}") from error
    if not isinstance(asked, Mapping):
        raise InputError(
            f"the request holds a JSON {type(asked).__name__}; send an object with a question"
        )
    settings = dict(asked)
    question = settings.pop("question", "")
    require_text("question", question)
    if not question.strip():
        raise InputError("the question is empty")
    if unknown := settings.keys() - set(_SETTINGS):
        raise InputError(
            f"{min(unknown)!r} cannot be set here; question and {', '.join(_SETTINGS)} can"
        )
    return question, settings
