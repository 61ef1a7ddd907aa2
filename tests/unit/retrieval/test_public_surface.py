from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import nest_engine.retrieval
from nest_engine import Passage
from nest_engine.errors import MissingDependencyError
from nest_engine.retrieval import (
    BM25Retriever,
    PassageIndex,
    SentenceTransformerEmbedder,
    read_passages,
)
from tests.unit.retrieval.conftest import LetterEmbedder


def test_exported_names():
    assert nest_engine.retrieval.__all__ == [
        "BM25Retriever",
        "DenseRetriever",
        "Document",
        "Embedder",
        "HybridRetriever",
        "IndexInfo",
        "PassageIndex",
        "PassageRetriever",
        "Progress",
        "QueryEmbedder",
        "Ranking",
        "ReadResult",
        "SearchMode",
        "SentenceTransformerEmbedder",
        "Skipped",
        "estimate_tokens",
        "fuse",
        "is_index",
        "page_picture",
        "read_documents",
        "read_passages",
        "split_document",
    ]
    assert all(hasattr(nest_engine.retrieval, name) for name in nest_engine.retrieval.__all__)


def test_importing_needs_no_optional_library():
    blocked = ["bm25s", "faiss", "sentence_transformers", "pypdfium2", "tinycss2", "docx", "pptx"]
    code = f"import sys; sys.modules.update(dict.fromkeys({blocked})); import nest_engine.retrieval"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def _build_clusters(tmp_path: Path) -> None:
    PassageIndex.build([Passage("a")], tmp_path / "index", embedder=LetterEmbedder(), exact=False)


@pytest.mark.parametrize(
    ("module", "package", "use"),
    [
        ("bm25s", "bm25s", lambda tmp_path: BM25Retriever([Passage("a")])),
        ("faiss", "faiss-cpu", lambda tmp_path: _build_clusters(tmp_path)),
        (
            "sentence_transformers",
            "sentence-transformers",
            lambda tmp_path: SentenceTransformerEmbedder("model"),
        ),
        ("webencodings", "webencodings", lambda tmp_path: read_passages(tmp_path / "a.html")),
        ("markdown_it", "markdown-it-py", lambda tmp_path: read_passages(tmp_path / "a.md")),
        ("pypdfium2", "pypdfium2", lambda tmp_path: read_passages(tmp_path / "a.pdf")),
    ],
)
def test_a_missing_library_names_the_install_command(
    monkeypatch, tmp_path: Path, module: str, package: str, use
):
    for suffix in ("html", "md", "pdf"):
        (tmp_path / f"a.{suffix}").write_text('<meta charset="latin1">a')
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        MissingDependencyError,
        match=rf"{package} is not installed; run: pip install 'nest-engine\[retrieval\]'",
    ):
        use(tmp_path)
