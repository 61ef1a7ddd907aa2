"""Protection from other sites' pages, which browsers let send requests to this machine."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

Refuse = Callable[[int, str], Response]
"""Makes the response from a status and a reason."""


class Guard:
    """Refuse requests for another host or from another site's page.

    A site whose name is made to point to this machine (DNS rebinding) shows in the ``Host`` header:
    only ``localhost``, plain addresses and the name that the server listens at are answered.
    Another site's page shows in ``Origin``. It could not read an answer either, since CORS headers
    are sent to pages that are let in and to no others.

    Args:
        app: the application behind it.
        host: the name or address that the server listens at.
        headers: sent with every response, to restrict what browsers do.
        refuse: makes the response to a refused request.
        also_hosts: other names that are answered: one (``gpu.local``), all below one (``*.lan`` or
            ``.lan``) or any (``*``); None where there is no option for them.
        also_origins: pages of other sites that may ask; likewise.
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        headers: Mapping[str, str],
        refuse: Refuse,
        also_hosts: Sequence[str] | None = None,
        also_origins: Sequence[str] | None = None,
    ) -> None:
        self._app = app
        others = list(map(host_name, also_hosts or ()))
        self._hosts = {"localhost", host.lower(), *others}
        self._endings = tuple(
            name.removeprefix("*")
            for name in others
            if name == "*" or name[:2] == "*." or name[:1] == "."
        )
        self._origins = {origin.lower().rstrip("/") for origin in also_origins or ()}
        self._has_options = also_hosts is not None
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
            way_in = f"; --allow-host {host_name(shown)} lets it in" if self._has_options else ""
            return self._refuse(
                421,
                f"this server does not answer for {shown!r}; open it as localhost or by its "
                f"address{way_in}",
            )
        origin = headers.get("origin")
        if origin is not None and not self._may_ask(origin.lower(), hosts[0].lower()):
            way_in = f"; --allow-origin {origin[:100]} lets it in" if self._has_options else ""
            return self._refuse(403, f"only this server's own page may ask{way_in}")
        return None

    def _may_ask(self, origin: str, host: str) -> bool:
        return origin == f"http://{host}" or origin in self._origins or "*" in self._origins

    def _is_ours(self, host: str) -> bool:
        name = host_name(host)
        if name in self._hosts or name.endswith(self._endings):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def cross_origin(origins: Sequence[str]) -> Middleware:
    """Return what lets pages of other sites read answers.

    Args:
        origins: such as ``https://example.org``; ``*`` means any.
    """
    return Middleware(
        CORSMiddleware,
        allow_origins=[origin.lower().rstrip("/") for origin in origins],
        allow_methods=["*"],
        allow_headers=["*"],
    )


def host_name(host: str) -> str:
    """Return the name in a ``Host`` header or an address, without port and brackets."""
    host = host.lower().rpartition("://")[2].rstrip("/")
    name, _, port = host.rpartition(":")
    name = name if port.isdigit() else host
    return name[1:-1] if name.startswith("[") and name.endswith("]") else name
