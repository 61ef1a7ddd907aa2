"""The public surface: breaking it is deliberate, and importing it costs little."""

from __future__ import annotations

import subprocess
import sys

import pytest

import nest_engine
from nest_engine import errors

PUBLIC = [
    "METHODS",
    "Citation",
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
]


def test_public_names():
    assert nest_engine.__all__ == PUBLIC
    assert all(hasattr(nest_engine, name) for name in PUBLIC)


def test_methods():
    assert nest_engine.METHODS == ("lm", "knn-lm", "nest", "ra", "ra-nest", "lossless")


def test_importing_loads_no_framework():
    frameworks = ["transformers", "langchain", "langchain_core", "llama_index", "rich", "typer", "bm25s", "faiss"]
    code = f"import nest_engine, nest_engine.testing, sys; print([m for m in {frameworks} if m in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
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
    with pytest.raises(ImportError, match=r"bm25s is not installed; run: pip install 'nest-engine\[retrieval\]'"):
        raise errors.MissingDependencyError("bm25s", "retrieval")
