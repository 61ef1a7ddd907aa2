"""A real server on this machine, for the length of a test."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette

from nest_engine.serving.web.listening import listen, url_of


@contextmanager
def running(app: Starlette, make_server: Callable[[Starlette], uvicorn.Server]) -> Iterator[str]:
    """Serve an application in a thread, at a free port; yield its address, no slash at its end."""
    with listen("127.0.0.1", 0) as listening:
        server = make_server(app)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            yield url_of(listening, "127.0.0.1").rstrip("/")
        finally:
            server.should_exit = True
            thread.join()
