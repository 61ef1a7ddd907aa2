"""What keeps other sites' pages out: a browser would let them send requests to this machine."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

Refuse = Callable[[int, str], Response]
"""A status and a reason, to the response that says so."""


class Guard:
    """Refuse requests meant for another host or sent by another site's page, and send headers with every response.

    A site whose name is made to point to this machine (DNS rebinding) shows in the ``Host`` header: only ``localhost``,
    plain addresses and the name that the server was told to listen at are answered. Another site's page shows in
    ``Origin``; and since no CORS header is ever sent, it could not read an answer.

    Args:
        app: what is guarded.
        host: the name or address that the server listens at.
        headers: sent with every response: what browsers shall keep from doing.
        refuse: makes the response to a refused request.
    """

    def __init__(self, app: ASGIApp, host: str, headers: Mapping[str, str], refuse: Refuse) -> None:
        self._app = app
        self._host = host.lower()
        self._headers = headers
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        refusal = self._refusal(Headers(scope=scope))
        await (refusal or self._app)(scope, receive, send_guarded)

    def _refusal(self, headers: Headers) -> Response | None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            shown = ", ".join(hosts)[:100]
            return self._refuse(
                421, f"this server does not answer for {shown!r}; open it as localhost or by its address"
            )
        origin = headers.get("origin")
        if origin is not None and origin.lower() != f"http://{hosts[0].lower()}":
            return self._refuse(403, "only this server's own page may ask")
        return None

    def _is_ours(self, host: str) -> bool:
        name = host_name(host)
        if name in ("localhost", self._host):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def host_name(host: str) -> str:
    """Return what a ``Host`` header names, without its port and an address' brackets, in small letters."""
    name, _, port = host.lower().rpartition(":")
    name = name if port.isdigit() else host.lower()
    return name[1:-1] if name.startswith("[") and name.endswith("]") else name
