"""What benchmarks measure in a process of its own."""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a process that does nothing else."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def peak_megabytes() -> int | None:
    """Return the peak resident memory of this process; None if the system does not report it.

    Not ``ru_maxrss``: a child process inherits that from its parent.
    """
    status = Path("/proc/self/status")
    match = (
        re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.MULTILINE)
        if status.exists()
        else None
    )
    return round(int(match[1]) * 1024 / 1e6) if match else None
