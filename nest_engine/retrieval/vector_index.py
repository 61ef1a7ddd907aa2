"""Vector index of a corpus: exact search for the largest cosine (faiss).

The vectors are a plain ``.npy`` matrix mapped into memory, which ``faiss.knn`` scans as it is: nothing is loaded or
copied at opening, and no foreign binary format is trusted. An approximate index for large corpora would be another
class with the same `VectorIndex.search`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nest_engine.errors import CorruptIndexError, IndexMismatchError, InputError
from nest_engine.retrieval.embedder import Embedder, QueryEmbedder
from nest_engine.retrieval.optional import require
from nest_engine.retrieval.progress import Progress, ignore
from nest_engine.retrieval.ranking import Ranking
from nest_engine.retrieval.search_text import search_text
from nest_engine.types import Passage

Vectors = NDArray[np.float32]

_FILE = "vectors.npy"
_BATCH = 64  # passages between two reports of progress; the embedder batches as it likes


class VectorIndex:
    """One vector of length 1 for each passage.

    Args:
        vectors_ND: the matrix, float32.
    """

    def __init__(self, vectors_ND: Vectors) -> None:
        self.vectors_ND = vectors_ND

    @classmethod
    def build(cls, passages: Sequence[Passage], embedder: Embedder, progress: Progress = ignore) -> VectorIndex:
        """Embed the passages in memory.

        Args:
            passages: the corpus; not empty.
            embedder: maps texts to vectors.
            progress: told the number of passages embedded.

        Raises:
            InputError: if a vector is zero or not finite.
        """
        return cls(_embed(passages, embedder, progress, lambda shape: np.empty(shape, np.float32)))

    @classmethod
    def write(cls, directory: Path, passages: Sequence[Passage], embedder: Embedder, progress: Progress) -> VectorIndex:
        """Like `build`, but into a file, so that the vectors need not fit in memory."""
        allocate = partial(np.lib.format.open_memmap, directory / _FILE, "w+", np.float32)
        vectors_ND = _embed(passages, embedder, progress, allocate)
        vectors_ND.flush()  # type: ignore[attr-defined]
        return cls(vectors_ND)

    @classmethod
    def load(cls, directory: Path) -> VectorIndex:
        """Open a written index; the vectors stay on disk and are mapped into memory.

        Raises:
            CorruptIndexError: if the file is missing or is no matrix of float32.
        """
        path = directory / _FILE
        try:
            vectors_ND = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise CorruptIndexError(f"{path} cannot be read ({error}); rebuild the index") from error
        if vectors_ND.ndim != 2 or vectors_ND.dtype != np.float32:
            raise CorruptIndexError(
                f"{path} holds {vectors_ND.dtype} of shape {vectors_ND.shape}, expected a float32 matrix; "
                "rebuild the index"
            )
        return cls(vectors_ND)

    @property
    def dimension(self) -> int:
        """Width of the vectors."""
        return int(self.vectors_ND.shape[1])

    def search(self, queries: Sequence[str], embedder: Embedder, k: int) -> list[Ranking]:
        """Rank the ``k`` passages of largest cosine for each query; scores are float32 from -1 to 1.

        Of exact duplicates that compete for the last place, faiss decides which one is kept.

        Raises:
            InputError: if the vector of a query is zero or not finite.
            IndexMismatchError: if the embedder's vectors have another width.
        """
        if not queries:
            return []
        embed = embedder.embed_queries if isinstance(embedder, QueryEmbedder) else embedder.embed
        queries_QD = _normalized(embed(queries), [f"the query {query[:40]!r}" for query in queries])
        if queries_QD.shape[1] != self.dimension:
            raise IndexMismatchError(
                f"the vectors of the index have {self.dimension} dimensions, those of {embedder!r} have "
                f"{queries_QD.shape[1]}; use the embedder that the index was built with, or rebuild the index"
            )
        faiss = require("faiss", "faiss-cpu")
        k = min(k, len(self.vectors_ND))
        scores_QK, rows_QK = faiss.knn(queries_QD, self.vectors_ND, k, metric=faiss.METRIC_INNER_PRODUCT)
        return [_ranking(rows, scores) for rows, scores in zip(rows_QK, scores_QK, strict=True)]


def _ranking(rows: NDArray[np.int64], scores: Vectors) -> Ranking:
    ascending = np.argsort(rows)
    return Ranking.best(rows[ascending], scores[ascending], len(rows))


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
        batch_BD = _normalized(embedder.embed([search_text(passage) for passage in batch]), names)
        if vectors_ND is None:
            vectors_ND = allocate((len(passages), batch_BD.shape[1]))
        vectors_ND[start : start + len(batch)] = batch_BD
        progress(start + len(batch), len(passages))
    if vectors_ND is None:
        raise InputError("there are no passages to embed; give at least one")
    return vectors_ND


def _normalized(vectors: Vectors, names: Sequence[str]) -> Vectors:
    """Scale each of the named vectors to length 1, as contiguous float32 ``[len(names), D]``."""
    vectors = np.asarray(vectors, dtype=np.float32)
    if vectors.ndim != 2 or len(vectors) != len(names):
        raise InputError(
            f"the embedder returned an array of shape {vectors.shape} for {len(names)} texts; "
            f"expected ({len(names)}, dimension)"
        )
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    unusable = np.flatnonzero(~(np.isfinite(lengths[:, 0]) & (lengths[:, 0] > 0)))
    if len(unusable):
        kind = "a zero vector" if lengths[unusable[0], 0] == 0 else "a vector with NaN or infinite values"
        raise InputError(
            f"the embedder returned {kind} for {names[unusable[0]]} ({len(unusable)} of {len(names)} in this batch); "
            "remove the text or use another embedding model"
        )
    return np.ascontiguousarray(vectors / lengths, dtype=np.float32)
