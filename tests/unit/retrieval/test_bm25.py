from __future__ import annotations

import math

import pytest

from nest_engine import Passage
from nest_engine.errors import ConfigError, InputError
from nest_engine.retrieval import BM25Retriever, PassageRetriever
from nest_engine.retrieval.term_index import TermIndex
from nest_engine.retrieval.terms import query_terms


def titles(found: list[Passage]) -> list[str]:
    return [passage.title for passage in found]


def test_finds_by_text_and_by_title(passages: list[Passage]):
    helium, curie = BM25Retriever(passages).retrieve(
        ["Who discovered helium?", "marie curie nobel prize"], 3
    )
    assert titles(helium)[0] == "Helium"
    assert titles(curie)[0] == "Marie Curie"


def test_scores_are_bm25(passages: list[Passage]):
    """Lucene's BM25 by hand: idf * tf / (tf + k1 * (1 - b + b * length / mean length))."""
    corpus = [Passage("red red fox"), Passage("red hen"), Passage("blue hen and goose house")]
    found = BM25Retriever(corpus, TermIndex.build(corpus, k1=0.9, b=0.4)).retrieve(["red"], 9)[0]
    idf = math.log(1 + (3 - 2 + 0.5) / (2 + 0.5))
    mean_length = (3 + 2 + 5) / 3
    expected = [
        idf * tf / (tf + 0.9 * (0.6 + 0.4 * length / mean_length))
        for tf, length in ((2, 3), (1, 2))
    ]
    assert [passage.score for passage in found] == pytest.approx(expected, rel=1e-6)


def test_returns_only_passages_that_share_a_term(passages: list[Passage]):
    found = BM25Retriever(passages).retrieve(["australia penicillin"], 100)[0]
    assert set(titles(found)) == {"Canberra", "Sydney", "Penicillin"}
    assert all(passage.score > 0 for passage in found)


def test_a_term_of_every_passage_still_counts():
    corpus = [Passage("whale one"), Passage("whale two")]
    assert len(BM25Retriever(corpus).retrieve(["whale"], 5)[0]) == 2


@pytest.mark.parametrize("query", ["xylophone", "", "  \n", "?!", "🦊"])
def test_a_query_without_known_terms_finds_nothing(passages: list[Passage], query: str):
    found = BM25Retriever(passages).retrieve([query, "helium"], 5)
    assert found[0] == []
    assert titles(found[1]) == ["Helium"]


def test_stop_words_count_only_where_there_is_nothing_else(passages: list[Passage]):
    assert titles(BM25Retriever(passages).retrieve(["To be or not to be?"], 1)[0]) == ["Hamlet"]
    assert query_terms("To be or not to be") == [
        "not"
    ]  # a stop word no more: it changes what is asked
    assert query_terms("to be or to be") == ["to", "be", "or", "to", "be"]
    assert query_terms("What is the capital of Australia") == ["capital", "australia"]


def test_a_query_that_names_a_whole_title_finds_its_document_and_its_first_passage_first():
    """Word by word, a request is about those who tell somebody something."""
    tales = [
        Passage(f"Tell me a tale, said {name}. Tell me two, said the wolves.", title="Tales")
        for name in range(12)
    ]
    wolves = [
        Passage(f"Grey wolves hunt wolves in forest {place}.", title="Forests", uri=f"{place}")
        for place in range(60)
    ]
    later = Passage("Packs of wolves hunt by night.", title="Wolves (animals)")
    first = Passage("They live in packs.", title="Wolves (animals)")
    retriever = BM25Retriever([*tales, *wolves, first, later])
    for query in ("Tell me about wolves.", "Tell me, please, about WOLVES!"):
        assert retriever.retrieve([query], 1)[0][0].text == first.text
    assert retriever.retrieve(["Where do wolves hunt by night?"], 1)[0][0].text == later.text
    assert titles(retriever.retrieve(["Tell me a tale."], 1)[0]) == ["Tales"]


def test_a_passage_is_found_by_the_headings_that_it_begins_below():
    below = Passage("It ends after two years.", metadata={"section": "# Jug\n## Warranty"})
    above = Passage("The jug is blue.", metadata={"section": ["not", "ours"]})
    assert BM25Retriever([above, below]).retrieve(["the warranty"], 5)[0][0].text == below.text


def test_a_title_of_a_common_word_is_not_named_by_every_question():
    corpus = [Passage("A clown.", title="It"), Passage("It is a gas that glows.", title="Neon")]
    assert titles(BM25Retriever(corpus).retrieve(["What is it that glows?"], 1)[0]) == ["Neon"]
    band = Passage("They smashed guitars.", title="The Who")
    assert titles(BM25Retriever([*corpus, band]).retrieve(["Are the Who loud?"], 1)[0]) == [
        "The Who"
    ]


def test_one_letter_and_compatible_forms_are_terms():
    corpus = [
        Passage("Dennis Ritchie created C."),
        Passage("Bjarne Stroustrup created a language."),
        Passage("Straße"),
    ]
    retriever = BM25Retriever(corpus)
    assert retriever.retrieve(["C"], 5)[0][0].text.endswith("created C.")
    # full-width letters
    assert retriever.retrieve(["\uff32\uff49tchie"], 5)[0][0].text.endswith("created C.")
    assert retriever.retrieve(["STRASSE"], 5)[0][0].text == "Straße"


def test_k_may_exceed_the_corpus(passages: list[Passage]):
    assert len(BM25Retriever(passages).retrieve(["the"], 10**9)[0]) < len(passages)
    assert len(BM25Retriever(passages).retrieve(["in the of is and to"], 10**9)[0]) == len(passages)


@pytest.mark.parametrize("k", [0, -1, 2.5, True, None])
def test_k_must_be_a_positive_whole_number(passages: list[Passage], k: object):
    with pytest.raises(
        ConfigError, match=r"k=.* is not valid: expected a whole number of at least 1"
    ):
        BM25Retriever(passages).retrieve(["helium"], k)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        ("helium", "must be a list of strings, got the string 'helium'"),
        ([b"helium"], "must be a string, got bytes"),
        (["a\ud800b"], "lone surrogate .* at offset 1"),
    ],
)
def test_queries_must_be_a_list_of_text(passages: list[Passage], queries: list[str], message: str):
    with pytest.raises(InputError, match=message):
        BM25Retriever(passages).retrieve(queries, 3)


def test_no_queries_no_answers(passages: list[Passage]):
    assert BM25Retriever(passages).retrieve([], 3) == []


def test_an_empty_corpus_is_an_error():
    with pytest.raises(InputError, match="no passages to search"):
        BM25Retriever([])


def test_a_corpus_without_words_finds_nothing():
    assert BM25Retriever([Passage("..."), Passage("!!!")]).retrieve(["dots"], 3) == [[]]


def test_ties_come_in_the_order_of_the_corpus():
    corpus = [Passage("same words", id=str(row)) for row in range(50)]
    found = BM25Retriever(corpus).retrieve(["words"], 7)[0]
    assert [passage.id for passage in found] == ["0", "1", "2", "3", "4", "5", "6"]


def test_passages_come_back_whole_with_a_score_and_the_corpus_unchanged():
    passage = Passage("A fox.", "Fox", "id", "uri", license="CC0", metadata={"source": "a.txt"})
    (found,) = BM25Retriever([passage]).retrieve(["fox"], 1)[0]
    assert found.score is not None
    assert passage.score is None
    assert found.to_dict() | {"score": None} == passage.to_dict()


def test_reports_progress(passages: list[Passage]):
    calls: list[tuple[int, int]] = []
    BM25Retriever(passages, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, len(passages)) for done in range(1, len(passages) + 1)]


def test_is_a_passage_retriever(passages: list[Passage]):
    assert isinstance(BM25Retriever(passages), PassageRetriever)
    assert not isinstance(object(), PassageRetriever)
