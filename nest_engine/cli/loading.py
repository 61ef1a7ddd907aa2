"""Engines and retrievers from the options of a command."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import typer

from nest_engine.cli.console import STDERR, progress_bar, remark
from nest_engine.cli.options import DEFAULT_EMBEDDER, Search, parse_setting
from nest_engine.errors import InputError, PassageIndexError

if TYPE_CHECKING:
    from nest_engine.engine import NestEngine
    from nest_engine.interfaces import PassageRetriever
    from nest_engine.models.tensor_parallel import TensorParallelLanguageModel
    from nest_engine.records import Passage
    from nest_engine.retrieval import Embedder
    from nest_engine.retrieval.corpus_retriever import CorpusRetriever

_MAX_REMARKS = 20  # skipped files that are named


def load_engine(
    model: str | None, retriever: PassageRetriever | None = None, load: Sequence[str] | None = None
) -> NestEngine:
    """Load a model, split over the processes that torchrun has started.

    Only the first process returns. The others follow it, and exit when it ends.

    Args:
        model: hub id, folder or .gguf file; None for the default model.
        retriever: first-stage search.
        load: the values of ``--load``.
    """
    given = dict(parse_setting(pair, "--load") for pair in load or ())
    options = {"tp_plan": "auto"} | given if _num_processes() > 1 else given
    import nest_demo

    shipped = str(nest_demo.model_path())
    if model is None or Path(model).exists():
        # There is nothing to download.
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if model is None:
        with STDERR.status("preparing the model"):  # half a minute, the first time
            model = nest_demo.default_model()
        if model == shipped and not os.environ.get("NEST_MODEL"):
            remark("note", f"this model can only copy; for a better one: {nest_demo.GET_SMOLLM2}")
    with STDERR.status("loading the model"):
        engine = nest_demo.load_engine(retriever, model=model, **options)
    # llama.cpp takes what GPU it was built for.
    may_move = model != shipped and not hasattr(engine.language_model, "execution")
    if may_move and not given and _num_processes() == 1 and _has_gpu():
        remark("note", "the model is on the CPU; --load device=cuda puts it on the GPU")
    if _is_follower():
        cast("TensorParallelLanguageModel", engine.language_model).follow()
        raise typer.Exit
    return engine


def follow_first_process(model: str | None, load: Sequence[str] | None) -> None:
    """Follow the first process and exit, unless this is the first one.

    For commands that listen before they load a model.
    """
    if _is_follower():
        load_engine(model, load=load)


def leave_to_first_process() -> None:
    """Exit, unless this is the first process. For commands that need no model."""
    if _is_follower():
        raise typer.Exit


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _num_processes() -> int:
    return int(os.environ.get("WORLD_SIZE", 1))  # set by torchrun


def _is_follower() -> bool:
    return _num_processes() > 1 and int(os.environ.get("RANK", 0)) > 0


def require_docs(docs: Sequence[Path]) -> None:
    """Raise ``InputError`` unless all documents exist, before any slow step."""
    for path in docs:
        if not path.exists():
            raise InputError(f"{path} does not exist; give a folder, a file or an index")


def open_demo_corpus() -> CorpusRetriever:
    """Search the shipped corpus by keyword."""
    import nest_demo
    from nest_engine.retrieval import BM25Retriever

    return BM25Retriever(nest_demo.load_passages())


def demo_questions(count: int) -> tuple[str, ...]:
    """Return the first shipped questions about the shipped corpus."""
    import nest_demo

    return tuple(shipped.question for shipped in nest_demo.load_questions()[:count])


def open_retriever(
    docs: Sequence[Path], search: Search | None, embedder: str | None
) -> CorpusRetriever:
    """Open an index, or read documents and search them in memory."""
    from nest_engine.retrieval import is_index

    if len(docs) == 1 and is_index(docs[0]):
        return open_index(docs[0], search, embedder)
    return _read_retriever(docs, search, embedder)


def use_stored_keys(engine: NestEngine, docs: Sequence[Path]) -> None:
    """Use the passage keys in the indexes that hold those of this model."""
    from nest_engine.datastore.key_cache import KeyCache
    from nest_engine.datastore.key_store import KeyStore, keys_folder

    for folder in map(keys_folder, docs):
        if folder.is_dir():
            try:
                engine.key_cache = KeyCache(
                    store=KeyStore.open(folder, language_model=engine.language_model)
                )
            except PassageIndexError as error:
                remark("note", f"computing keys anew: {error}")


def _search_mode(search: Search | None, embedder: str | None) -> Search:
    """Return the chosen search; naming an embedder chooses one that uses it."""
    return search or (Search.HYBRID if embedder else Search.BM25)


def open_index(path: Path, search: Search | None, embedder: str | None) -> CorpusRetriever:
    """Open an index for the chosen search."""
    from nest_engine.retrieval import PassageIndex

    mode = _search_mode(search, embedder)
    index = PassageIndex.open(path)
    stored = index.info().embedder
    if stored and search is None and embedder is None:
        remark(
            "note", f"searching by keyword; {path} also holds vectors: --search hybrid uses them"
        )
    if stored and mode is not Search.BM25:
        index = PassageIndex.open(
            path, embedder=load_embedder(embedder or _stored_name(stored)), verify=False
        )
    return index.retriever(mode.value)


def _stored_name(stored: str) -> str | None:
    """Return the name of the embedding model that an index was built with, if it is known."""
    match = re.fullmatch(r"SentenceTransformerEmbedder\('(.+)'\)", stored)
    return match[1] if match else None


def _read_retriever(
    docs: Sequence[Path], search: Search | None, embedder: str | None
) -> CorpusRetriever:
    from nest_engine.retrieval import BM25Retriever, DenseRetriever, HybridRetriever

    mode = _search_mode(search, embedder)
    vectors = None if mode is Search.BM25 else load_embedder(embedder)
    passages = read(docs[0] if len(docs) == 1 else docs)
    with progress_bar("reading words") as progress:
        sparse = BM25Retriever(passages, progress=progress)
    if vectors is None:
        return sparse
    with progress_bar("computing vectors") as progress:
        dense = DenseRetriever(passages, vectors, progress=progress)
    return dense if mode is Search.DENSE else HybridRetriever(sparse, dense)


def load_embedder(name: str | None) -> Embedder:
    """Load an embedding model."""
    from nest_engine.retrieval import SentenceTransformerEmbedder

    with STDERR.status("loading the embedding model"):
        return SentenceTransformerEmbedder(name or DEFAULT_EMBEDDER)


def read(paths: Path | Sequence[Path], *, whole: bool = False) -> list[Passage]:
    """Read documents into passages, with a remark for each skipped file.

    Args:
        paths: files and folders.
        whole: leave documents whole, or as pages where there are pages.
    """
    from nest_engine.retrieval import read_passages

    with progress_bar("reading documents") as progress:
        if whole:
            result = read_passages(
                paths, max_tokens=sys.maxsize, count_tokens=lambda text: 1, progress=progress
            )
        else:
            result = read_passages(paths, progress=progress)
    for skipped in result.skipped[:_MAX_REMARKS]:
        remark("skipped", f"{skipped.path}: {skipped.reason}")
    if len(result.skipped) > _MAX_REMARKS:
        remark("skipped", f"{len(result.skipped) - _MAX_REMARKS} more")
    return result.passages
