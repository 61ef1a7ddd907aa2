"""Where converted models are kept: a folder that people can find and delete (``nest cache``)."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """Return ``$NEST_CACHE``, or ``nest-engine`` in the user's cache folder; it may not exist."""
    if given := os.environ.get("NEST_CACHE"):
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "nest-engine"


def models_folder() -> Path:
    """Return where the models are: one folder for each, and nothing else."""
    return cache_folder() / "models"


def write_whole(file: Path, text: str) -> None:
    """Write a file that is there as a whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=file.parent, suffix=".partial", delete=False
    ) as partial:
        partial.write(text)
    Path(partial.name).replace(file)
