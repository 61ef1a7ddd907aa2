"""Keyword and vector search together."""

from __future__ import annotations

from collections.abc import Sequence

from nest_engine.errors import ConfigError
from nest_engine.retrieval.corpus_retriever import CorpusRetriever
from nest_engine.retrieval.fusion import fuse
from nest_engine.retrieval.ranking import Ranking

CANDIDATES = 100
"""Hits that each search contributes for every passage requested."""


class HybridRetriever(CorpusRetriever):
    """Fuses two searches of one corpus by the paper's rule; see `nest_engine.retrieval.fusion`.

    Args:
        sparse: keyword search.
        dense: vector search of the same passages.
        rescale: first divide the scores of each search by its best one. The paper's rule takes them
            as they are; its weight ``eta`` does not depend on their scale, but the sum does, and
            cosines of at most 1 add little to BM25 scores of 10 or 20.

    Raises:
        ConfigError: if the two do not search the same passages.
    """

    def __init__(
        self, sparse: CorpusRetriever, dense: CorpusRetriever, *, rescale: bool = False
    ) -> None:
        super().__init__(sparse.passages)
        if sparse.passages is not dense.passages and not _same(sparse, dense):
            raise ConfigError(
                f"the two searches have different corpora ({len(sparse.passages)} and "
                f"{len(dense.passages)} passages); "
                "build both from the same list of passages"
            )
        self._sparse, self._dense, self._rescale = sparse, dense, rescale
        self.embedder = getattr(dense, "embedder", None)

    @property
    def fingerprint(self) -> str:
        """What the rankings depend on, apart from the passages."""
        return f"{self._sparse.fingerprint} with {self._dense.fingerprint}, rescale={self._rescale}"

    def rank(self, queries: Sequence[str], k: int) -> list[Ranking]:
        """Return the ``k`` best rows, or fewer, for each query."""
        depth = k * CANDIDATES
        pairs = zip(
            self._sparse.rank(queries, depth), self._dense.rank(queries, depth), strict=True
        )
        if self._rescale:
            return [fuse(sparse.rescaled(), dense.rescaled(), k) for sparse, dense in pairs]
        return [fuse(sparse, dense, k) for sparse, dense in pairs]


def _same(sparse: CorpusRetriever, dense: CorpusRetriever) -> bool:
    if len(sparse.passages) != len(dense.passages):
        return False
    return all(a.id == b.id for a, b in zip(sparse.passages, dense.passages, strict=True))
