"""Allow one builder at a time, with a lock that the system releases when the process dies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from nest_engine.errors import PassageIndexError


@contextmanager
def hold(path: Path, what: str) -> Iterator[None]:
    """Hold a lock.

    Args:
        path: the lock file.
        what: what is being built, for the error message.

    Raises:
        PassageIndexError: if another process holds it.
    """
    try:
        with filelock.FileLock(path, timeout=0):
            yield
    except filelock.Timeout as error:
        raise PassageIndexError(
            f"another process is building {what}; wait for it to end"
        ) from error
