"""Import optional libraries at the moment a class needs them."""

from __future__ import annotations

import importlib
from types import ModuleType

from nest_engine.errors import MissingDependencyError


def require(module: str, package: str, extra: str = "retrieval") -> ModuleType:
    """Import a library of an extra.

    Args:
        module: the name to import.
        package: the distribution's name on PyPI.
        extra: the extra of ``nest-engine`` that includes it.

    Raises:
        MissingDependencyError: if it is not installed. A library that is installed but broken
            raises its own error.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise MissingDependencyError(package, extra) from error
