"""One small Ray cluster for the tests of this folder, and nothing that leaves the machine."""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator

import pytest

# Read when Ray is imported, and by every process that it starts.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # Ray would write one to the home directory


@pytest.fixture(scope="package")
def cluster() -> Iterator[None]:
    """A cluster on this machine. Its CPUs are numbers that Ray counts with, not cores."""
    ray = pytest.importorskip("ray", reason="needs: pip install 'nest-engine[ray]'")
    folder = tempfile.mkdtemp(prefix="ray-")  # short: Ray puts sockets there
    options = {
        "num_cpus": 8,
        "object_store_memory": 100 * 2**20,
        "include_dashboard": False,
        "log_to_driver": False,
        "logging_level": "warning",
        "_node_ip_address": "127.0.0.1",
        "_temp_dir": folder,
    }
    for attempt in range(5):
        try:
            ray.init(**options)
            break
        except Exception:  # Ray gives itself thirty seconds, which a busy machine may not keep
            ray.shutdown()
            if attempt == 4:
                raise
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="package")
def serving(cluster: None) -> Iterator[str]:
    """Ray Serve; its address, without the trailing slash."""
    from ray import serve

    port = _free_port()
    serve.start(
        http_options={"host": "127.0.0.1", "port": port}, logging_config={"log_level": "ERROR"}
    )
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()


def _free_port() -> int:
    """A port that nobody gets by chance before Ray Serve takes it.

    Ray hands out those from 10,000 on, systems those from 32,768 on.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as attempt, contextlib.suppress(OSError):
            attempt.bind(("127.0.0.1", port))
            return port
