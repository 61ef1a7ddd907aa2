"""Real stores, documents and embeddings: citations verify against the stored and the original."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain_core", reason="needs: pip install 'nest-engine[langchain]'")

from langchain_core.documents import Document
from langchain_core.vectorstores import InMemoryVectorStore, VectorStore

from nest_engine import NestEngine
from nest_integrations.langchain import (
    CitationCallback,
    NestLLM,
    NestRetriever,
    VectorStoreWithScores,
    to_passage,
)
from tests.integrations.langchain.support import verify

QUESTION = "What is the fastest wind on the planet Neptune?"


def in_memory(documents: list[Document], embeddings: Any, folder: Path) -> VectorStore:
    return InMemoryVectorStore.from_documents(documents, embeddings)


def faiss(documents: list[Document], embeddings: Any, folder: Path) -> VectorStore:
    pytest.importorskip("faiss", reason="needs faiss-cpu")
    stores = pytest.importorskip(
        "langchain_community.vectorstores", reason="langchain-community holds the FAISS store"
    )
    ids = [str(document.id) for document in documents]
    return stores.FAISS.from_documents(documents, embeddings, ids=ids)  # type: ignore[no-any-return]


def chroma(documents: list[Document], embeddings: Any, folder: Path) -> VectorStore:
    settings = pytest.importorskip("chromadb.config", reason="needs chromadb").Settings(
        anonymized_telemetry=False
    )
    stores = pytest.importorskip(
        "langchain_chroma", reason="langchain-chroma holds the Chroma store"
    )
    return stores.Chroma.from_documents(  # type: ignore[no-any-return]
        documents, embeddings, persist_directory=str(folder / "chroma"), client_settings=settings
    )


def qdrant(documents: list[Document], embeddings: Any, folder: Path) -> VectorStore:
    stores = pytest.importorskip(
        "langchain_qdrant", reason="langchain-qdrant holds the Qdrant store"
    )
    anonymous = [
        Document(page_content=d.page_content, metadata=d.metadata) for d in documents
    ]  # it wants UUIDs
    return stores.QdrantVectorStore.from_documents(  # type: ignore[no-any-return]
        anonymous, embeddings, path=str(folder / "qdrant"), collection_name="nest"
    )


Store = Callable[[list[Document], Any, Path], VectorStore]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("make", [in_memory, faiss, chroma, qdrant])
def test_citations_from_a_store(
    make: Store,
    demo_documents: list[Document],
    embeddings: Any,
    demo_engine: NestEngine,
    tmp_path: Path,
):
    store = make(demo_documents, embeddings, tmp_path)
    llm = NestLLM(
        engine=demo_engine,
        retriever=store,
        num_passages=4,
        max_tokens=48,
        query=lambda prompt: QUESTION,
    )
    cited = CitationCallback()
    answer = llm.invoke(
        "Question: Tell me about the planet Neptune.\nAnswer:", {"callbacks": [cited]}
    )
    assert cited.citations
    by_text = {document.page_content: document for document in demo_documents}
    found = VectorStoreWithScores(vectorstore=store, k=4).invoke(QUESTION)
    assert found[0].metadata["title"] == "Neptune"
    scores = {to_passage(document).id: document.metadata["score"] for document in found}
    assert list(scores.values()) == sorted(scores.values(), reverse=True)
    verify(
        cited.citations,
        answer,
        {to_passage(document).id: document.page_content for document in found},
    )
    for citation in cited.citations:
        document = next(d for d in found if to_passage(d).id == citation["extras"]["document_id"])
        original = by_text[document.page_content]
        assert citation["title"] == original.metadata["title"]
        assert citation["url"] == original.metadata["source"]
        assert citation["extras"]["score"] == pytest.approx(scores[to_passage(document).id])


def test_offsets_into_the_document_that_was_split(
    demo_passages: list[Any], demo_engine: NestEngine, tmp_path: Path
):
    splitters = pytest.importorskip("langchain_text_splitters", reason="cuts documents into chunks")
    bm25 = pytest.importorskip("nest_engine.retrieval", reason="keyword search")
    pytest.importorskip("bm25s", reason="bm25s runs the engine's keyword search")
    text = "\n\n".join(
        f"{p.title}\n{p.text}" for p in demo_passages if p.id in ("uranus", "neptune", "pluto")
    )
    path = tmp_path / "planets.txt"
    path.write_text(text, encoding="utf-8")
    splitter = splitters.RecursiveCharacterTextSplitter(
        chunk_size=300, chunk_overlap=40, add_start_index=True
    )
    chunks = splitter.split_documents(
        [Document(page_content=path.read_text("utf-8"), metadata={"source": str(path)})]
    )
    assert len(chunks) > 3
    llm = NestLLM(
        engine=demo_engine,
        retriever=bm25.BM25Retriever([to_passage(c) for c in chunks]),
        max_tokens=48,
        method="ra-nest",
    )
    cited = CitationCallback()
    answer = llm.invoke(
        "Question: Tell me about the planet Neptune.\nAnswer:", {"callbacks": [cited]}
    )
    assert cited.citations
    for citation in cited.citations:
        extras = citation["extras"]
        assert text[extras["original_start"] : extras["original_end"]] == citation["cited_text"]
        assert answer[citation["start_index"] : citation["end_index"]] == citation["cited_text"]


def test_a_chunk_that_the_splitter_did_not_find_has_no_original_offsets(
    demo_engine: NestEngine, demo_documents: Any
):
    lost = [
        d.model_copy(update={"metadata": d.metadata | {"start_index": -1}})
        for d in demo_documents[:8]
    ]
    llm = NestLLM(engine=demo_engine, max_tokens=32)
    info = llm.generate(["Question: Tell me about the planet Neptune.\nAnswer:"], passages=lost)
    citations = info.generations[0][0].generation_info["citations"]  # type: ignore[index]
    assert citations
    assert all("original_start" not in citation["extras"] for citation in citations)


def test_keyword_search_and_ensemble(
    demo_passages: list[Any], demo_documents: Any, embeddings: Any, demo_engine: Any
):
    retrievers = pytest.importorskip(
        "langchain_classic.retrievers", reason="langchain-classic holds EnsembleRetriever"
    )
    bm25s = pytest.importorskip("nest_engine.retrieval", reason="keyword search")
    pytest.importorskip("bm25s", reason="bm25s runs the engine's keyword search")
    bm25 = NestRetriever(retriever=bm25s.BM25Retriever(demo_passages[:30]), k=3)
    dense = InMemoryVectorStore.from_documents(demo_documents, embeddings).as_retriever(
        search_kwargs={"k": 3}
    )
    ensemble = retrievers.EnsembleRetriever(
        retrievers=[bm25, dense], weights=[0.5, 0.5], id_key=None
    )
    sources = {passage.id: passage.text for passage in demo_passages}
    for retriever in (bm25, ensemble):
        cited = CitationCallback()
        llm = NestLLM(
            engine=demo_engine, retriever=retriever, max_tokens=32, query=lambda prompt: QUESTION
        )
        answer = llm.invoke(
            "Question: Tell me about the planet Neptune.\nAnswer:", {"callbacks": [cited]}
        )
        assert "neptune" in [document.id for document in retriever.invoke(QUESTION)]
        assert cited.citations
        verify(cited.citations, answer, sources)
