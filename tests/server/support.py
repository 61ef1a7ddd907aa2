"""Servers of the API, and what their tests ask."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from nest_engine import NestEngine, Scheduler
from nest_engine.serving.server import create_app
from nest_engine.serving.server.app import api_server
from tests.serving import running
from tests.ui.support import SECONDS, scripted_engine

MODEL = "scripted"
QUESTION = "What is helium?"
ASKED = {"model": MODEL, "messages": [{"role": "user", "content": QUESTION}]}


@contextmanager
def served(
    engine: NestEngine, *, scheduling: dict[str, int] | None = None, **options: Any
) -> Iterator[str]:
    """Serve an engine; yield the address without the trailing slash."""
    scheduler = Scheduler(engine, **(scheduling or {}))
    try:
        with running(create_app(scheduler, model=MODEL, **options), api_server) as address:
            yield address
    finally:
        scheduler.close(drain=False)


def faithful_engine() -> NestEngine:
    """Return an engine that says ``SAID``, and copies what its passages hold of it."""
    engine = scripted_engine()
    engine.config = engine.config.replace(method="lossless")
    return engine


class Connection:
    """A connection to a server; what it asked is read piece by piece."""

    def __init__(
        self,
        address: str,
        path: str,
        body: Any = None,
        *,
        method: str | None = None,
        **headers: str,
    ) -> None:
        parts = urlsplit(address)
        assert parts.hostname
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=SECONDS)
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        typed = {"Content-Type": "application/json"} if body is not None else {}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request(
            method or ("GET" if body is None else "POST"), path, content, typed | named
        )

    @property
    def socket(self) -> socket.socket:
        assert self._connection.sock
        return self._connection.sock

    def response(self) -> http.client.HTTPResponse:
        return self._connection.getresponse()

    def close(self) -> None:
        """Leave, without a word."""
        self._connection.close()


def ask(address: str, path: str, body: Any = None, **options: Any) -> tuple[int, dict[str, Any]]:
    """Return status and JSON of a reply."""
    connection = Connection(address, path, body, **options)
    response = connection.response()
    read = response.read()
    connection.close()
    return response.status, json.loads(read)


def events(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """Yield the data of server-sent events."""
    assert response.status == 200
    assert (response.getheader("content-type") or "").startswith("text/event-stream")
    for line in response:
        if line.startswith(b"data: ") and line.strip() != b"data: [DONE]":
            yield json.loads(line[len(b"data: ") :])


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)
