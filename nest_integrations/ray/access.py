"""Access without a key: for this machine only."""

from __future__ import annotations

import ipaddress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from nest_engine.serving.server.errors import error_response
from nest_engine.serving.web.guard import host_name


class ThisMachineOnly:
    """Refuse requests that come from another machine, or are meant for another one.

    Where Ray's proxies listen cannot be known here, so each request is looked at: Ray's proxy
    passes on the address of its client. Another proxy in front of it shows in the ``Host`` header.

    Args:
        app: the application behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        app = self._app
        if scope["type"] == "http":
            client = (scope.get("client") or ("",))[0]
            hosts = Headers(scope=scope).getlist("host")
            if not (_is_loopback(client) and all(_is_loopback(host_name(host)) for host in hosts)):
                app = error_response(
                    403,
                    "without a key, only the machine itself may ask; give serve_app an api_key, or "
                    "ask localhost",
                )
        await app(scope, receive, send)


def _is_loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
