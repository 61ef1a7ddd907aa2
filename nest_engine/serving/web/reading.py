"""Reading the bodies of requests, up to a limit."""

from __future__ import annotations

from starlette.requests import Request

from nest_engine.errors import InputError


class TooLongError(InputError):
    """The body of a request is longer than it may be."""


class NotJSONError(InputError):
    """The body of a request is not declared to be JSON."""


async def json_body(request: Request, longest: int) -> bytes:
    """Return the body of a request that is declared to be JSON.

    Args:
        request: the request.
        longest: most bytes to read.

    Raises:
        NotJSONError: if the body is of another type. Browsers let other sites' pages send plain
            text without a preflight, but not JSON.
        TooLongError: if it is longer; the rest is not read.
        ClientDisconnect: if the client leaves in the middle of it.
    """
    content_type = request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise NotJSONError(f"the request is of type {content_type[:100]!r}; send application/json")
    return await whole_body(request, longest)


async def whole_body(request: Request, longest: int) -> bytes:
    """Return the body of a request.

    Args:
        request: the request.
        longest: most bytes to read.

    Raises:
        TooLongError: if it is longer; the rest is not read.
        ClientDisconnect: if the client leaves in the middle of it.
    """
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > longest:
            raise TooLongError(f"the request is longer than {longest:,} bytes; send a shorter one")
    return bytes(body)
