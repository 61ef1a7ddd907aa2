from __future__ import annotations

import pytest

from nest_engine import Passage
from nest_engine.errors import ConfigError
from nest_engine.retrieval import BM25Retriever, DenseRetriever, HybridRetriever, fuse
from nest_engine.retrieval.fusion import dense_weight
from tests.unit.retrieval.conftest import LetterEmbedder


def test_fuses_the_hits_of_both(passages: list[Passage], embedder: LetterEmbedder):
    sparse, dense = BM25Retriever(passages), DenseRetriever(passages, embedder)
    query = ["river in Africa"]
    found = HybridRetriever(sparse, dense).retrieve(query, 4)[0]
    expected = fuse(sparse.rank(query, 400)[0], dense.rank(query, 400)[0], 4)
    assert [passage.id for passage in found] == [f"p{row}" for row in expected.rows]
    assert [passage.score for passage in found] == pytest.approx(expected.scores)


def test_rescaled_scores_are_at_most_one(passages: list[Passage], embedder: LetterEmbedder):
    sparse, dense = BM25Retriever(passages), DenseRetriever(passages, embedder)
    query = ["river in Africa"]
    found = HybridRetriever(sparse, dense, rescale=True).retrieve(query, 4)[0]
    (by_words,), (by_vectors,) = sparse.rank(query, 400), dense.rank(query, 400)
    eta = dense_weight(by_words.scores, by_vectors.scores)
    words, vectors = (
        dict(zip(r.rows, r.scores / r.scores[0], strict=True)) for r in (by_words, by_vectors)
    )
    expected = {
        f"p{row}": eta * vectors[row] + (1 - eta) * words.get(row, min(words.values()))
        for row in range(len(passages))
    }
    best = sorted(expected, key=lambda name: -expected[name])[:4]
    assert {passage.id: passage.score for passage in found} == pytest.approx(
        {name: expected[name] for name in best}
    )
    assert [passage.id for passage in found] == best


def test_asks_each_search_for_a_hundred_hits_per_passage(
    passages: list[Passage], embedder: LetterEmbedder, monkeypatch
):
    sparse, dense = BM25Retriever(passages), DenseRetriever(passages, embedder)
    depths = []
    for retriever in (sparse, dense):
        rank = retriever.rank
        monkeypatch.setattr(
            retriever, "rank", lambda queries, k, rank=rank: depths.append(k) or rank(queries, k)
        )
    HybridRetriever(sparse, dense).retrieve(["river"], 3)
    assert depths == [300, 300]


def test_words_unknown_to_the_corpus_leave_the_order_to_the_vectors(
    passages: list[Passage], embedder: LetterEmbedder
):
    sparse, dense = BM25Retriever(passages), DenseRetriever(passages, embedder)
    found = HybridRetriever(sparse, dense).retrieve(["zzyzx"], 5)[0]
    assert [p.id for p in found] == [p.id for p in dense.retrieve(["zzyzx"], 5)[0]]


def test_two_corpora_cannot_be_fused(passages: list[Passage], embedder: LetterEmbedder):
    with pytest.raises(ConfigError, match=r"different corpora \(12 and 11 passages\)"):
        HybridRetriever(BM25Retriever(passages), DenseRetriever(passages[1:], embedder))
    with pytest.raises(ConfigError, match="different corpora"):
        HybridRetriever(BM25Retriever(passages), DenseRetriever(passages[::-1], embedder))
    # equal lists are fine
    HybridRetriever(BM25Retriever(passages), DenseRetriever(list(passages), embedder))


def test_a_blank_query_finds_nothing(passages: list[Passage], embedder: LetterEmbedder):
    hybrid = HybridRetriever(BM25Retriever(passages), DenseRetriever(passages, embedder))
    assert [len(found) for found in hybrid.retrieve(["", "river"], 2)] == [0, 2]
