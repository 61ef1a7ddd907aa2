"""Who may ask: whoever has the API key, or where there is none, this machine."""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from nest_engine.serving.server.errors import (
    MESSAGES,
    as_anthropic,
    error_body,
    error_response,
)
from nest_engine.serving.web.guard import Guard, cross_origin

_SPACE = " \t"  # what HTTP allows around a header; stripping more would cut non-ASCII letters
OPEN = frozenset({"/health"})  # paths that need no key


def path_below(scope: Scope) -> str:
    """Return the path of a request below the one that the application is mounted at."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


def access(
    host: str,
    api_key: str | None,
    allow_hosts: Sequence[str] = (),
    allow_origins: Sequence[str] = (),
) -> list[Middleware]:
    """Return what stands in front of the routes of a server.

    A key keeps other sites' pages out by itself, and whoever has it may use any host name.

    Args:
        host: the name or address that the server listens at.
        api_key: required on every route but ``/health``; None requires none.
        allow_hosts: other names that the server is reached by.
        allow_origins: pages of other sites that may ask.
    """
    guard = Middleware(
        Guard,
        host=host,
        headers=_HEADERS,
        refuse=error_response,
        also_hosts=allow_hosts,
        also_origins=allow_origins,
    )
    shared = [cross_origin(allow_origins)] if allow_origins else []
    if api_key is None:
        return [*shared, guard]
    return [*shared, Middleware(RequireKey, key=api_key, has_options=True)]


class RequireKey:
    """Refuse requests without the key, except on ``OPEN`` paths.

    Args:
        app: the application behind it.
        key: what ``Authorization: Bearer``, or ``x-api-key``, has to carry.
        has_options: whether there is an option that lets pages of other sites in.
    """

    def __init__(self, app: ASGIApp, key: str, *, has_options: bool = False) -> None:
        self._app = app
        self._has_options = has_options
        self._expected = key.strip(_SPACE).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        app = self._app
        if scope["type"] == "http" and path_below(scope) not in OPEN:
            headers = Headers(scope=scope)
            scheme, _, given = headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer":
                given = headers.get("x-api-key", "")  # Anthropic's clients
            if not hmac.compare_digest(given.strip(_SPACE).encode("latin-1"), self._expected):
                reason = "the API key is missing or wrong; send it as Authorization: Bearer KEY"
                is_preflight = scope["method"] == "OPTIONS" and "origin" in headers
                if is_preflight and self._has_options:
                    # A browser asks whether a page may ask, and sends no key with that.
                    origin = headers["origin"][:100]
                    reason = f"pages of other sites may not ask; --allow-origin {origin} lets it in"
                refusal = error_response(401, reason, code="invalid_api_key")
                if MESSAGES in scope["path"]:
                    body = error_body(401, reason, code="invalid_api_key")
                    refusal = JSONResponse(as_anthropic(401, body), 401)
                refusal.headers["WWW-Authenticate"] = "Bearer"
                app = refusal
        await app(scope, receive, send)
