"""Keyword search."""

from __future__ import annotations

from collections.abc import Sequence

from nest_engine.records import Passage
from nest_engine.retrieval.corpus_retriever import CorpusRetriever
from nest_engine.retrieval.progress import Progress, ignore
from nest_engine.retrieval.ranking import Ranking
from nest_engine.retrieval.term_index import TermIndex


class BM25Retriever(CorpusRetriever):
    """Finds passages that share words with the query, in title or text, ranked by BM25.

    A passage without a word of the query is never returned, so there may be fewer than ``k``. Stop
    words of the query are ignored, unless it has no other words.

    Args:
        passages: the corpus.
        terms: an index of these passages; built if omitted.
        progress: called with the number of passages indexed.

    Raises:
        InputError: if there are no passages.
        MissingDependencyError: if bm25s is not installed.
    """

    def __init__(
        self,
        passages: Sequence[Passage],
        terms: TermIndex | None = None,
        *,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(passages)
        self._terms = terms or TermIndex.build(passages, progress=progress or ignore)

    @property
    def fingerprint(self) -> str:
        """What the rankings depend on, apart from the passages."""
        settings = ", ".join(f"{name}={value}" for name, value in self._terms.settings.items())
        return f"BM25 with {settings}"

    def rank(self, queries: Sequence[str], k: int) -> list[Ranking]:
        """Return the ``k`` best rows, or fewer, for each query."""
        return [self._terms.search(query, k) for query in queries]
