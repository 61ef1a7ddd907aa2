"""Protection from other sites' pages, which browsers let send requests to this machine."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

Refuse = Callable[[int, str], Response]
"""Makes the response from a status and a reason."""


class Guard:
    """Refuse requests for another host or from another site's page.

    A site whose name is made to point to this machine (DNS rebinding) shows in the ``Host`` header:
    only ``localhost``, plain addresses and the name that the server listens at are answered.
    Another site's page shows in ``Origin``. It could not read an answer either, since no CORS
    header is ever sent.

    Args:
        app: the application behind it.
        host: the name or address that the server listens at.
        headers: sent with every response, to restrict what browsers do.
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
                421,
                f"this server does not answer for {shown!r}; open it as localhost or by its "
                f"address",
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
    """Return the name in a ``Host`` header in lower case, without port and brackets."""
    name, _, port = host.lower().rpartition(":")
    name = name if port.isdigit() else host.lower()
    return name[1:-1] if name.startswith("[") and name.endswith("]") else name
