"""The API of `nest serve`: OpenAI's Chat Completions and Responses, with exact citations."""

from __future__ import annotations

from nest_engine.errors import MissingDependencyError

try:
    import httpx  # noqa: F401
    import prometheus_client  # noqa: F401
    import pydantic  # noqa: F401
    import starlette  # noqa: F401
    import uvicorn  # noqa: F401
except ImportError as missing:
    package = (missing.name or "starlette").partition(".")[0].replace("_", "-")
    raise MissingDependencyError(package, "serve") from missing

from nest_engine.serving.server.app import create_app, serve
from nest_engine.serving.server.limits import Limits
from nest_engine.serving.server.proxy import create_proxy

__all__ = ["Limits", "create_app", "create_proxy", "serve"]
