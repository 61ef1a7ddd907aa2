"""Who may ask without a key: this machine."""

from __future__ import annotations

import ipaddress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from nest_engine.server.errors import error_response
from nest_engine.web.guard import host_name


class ThisMachineOnly:
    """Refuse requests that come from another machine, or are meant for another one.

    A replica cannot know where Ray's proxies listen, so it looks at each request: the proxy passes on the address of
    its client. A proxy of another kind in front of Ray's shows in the ``Host`` that its clients asked for.

    Args:
        app: what is behind the door.
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
                    403, "without a key, only the machine itself may ask; give serve_app an api_key, or ask localhost"
                )
        await app(scope, receive, send)


def _is_loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
