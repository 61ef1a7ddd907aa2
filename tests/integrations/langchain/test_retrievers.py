"""Retrievers across the bridge, in both directions."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("langchain_core", reason="needs: pip install 'nest-engine[langchain]'")
pytest.importorskip("langchain_tests", reason="langchain-tests holds the standard suites")
pytest.importorskip("bm25s", reason="bm25s runs the engine's keyword search")

from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_tests.integration_tests import RetrieversIntegrationTests

from nest_engine import ConfigError, NestEngine, Passage, PassageRetriever
from nest_engine.retrieval import BM25Retriever
from nest_engine.testing import ScriptedLanguageModel
from nest_integrations.langchain import (
    LangChainRetriever,
    NestLLM,
    NestRetriever,
    VectorStoreWithScores,
)
from nest_integrations.langchain.retrievers import _similar, as_retriever
from nest_integrations.langchain.search import Search

GASES = [Passage(f"Gas number {n} is rare.", id=str(n)) for n in range(6)]


def store() -> InMemoryVectorStore:
    store = InMemoryVectorStore(DeterministicFakeEmbedding(size=8))
    store.add_documents([Document(id=p.id, page_content=p.text) for p in GASES])
    return store


class TestVectorStoreWithScoresStandard(RetrieversIntegrationTests):
    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return VectorStoreWithScores

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"vectorstore": store()}

    @property
    def retriever_query_example(self) -> str:
        return "a rare gas"


class TestNestRetrieverStandard(RetrieversIntegrationTests):
    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return NestRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"retriever": BM25Retriever(GASES)}

    @property
    def retriever_query_example(self) -> str:
        return "a rare gas"


def test_scores_are_kept_and_the_store_is_untouched():
    source = store()
    found = VectorStoreWithScores(vectorstore=source, k=3).invoke("a rare gas")
    scores = [document.metadata["score"] for document in found]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 3
    assert "score" not in source.similarity_search("a rare gas", k=1)[0].metadata


async def test_async_search_finds_the_same():
    retriever = VectorStoreWithScores(vectorstore=store(), k=3)
    assert await retriever.ainvoke("a rare gas") == retriever.invoke("a rare gas")


def test_search_arguments_reach_the_store():
    only_four = VectorStoreWithScores(
        vectorstore=store(), search_kwargs={"filter": lambda document: document.id == "4"}
    )
    assert [document.id for document in only_four.invoke("a rare gas")] == ["4"]


@pytest.mark.parametrize(
    ("raw", "scores"), [([0.1, 0.4], [-0.1, -0.4]), ([0.9, 0.2], [0.9, 0.2]), ([0.3], [0.3])]
)
def test_distances_are_turned_so_that_higher_is_better(raw: list[float], scores: list[float]):
    found = _similar([(Document(page_content=str(score)), score) for score in raw])
    assert [document.metadata["score"] for document in found] == scores


def test_the_engine_searches_through_langchain():
    retriever = LangChainRetriever(store())
    assert isinstance(retriever, PassageRetriever)
    found = retriever.retrieve(["Gas number 3 is rare.", "Gas number 5 is rare."], 2)
    assert [len(each) for each in found] == [2, 2]
    assert [each[0].id for each in found] == ["3", "5"]
    assert found[0][0].score == pytest.approx(1.0)
    engine = NestEngine(ScriptedLanguageModel("Gas number 3 is rare."), retriever=retriever)
    answer = engine.generate("Say: ", query="Gas number 3 is rare.")
    assert [citation.passage_id for citation in answer.citations] == ["3"]


def test_a_retriever_with_its_own_number_is_cut_to_k():
    retriever = LangChainRetriever(store().as_retriever(search_kwargs={"k": 5}))
    assert [len(each) for each in retriever.retrieve(["gas"], 2)] == [2]


def test_what_cannot_search_is_refused():
    with pytest.raises(ConfigError, match="retriever=list cannot search: give a VectorStore"):
        as_retriever([])


def test_a_number_that_a_retriever_was_given_holds():
    def first(query: str) -> list[Document]:
        return [Document(page_content=GASES[0].text)]

    bm25 = BM25Retriever(GASES)
    for source, expected in (
        (NestRetriever(retriever=bm25, k=3), 3),
        (NestRetriever(retriever=bm25), 5),
        (bm25, 5),
        (VectorStoreWithScores(vectorstore=store(), k=2), 2),
        (VectorStoreWithScores(vectorstore=store(), search_kwargs={"k": 4}), 4),
        (store(), 5),
        (store().as_retriever(search_kwargs={"k": 3}), 3),
        (store().as_retriever(search_kwargs={"k": 3}).with_retry(), 3),
        (RunnableLambda(first), 1),
    ):
        search = Search(as_retriever(source), 5, deadline=None, on_error="raise", max_retries=0)
        [found] = search.run(["gas number"], None)
        assert len(found.passages) == expected
        assert len(LangChainRetriever(source).retrieve(["gas number"], 5)[0]) == expected


def test_a_query_function_may_be_a_method_of_a_built_in_type():
    engine = NestEngine(ScriptedLanguageModel("Gas number 1"))
    llm = NestLLM(
        engine=engine, retriever=NestRetriever(retriever=BM25Retriever(GASES)), query=str.strip
    )
    assert llm.invoke(" gas number ") == llm.invoke(" gas number ") != ""
