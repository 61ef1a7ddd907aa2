"""Listening and serving."""

from __future__ import annotations

import errno
import os
import socket

import uvicorn
from starlette.applications import Starlette

from nest_engine.errors import InputError

_SECONDS_TO_CLOSE = 5  # for a client that has sent half a question


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens, so that a taken port shows before a model is loaded.

    Args:
        host: name or address.
        port: 0 takes any free port.

    Raises:
        InputError: if the port is taken or the address is not this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        try:
            if os.name == "posix":  # a port just left is free; on Windows the option would share it with others
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen()
        except OSError:
            listening.close()
            raise
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = f"port {port} of {host} is taken; choose another with --port, or any free one with --port 0"
            raise InputError(reason) from error
        raise InputError(f"cannot listen at {host}, port {port}: {error.strerror or error}") from error
    return listening


def url_of(listening: socket.socket, host: str) -> str:
    """Return the address to open in a browser."""
    port = listening.getsockname()[1]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def serve(app: Starlette, listening: socket.socket) -> None:
    """Serve until interrupted.

    Args:
        app: the application.
        listening: where to serve it.
    """
    server(app).run(sockets=[listening])


def server(app: Starlette) -> uvicorn.Server:
    """Return a quiet server for an application of ``create_app``."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=_SECONDS_TO_CLOSE,
    )
    return _Server(config, app)


class _Server(uvicorn.Server):
    """A server that does not wait for an answer in the making when it is stopped."""

    def __init__(self, config: uvicorn.Config, app: Starlette) -> None:
        super().__init__(config)
        self._desk = app.state.desk

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._desk.close()
        await super().shutdown(sockets)
