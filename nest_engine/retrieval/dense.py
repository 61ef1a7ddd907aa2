"""Vector search."""

from __future__ import annotations

from collections.abc import Sequence

from nest_engine.records import Passage
from nest_engine.retrieval.corpus_retriever import CorpusRetriever
from nest_engine.retrieval.embedder import Embedder
from nest_engine.retrieval.exact_index import ExactIndex
from nest_engine.retrieval.progress import Progress, ignore
from nest_engine.retrieval.ranking import Ranking
from nest_engine.retrieval.vector_index import VectorIndex


class DenseRetriever(CorpusRetriever):
    """Finds the passages whose vectors have the largest cosine with the query's.

    Args:
        passages: the corpus.
        embedder: maps passages, title included, and queries to vectors; an engine with this
            retriever also finds the sentence that answers with it.
        vectors: the vectors of these passages by this embedder; if omitted, they are computed and
            searched exactly.
        progress: called with the number of passages embedded.

    Raises:
        InputError: if there are no passages, or a vector is zero or not finite.
    """

    def __init__(
        self,
        passages: Sequence[Passage],
        embedder: Embedder,
        vectors: VectorIndex | None = None,
        *,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(passages)
        self.embedder = embedder
        self._vectors = vectors or ExactIndex.build(passages, embedder, progress or ignore)

    @property
    def fingerprint(self) -> str:
        """What the rankings depend on, apart from the passages."""
        return f"vectors of {self.embedder.fingerprint}, {self._vectors.fingerprint}"

    def rank(self, queries: Sequence[str], k: int) -> list[Ranking]:
        """Return the ``k`` best rows, or all of them, for each query."""
        return self._vectors.search(queries, self.embedder, k)
