"""Citation formats under their documented name: see :mod:`nest_engine.citations.formats`."""

from nest_engine.citations.formats import *  # noqa: F403
