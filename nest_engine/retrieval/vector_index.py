"""A vector index of a corpus: search for the largest cosine.

The vectors are a plain, memory-mapped ``.npy`` matrix that is multiplied with the query directly:
nothing is loaded or copied on opening, and no foreign binary format is trusted. `ExactIndex` reads
all of them, `ClusteredIndex` those that are likely to be near. numpy uses all cores for a single
query, ``faiss.knn`` only one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nest_engine.errors import CorruptIndexError, IndexMismatchError, InputError
from nest_engine.retrieval.embedder import Embedder, query_embedding
from nest_engine.retrieval.ranking import Ranking

Vectors = NDArray[np.float32]

# more than the difference between two products of the same unit vectors, summed in any order
_ROUNDING = 1e-5


class VectorIndex(ABC):
    """One vector of length 1 for each passage.

    Args:
        vectors_ND: the matrix, float32.
    """

    def __init__(self, vectors_ND: Vectors) -> None:
        self.vectors_ND = vectors_ND

    def __len__(self) -> int:
        """Return the number of vectors."""
        return len(self.vectors_ND)

    @property
    def dimension(self) -> int:
        """Width of the vectors."""
        return int(self.vectors_ND.shape[1])

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """What the rankings depend on, apart from the vectors."""

    def search(self, queries: Sequence[str], embedder: Embedder, k: int) -> list[Ranking]:
        """Rank the ``k`` passages of largest cosine for each query.

        Scores are float32 from -1 to 1.

        Raises:
            InputError: if the vector of a query is zero or not finite.
            IndexMismatchError: if the embedder's vectors have another width.
        """
        if not queries:
            return []
        found = query_embedding(embedder)(queries)
        queries_QD = normalized(found, [f"the query {query[:40]!r}" for query in queries])
        if queries_QD.shape[1] != self.dimension:
            raise IndexMismatchError(
                f"the vectors of the index have {self.dimension} dimensions, those of {embedder!r} "
                f"have "
                f"{queries_QD.shape[1]}; use the embedder that the index was built with, or "
                f"rebuild the index"
            )
        return [self._rank(query_D, k) for query_D in queries_QD]

    @abstractmethod
    def _rank(self, query_D: Vectors, k: int) -> Ranking:
        """Rank the ``k`` best rows, or all of them."""


def load_matrix(path: Path) -> Vectors:
    """Memory-map a float32 matrix.

    Raises:
        CorruptIndexError: if the file is missing or holds something else.
    """
    vectors_ND: Vectors = load_array(path)
    if vectors_ND.ndim != 2 or vectors_ND.dtype != np.float32:
        raise unexpected(path, vectors_ND, "a float32 matrix")
    return vectors_ND


def load_array(path: Path) -> NDArray[Any]:
    """Memory-map an array of any kind; errors as for :func:`load_matrix`."""
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise CorruptIndexError(f"{path} cannot be read ({error}); rebuild the index") from error
    return array


def unexpected(path: Path, array: NDArray[Any], expected: str) -> CorruptIndexError:
    """Return the error for a file that holds a different array than expected."""
    return CorruptIndexError(
        f"{path} holds {array.dtype} of shape {array.shape}, expected {expected}; rebuild the index"
    )


def candidates(scores_N: Vectors, k: int) -> NDArray[np.int64]:
    """Return the positions of the ``k`` largest scores, in ascending order.

    Scores that may be smaller only by rounding are included.
    """
    if k >= len(scores_N):
        return np.arange(len(scores_N))
    return np.flatnonzero(scores_N >= np.partition(scores_N, -k)[-k] - _ROUNDING)


def products(vectors_ND: Vectors, query_D: Vectors) -> Vectors:
    """Return the product of each vector with the query, the same for the same vector.

    In a matrix product the rounding of a row depends on its place, so any of several equal passages
    could come first.
    """
    return np.asarray((vectors_ND * query_D).sum(-1))


def normalized(vectors: Vectors, names: Sequence[str]) -> Vectors:
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
        kind = (
            "a zero vector"
            if lengths[unusable[0], 0] == 0
            else "a vector with NaN or infinite values"
        )
        raise InputError(
            f"the embedder returned {kind} for {names[unusable[0]]} ({len(unusable)} of "
            f"{len(names)} in this batch); "
            "remove the text or use another embedding model"
        )
    return np.ascontiguousarray(vectors / lengths, dtype=np.float32)
