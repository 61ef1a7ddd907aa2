"""The page on a real server."""

from __future__ import annotations

from contextlib import AbstractContextManager

from starlette.applications import Starlette

from nest_engine.serving.ui.app import page_server
from tests.serving import running


def served(app: Starlette) -> AbstractContextManager[str]:
    """Serve the page in a thread, at a free port; yield its address without the trailing slash."""
    return running(app, page_server)
