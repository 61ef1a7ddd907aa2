"""The base class of the retrievers over one corpus."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

from nest_engine._validation import require_count
from nest_engine.errors import InputError
from nest_engine.records import Passage
from nest_engine.retrieval.ranking import Ranking


class CorpusRetriever(ABC):
    """Searches one fixed list of passages; subclasses rank its rows.

    Args:
        passages: the corpus; it must not change afterwards.

    Raises:
        InputError: if there are no passages.
    """

    def __init__(self, passages: Sequence[Passage]) -> None:
        if not len(passages):
            raise InputError("there are no passages to search; give at least one")
        self.passages = passages

    @property
    def fingerprint(self) -> str:
        """What the rankings depend on, apart from the passages."""
        return type(self).__name__

    def retrieve(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        """Return up to ``k`` passages for each query, best first, with ``Passage.score`` set.

        A blank query finds nothing. Passages with equal scores are in the order of the corpus.

        Raises:
            ConfigError: if ``k`` is not a whole number of at least 1.
            InputError: if ``queries`` is not a sequence of strings, or one of them is not valid
                text.
        """
        _check(queries, k)
        rankings = iter(self.rank([query for query in queries if query.strip()], k))
        return [self._passages_of(next(rankings)) if query.strip() else [] for query in queries]

    @abstractmethod
    def rank(self, queries: Sequence[str], k: int) -> list[Ranking]:
        """Return the ``k`` best rows of the corpus, or fewer, for each query; no query is blank."""

    def _passages_of(self, ranking: Ranking) -> list[Passage]:
        rows, scores = ranking.rows.tolist(), ranking.scores.tolist()
        return [
            replace(self.passages[row], score=score)
            for row, score in zip(rows, scores, strict=True)
        ]


def _check(queries: Sequence[str], k: int) -> None:
    require_count("k", k)
    if isinstance(queries, str):
        raise InputError(
            f"queries must be a list of strings, got the string {queries[:40]!r}; wrap it in a list"
        )
    for query in queries:
        if not isinstance(query, str):
            raise InputError(f"a query must be a string, got {type(query).__name__}")
        try:
            query.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(
                f"the query holds a lone surrogate {query[error.start]!r} at offset {error.start}, "
                f"which is not text"
            ) from error
