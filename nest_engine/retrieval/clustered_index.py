"""Vector index of a large corpus: vectors in clusters, of which a search reads the nearest (IVF).

The vectors are in the order of their clusters: a search multiplies the query with the centres, then
reads a few stretches of the matrix. It may miss near vectors in clusters whose centre is far.
k-means (faiss) finds the clusters; they are stored in plain ``.npy`` files, as in the exact
index::

    clusters.centroids.npy   centre of each cluster, of length 1
    clusters.bounds.npy      start of each cluster, and the end of the last
    clusters.rows.npy        passage of each vector
    clusters.vectors.npy     the vectors, cluster by cluster
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nest_engine._optional import require
from nest_engine.errors import CorruptIndexError
from nest_engine.retrieval.progress import Progress, ignore
from nest_engine.retrieval.ranking import Ranking
from nest_engine.retrieval.vector_index import (
    VectorIndex,
    Vectors,
    candidates,
    load_array,
    load_matrix,
    products,
    unexpected,
)

EXACT_UP_TO = 500_000
"""Number of passages up to which an index is searched exactly, unless told otherwise.

Exact search of 200,000 vectors of 384 numbers takes 9.5 ms (p95) on two cores
(`benchmarks/scale.py`) and grows with their number: 500,000 take 19 to 25 ms. Up to there, a search
that misses nothing is worth the wait.
"""

SHARE_READ = 0.1
"""Minimum share of the vectors that a search reads.

It finds 94 % of the ten best, in a quarter of the time.
"""

READ_PER_HIT = 10
"""Minimum number of vectors that a search reads for every hit requested."""

_CENTROIDS, _BOUNDS = "clusters.centroids.npy", "clusters.bounds.npy"
_ROWS, _VECTORS = "clusters.rows.npy", "clusters.vectors.npy"

_ITERATIONS = 10
_SAMPLE = 40  # vectors per cluster that k-means sees; faiss warns below 39
_BLOCK = 4096  # vectors assigned or copied together


class ClusteredIndex(VectorIndex):
    """One vector of length 1 for each passage, in clusters; a search reads the nearest clusters.

    Args:
        vectors_ND: the vectors in the order of their clusters, float32.
        rows_N: corpus row of each vector, int64.
        bounds_C1: start of each cluster's vectors, and the end of the last, int64.
        centroids_CD: centre of each cluster, float32.
    """

    def __init__(
        self,
        vectors_ND: Vectors,
        rows_N: NDArray[np.int64],
        bounds_C1: NDArray[np.int64],
        centroids_CD: Vectors,
    ) -> None:
        super().__init__(vectors_ND)
        self._rows_N, self._bounds_C1, self._centroids_CD = rows_N, bounds_C1, centroids_CD

    @classmethod
    def sort(
        cls, vectors_ND: Vectors, directory: Path, progress: Progress = ignore
    ) -> ClusteredIndex:
        """Find clusters and write the vectors in their order.

        Args:
            vectors_ND: the vectors in the order of the passages; not empty.
            directory: where to write.
            progress: called with the share of the work done so far, as a number of passages.
        """
        vectors_ND = np.asarray(vectors_ND)
        steps = _ITERATIONS + 2 * math.ceil(len(vectors_ND) / _BLOCK)
        done = 0

        def advance() -> None:
            nonlocal done
            done += 1
            progress(done * len(vectors_ND) // steps, len(vectors_ND))

        centroids_CD = _centroids(vectors_ND, advance)
        nearest_N = np.empty(len(vectors_ND), np.int64)
        for block in _blocks(len(vectors_ND)):
            nearest_N[block] = (vectors_ND[block] @ centroids_CD.T).argmax(-1)
            advance()
        rows_N = np.argsort(nearest_N, kind="stable")
        sorted_ND = np.lib.format.open_memmap(
            directory / _VECTORS, "w+", np.float32, vectors_ND.shape
        )
        for block in _blocks(len(vectors_ND)):
            sorted_ND[block] = vectors_ND[rows_N[block]]
            advance()
        sorted_ND.flush()
        sizes_C = np.bincount(nearest_N, minlength=len(centroids_CD))
        np.save(directory / _CENTROIDS, centroids_CD)
        np.save(directory / _BOUNDS, np.concatenate([[0], np.cumsum(sizes_C)]))
        np.save(directory / _ROWS, rows_N)
        return cls.load(directory)

    @classmethod
    def load(cls, directory: Path) -> ClusteredIndex:
        """Open written clusters; the vectors stay on disk and are memory-mapped.

        Raises:
            CorruptIndexError: if files are missing or do not fit together.
        """
        vectors_ND, centroids_CD = (
            load_matrix(directory / _VECTORS),
            load_matrix(directory / _CENTROIDS),
        )
        rows_N, bounds_C1 = _load_numbers(directory / _ROWS), _load_numbers(directory / _BOUNDS)
        shapes = {
            "vectors": vectors_ND.shape,
            "rows": rows_N.shape,
            "bounds": bounds_C1.shape,
            "centroids": centroids_CD.shape,
        }
        num_vectors, dimension = vectors_ND.shape
        if (
            rows_N.shape != (num_vectors,)
            or centroids_CD.shape != (len(bounds_C1) - 1, dimension)
            or (bounds_C1[0], bounds_C1[-1]) != (0, num_vectors)
            or np.any(np.diff(bounds_C1) < 0)
            or not np.array_equal(np.sort(rows_N), np.arange(num_vectors))
        ):
            raise CorruptIndexError(
                f"the clusters in {directory} do not fit together: {shapes}; rebuild the index"
            )
        return cls(vectors_ND, rows_N, bounds_C1, centroids_CD)

    @property
    def num_clusters(self) -> int:
        """Number of clusters."""
        return len(self._centroids_CD)

    @property
    def fingerprint(self) -> str:
        """What the rankings depend on, apart from the vectors."""
        return f"{self.num_clusters} clusters, {SHARE_READ:.0%} read"

    def _rank(self, query_D: Vectors, k: int) -> Ranking:
        """Read as many of the nearest clusters as hold enough vectors for ``k`` hits."""
        nearest_C = np.argsort(-(self._centroids_CD @ query_D), kind="stable")
        starts_C, ends_C = self._bounds_C1[:-1][nearest_C], self._bounds_C1[1:][nearest_C]
        enough = min(max(SHARE_READ * len(self), READ_PER_HIT * k), len(self))
        read = np.searchsorted(np.cumsum(ends_C - starts_C), enough) + 1
        stretches = [
            slice(start, end) for start, end in zip(starts_C[:read], ends_C[:read], strict=True)
        ]
        vectors_ND = np.asarray(self.vectors_ND)
        places_N = np.concatenate([np.arange(stretch.start, stretch.stop) for stretch in stretches])
        places_N = places_N[
            candidates(np.concatenate([vectors_ND[stretch] @ query_D for stretch in stretches]), k)
        ]
        rows_N = self._rows_N[places_N]
        ascending = np.argsort(rows_N)
        return Ranking.best(
            rows_N[ascending], products(vectors_ND[places_N[ascending]], query_D), k
        )


def _centroids(vectors_ND: Vectors, advance: Callable[[], None]) -> Vectors:
    """Return the centres of clusters, found by k-means over a sample of the vectors."""
    faiss = require("faiss", "faiss-cpu")
    num_vectors, dimension = vectors_ND.shape
    num_clusters = min(round(4 * math.sqrt(num_vectors)), math.ceil(num_vectors / _SAMPLE))
    rows = np.random.default_rng(0).choice(
        num_vectors, min(num_vectors, num_clusters * _SAMPLE), replace=False
    )
    sample_ND, centroids_CD = vectors_ND[np.sort(rows)], None
    for _ in range(_ITERATIONS):
        kmeans = faiss.Kmeans(
            dimension, num_clusters, niter=1, spherical=True, min_points_per_centroid=1
        )
        kmeans.train(sample_ND, init_centroids=centroids_CD)
        centroids_CD = kmeans.centroids
        advance()
    return np.asarray(centroids_CD)


def _blocks(count: int) -> Iterator[slice]:
    return (slice(start, min(start + _BLOCK, count)) for start in range(0, count, _BLOCK))


def _load_numbers(path: Path) -> NDArray[np.int64]:
    """Map a list of int64, not empty, into memory."""
    numbers: NDArray[np.int64] = load_array(path)
    if numbers.dtype != np.int64 or numbers.ndim != 1 or not len(numbers):
        raise unexpected(path, numbers, "a list of int64")
    return numbers
