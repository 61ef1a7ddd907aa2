"""What the package offers, and what it needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("ray", reason="needs: pip install 'nest-engine[ray]'")

from nest_integrations import ray


def test_public_names():
    assert ray.__all__ == ["build_keys", "generate_rows", "serve_app"]
    assert all(getattr(ray, name).__doc__ for name in ray.__all__)


def test_import_without_ray_names_the_install_command():
    program = "import sys; sys.modules['ray'] = None; import nest_integrations.ray"
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False
    )
    assert (
        "MissingDependencyError: ray is not installed; run: pip install 'nest-engine[ray]'"
        in finished.stderr
    )
