"""Errors in the shape that OpenAI's clients expect."""

from __future__ import annotations

import logging
from typing import Any

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from nest_engine.errors import (
    ConfigError,
    ContextOverflowError,
    DecodingError,
    InputError,
    NestError,
    QueueFullError,
    RetrievalError,
    SchedulerClosedError,
)
from nest_engine.serving.server.requests import problems
from nest_engine.serving.web.reading import NotJSONError, TooLongError

RETRY_SECONDS = 1
MESSAGES = "/v1/messages"  # Anthropic's API has errors in a shape of its own
_SEARCH_FAILED = "passage_search_failed"
_logger = logging.getLogger(__name__)


class UnknownModelError(InputError):
    """A request names a model that this server does not have."""


class UpstreamError(NestError):
    """The server behind this one cannot be reached, or breaks off."""


# The first match counts, so subclasses come before their base classes.
_STATUSES: tuple[tuple[type[Exception], int, str | None], ...] = (
    (ContextOverflowError, 400, "context_length_exceeded"),
    (UnknownModelError, 404, "model_not_found"),
    (NotJSONError, 415, None),
    (TooLongError, 413, None),
    (InputError, 400, None),
    (ConfigError, 400, None),
    (QueueFullError, 503, "queue_full"),
    (SchedulerClosedError, 503, "closed"),
    (DecodingError, 500, "decoding_failed"),
    (UpstreamError, 502, "upstream_failed"),
)


def error_body(
    status: int, message: str, *, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """Return an error in OpenAI's shape."""
    kind = (
        "authentication_error"
        if status == 401
        else "invalid_request_error"
        if status < 500
        else "server_error"
    )
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def error_response(
    status: int, message: str, *, param: str | None = None, code: str | None = None
) -> JSONResponse:
    """Return the response for an error; a 503 says when to ask again."""
    return JSONResponse(error_body(status, message, param=param, code=code), status, _retry(status))


def _retry(status: int) -> dict[str, str] | None:
    return {"Retry-After": str(RETRY_SECONDS)} if status == 503 else None


def status_and_body(error: Exception) -> tuple[int, dict[str, Any]]:
    """Return status and body for an exception; details of the server go to the log alone."""
    if isinstance(error, RetrievalError):  # a store's message may hold addresses and queries
        _logger.error("%s", error)
        return 502, error_body(
            502, "the passage search failed; the server's log says more", code=_SEARCH_FAILED
        )
    for kind, status, code in _STATUSES:
        if isinstance(error, kind):
            return status, error_body(status, str(error), code=code)
    if not isinstance(error, NestError):
        _logger.error("%s: %s", type(error).__name__, error, exc_info=error)
    return 500, error_body(
        500, f"the server failed ({type(error).__name__}); its log says more", code="internal_error"
    )


def as_anthropic(status: int, body: dict[str, Any]) -> dict[str, Any]:
    """Return an error body in the shape that Anthropic's clients read too."""
    kinds = {404: "not_found_error", 413: "request_too_large", 429: "rate_limit_error"}
    kind = "api_error" if status >= 500 else kinds.get(status, body["error"]["type"])
    return {"type": "error", "error": body["error"] | {"type": kind}}


async def on_error(request: Request, error: Exception) -> Response:
    """Answer a request that failed."""
    if isinstance(error, ClientDisconnect):
        return Response(status_code=400)  # nobody reads it
    if isinstance(error, ValidationError):
        message, param = problems(list(error.errors(include_url=False)))
        status, body = 400, error_body(400, message, param=param)
    else:
        status, body = status_and_body(error)
    if MESSAGES in request.url.path:
        return JSONResponse(as_anthropic(status, body), status, _retry(status))
    return error_response(
        status, **{name: body["error"][name] for name in ("message", "param", "code")}
    )


async def on_http_error(request: Request, error: Exception) -> Response:
    """Answer a request for an unknown path or method."""
    status = getattr(error, "status_code", 500)
    openapi = f"{request.scope.get('root_path', '')}/openapi.json says what"
    message = {
        404: f"{request.url.path} does not exist; {openapi} does",
        405: f"{request.url.path} does not take {request.method}; {openapi} it takes",
    }.get(status, str(getattr(error, "detail", error)))
    response = error_response(status, message)
    if MESSAGES in request.url.path:
        response = JSONResponse(as_anthropic(status, error_body(status, message)), status)
    response.headers.update(getattr(error, "headers", None) or {})
    return response


HANDLERS: dict[Any, Any] = {
    HTTPException: on_http_error,
    **dict.fromkeys((NestError, ValidationError, ClientDisconnect, Exception), on_error),
}
"""The handler for each kind of exception, for Starlette."""
