"""LangChain's retrievers for the engine, and the engine's for LangChain."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from langchain_core.callbacks import (
    AsyncCallbackManagerForRetrieverRun,
    CallbackManagerForRetrieverRun,
)
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable
from langchain_core.runnables.config import run_in_executor
from langchain_core.vectorstores import VectorStore
from pydantic import ConfigDict, Field

from nest_engine import ConfigError, InputError, Passage, PassageRetriever, RetrievalError
from nest_engine.retrieval import Embedder
from nest_integrations.langchain.documents import as_passages, to_document
from nest_integrations.langchain.embedding import embedder_behind

DEFAULT_K = 4  # as everywhere in LangChain


class VectorStoreWithScores(BaseRetriever):
    """A retriever over a vector store that keeps the scores, which ``as_retriever()`` drops.

    ``metadata["score"]`` is higher for better documents: the store's relevance score where it has
    one, otherwise its similarity, or its distance with the sign changed.

    Args:
        vectorstore: the store.
        k: most documents to return; by default the caller's number, or 4.
        search_kwargs: passed to the store's search, for example ``filter``.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    vectorstore: VectorStore = Field(exclude=True, repr=False)
    k: int | None = Field(default=None, ge=1)
    search_kwargs: dict[str, Any] = Field(default_factory=dict)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        arguments = {"k": k or self.k or DEFAULT_K} | self.search_kwargs
        try:
            return _scored(self._search()(query, **arguments))
        except NotImplementedError:
            return _similar(self.vectorstore.similarity_search_with_score(query, **arguments))

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        arguments = {"k": k or self.k or DEFAULT_K} | self.search_kwargs
        try:
            return _scored(await self._asearch()(query, **arguments))
        except NotImplementedError:
            return _similar(
                await self.vectorstore.asimilarity_search_with_score(query, **arguments)
            )

    # The public methods warn, with all documents in the message, where a store's relevance scores
    # leave 0 to 1, as those of FAISS do.

    def _search(self) -> Callable[..., list[tuple[Document, float]]]:
        if "score_threshold" in self.search_kwargs:
            return self.vectorstore.similarity_search_with_relevance_scores
        return self.vectorstore._similarity_search_with_relevance_scores

    def _asearch(self) -> Callable[..., Awaitable[list[tuple[Document, float]]]]:
        if "score_threshold" in self.search_kwargs:
            return self.vectorstore.asimilarity_search_with_relevance_scores
        return self.vectorstore._asimilarity_search_with_relevance_scores


class NestRetriever(BaseRetriever):
    """One of the engine's retrievers (BM25, dense, hybrid, an index) as a LangChain retriever.

    Args:
        retriever: anything with ``retrieve(queries, k)``.
        k: most documents to return; by default the caller's number, or 4.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    retriever: Any = Field(exclude=True, repr=False)
    k: int | None = Field(default=None, ge=1)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        [passages] = self.retriever.retrieve([query], k or self.k or DEFAULT_K)
        return [to_document(passage) for passage in passages]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        return await run_in_executor(
            None, self._get_relevant_documents, query, run_manager=run_manager.get_sync(), k=k
        )


class LangChainRetriever:
    """A vector store or retriever of LangChain as the ``retriever=`` of a ``NestEngine``.

    Args:
        retriever: a vector store or retriever. A retriever that knows no ``k`` returns as many
            documents as it likes; the first ``k`` are taken.
    """

    def __init__(self, retriever: VectorStore | Runnable[str, list[Document]]) -> None:
        self._retriever = as_retriever(retriever)

    @property
    def embedder(self) -> Embedder | None:
        """What turns texts into vectors there."""
        return embedder_behind(self._retriever)

    def retrieve(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        """Return up to ``k`` passages for each query, best first."""
        found = self._retriever.batch(list(queries), **number_argument(self._retriever, k))
        return [passages_found(self._retriever, documents)[:k] for documents in found]


def as_retriever(source: object) -> Runnable[str, list[Document]]:
    """Return anything that finds passages as a runnable from text to documents.

    Raises:
        ConfigError: if it cannot search.
    """
    if isinstance(source, BaseRetriever):
        return source
    if isinstance(source, VectorStore):
        return VectorStoreWithScores(vectorstore=source, name=type(source).__name__)
    if isinstance(source, PassageRetriever):
        return NestRetriever(retriever=source, name=type(source).__name__)
    if isinstance(source, Runnable):
        return source
    raise ConfigError(
        f"retriever={type(source).__name__} cannot search: give a VectorStore, a BaseRetriever or "
        "another runnable that returns documents, or an object with retrieve(queries, k)"
    )


def passages_found(retriever: Runnable[str, list[Document]], documents: object) -> list[Passage]:
    """Return what a retriever has found as passages.

    Raises:
        RetrievalError: if it has returned no documents.
    """
    try:
        return as_passages(documents)
    except InputError as error:
        raise RetrievalError(f"{retriever.get_name()} failed: {error}") from error


def number_argument(retriever: Runnable[str, list[Document]], k: int) -> dict[str, Any]:
    """Return ``k`` as an argument for the retrievers that take it and have none of their own."""
    is_open = isinstance(retriever, (VectorStoreWithScores, NestRetriever)) and retriever.k is None
    return {"k": k} if is_open else {}


def _similar(found: Sequence[tuple[Document, float]]) -> list[Document]:
    """Score documents by similarity. They come best first, so rising numbers are distances."""
    is_distance = len(found) > 1 and found[0][1] < found[-1][1]
    return _scored([(document, -score if is_distance else score) for document, score in found])


def _scored(found: Sequence[tuple[Document, float]]) -> list[Document]:
    return [
        document.model_copy(update={"metadata": document.metadata | {"score": float(score)}})
        for document, score in found
    ]
