"""A vector index that reads every vector for every query."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from nest_engine.errors import InputError
from nest_engine.records import Passage
from nest_engine.retrieval.embedder import Embedder
from nest_engine.retrieval.progress import Progress, ignore
from nest_engine.retrieval.ranking import Ranking
from nest_engine.retrieval.search_text import search_text
from nest_engine.retrieval.vector_index import (
    VectorIndex,
    Vectors,
    candidates,
    load_matrix,
    normalized,
    products,
)

EXACT_FILE = "vectors.npy"
_BATCH = 64  # passages between two progress reports; the embedder does its own batching


class ExactIndex(VectorIndex):
    """One vector of length 1 for each passage, in the same order; a search reads them all.

    Args:
        vectors_ND: the matrix, float32.
    """

    @classmethod
    def build(
        cls, passages: Sequence[Passage], embedder: Embedder, progress: Progress = ignore
    ) -> ExactIndex:
        """Embed the passages in memory.

        Args:
            passages: the corpus; not empty.
            embedder: maps texts to vectors.
            progress: called with the number of passages embedded.

        Raises:
            InputError: if a vector is zero or not finite.
        """
        return cls(_embed(passages, embedder, progress, lambda shape: np.empty(shape, np.float32)))

    @classmethod
    def write(
        cls, directory: Path, passages: Sequence[Passage], embedder: Embedder, progress: Progress
    ) -> ExactIndex:
        """Embed the passages into a file, so that the vectors need not fit in memory."""
        allocate = partial(np.lib.format.open_memmap, directory / EXACT_FILE, "w+", np.float32)
        vectors_ND = _embed(passages, embedder, progress, allocate)
        vectors_ND.flush()  # type: ignore[attr-defined]
        return cls(vectors_ND)

    @classmethod
    def load(cls, directory: Path) -> ExactIndex:
        """Open a written index; the vectors stay on disk and are memory-mapped.

        Raises:
            CorruptIndexError: if the file is missing or is not a float32 matrix.
        """
        return cls(load_matrix(directory / EXACT_FILE))

    @property
    def fingerprint(self) -> str:
        """What the rankings depend on, apart from the vectors."""
        return "exact"

    def _rank(self, query_D: Vectors, k: int) -> Ranking:
        vectors_ND = np.asarray(self.vectors_ND)
        kept = candidates(vectors_ND @ query_D, k)
        return Ranking.best(kept, products(vectors_ND[kept], query_D), k)


def _embed(
    passages: Sequence[Passage],
    embedder: Embedder,
    progress: Progress,
    allocate: Callable[[tuple[int, int]], Vectors],
) -> Vectors:
    """Fill a matrix with the vectors of all passages, a batch at a time."""
    vectors_ND: Vectors | None = None
    for start in range(0, len(passages), _BATCH):
        batch = passages[start : start + _BATCH]
        names = [f"passage {passage.id!r}" for passage in batch]
        batch_BD = normalized(embedder.embed([search_text(passage) for passage in batch]), names)
        if vectors_ND is None:
            vectors_ND = allocate((len(passages), batch_BD.shape[1]))
        vectors_ND[start : start + len(batch)] = batch_BD
        progress(start + len(batch), len(passages))
    if vectors_ND is None:
        raise InputError("there are no passages to embed; give at least one")
    return vectors_ND
