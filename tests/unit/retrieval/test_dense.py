from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from nest_engine import Passage
from nest_engine.errors import IndexMismatchError, InputError
from nest_engine.retrieval import DenseRetriever, Embedder, QueryEmbedder
from nest_engine.retrieval.exact_index import ExactIndex
from tests.unit.retrieval.conftest import LetterEmbedder


class TableEmbedder:
    """Looks vectors up by text."""

    fingerprint = "table"

    def __init__(self, table: dict[str, Sequence[float]]) -> None:
        self.table = table

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.array([self.table[text] for text in texts], np.float32)


def test_ranks_by_cosine_whatever_the_lengths():
    embedder = TableEmbedder(
        {"east": [100.0, 0.0], "north": [0.0, 0.1], "north-east": [3.0, 4.0], "?": [0.0, 7.0]}
    )
    corpus = [Passage("east"), Passage("north"), Passage("north-east")]
    found = DenseRetriever(corpus, embedder).retrieve(["?"], 3)[0]
    assert [passage.text for passage in found] == ["north", "north-east", "east"]
    assert [passage.score for passage in found] == pytest.approx([1.0, 0.8, 0.0])


def test_agrees_with_a_matrix_product(passages: list[Passage], embedder: LetterEmbedder):
    query = "the longest river"
    found = DenseRetriever(passages, embedder).retrieve([query], 5)[0]
    vectors = embedder.embed([f"{p.title}\n{p.text}" for p in passages])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    wanted = embedder.embed([query])[0]
    cosines = vectors @ (wanted / np.linalg.norm(wanted))
    best = np.argsort(-cosines)[:5]
    assert [passage.id for passage in found] == [f"p{row}" for row in best]
    assert [passage.score for passage in found] == pytest.approx(cosines[best], abs=1e-6)


def test_k_may_exceed_the_corpus(passages: list[Passage], embedder: LetterEmbedder):
    found = DenseRetriever(passages, embedder).retrieve(["rivers"], 10**9)[0]
    assert sorted(passage.id for passage in found) == sorted(passage.id for passage in passages)


def test_a_blank_query_finds_nothing_and_is_not_embedded(
    passages: list[Passage], embedder: LetterEmbedder
):
    retriever = DenseRetriever(passages, embedder)
    assert retriever.retrieve(["", " \n"], 3) == [
        [],
        [],
    ]  # this embedder would give zero vectors, an error
    assert [len(found) for found in retriever.retrieve(["", "river", ""], 3)] == [0, 3, 0]


def test_equal_passages_come_in_the_order_of_the_corpus(embedder: LetterEmbedder):
    corpus = [Passage("same", id=str(row)) for row in range(5)]
    assert [p.id for p in DenseRetriever(corpus, embedder).retrieve(["same"], 5)[0]] == [
        "0",
        "1",
        "2",
        "3",
        "4",
    ]


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        ([0.0, 0.0], "a zero vector for passage 'bad'"),
        ([np.nan, 1.0], "NaN or infinite values for passage 'bad'"),
        ([np.inf, 1.0], "NaN or infinite values for passage 'bad'"),
    ],
)
def test_unusable_vectors_are_refused_at_build(vector: list[float], message: str):
    embedder = TableEmbedder({"fine": [1.0, 0.0], "broken": vector})
    with pytest.raises(InputError, match=message):
        DenseRetriever([Passage("fine"), Passage("broken", id="bad")], embedder)


def test_an_unusable_query_vector_is_refused(passages: list[Passage], embedder: LetterEmbedder):
    with pytest.raises(InputError, match=r"a zero vector for the query '123'"):
        DenseRetriever(passages, embedder).retrieve(["123"], 3)


def test_huge_and_tiny_vectors_are_fine():
    embedder = TableEmbedder({"huge": [3e38, 3e38], "tiny": [1e-30, 0.0], "?": [1e-38, 1e-38]})
    found = DenseRetriever([Passage("huge"), Passage("tiny")], embedder).retrieve(["?"], 2)[0]
    assert [passage.score for passage in found] == pytest.approx([1.0, 2**-0.5])


def test_a_wrong_number_of_vectors_is_an_error(
    passages: list[Passage], embedder: LetterEmbedder, monkeypatch
):
    monkeypatch.setattr(embedder, "embed", lambda texts: np.ones((1, 26), np.float32))
    with pytest.raises(
        InputError, match=r"shape \(1, 26\) for 12 texts; expected \(12, dimension\)"
    ):
        DenseRetriever(passages, embedder)


def test_another_dimension_than_the_index_is_an_error(
    passages: list[Passage], embedder: LetterEmbedder
):
    vectors = ExactIndex.build(passages, embedder)
    retriever = DenseRetriever(passages, TableEmbedder({"?": [1.0, 2.0]}), vectors)
    with pytest.raises(IndexMismatchError, match=r"have 26 dimensions.* have 2; use the embedder"):
        retriever.retrieve(["?"], 3)


def test_queries_are_embedded_as_queries_where_the_embedder_can():
    class Asymmetric(TableEmbedder):
        def embed_queries(self, queries: Sequence[str]) -> NDArray[np.float32]:
            return self.embed([f"query: {query}" for query in queries])

    embedder = Asymmetric({"one": [1.0, 0.0], "two": [0.0, 1.0], "query: one": [0.0, 1.0]})
    assert isinstance(embedder, QueryEmbedder)
    assert (
        DenseRetriever([Passage("one"), Passage("two")], embedder).retrieve(["one"], 1)[0][0].text
        == "two"
    )


def test_reports_progress_by_batch(embedder: LetterEmbedder):
    calls: list[tuple[int, int]] = []
    corpus = [Passage(f"passage {row}") for row in range(130)]
    DenseRetriever(corpus, embedder, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(64, 130), (128, 130), (130, 130)]


def test_an_empty_corpus_is_an_error(embedder: LetterEmbedder):
    with pytest.raises(InputError, match="no passages to search"):
        DenseRetriever([], embedder)


def test_the_protocols_tell_embedders_apart(embedder: LetterEmbedder):
    assert isinstance(embedder, Embedder)
    assert not isinstance(embedder, QueryEmbedder)
