"""The embedding model behind a search, which also tells the engine which sentence answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.embeddings.mock_embed_model import MockEmbedding
from llama_index.core.settings import Settings
from numpy.typing import NDArray

from nest_engine import ConfigError
from nest_engine.retrieval import Embedder
from nest_engine.retrieval.embedder import fingerprint_of


class LlamaIndexEmbedder:
    """An embedding model of LlamaIndex as the ``embedder=`` of a ``NestEngine``.

    Args:
        embed_model: the embedding model.
    """

    def __init__(self, embed_model: BaseEmbedding) -> None:
        self._embed_model = embed_model
        self.fingerprint = fingerprint_of(embed_model)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one vector for each passage, ``[len(texts), D]``."""
        vectors = self._embed_model.get_text_embedding_batch(list(texts))
        return np.asarray(vectors, dtype=np.float32)

    def embed_queries(self, queries: Sequence[str]) -> NDArray[np.float32]:
        """Return one vector for each query, ``[len(queries), D]``."""
        vectors = [self._embed_model.get_query_embedding(query) for query in queries]
        return np.asarray(vectors, dtype=np.float32)


def as_embedder(given: object) -> Embedder:
    """Return an embedding model of LlamaIndex, or an embedder of the engine, as an embedder.

    Raises:
        ConfigError: if it is neither.
    """
    if isinstance(given, BaseEmbedding):
        return LlamaIndexEmbedder(given)
    if isinstance(given, Embedder):
        return given
    raise ConfigError(
        f"embed_model={type(given).__name__} cannot embed: give an embedding model of LlamaIndex, "
        "an embedder of the engine, or False to compare letters"
    )


def embedder_behind(source: object) -> Embedder | None:
    """Return the embedder of an index or retriever over vectors; None if it has none."""
    return _embedder(getattr(source, "_embed_model", None))


def embedder_of_settings() -> Embedder | None:
    """Return the embedder of LlamaIndex's ``Settings``, if the application has set one."""
    return _embedder(Settings._embed_model)  # the public property would load a default


def _embedder(embed_model: object) -> Embedder | None:
    """Return an embedder; none for what stands where embeddings are switched off."""
    is_real = isinstance(embed_model, BaseEmbedding) and not isinstance(embed_model, MockEmbedding)
    return LlamaIndexEmbedder(embed_model) if is_real else None  # type: ignore[arg-type]
