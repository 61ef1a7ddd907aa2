"""What the sentences of a source stand below."""

from __future__ import annotations

import pytest

from nest_engine.citations.headings import num_led_in, standing_below
from nest_engine.citations.sentences import sentences_of

HOW = "How do I return a product?"


def below(text: str) -> dict[str, str | None]:
    """What each sentence of a text stands below."""
    sentences = sentences_of(text)
    said = [text[sentence.start : sentence.end] for sentence in sentences]
    below_S = standing_below(text, sentences)
    return {
        each: None if below is None else " ".join(below)
        for each, below in zip(said, below_S, strict=True)
    }


@pytest.mark.parametrize(
    "heading",
    [
        f"# Returns\n\n## {HOW}\n\n",
        f"Returns\n\n{HOW}\n\n",  # as readers of web pages and Word write them
        f"**{HOW}**\n",
        f"{HOW}\n==========================\n\n",
        f"{HOW} ",
        f"**{HOW}** ",
        f"- _{HOW}_ ",
        f"<b>{HOW}</b> ",
        f"It is easy.\n\n## Returns\n\n{HOW}\n",
    ],
)
def test_sentences_stand_below_the_nearest_heading_or_question(heading: str) -> None:
    found = below(f"{heading}Send it back within 30 days. The label is in your account.")
    for said in ("Send it back within 30 days.", "The label is in your account."):
        assert (found[said] or "").removeprefix("Returns ") == HOW
    asked = [said for said in found if HOW in said]
    assert [found[said] for said in asked] == [None]


def test_headings_without_marks_stand_in_front_of_prose() -> None:
    text = "Shipping\n\nOrders leave in two days.\n\nCosts\n\nIt is free above 50 euros."
    assert below(text) == {
        "Shipping": None,
        "Orders leave in two days.": "Shipping",
        "Costs": None,
        "It is free above 50 euros.": "Costs",
    }


def test_headings_stand_below_those_of_higher_levels() -> None:
    text = "# Jug\n\n## Care\n\n### Lid\n\nRinse it.\n\n## Data\n\nIt holds a litre."
    found = below(text)
    assert (found["Rinse it."], found["It holds a litre."]) == ("Jug Care Lid", "Jug Data")


def test_what_a_text_begins_below_counts_up_to_a_heading_of_its_level() -> None:
    text = "Rinse it.\n\n## Data\n\nIt holds a litre."
    sentences = sentences_of(text)
    section = "# Jug\n## Care\nLid"
    found = standing_below(text, sentences, section)
    assert found == [("Jug", "Care", "Lid"), None, ("Jug", "Data")]


def test_rows_stand_below_their_columns() -> None:
    text = (
        "# Jug\n\n## Data\n\n| What | Value |\n|:--|--:|\n| Weight | 2 kg |\n\nIt is blue.\n\n"
        "How large is it?\n\nSide | Length\n--- | ---\nFront | 9 cm"
    )
    assert below(text) == {
        "# Jug": None,
        "## Data": None,
        "What | Value": None,
        "Weight | 2 kg": "Jug Data What | Value",
        "It is blue.": "Jug Data",
        "How large is it?": None,
        "Side | Length": None,
        "Front | 9 cm": "How large is it? Side | Length",
    }


def test_a_line_of_signs_makes_a_heading_of_the_line_above_it_alone() -> None:
    assert below("Data\n----\nIt is blue. It is\nold.\n---\nIt is heavy.") == {
        "Data": None,
        "It is blue.": "Data",
        "It is\nold.": "Data",
        "It is heavy.": "Data",
    }


def test_a_sentence_in_bold_is_said() -> None:
    assert below("**Care**\n\n**Never boil it.**\n\nIt is made of wax.") == {
        "**Care**": None,
        "**Never boil it.**": "Care",
        "It is made of wax.": "Care",
    }


def test_items_stand_below_the_item_that_holds_them() -> None:
    text = "## Prices\n\n- City bikes\n    - 1 day: 15\n- E-bikes\n    - 1 day: 35\n\nAll is new."
    assert below(text) == {
        "## Prices": None,
        "- City bikes": None,
        "- 1 day: 15": "Prices City bikes",
        "- E-bikes": None,
        "- 1 day: 35": "Prices E-bikes",
        "All is new.": "Prices",
    }
    assert below("- It is new.\n    - And red.\n- It is old.") == {
        "- It is new.": "",
        "- And red.": "It is new.",
        "- It is old.": "",
    }


def test_code_holds_no_headings() -> None:
    code = "```bash\npip install it\n# or\npip install it[all]\n```"
    assert below(f"## Setup\n\n{code}\n\nIt needs Python.") == {
        "## Setup": None,
        code: "Setup",
        "It needs Python.": "Setup",
    }


def test_a_table_of_contents_says_nothing() -> None:
    text = "1. How do I clean it? ........ 2\n2. Costs . . . . . 13\n\nIt costs 4.50 euros."
    assert [*below(text).values()] == [None, None, ""]


@pytest.mark.parametrize("gap", ["\n", "\n\n"])
@pytest.mark.parametrize("before", ["", "## Jugs\n\n", "A jug costs 9 euros. "])
def test_a_list_stands_below_what_leads_it_in(before: str, gap: str) -> None:
    """That may answer, too, and is no heading of what stands behind the list."""
    text = f"{before}A jug has:{gap}- a lid\n- a grip.\n\nIt is sold here."
    sentences = sentences_of(text)
    found = below(text)
    heading = "Jugs" if "#" in before else ""
    assert found["A jug has:"] == found["It is sold here."] == heading
    assert found["- a lid"] == found["- a grip."] == f"{heading} A jug has:".strip()
    below_S = standing_below(text, sentences)
    led_in = [num_led_in(text, sentences, below_S, number) for number in range(len(sentences))]
    assert [each for each in led_in if each] == [2]


def test_a_marked_heading_with_a_colon_is_a_heading() -> None:
    found = below(
        "# Cake\n\n## Tools\n\nGood ones.\n\n## Ingredients:\n\n- flour\n\nMix them well."
    )
    assert found["## Ingredients:"] is None
    assert found["- flour"] == found["Mix them well."] == "Cake Ingredients:"


def test_a_question_is_answered_in_its_paragraph_or_the_next() -> None:
    text = "# Shipping\n\nHow long?\n\nTwo days. Or three.\n\nParcels are insured."
    assert below(text) == {
        "# Shipping": None,
        "How long?": None,
        "Two days.": "How long?",
        "Or three.": "How long?",
        "Parcels are insured.": "Shipping",
    }


@pytest.mark.parametrize(
    "text",
    [
        "Orders leave in two days. Nobody knows why.",
        "It is a song that was written for the album of an American singer, and sung by him, it is "
        "called What is Wrong with This Picture? It sold well.",
        'He asked: "Where is it?" Nobody knew.',
        "We sell these.\n\nApples\n\nPears\n\nPlums\n\nThey are fresh.",  # a list
        "- Apples\n\n- Pears\n\nThey are fresh.",
        "Oslo\nRome\nBern",
        "Oslo",
        "Why?",
        "Why? Who? When?",
        "สวัสดี\n\nขอบคุณ",
        "",
    ],
)
def test_what_is_no_heading(text: str) -> None:
    assert set(below(text).values()) <= {""}


def test_other_scripts() -> None:
    found = below("# 土卫六\n\n它有多大？\n\n它比水星大。\n\n它有湖。")
    assert found["它比水星大。"] == "它有多大？"
    assert found["它有湖。"] == "土卫六"
