"""Engines in workers: each worker loads its own, with a function that is sent to it."""

from __future__ import annotations

from collections.abc import Callable

from nest_engine import ConfigError, NestEngine

LoadEngine = Callable[[], NestEngine]
"""A function without arguments that returns an engine.

It is pickled and called once in each worker. The files it opens have to be there, and the module
that defines it has to be importable there or be the main program.
"""


def require_loader(load_engine: LoadEngine) -> None:
    """Raise ``ConfigError`` unless ``load_engine`` is callable, before any worker is started."""
    if not callable(load_engine):
        raise ConfigError(
            f"load_engine is a {type(load_engine).__name__}; give a function without arguments "
            "that returns a NestEngine: every worker calls it"
        )


def loaded(load_engine: LoadEngine) -> NestEngine:
    """Return the engine of this worker.

    Raises:
        ConfigError: if ``load_engine`` returns something else.
    """
    engine = load_engine()
    if not isinstance(engine, NestEngine):
        raise ConfigError(
            f"load_engine returned a {type(engine).__name__}; it has to return a NestEngine"
        )
    return engine
