"""The process between Ray's proxies and the replicas.

When a replica dies, Ray's proxy breaks off its response or answers in words of its own. Here the
replicas are called through a handle, and the client gets an error in the API's own shape.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message

from nest_engine import DecodingError, QueueFullError, SchedulerClosedError
from nest_engine.serving.server.access import OPEN, RequireKey, path_below
from nest_engine.serving.server.errors import HANDLERS
from nest_engine.serving.server.events import errors_as_events
from nest_engine.serving.web.reading import whole_body
from nest_engine.serving.web.streaming import ClosingStream, unless_disconnected
from nest_integrations.ray.access import ThisMachineOnly

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
# The fields of ASGI; servers and Starlette add others that concern their own process only.
_SCOPE = (
    *("type", "http_version", "method", "scheme", "path", "raw_path", "query_string", "root_path"),
    *("headers", "client", "server"),
)


class Ingress:
    """Hand every request to a replica, and its response back.

    Args:
        replicas: the deployment of ``Replica``.
        api_key: what clients have to send, if anything; checked before anything is read.
        body_bytes: most bytes of a body.
    """

    def __init__(
        self, replicas: DeploymentHandle[Any], *, api_key: str | None, body_bytes: int
    ) -> None:
        self._replicas = replicas.options(stream=True)
        self._access = (
            Middleware(RequireKey, key=api_key) if api_key else Middleware(ThisMachineOnly)
        )
        self._body_bytes = body_bytes

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Return the application that answers HTTP; Ray calls this once."""
        return Starlette(
            routes=[Route("/{path:path}", self._forward, methods=list(_METHODS))],
            middleware=[self._access],
            exception_handlers=HANDLERS,
        )

    async def _forward(self, request: Request) -> Response:
        body = (
            b""
            if path_below(request.scope) in OPEN
            else await whole_body(request, self._body_bytes)
        )
        scope = {name: request.scope[name] for name in _SCOPE if name in request.scope}
        # A generator, because of the handle's options.
        response: Any = self._replicas.answer.remote(scope, body)
        try:
            messages = _messages(response)
            start = await unless_disconnected(request, anext(messages))
            media_type = Headers(raw=start["headers"]).get("content-type", "")
            if media_type.startswith("text/event-stream"):
                pieces = errors_as_events(_pieces(messages))
                reply: Response = ClosingStream(
                    pieces, media_type=media_type, on_close=response.cancel
                )
            else:
                reply = Response(b"".join([piece async for piece in _pieces(messages)]))
        # Not for other failures: cancelling would raise them again.
        except (ClientDisconnect, asyncio.CancelledError):
            response.cancel()
            raise
        reply.status_code = start["status"]
        reply.raw_headers = start["headers"]
        return reply


async def _messages(response: AsyncIterator[Message]) -> AsyncIterator[Message]:
    """Yield the messages of a replica.

    Raises:
        DecodingError: if the replica has died.
        QueueFullError: if too many requests wait for one.
        SchedulerClosedError: if no replica can be started.
    """
    try:
        async for message in response:
            yield message
    except RayActorError as error:
        raise DecodingError(
            "the replica that was decoding the answer has died; ask again"
        ) from error
    except BackPressureError as error:
        raise QueueFullError(
            "every replica is busy and too many requests wait; ask again later"
        ) from error
    except DeploymentUnavailableError as error:
        raise SchedulerClosedError(
            "no replica can be started; the log of Ray Serve says why"
        ) from error


async def _pieces(messages: AsyncIterator[Message]) -> AsyncIterator[bytes]:
    """Yield the body of a response, up to its end."""
    async for message in messages:
        yield message.get("body", b"")
        if not message.get("more_body", False):
            break
