"""One small Ray cluster for the tests of this folder, and nothing that leaves the machine."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator

import pytest

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read when Ray is imported and by every process that it starts
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # otherwise Ray writes one to the home directory


@pytest.fixture(scope="package")
def cluster() -> Iterator[None]:
    """A cluster on this machine. Its CPUs are numbers that Ray counts with: nothing is pinned to cores."""
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
    try:
        ray.init(**options)
    except Exception:  # Ray gives itself thirty seconds to start, which a busy machine may not keep
        ray.shutdown()
        ray.init(**options)
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="package")
def serving(cluster: None) -> Iterator[str]:
    """Ray Serve; its address, without the trailing slash."""
    from ray import serve

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve.start(http_options={"host": "127.0.0.1", "port": port}, logging_config={"log_level": "ERROR"})
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()
