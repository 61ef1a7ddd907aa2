"""Verdicts on what stands in quotation marks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nest_engine import Passage
from nest_engine.citations.alignment import steps
from nest_engine.citations.quotations import Difference, judge_quotations

HELIUM = Passage(
    "Helium was first detected in 1868 as an unknown, yellow spectral line in the Sun’s light. "
    "It is the second lightest element.",
    id="helium",
    title="Helium",
)
ARGON = Passage(
    "Argon is the third-most abundant gas in the Earth's atmosphere. It is not a metal, and glows "
    "blue-green in tubes.",
    id="argon",
    title="Argon",
)
PASSAGES = [HELIUM, ARGON]
ROWS = st.lists(st.sampled_from("abcdefghijklmnop"), max_size=300)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("“Helium was first detected in 1868”", "verbatim"),
        ('"It is the second lightest element," he says', "verbatim"),
        ("„the Sun's light.“", "verbatim"),
        ("«yellow spectral line»", "verbatim"),
        ("「yellow spectral line」", "verbatim"),
        ('"argon is the third-most abundant gas"', "altered"),
        ("> Argon is the third-most\n> abundant gas in the Earth's atmosphere.", "verbatim"),
        ('"It is the second lightest element" [1]', "verbatim"),
        ('"It is the second lightest element" (see Argon).', "verbatim"),  # nothing is named
        ('"It is the second lightest element" [2]', "elsewhere"),
        ('"It is the second lightest element" [Argon]', "elsewhere"),
        ('"It is the second lightest element" (argon)', "elsewhere"),
        ('"Helium was first detected in 1869 as an unknown, yellow line"', "altered"),
        ('"It is a metal, and glows blue-green in tubes"', "altered"),
        ('"Argon was first detected in 1868 as an unknown, yellow spectral line"', "altered"),
        (
            '"It is the second lightest element. Argon is the third-most abundant gas"',
            "spliced",
        ),
        ('"Helium was first detected … in the Sun\'s light"', "spliced"),
        ('"Helium was first detected [...] in the Sun\'s light"', "spliced"),
        ('"The moon is made of green cheese"', "absent"),
        # As people and models write.
        ("   > Argon is the third-most\n   > abundant gas in the Earth's atmosphere.", "verbatim"),
        ("> Argon is the third-most abundant gas. [2]".replace("gas.", "gas"), "verbatim"),
        ("> It is the second lightest element.\n>\n> — Wikipedia", "verbatim"),
        ('"It is the second lightest element [1]."', "verbatim"),
        ('"It is the second lightest element [2]."', "elsewhere"),
        ('"It is the second lightest element". Argon is another gas [2].', "verbatim"),
        ('"It is the second lightest element" holds for both (2).', "verbatim"),
        ('"[...] It is the second lightest element"', "verbatim"),
        ('"It is the second lightest element [...]"', "verbatim"),
        ("‘Helium was first detected in 1870’", "altered"),
        ("‘in the Sun’s light’", "verbatim"),
        ("‚yellow spectral line‘", "verbatim"),
        ('"cheese"', "absent"),
    ],
)
def test_verdicts(text: str, verdict: str) -> None:
    (quotation,) = judge_quotations(text, PASSAGES)
    assert quotation.verdict == verdict
    assert text[quotation.start : quotation.end] == quotation.text


def test_places_slice_the_source() -> None:
    (quotation,) = judge_quotations('He said "yellow spectral line".', PASSAGES)
    (place,) = quotation.places
    assert HELIUM.text[place.source_start : place.source_end] == "yellow spectral line"
    assert (place.passage_id, quotation.named) == ("helium", None)


def test_the_difference_is_shown() -> None:
    (changed,) = judge_quotations('"was first detected in 1869 as an unknown"', PASSAGES)
    assert changed.differences == (Difference("1868", "1869"),)
    (dropped,) = judge_quotations('"It is a metal, and glows blue-green"', PASSAGES)
    assert dropped.differences == (Difference("not", ""),)
    (place,) = dropped.places
    text = ARGON.text[place.source_start : place.source_end]
    assert text == "It is not a metal, and glows blue-green"


def test_what_stands_around_it_in_the_source_is_no_difference() -> None:
    (changed,) = judge_quotations('"is the second lightest gas"', PASSAGES)
    assert changed.differences == (Difference("element", "gas"),)
    (changed,) = judge_quotations('"That is the second lightest element"', PASSAGES)
    assert changed.differences == (Difference("It", "That"),)


def test_quotations_by_themselves_may_name_their_source() -> None:
    judged = judge_quotations(
        ["yellow spectral line", ("yellow spectral line", "Argon"), ("blue-green", "2")], PASSAGES
    )
    assert [quotation.verdict for quotation in judged] == ["verbatim", "elsewhere", "verbatim"]
    assert [quotation.named for quotation in judged] == [None, "argon", "argon"]


@pytest.mark.parametrize("text", ["", "no quotation", '""', '"!"', '"', "“ ”", ">", "> \n"])
def test_nothing_to_judge(text: str) -> None:
    assert judge_quotations(text, PASSAGES) == ()


def test_an_odd_mark_spoils_nothing_behind_it() -> None:
    text = 'A 5" lens.\n\nAn open "quotation.\n\nIt says "yellow spectral line" and "blue-green".'
    judged = judge_quotations(text, PASSAGES)
    assert [quotation.text for quotation in judged] == ["yellow spectral line", "blue-green"]


def test_each_quotation_has_its_own_source() -> None:
    text = 'It says "yellow spectral line" and "blue-green in tubes" [2].'
    first, second = judge_quotations(text, PASSAGES)
    assert (first.named, second.named) == (None, "argon")


@pytest.mark.parametrize(
    ("quotation", "source"),
    [
        ("“the coal workers' union demanded”", "the coal workers’ union demanded shorter shifts."),
        ("“a result - surprising to all”", "a result— surprising to all"),
        ("「**ヘリウム**は無色である」", "ヘリウムは無色である。"),
    ],
)
def test_other_characters_are_seen_through(quotation: str, source: str) -> None:
    for judged in judge_quotations(quotation, [Passage(source)]):
        assert judged.verdict == "verbatim"


def test_a_long_document_takes_linear_time() -> None:
    document = "The gas of the Sun is a mix of the lightest elements. " * 4000
    text = "> The river Danube flows through ten countries of central Europe toward the sea."
    (quotation,) = judge_quotations(text, [Passage(document)])  # a quadratic scan: an hour
    assert quotation.verdict == "absent"


@pytest.mark.parametrize("sentence", ["The gas is light. ", "one two one three ", "ก ข ค ก ง "])
@pytest.mark.parametrize(("times", "verdicts"), [(40, ["altered"]), (4000, ["altered", "absent"])])
def test_a_long_quotation_takes_linear_time(sentence: str, times: int, verdicts: list[str]) -> None:
    quotation = f"unknown {sentence * (times // 2)} unknown {sentence * (times // 2)}"
    (judged,) = judge_quotations([quotation], [Passage(sentence * times)])
    assert judged.verdict in verdicts  # every word beside every other: minutes


def test_each_difference_of_a_long_quotation_is_shown() -> None:
    source = [f"word{i % 300}" for i in range(3000)]
    quotation = [f"other{i}" if i % 100 == 50 else word for i, word in enumerate(source)][100:2900]
    (judged,) = judge_quotations([" ".join(quotation)], [Passage(" ".join(source))])
    assert judged.differences == tuple(
        Difference(source[i], f"other{i}") for i in range(150, 2900, 100)
    )


def test_many_references_behind_many_quotations_take_linear_time() -> None:
    assert judge_quotations("][”'" * 20_000, PASSAGES) == ()


@given(ROWS, ROWS)
def test_steps_make_one_row_of_another(theirs: list[str], ours: list[str]) -> None:
    made, end, our_end = [], 0, 0
    for step in steps(theirs, ours):
        assert (step.start, step.our_start) == (end, our_end)
        end, our_end = step.end, step.our_end
        made += theirs[step.start : end] if step.tag == "equal" else ours[step.our_start : our_end]
    assert (made, end, our_end) == (ours, len(theirs), len(ours))


def test_no_sources() -> None:
    (quotation,) = judge_quotations('"some words"', [])
    assert quotation.verdict == "absent"
