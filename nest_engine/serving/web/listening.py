"""Listening and serving."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from contextlib import suppress

import uvicorn
from starlette.applications import Starlette

from nest_engine.errors import InputError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens, so that a taken port shows before a model is loaded.

    Args:
        host: name or address.
        port: 0 takes any free port.

    Raises:
        InputError: if the port is taken or the address is not this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )[0]
        listening = socket.socket(family, kind, protocol)
        try:
            # A port that was just closed is free; on Windows the option would share the port.
            if os.name == "posix":
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen()
        except OSError:
            listening.close()
            raise
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = (
                f"port {port} of {host} is taken; choose another with --port, or any free one with "
                "--port 0"
            )
            raise InputError(reason) from error
        raise InputError(
            f"cannot listen at {host}, port {port}: {error.strerror or error}"
        ) from error
    return listening


def url_of(listening: socket.socket, host: str) -> str:
    """Return the address to open in a browser."""
    port = listening.getsockname()[1]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def server(
    app: Starlette, *, seconds_to_close: int, on_stop: Callable[[], None] | None = None
) -> uvicorn.Server:
    """Return a quiet server; ``run(sockets=[...])`` serves until interrupted.

    Args:
        app: the application.
        seconds_to_close: how long pending requests may take once the server is stopped.
        on_stop: called when the server is stopped, before it waits for them.
    """
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=seconds_to_close,
    )
    return _Server(config, on_stop)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_stop: Callable[[], None] | None) -> None:
        super().__init__(config)
        self._on_stop = on_stop

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        with suppress(KeyboardInterrupt):  # the usual way to end it
            super().run(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._on_stop is not None:
            self._on_stop()
        await super().shutdown(sockets)
