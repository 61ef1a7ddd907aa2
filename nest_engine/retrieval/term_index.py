"""A keyword index of a corpus: BM25 scores by term (bm25s)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nest_engine._optional import require
from nest_engine.errors import CorruptIndexError
from nest_engine.records import Passage
from nest_engine.retrieval.progress import Progress, ignore
from nest_engine.retrieval.ranking import Ranking
from nest_engine.retrieval.search_text import search_text
from nest_engine.retrieval.terms import query_terms, terms_of
from nest_engine.retrieval.title_terms import title_terms, titles_named

# Of bm25s' variants, only Lucene's gives every term a positive weight, even one that occurs in all
# passages: a score is above zero exactly if the passage shares a term with the query.
_METHOD = "lucene"


class TermIndex:
    """BM25 scores of every term in every passage that contains it.

    Args:
        bm25: a bm25s index.
    """

    def __init__(self, bm25: Any) -> None:
        self._bm25 = bm25

    @classmethod
    def build(
        cls,
        passages: Sequence[Passage],
        *,
        k1: float = 0.9,
        b: float = 0.4,
        progress: Progress = ignore,
    ) -> TermIndex:
        """Index titles and texts, and each title as a whole.

        Args:
            passages: the corpus.
            k1: how much a repeated term adds.
            b: how much the length of a passage counts against it, from 0 to 1.
            progress: called with the number of passages read.
        """
        bm25s = require("bm25s", "bm25s")
        vocabulary: dict[str, int] = {}
        rows: list[list[int]] = []
        begun: set[tuple[str, str | None]] = set()
        for row, passage in enumerate(passages, start=1):
            document = passage.title, passage.uri
            title = title_terms(passage.title, is_first=document not in begun)
            begun.add(document)
            terms = [*terms_of(search_text(passage)), *title]
            rows.append([vocabulary.setdefault(term, len(vocabulary)) for term in terms])
            progress(row, len(passages))
        bm25 = bm25s.BM25(method=_METHOD, k1=k1, b=b)
        # If no passage has a word, their mean length is 0, and bm25s divides by it to no effect.
        with np.errstate(invalid="ignore"):
            bm25.index((rows, vocabulary), create_empty_token=False, show_progress=False)
        return cls(bm25)

    @property
    def settings(self) -> dict[str, Any]:
        """What the scores depend on, apart from the passages."""
        return {"method": self._bm25.method, "k1": self._bm25.k1, "b": self._bm25.b}

    @property
    def num_passages(self) -> int:
        """Number of passages in the index."""
        return int(self._bm25.scores["num_docs"])

    def search(self, query: str, k: int) -> Ranking:
        """Rank up to ``k`` passages that share a term with the query; scores are float32.

        A title that the query names is a term, too.
        """
        ids = self._bm25.get_tokens_ids([*query_terms(query), *titles_named(query)])
        if not ids:
            return Ranking.empty()
        scores = self._bm25.get_scores_from_ids(ids)
        rows = np.flatnonzero(scores > 0)
        return Ranking.best(rows, scores[rows], k)

    def save(self, directory: Path) -> None:
        """Write the index as ``.npy`` and JSON files."""
        self._bm25.save(str(directory))

    @classmethod
    def load(cls, directory: Path) -> TermIndex:
        """Open a saved index; the scores stay on disk and are memory-mapped.

        Raises:
            CorruptIndexError: if files are missing or do not fit together.
        """
        bm25s = require("bm25s", "bm25s")
        try:
            bm25 = bm25s.BM25.load(str(directory), mmap=True, allow_pickle=False, backend="numpy")
            postings, scores = len(bm25.scores["indices"]), len(bm25.scores["data"])
            terms, bounds = len(bm25.vocab_dict), bm25.scores["indptr"]
        except Exception as error:  # bm25s lets any error of malformed files through
            raise CorruptIndexError(
                f"the keyword index in {directory} cannot be read ({error}); rebuild it"
            ) from error
        if not (len(bounds) == terms + 1 and bounds[-1] == postings == scores):
            raise CorruptIndexError(
                f"the keyword index in {directory} does not fit together: {terms} terms and "
                f"{len(bounds) - 1} lists, "
                f"{postings} postings and {scores} scores; rebuild it"
            )
        return cls(bm25)
