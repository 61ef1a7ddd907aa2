"""The API server under its documented name: see :mod:`nest_engine.serving.server`."""

from nest_engine.serving.server import Limits, create_app, create_proxy, serve
from nest_engine.serving.web.listening import listen

__all__ = ["Limits", "create_app", "create_proxy", "listen", "serve"]
