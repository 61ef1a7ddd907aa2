"""The public surface: breaking it is deliberate, and importing it costs little."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import nest_engine
from nest_engine import errors

PUBLIC = [
    "METHODS",
    "Citation",
    "CitationStream",
    "CitedAnswer",
    "Citer",
    "ConfigError",
    "ContextOverflowError",
    "CorruptIndexError",
    "DecodeStats",
    "DecodingError",
    "IndexMismatchError",
    "InputError",
    "KeyCache",
    "KeyStore",
    "LanguageModel",
    "MissingDependencyError",
    "ModelLoadError",
    "NestChunk",
    "NestConfig",
    "NestEngine",
    "NestError",
    "NestOutput",
    "Passage",
    "PassageIndexError",
    "PassageRetriever",
    "PendingAnswer",
    "PhaseSeconds",
    "Provenance",
    "QueueFullError",
    "RetrievalError",
    "Scheduler",
    "SchedulerClosedError",
    "Score",
    "UnsupportedModelError",
    "__version__",
    "cite",
]


# Modules that users may import from; what they export is public. Everything else may change.
PUBLIC_MODULES = {
    "nest_engine",
    "nest_engine.citation_formats",
    "nest_engine.citations.formats",
    "nest_engine.citations.rendering",
    "nest_engine.citing",
    "nest_engine.config",
    "nest_engine.engine",
    "nest_engine.errors",
    "nest_engine.evaluation",
    "nest_engine.interfaces",
    "nest_engine.models.huggingface",
    "nest_engine.models.tensor_parallel",
    "nest_engine.output",
    "nest_engine.records",
    "nest_engine.retrieval",
    "nest_engine.server",
    "nest_engine.testing",
    "nest_engine.tuning",
}
ROOMS = {
    "citations",
    "cli",
    "datastore",
    "decoding",
    "evaluation",
    "generation",
    "models",
    "retrieval",
    "serving",
}
ROOT = Path(nest_engine.__file__).parent
SHOWN = [
    *sorted((ROOT.parent / "docs").glob("*.md")),
    *sorted((ROOT.parent / "cookbooks").glob("*.ipynb")),
    ROOT.parent / "README.md",
]


def test_what_stands_beside_the_rooms_is_public_or_has_an_underscore():
    modules = {f"nest_engine.{path.stem}" for path in ROOT.glob("*.py") if path.name[0] != "_"}
    assert modules <= PUBLIC_MODULES
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} == ROOMS
    assert all(importlib.util.find_spec(name) for name in PUBLIC_MODULES)


@pytest.mark.parametrize("page", SHOWN, ids=lambda path: path.name)
def test_pages_show_public_modules_alone(page):
    shown = re.findall(r"(?:from|import) (nest_engine[\w.]*)", page.read_text(encoding="utf-8"))
    assert set(shown) <= PUBLIC_MODULES


def test_public_names():
    assert nest_engine.__all__ == PUBLIC
    assert all(hasattr(nest_engine, name) for name in PUBLIC)


def test_methods():
    assert nest_engine.METHODS == ("lm", "knn-lm", "nest", "ra", "ra-nest", "lossless")


def test_importing_loads_no_framework():
    frameworks = [
        "transformers",
        "langchain",
        "langchain_core",
        "llama_index",
        "rich",
        "typer",
        "bm25s",
        "faiss",
    ]
    code = "import nest_engine, nest_engine.testing, sys; "
    code += f"print([m for m in {frameworks} if m in sys.modules])"
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert printed.strip() == "[]"


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        ("ConfigError", ValueError),
        ("InputError", ValueError),
        ("ContextOverflowError", ValueError),
        ("UnsupportedModelError", TypeError),
        ("PassageIndexError", RuntimeError),
        ("CorruptIndexError", RuntimeError),
        ("IndexMismatchError", RuntimeError),
        ("RetrievalError", RuntimeError),
        ("DecodingError", RuntimeError),
        ("QueueFullError", RuntimeError),
        ("SchedulerClosedError", RuntimeError),
        ("MissingDependencyError", ImportError),
    ],
)
def test_every_error_is_ours_and_a_builtin_one(error, builtin):
    assert issubclass(getattr(errors, error), builtin)
    assert issubclass(getattr(errors, error), nest_engine.NestError)


def test_a_missing_package_names_the_command():
    with pytest.raises(
        ImportError, match=r"bm25s is not installed; run: pip install 'nest-engine\[retrieval\]'"
    ):
        raise errors.MissingDependencyError("bm25s", "retrieval")
