"""Exact citations for what any model has written."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nest_engine import Citation, InputError, Passage
from nest_engine.citations.comparison import Comparison, Passages
from nest_engine.citations.words import is_word, words_of
from nest_engine.citing import CitedAnswer, Citer, cite

HELIUM = Passage(
    "Helium was first detected in 1868 as an unknown, yellow spectral line in the Sun’s light. "
    "It is the second lightest element.",
    id="helium",
    title="Helium",
)
ARGON = Passage(
    "Argon is the third-most abundant gas in the Earth's atmosphere. It is not a metal, and one of "
    "the most useful gases.",
    id="argon",
    title="Argon",
)


def require_invariant(answer: CitedAnswer) -> None:
    """Every citation slices both texts, none overlaps another, and other places hold the same."""
    end = 0
    for citation in answer.citations:
        assert end <= citation.answer_start < citation.answer_end
        end = citation.answer_end
        said = answer.text[citation.answer_start : citation.answer_end]
        sources = [p for p in answer.passages if p.id == citation.passage_id]
        place = slice(citation.source_start, citation.source_end)
        assert citation.cited_text in [source.text[place] for source in sources]
        assert said == citation.text_in_answer
        assert (citation.match == "exact") == (said == citation.cited_text)
        for other in citation.also_in:
            texts = [p.text for p in answer.passages if p.id == other.passage_id]
            assert keys(said) in [keys(t[other.source_start : other.source_end]) for t in texts]
    assert end <= len(answer.text)


def keys(text: str) -> list[str]:
    return [word.key for word in words_of(text)]


def cited_texts(answer: CitedAnswer) -> list[str]:
    return [citation.cited_text for citation in answer.citations]


def test_a_quoted_sentence_is_cited_to_the_character() -> None:
    answer = cite("As you ask: It is the second lightest element. Fine.", [ARGON, HELIUM])
    assert answer.citations == (
        Citation(
            12,
            46,
            "helium",
            90,
            124,
            "It is the second lightest element.",
            title="Helium",
            passage_sha256=HELIUM.sha256,
        ),
    )


def test_other_characters_are_seen_through_and_told() -> None:
    said = "It was **first detected** in\n1868 as an unknown, yellow line. In the Sun's light"
    (citation,) = cite(said, [HELIUM]).citations
    assert citation.match == "normalized"
    assert citation.cited_text == "was first detected in 1868 as an unknown, yellow"
    assert citation.answer_text == said[3:55]
    require_invariant(cite(said, [HELIUM]))


@pytest.mark.parametrize(
    "said",
    [
        "Helium was first detected in 1869 as a line.",
        "Argon is a metal, and the gases are useful.",
        "It is one of the most famous books of the world.",
    ],
)
def test_coincidences_are_not_cited(said: str) -> None:
    answer = cite(said, [HELIUM, ARGON])
    assert not any("metal" in text or "one of" in text for text in cited_texts(answer))
    assert not any("1869" in text for text in cited_texts(answer))


def test_the_question_proves_nothing() -> None:
    said = "The third-most abundant gas in the Earth's atmosphere is water vapour."
    assert cite(said, [ARGON]).citations
    assert not cite(
        said, [ARGON], question="Which is the third-most abundant gas in the Earth's atmosphere?"
    ).citations


def test_a_prompt_that_holds_the_passages_is_no_question() -> None:
    prompt = f"Answer from these texts.\n\n{HELIUM.text}\n\n{ARGON.text}\n\n" + "Which? " * 30
    assert cite("It is the second lightest element.", [HELIUM], question=prompt).citations


def test_all_places_are_named_best_ranked_first() -> None:
    copy = Passage("So it goes: It is the second lightest element.", id="copy")
    (citation,) = cite("It is the second lightest element.", [copy, HELIUM]).citations
    assert citation.passage_id == "copy"
    assert [(place.passage_id, place.source_start) for place in citation.also_in] == [
        ("helium", 90)
    ]


def test_passages_with_one_id_are_told_apart() -> None:
    first, second = Passage("Neon glows red in tubes.", id="d1"), Passage(ARGON.text, id="d1")
    answer = cite("Argon is the third-most abundant gas.", [first, second])
    assert cited_texts(answer) == ["Argon is the third-most abundant gas"]
    require_invariant(answer)


def test_the_word_behind_a_sentence_is_a_coincidence() -> None:
    passage = Passage("Neon glows red in long glass tubes. The colour is well known to all.")
    answer = cite("Neon glows red in long glass tubes. The signs of cities use it.", [passage])
    assert cited_texts(answer) == ["Neon glows red in long glass tubes."]


def test_of_two_that_overlap_the_more_telling_is_whole() -> None:
    first = Passage("The comet of that year was seen by astronomers in Paris")
    second = Passage("astronomers in Paris measured the parallax of Betelgeuse and Aldebaran twice")
    said = (
        "The comet of that year was seen by astronomers in Paris measured the parallax of "
        "Betelgeuse and Aldebaran twice"
    )
    assert cited_texts(cite(said, [first, second])) == [
        "The comet of that year was seen by",
        "astronomers in Paris measured the parallax of Betelgeuse and Aldebaran twice",
    ]


@pytest.mark.parametrize(
    ("said", "source"),
    [
        ("北京烤鸭用果木烤制，皮很脆。", "说明：北京烤鸭用果木\n烤制，皮很脆。价格高。"),
        ("東京タワーは三百三十三メートルです。", "高さ。東京タワーは三百三十三メートルです。"),
        ("पानी ठंडा है और नदी में बहता है।", "आज पानी ठंडा है और नदी में बहता है।"),
        ("ประเทศไทยมีเมืองหลวงชื่อกรุงเทพ", "ข้อมูล: ประเทศไทยมีเมืองหลวงชื่อกรุงเทพมหานคร"),
    ],
)
def test_every_script(said: str, source: str) -> None:
    answer = cite(said, [source])
    assert answer.citations
    assert sum(c.answer_end - c.answer_start for c in answer.citations) >= len(said) - 3
    require_invariant(answer)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"passages": "a text"}, "passages must be a list"),
        ({"passages": [1]}, "got int"),
        ({"passages": [], "min_words": 0}, "min_words"),
        ({"passages": [], "min_words": True}, "min_words"),
        ({"passages": [], "text": 5}, "text"),
        ({"passages": [], "text": "\ud800"}, "text"),
    ],
)
def test_bad_input_is_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        cite(**{"text": "an answer", **arguments})  # type: ignore[arg-type]


def test_typographic_signs_behind_words_do_not_end_a_stretch() -> None:
    answer = cite(
        "He calls the gas 'light' gas and 'so' on, as ever.",
        ["He calls the gas ‘light’ gas and ‘so’ on, as ever."],
    )
    assert [(c.answer_start, c.answer_end) for c in answer.citations] == [(0, 50)]


@pytest.mark.parametrize("text", ["", " ", "\n", "!", "word", "a" * 10_000])
@pytest.mark.parametrize("passages", [[], [""], [" \n"], ["word"]])
def test_nothing_to_cite(text: str, passages: list[str]) -> None:
    assert cite(text, passages).citations == ()


def test_an_answer_is_json_ready() -> None:
    answer = cite('He says "It is the second lightest element".', [HELIUM])
    shown = json.loads(json.dumps(answer.to_dict()))
    assert shown["citations"][0]["passage_id"] == "helium"
    assert shown["sentences"][0]["kind"] == "spliced"
    assert shown["quotations"][0]["verdict"] == "verbatim"


@pytest.mark.parametrize(
    "said",
    [
        "It is the second lightest element [1].",
        "It is the second lightest element.[1]",
        "1. It is the second lightest element.",
        "- It is the **second** lightest element.[^2]",
        "It is the second lightest element【4†source】.",
        "Helium was first detected in 1868 [1] as an unknown, yellow spectral line in the Sun's "
        "light [1, 2].",
    ],
)
def test_references_are_no_words_of_a_sentence(said: str) -> None:
    assert [sentence.kind for sentence in cite(said, [HELIUM]).sentences] == ["quoted"]


@pytest.mark.parametrize(
    ("said", "source"),
    [
        (
            "氦气在常温常压下绝对会与任何其他元素发生化学反应。",
            "氦气在常温常压下绝对不会与任何其他元素发生化学反应。",
        ),
        (
            "Give the drug only to adult patients whose temperature is <39 degrees at admission.",
            "Give the drug only to adult patients whose temperature is >39 degrees at admission.",
        ),
        (
            "The new hospital in Lisbon was built for about €500 million by a private consortium.",
            "The new hospital in Lisbon was built for about $500 million by a private consortium.",
        ),
        (
            "The average global temperature anomaly rose by 5 during the nineteenth century.",
            "The average global temperature anomaly rose by 5% during the nineteenth century.",
        ),
        (
            "According to the famous textbook the negative root x=5 is the solution given below.",
            "According to the famous textbook the negative root x=-5 is the solution given below.",
        ),
    ],
)
def test_a_sentence_with_another_sign_is_not_quoted(said: str, source: str) -> None:
    assert [sentence.kind for sentence in cite(said, [source]).sentences] == ["spliced"]


@pytest.mark.parametrize(
    "text",
    [
        "On Tuesday morning the temperature in Oslo fell to -5, breaking several local records.",
        "On Tuesday morning the prices in Oslo rose by +5%; that was far more than expected.",
        "They donʼt believe that helium reacts with oxygen under pressure.",
        "The result— surprising to everybody in the laboratory —was published in 1905.",
        "So x=-5 and y=.5) were the solutions that the students of the course had found.",
    ],
)
def test_the_same_text_is_one_quotation(text: str) -> None:
    (citation,) = cite(text, [text]).citations
    assert (citation.answer_start, citation.answer_end) == (0, len(text))


def test_emphasis_where_words_have_no_spaces() -> None:
    answer = cite(
        "氦气是**一种无色无味**的惰性气体，它在**太阳光谱中首次被发现**并且命名。",
        ["氦气是一种无色无味的惰性气体，它在太阳光谱中首次被发现并且命名。"],
    )
    assert [sentence.kind for sentence in answer.sentences] == ["quoted"]
    assert len(answer.citations) == 1


def test_a_prompt_without_spaces_is_no_question_either() -> None:
    text = "氦气是一种无色无味的惰性气体，它在太阳光谱中首次被发现并且命名。"
    prompt = f"资料：{text}" + "请只根据上面的资料回答下面的问题，并逐字引用资料中的原文。" * 4
    assert cite(text, [text], question=prompt).citations


@pytest.mark.parametrize("invisible", ["\u200b", "\ufeff", "\u00ad", "\ufe0f"])
def test_invisible_characters_behind_a_sentence(invisible: str) -> None:
    stream = Citer(["Helium is a gas that is very light."]).stream()
    for piece in ("Helium is a gas that is very light! ", invisible, " ", "So. It is "):
        stream.push(piece)
    stream.close()
    assert len(stream.citations) == 1


def test_repetitive_texts_take_linear_time() -> None:
    assert cite("a b " * 25_000, ["b a " * 12_500]) is not None  # quadratic: many seconds
    stream = Citer(["helium is a gas that is light"]).stream()
    for _ in range(20_000):
        stream.push("abc ")
    stream.push("\n" * 100_000)
    stream.close()


def test_importing_it_needs_neither_torch_nor_transformers() -> None:
    code = (
        "import sys; from nest_engine import cite; cite('a b c d e', ['a b c d e']); "
        "print([name for name in ('torch', 'transformers', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Against brute force.


def brute_force(answer: Sequence[str], texts: Sequence[Sequence[str]]) -> list[tuple[int, int]]:
    """Return the shared stretches that no longer one contains, by trying all."""

    def stands(first: int, last: int) -> bool:
        wanted = list(answer[first:last])
        return any(
            list(text[i : i + len(wanted)]) == wanted
            for text in texts
            for i in range(len(text) - len(wanted) + 1)
        )

    shared = [
        (first, last)
        for first in range(len(answer))
        for last in range(first + 1, len(answer) + 1)
        if stands(first, last)
    ]
    return [
        (first, last)
        for first, last in shared
        if not any(a <= first and last <= b and (a, b) != (first, last) for a, b in shared)
    ]


def without_outer_signs(answer: str, stretches: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Cut stretches to words, and drop those that another one contains then."""
    words = [is_word(key) for key in keys(answer)]
    cut = {
        (first + words[first:last].index(True), last - words[first:last][::-1].index(True))
        for first, last in stretches
        if any(words[first:last])
    }
    return sorted(
        (first, last)
        for first, last in cut
        if not any(a <= first and last <= b and (a, b) != (first, last) for a, b in cut)
    )


SMALL = st.text(st.sampled_from("ab ,."), max_size=24)
# Without line ends: the keys of words that are broken there depend on the other side.
ANY = st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=16) | st.text(
    st.sampled_from("aß1.- ’*\u00ad\u0301ﬁ北👍🏽"), max_size=16
)


@given(SMALL | ANY, st.lists(SMALL | ANY, max_size=3))
def test_the_same_stretches_as_by_brute_force(answer: str, texts: list[str]) -> None:
    comparison = Comparison(answer, Passages(texts))
    expected = brute_force(keys(answer), [keys(text) for text in texts])
    assert without_outer_signs(answer, comparison.stretches()) == without_outer_signs(
        answer, expected
    )
    for first, last in without_outer_signs(answer, comparison.stretches()):
        found = [(place.passage, place.start) for place in comparison.places(first, last)]
        everywhere = [
            (number, words_of(text)[i].start)
            for number, text in enumerate(texts)
            for i in range(len(keys(text)) - (last - first) + 1)
            if keys(text)[i : i + last - first] == keys(answer)[first:last]
        ]
        assert found == everywhere


WORDS = ["gas", "light", "Sun", "the", "of", "1868", "not", "yellow,", "line.", "Helium", "**so**"]
PROSE = st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join)


@given(PROSE | ANY, st.lists(PROSE | ANY, max_size=3), st.integers(1, 4))
def test_every_citation_keeps_its_promise(text: str, texts: list[str], min_words: int) -> None:
    require_invariant(cite(text, texts, min_words=min_words))


@given(PROSE, st.lists(PROSE, max_size=3), st.randoms(use_true_random=False))
def test_a_stream_has_the_same_citations(
    text: str, texts: list[str], chance: random.Random
) -> None:
    citer = Citer(texts, min_words=2)
    stream = citer.stream()
    come: list[Citation] = []
    position = 0
    while position < len(text):
        size = chance.randint(1, 12)
        come += stream.push(text[position : position + size])
        position += size
        assert all(citation.answer_end <= len(stream.text) for citation in come)
    come += stream.close()
    assert come == stream.citations == list(citer.cite(text).citations)
    require_invariant(stream.answer)


def test_a_stream_releases_a_sentence_when_the_next_one_is_known() -> None:
    stream = Citer([HELIUM, ARGON]).stream()
    assert stream.push("It is the second lightest element. ") == []
    assert [c.passage_id for c in stream.push("Argon is heavy, I think. ")] == ["helium"]
    assert stream.close() == []
