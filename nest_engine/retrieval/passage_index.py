"""A passage index on disk: opened in milliseconds, searched by keyword, vector or both."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal, get_args

from nest_engine.errors import ConfigError, CorruptIndexError, IndexMismatchError, InputError
from nest_engine.records import Passage
from nest_engine.retrieval.bm25 import BM25Retriever
from nest_engine.retrieval.clustered_index import EXACT_UP_TO, ClusteredIndex
from nest_engine.retrieval.corpus_retriever import CorpusRetriever
from nest_engine.retrieval.dense import DenseRetriever
from nest_engine.retrieval.embedder import Embedder
from nest_engine.retrieval.exact_index import EXACT_FILE, ExactIndex
from nest_engine.retrieval.generation import Generation, building, flush, publish, with_current
from nest_engine.retrieval.hybrid import HybridRetriever
from nest_engine.retrieval.manifest import FORMAT_VERSION, Manifest
from nest_engine.retrieval.passage_store import LINES, PassageStore
from nest_engine.retrieval.progress import Progress, ignore, stage
from nest_engine.retrieval.term_index import TermIndex
from nest_engine.retrieval.vector_index import VectorIndex

SearchMode = Literal["bm25", "dense", "hybrid"]


@dataclass(frozen=True)
class IndexInfo:
    """Description of an index.

    Args:
        passages: number of passages.
        bytes: size on disk.
        corpus_sha256: hash of the passages as stored; equal for equal corpora.
        embedder: the embedder that made the vectors; None without vectors.
        embedder_fingerprint: its fingerprint.
        dimension: width of the vectors.
        clusters: number of vector clusters, of which a search reads the nearest; None if it reads
            all vectors.
        format_version: version of the layout on disk.
        created: when it was built, ISO 8601 in UTC.
    """

    passages: int
    bytes: int
    corpus_sha256: str
    embedder: str | None
    embedder_fingerprint: str | None
    dimension: int | None
    clusters: int | None
    format_version: int
    created: str


class PassageIndex:
    """Passages with their keyword scores and, if an embedder was given, their vectors.

    Everything but the vocabulary stays on disk and is memory-mapped. Created by `build` or `open`.
    """

    def __init__(self, root: Path, generation: Generation, embedder: Embedder | None) -> None:
        self._root, self._generation, self._embedder = root, generation, embedder
        directory, manifest = generation.directory, generation.manifest
        self.passages: Sequence[Passage] = PassageStore(directory)
        self._terms = TermIndex.load(directory)
        self._vectors = _load_vectors(generation) if manifest.dense else None
        counts = {
            "manifest": manifest.num_passages,
            "passages": len(self.passages),
            "terms": self._terms.num_passages,
            "vectors": len(self._vectors) if self._vectors else manifest.num_passages,
        }
        if len(set(counts.values())) > 1:
            raise CorruptIndexError(
                f"the parts of {directory} hold different numbers of passages: {counts}; rebuild it"
            )

    @classmethod
    def build(
        cls,
        passages: Sequence[Passage],
        path: str | os.PathLike[str],
        *,
        embedder: Embedder | None = None,
        exact: bool | None = None,
        progress: Progress | None = None,
    ) -> PassageIndex:
        """Write an index, replacing any at ``path``, and open it.

        The old index stays in use until the new one is complete, even if the build is killed.

        Args:
            passages: what to index; not empty, ids unique.
            path: directory of the index; created if needed.
            embedder: computes the vectors; without one, the index serves keyword search only.
            exact: search all vectors, or with False those of the nearest clusters; None: all up to
                `EXACT_UP_TO` passages (`nest_engine.retrieval.clustered_index`).
            progress: called with the number of passages, counted once per stage: words, vectors,
                clusters.

        Raises:
            ConfigError: if ``exact`` is given and there is no embedder.
            InputError: if there are no passages, two share an id, metadata is not JSON, or a vector
                is unusable.
            PassageIndexError: if the directory holds something else, is already being built, or
                cannot be written.
            MissingDependencyError: if an optional library is missing.
        """
        if not len(passages):
            raise InputError("there are no passages to index; give at least one")
        if exact is not None and embedder is None:
            raise ConfigError(
                f"exact={exact!r} is about vectors, and there is no embedder; give one or leave it "
                f"out"
            )
        if exact is None:
            exact = len(passages) <= EXACT_UP_TO
        root = Path(path)
        with building(root) as directory:
            _write(directory, passages, embedder, exact, progress or ignore)
        # It has just been written and hashed.
        return cls.open(root, embedder=embedder, verify=False)

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], *, embedder: Embedder | None = None, verify: bool = True
    ) -> PassageIndex:
        """Open an index that was built before.

        Args:
            path: directory of the index.
            embedder: the embedder that it was built with; without it, the index serves keyword
                search only.
            verify: compare the SHA-256 of every file, which takes about a second per gigabyte;
                otherwise only the sizes of the files and the checksum of the manifest.

        Raises:
            PassageIndexError: if there is no index.
            CorruptIndexError: if a file is missing, truncated or altered.
            IndexMismatchError: if the format or the embedder differs.
        """
        root = Path(path)

        def load(generation: Generation) -> PassageIndex:
            _check_embedder(root, generation.manifest, embedder)
            generation.check(contents=verify)
            return cls(root, generation, embedder)

        return with_current(root, load)

    def retriever(self, mode: SearchMode | None = None) -> CorpusRetriever:
        """Return a search over the index.

        Args:
            mode: ``bm25`` by keywords, ``dense`` by vectors, ``hybrid`` by both (the paper's);
                ``hybrid`` when None, or ``bm25`` without an embedder.

        Raises:
            ConfigError: if the mode is unknown, or needs an embedder and the index was opened
                without one.
            IndexMismatchError: if the mode needs vectors and the index has none.
        """
        mode = mode or ("hybrid" if self._embedder else "bm25")
        if mode not in get_args(SearchMode):
            raise ConfigError(
                f"mode={mode!r} is not valid: expected one of {', '.join(get_args(SearchMode))}"
            )
        if mode == "bm25":
            return BM25Retriever(self.passages, self._terms)
        dense = self._dense(mode)
        return (
            dense
            if mode == "dense"
            else HybridRetriever(BM25Retriever(self.passages, self._terms), dense)
        )

    def _dense(self, mode: str) -> DenseRetriever:
        if self._vectors is None:
            raise IndexMismatchError(
                f"mode {mode!r} needs vectors and {self._root} has none; rebuild it with an "
                f"embedder, or use 'bm25'"
            )
        if self._embedder is None:
            raise ConfigError(
                f"mode {mode!r} needs the embedder that {self._root} was built with, "
                f"{self.info().embedder}; open the index with it"
            )
        return DenseRetriever(self.passages, self._embedder, self._vectors)

    def verify(self) -> None:
        """Compare the SHA-256 of every file.

        Raises:
            CorruptIndexError: if a file is missing or altered.
        """
        self._generation.check(contents=True)

    def info(self) -> IndexInfo:
        """Describe the index."""
        manifest = self._generation.manifest
        dense = manifest.dense or {}
        return IndexInfo(
            passages=manifest.num_passages,
            bytes=sum(file.size for file in manifest.files.values()),
            corpus_sha256=manifest.files[LINES].sha256,
            embedder=dense.get("embedder"),
            embedder_fingerprint=dense.get("fingerprint"),
            dimension=dense.get("dimension"),
            clusters=self._vectors.num_clusters
            if isinstance(self._vectors, ClusteredIndex)
            else None,
            format_version=FORMAT_VERSION,
            created=manifest.created,
        )


def _write(
    directory: Path,
    passages: Sequence[Passage],
    embedder: Embedder | None,
    exact: bool,
    progress: Progress,
) -> None:
    stages = 1 if embedder is None else 2 if exact else 3
    store = PassageStore.write(directory, passages)
    terms = TermIndex.build(store, progress=stage(progress, 0, stages))
    terms.save(directory)
    dense = None
    if embedder:
        vectors: VectorIndex = ExactIndex.write(
            directory, store, embedder, stage(progress, 1, stages)
        )
        if not exact:
            vectors = ClusteredIndex.sort(vectors.vectors_ND, directory, stage(progress, 2, stages))
            (directory / EXACT_FILE).unlink()
        dense = {
            "embedder": repr(embedder),
            "fingerprint": embedder.fingerprint,
            "dimension": vectors.dimension,
        }
    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    publish(directory, Manifest(created, len(store), terms.settings, dense, flush(directory)))


def _load_vectors(generation: Generation) -> VectorIndex:
    if EXACT_FILE in generation.manifest.files:
        return ExactIndex.load(generation.directory)
    return ClusteredIndex.load(generation.directory)


def _check_embedder(root: Path, manifest: Manifest, embedder: Embedder | None) -> None:
    if embedder is None:
        return
    if manifest.dense is None:
        raise IndexMismatchError(
            f"{root} was built without vectors and opened with {embedder!r}; rebuild it with that "
            f"embedder, or open it "
            "without one for keyword search"
        )
    if manifest.dense["fingerprint"] != embedder.fingerprint:
        raise IndexMismatchError(
            f"{root} was built with {manifest.dense['embedder']} ({manifest.dense['fingerprint']}) "
            f"and opened with "
            f"{embedder!r} ({embedder.fingerprint}); open it with the former, or rebuild it with "
            f"the latter: "
            f"nest index build DIR --out {root}"
        )
