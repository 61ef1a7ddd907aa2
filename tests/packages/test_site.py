"""The site: it builds without a warning, and its reference has every public name."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PUBLIC = [
    "nest_engine",
    "nest_engine.evaluation",
    "nest_engine.retrieval",
    "nest_engine.server",
    "nest_integrations.langchain",
    "nest_integrations.llama_index",
    "nest_integrations.ray",
]
CONSTANTS = {"METHODS", "METRICS", "SETTINGS", "TASKS", "__version__"}


def test_it_builds_without_a_warning(tmp_path: Path) -> None:
    """Which includes that every link and every anchor leads somewhere."""
    pytest.importorskip("mkdocstrings", reason="needs: pip install 'mkdocstrings[python]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "WARNING -" not in done.stderr
    engine = (tmp_path / "reference" / "engine" / "index.html").read_text(encoding="utf-8")
    assert 'id="nest_engine.NestEngine.generate_batch"' in engine


@pytest.mark.parametrize("module", PUBLIC)
def test_the_reference_has_every_public_name(module: str) -> None:
    listed = {
        name.rpartition(".")[2]
        for page in (ROOT / "docs" / "reference").glob("*.md")
        for name in re.findall(r"^::: (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    }
    errors = {name for name in importlib.import_module("nest_engine.errors").__dict__}
    names = set(importlib.import_module(module).__all__) - CONSTANTS - errors
    assert sorted(names - listed) == []


def test_every_page_has_a_place_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert sorted(page for page in pages if f": {page}" not in navigation) == []
