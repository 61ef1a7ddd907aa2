"""First-stage search through LlamaIndex."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.indices.base import BaseIndex

from nest_engine import ConfigError, Passage, PassageRetriever
from nest_engine.retrieval import Embedder
from nest_integrations.llama_index.embedding import embedder_behind
from nest_integrations.llama_index.nodes import passages_of


class NodeRetriever:
    """Any LlamaIndex retriever or index as the first-stage search of an engine.

    Args:
        source: a retriever, which decides how many nodes it finds; or an index, which finds as many
            as the engine asks for (``num_passages``).

    Raises:
        ConfigError: if ``source`` is neither.
    """

    def __init__(self, source: BaseRetriever | BaseIndex[Any]) -> None:
        if not isinstance(source, (BaseRetriever, BaseIndex)):
            raise ConfigError(
                f"a retriever must be a BaseRetriever or an index, got {type(source).__name__}: "
                "use index.as_retriever(similarity_top_k=...)"
            )
        self._source = source

    @property
    def embedder(self) -> Embedder | None:
        """What turns texts into vectors there."""
        return embedder_behind(self._source)

    def retrieve(self, queries: Sequence[str], k: int) -> list[tuple[Passage, ...]]:
        """Return up to ``k`` nodes for each query as passages, best first."""
        retriever = self._source
        if isinstance(retriever, BaseIndex):
            retriever = retriever.as_retriever(similarity_top_k=k)
        return [passages_of(retriever.retrieve(query))[:k] for query in queries]


def passage_retriever(
    source: PassageRetriever | BaseRetriever | BaseIndex[Any],
) -> PassageRetriever:
    """Return a retriever for an engine: one of its own as it is, one of LlamaIndex wrapped."""
    # Both have a method `retrieve`, so the protocol alone cannot tell them apart.
    is_native = isinstance(source, PassageRetriever) and not isinstance(
        source, (BaseRetriever, BaseIndex)
    )
    return source if is_native else NodeRetriever(source)  # type: ignore[return-value,arg-type]
