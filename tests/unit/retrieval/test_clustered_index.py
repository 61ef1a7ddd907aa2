"""Clusters of vectors: nearly what exact search finds, exactly that when asked for all."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from nest_engine.errors import CorruptIndexError
from nest_engine.retrieval import Ranking
from nest_engine.retrieval.clustered_index import READ_PER_HIT, SHARE_READ, ClusteredIndex
from nest_engine.retrieval.exact_index import ExactIndex

COUNT, DIMENSION = 6000, 16


class VectorEmbedder:
    """Gives the vectors that it was told to give for queries ``"0"``, ``"1"``, ..."""

    fingerprint = "vectors"

    def __init__(self, vectors_QD: NDArray[np.float32]) -> None:
        self.vectors_QD = vectors_QD
        self.queries = [str(row) for row in range(len(vectors_QD))]

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.vectors_QD[[int(text) for text in texts]]


def scattered(count: int, seed: int) -> NDArray[np.float32]:
    """Unit vectors around 100 centres, the same ones for every seed."""
    centres = np.random.default_rng(0).standard_normal((100, DIMENSION))
    rng = np.random.default_rng(seed)
    vectors = centres[rng.integers(100, size=count)] + 0.3 * rng.standard_normal((count, DIMENSION))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module", name="vectors_ND")
def vectors() -> NDArray[np.float32]:
    return scattered(COUNT, seed=1)


@pytest.fixture(scope="module")
def folder(vectors_ND: NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("clusters")
    ClusteredIndex.sort(vectors_ND, directory)
    return directory


@pytest.fixture(scope="module")
def embedder() -> VectorEmbedder:
    return VectorEmbedder(scattered(50, seed=2))


def recall(found: Sequence[Ranking], wanted: Sequence[Ranking]) -> float:
    return float(
        np.mean(
            [np.isin(its.rows, mine.rows).mean() for mine, its in zip(found, wanted, strict=True)]
        )
    )


def test_finds_nearly_what_exact_search_finds(folder: Path, vectors_ND, embedder: VectorEmbedder):
    clustered, exact = ClusteredIndex.load(folder), ExactIndex(vectors_ND)
    found, wanted = (index.search(embedder.queries, embedder, 10) for index in (clustered, exact))
    assert recall(found, wanted) > 0.95
    for ranking, query_D in zip(found, embedder.vectors_QD, strict=True):
        assert len(set(ranking.rows.tolist())) == 10
        cosines = vectors_ND[ranking.rows] @ query_D
        assert ranking.scores == pytest.approx(cosines, abs=1e-6)
        assert list(ranking.scores) == sorted(ranking.scores, reverse=True)


@pytest.mark.parametrize("k", [1, 10, 100])
def test_reads_as_many_clusters_as_hold_enough(folder: Path, embedder: VectorEmbedder, k: int):
    """A cluster was read if its vectors, replaced by the query itself, are found."""
    intact = ClusteredIndex.load(folder)
    query_D, wanted = embedder.vectors_QD[0], intact.search(["0"], embedder, k)[0].rows
    sizes = []
    for start, end in pairwise(intact._bounds_C1.tolist()):
        planted_ND = np.array(intact.vectors_ND)
        planted_ND[start:end] = query_D
        planted = ClusteredIndex(
            planted_ND, intact._rows_N, intact._bounds_C1, intact._centroids_CD
        )
        if not np.array_equal(planted.search(["0"], embedder, k)[0].rows, wanted):
            sizes.append(end - start)
    enough = max(SHARE_READ * COUNT, READ_PER_HIT * k)
    assert enough <= sum(sizes) < enough + max(sizes)


@pytest.mark.parametrize("k", [COUNT, 10**9])
def test_asked_for_everything_it_is_exact(
    folder: Path, vectors_ND, embedder: VectorEmbedder, k: int
):
    clustered, exact = ClusteredIndex.load(folder), ExactIndex(vectors_ND)
    for found, wanted in zip(
        *(index.search(embedder.queries[:3], embedder, k) for index in (clustered, exact)),
        strict=True,
    ):
        assert np.array_equal(found.rows, wanted.rows)
        assert np.array_equal(found.scores, wanted.scores)


def test_gives_as_many_as_are_asked_for(folder: Path, embedder: VectorEmbedder):
    assert [
        len(each.rows)
        for each in ClusteredIndex.load(folder).search(embedder.queries, embedder, 700)
    ] == [700] * 50


@pytest.mark.parametrize("count", [1, 2, 39, 41, 500])
def test_few_vectors(tmp_path: Path, vectors_ND, embedder: VectorEmbedder, count: int, capfd):
    index = ClusteredIndex.sort(vectors_ND[:count], tmp_path)
    found, wanted = (
        each.search(["0"], embedder, 3)[0] for each in (index, ExactIndex(vectors_ND[:count]))
    )
    assert len(found.rows) == min(3, count)
    assert found.rows[0] == wanted.rows[0]
    assert capfd.readouterr().err == ""  # faiss warns of too small a sample


@pytest.mark.parametrize("index_of", [ExactIndex, lambda vectors: None])
@pytest.mark.parametrize("count", [3, 13, 100])
def test_equal_vectors_come_in_the_order_of_the_corpus(
    tmp_path: Path, vectors_ND, embedder: VectorEmbedder, count: int, index_of: Callable
):
    others, same = vectors_ND[: 3 * count], np.repeat(embedder.vectors_QD[:1], count, axis=0)
    mixed = np.empty((4 * count, DIMENSION), np.float32)
    places = np.sort(np.random.default_rng(3).choice(4 * count, count, replace=False))
    mixed[places], mixed[np.setdiff1d(np.arange(4 * count), places)] = same, others
    index = index_of(mixed) or ClusteredIndex.sort(mixed, tmp_path)
    for k in (count, count - 1):  # also where not all of them are wanted
        [found] = index.search(["0"], embedder, k)
        assert found.rows.tolist() == places[:k].tolist()
        assert len(set(found.scores.tolist())) == 1


def test_reports_progress_up_to_the_end(tmp_path: Path, vectors_ND):
    calls: list[tuple[int, int]] = []
    ClusteredIndex.sort(vectors_ND, tmp_path, lambda *call: calls.append(call))
    assert calls == sorted(calls)
    assert len(calls) == 10 + 2 * 2
    assert calls[-1] == (COUNT, COUNT)


def test_equal_vectors_give_equal_files(folder: Path, tmp_path: Path, vectors_ND):
    ClusteredIndex.sort(vectors_ND, tmp_path)
    names = sorted(path.name for path in folder.iterdir())
    assert names == [f"clusters.{part}.npy" for part in ("bounds", "centroids", "rows", "vectors")]
    for name in names:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


class TestDamage:
    @pytest.fixture
    def damaged(self, folder: Path, tmp_path: Path) -> Path:
        for path in folder.iterdir():
            os.link(path, tmp_path / path.name)
        return tmp_path

    @pytest.mark.parametrize("part", ["bounds", "centroids", "rows", "vectors"])
    def test_a_missing_or_foreign_file(self, damaged: Path, part: str):
        path = damaged / f"clusters.{part}.npy"
        path.unlink()
        with pytest.raises(
            CorruptIndexError, match=rf"clusters.{part}.npy cannot be read .*rebuild the index"
        ):
            ClusteredIndex.load(damaged)
        path.write_bytes(b"IxFl" * 100)
        with pytest.raises(
            CorruptIndexError, match=rf"clusters.{part}.npy cannot be read .*rebuild the index"
        ):
            ClusteredIndex.load(damaged)

    @pytest.mark.parametrize(
        ("part", "change"),
        [
            ("bounds", lambda bounds: bounds[:-1]),
            ("bounds", lambda bounds: bounds + 1),
            (
                "bounds",
                lambda bounds: np.concatenate([bounds[:1], bounds[2:3], bounds[1:2], bounds[3:]]),
            ),
            ("bounds", lambda bounds: bounds.astype(np.int32)),
            ("bounds", lambda bounds: bounds[:0]),
            ("rows", lambda rows: rows[:-1]),
            ("rows", lambda rows: rows + 1),
            ("rows", lambda rows: rows - 1),
            ("rows", lambda rows: np.zeros_like(rows)),
            ("rows", lambda rows: rows[:, None]),
            ("rows", lambda rows: rows.astype(float)),
            ("centroids", lambda centroids: centroids[:-1]),
            ("centroids", lambda centroids: centroids[:, :-1]),
            ("centroids", lambda centroids: centroids.astype(float)),
            ("vectors", lambda vectors: vectors[:-1]),
            ("vectors", lambda vectors: vectors[:, :-1]),
            ("vectors", lambda vectors: vectors.ravel()),
            ("vectors", lambda vectors: vectors.astype(np.float16)),
        ],
    )
    def test_parts_that_do_not_fit_together(self, damaged: Path, part: str, change: Callable):
        path = damaged / f"clusters.{part}.npy"
        array = np.load(path)
        path.unlink()
        np.save(path, change(array))
        with pytest.raises(
            CorruptIndexError, match=r"(do not fit together: .*|expected a .*); rebuild the index"
        ):
            ClusteredIndex.load(damaged)
