"""One small Ray cluster for the tests of this folder, and nothing that leaves the machine."""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator

import pytest

# Read when Ray is imported, and by every process that it starts.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# Ray Serve kills a proxy that three times does not answer within these seconds (else 5 and 10).
# On a busy machine it has not even started by then.
os.environ["RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S"] = "60"
os.environ["RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S"] = "60"
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
    # Ray gives itself thirty seconds, which a busy machine may not keep.
    _patiently(lambda: ray.init(**options), ray.shutdown)
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="package")
def serving(cluster: None) -> Iterator[str]:
    """Ray Serve; its address, without the trailing slash."""
    from ray import serve

    port = _free_port()
    http = {"host": "127.0.0.1", "port": port}
    # Ray Serve gives its proxy sixty seconds.
    _patiently(
        lambda: serve.start(http_options=http, logging_config={"log_level": "ERROR"}),
        serve.shutdown,
    )
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()


def _patiently(start: Callable[[], object], clean_up: Callable[[], object]) -> None:
    """Start something that gives itself a fixed time; where that is too short, start it again."""
    for attempt in range(5):
        try:
            start()
            return
        except Exception:
            clean_up()
            if attempt == 4:
                raise


def _free_port() -> int:
    """A port that nobody gets by chance before Ray Serve takes it.

    Ray hands out those from 10,000 on, systems those from 32,768 on.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as attempt, contextlib.suppress(OSError):
            attempt.bind(("127.0.0.1", port))
            return port
