"""A local page for questions: streamed answers, their sources, and what they cost."""

from __future__ import annotations

from nest_engine.errors import MissingDependencyError

try:
    import starlette  # noqa: F401
    import uvicorn  # noqa: F401
except ImportError as missing:
    raise MissingDependencyError((missing.name or "starlette").partition(".")[0], "ui") from missing

from nest_engine.serving.ui.app import About, create_app, serve

__all__ = ["About", "create_app", "serve"]
