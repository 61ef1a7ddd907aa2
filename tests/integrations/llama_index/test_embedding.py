"""The embedding model of an index, or of the settings, finds the sentence that answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from llama_index.core import Settings, VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.schema import TextNode

from nest_engine import ConfigError, NestEngine
from nest_engine.testing import ScriptedLanguageModel
from nest_integrations.llama_index import NestLLM, NestSynthesizer
from nest_integrations.llama_index.retriever import NodeRetriever
from tests.integrations.llama_index.support import QA
from tests.letter_vectors import letter_vectors

TEXTS = ["Neon glows red in tubes. Ramsay found it.", "The gas is light. Janssen saw it."]
QUESTION = "Which J?"
ANSWER = "Janssen saw it."


class Vectors(BaseEmbedding):
    def _get_text_embedding(self, text: str) -> list[float]:
        return [float(each) for each in letter_vectors([text])[0]]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


@pytest.fixture
def settings() -> Iterator[Any]:
    before = Settings._embed_model
    yield Settings
    Settings._embed_model = before


def unsure(**kwargs: Any) -> NestLLM:
    """A model that finds everything plausible, and would go on for ever."""
    engine = NestEngine(ScriptedLanguageModel(lambda _: ord("x"), confidence=0.02))
    return NestLLM(engine=engine, max_new_tokens=60, generate_kwargs={"own_words": 0}, **kwargs)


def an_index() -> VectorStoreIndex:
    return VectorStoreIndex([TextNode(text=text) for text in TEXTS], embed_model=Vectors())


def test_an_index_brings_its_own() -> None:
    index = an_index()
    for source in (index, index.as_retriever(similarity_top_k=2)):
        assert unsure(retriever=source).complete(QUESTION).text.startswith(ANSWER)
    letters = unsure(retriever=an_index(), embed_model=False)
    assert ANSWER not in letters.complete(QUESTION).text
    engine = NestEngine(ScriptedLanguageModel(lambda _: ord("x"), confidence=0.02))
    engine.retriever = NodeRetriever(an_index())
    assert engine.generate(QUESTION, own_words=0, max_new_tokens=60).text.startswith(ANSWER)


def test_the_settings_bring_theirs(settings: Any) -> None:
    nodes = [TextNode(text=text) for text in TEXTS]
    llm = unsure()
    assert ANSWER not in llm.complete(QUESTION, passages=nodes).text
    settings.embed_model = Vectors()  # set after the model was made
    assert llm.complete(QUESTION, passages=nodes).text.startswith(ANSWER)
    engine = an_index().as_query_engine(
        llm=llm, response_synthesizer=NestSynthesizer(llm, text_qa_template=QA)
    )
    assert str(engine.query(QUESTION)).startswith(ANSWER)
    without = unsure(embed_model=False)
    assert ANSWER not in without.complete(QUESTION, passages=nodes).text


def test_without_any_nothing_is_loaded(settings: Any) -> None:
    settings._embed_model = None
    unsure().complete(QUESTION, passages=[TextNode(text=TEXTS[0])])
    assert settings._embed_model is None


def test_switched_off_is_not_an_embedder(settings: Any) -> None:
    settings.embed_model = None  # LlamaIndex puts a mock there, to which everything is near
    nodes = [TextNode(text=text) for text in TEXTS]
    output = unsure().complete("Who saw the light gas, Janssen?", passages=nodes)
    assert output.citations  # by letters


def test_one_may_be_named() -> None:
    nodes = [TextNode(text=text) for text in TEXTS]
    llm = unsure(embed_model=Vectors())
    assert llm.complete(QUESTION, passages=nodes).text.startswith(ANSWER)
    with pytest.raises(ConfigError, match="embed_model=str cannot embed"):
        unsure(embed_model="default")
