"""The embeddings behind a retriever, which also tell the engine which sentence answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables.base import RunnableBindingBase
from numpy.typing import NDArray

from nest_engine import ConfigError
from nest_engine.retrieval import Embedder
from nest_engine.retrieval.embedder import fingerprint_of

# Where LangChain's retrievers keep what they search: a store, another retriever, several.
_PARTS = ("vectorstore", "retriever", "base_retriever", "retrievers", "bound")


class LangChainEmbedder:
    """Embeddings of LangChain as the ``embedder=`` of a ``NestEngine``.

    Args:
        embeddings: the embeddings.
    """

    def __init__(self, embeddings: Embeddings) -> None:
        self._embeddings = embeddings
        self.fingerprint = fingerprint_of(embeddings)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one vector for each passage, ``[len(texts), D]``."""
        return np.asarray(self._embeddings.embed_documents(list(texts)), dtype=np.float32)

    def embed_queries(self, queries: Sequence[str]) -> NDArray[np.float32]:
        """Return one vector for each query, ``[len(queries), D]``."""
        vectors = [self._embeddings.embed_query(query) for query in queries]
        return np.asarray(vectors, dtype=np.float32)


def as_embedder(given: object) -> Embedder:
    """Return embeddings of LangChain, or an embedder of the engine, as an embedder.

    Raises:
        ConfigError: if it is neither.
    """
    if isinstance(given, Embeddings):
        return LangChainEmbedder(given)
    if isinstance(given, Embedder):
        return given
    raise ConfigError(
        f"embeddings={type(given).__name__} cannot embed: give Embeddings of LangChain, an "
        "embedder of the engine, or False to compare letters"
    )


def embedder_behind(source: object) -> Embedder | None:
    """Return the embedder of what is searched; None if it has none, or is several that differ."""
    found = {embedder.fingerprint: embedder for embedder in _embedders(source)}
    return next(iter(found.values())) if len(found) == 1 else None


def _embedders(source: Any) -> Iterator[Embedder]:
    embeddings = getattr(source, "embeddings", None)
    if isinstance(embeddings, Embeddings):
        yield LangChainEmbedder(embeddings)
    elif isinstance(source, (BaseRetriever, RunnableBindingBase)):
        for name in _PARTS:
            part = getattr(source, name, None)
            for each in part if isinstance(part, (list, tuple)) else [part]:
                yield from _embedders(each)
    elif isinstance(embedder := getattr(source, "embedder", None), Embedder):
        yield embedder
