"""Where sentences end, in several languages."""

from __future__ import annotations

import pytest

from nest_engine.citations.sentences import ends_sentence, language_of, sentences_of


@pytest.mark.parametrize(
    "text",
    [
        "Konrad Adenauer wurde am 5. Januar 1876 in Köln geboren.|Er war Politiker.",
        "Das Werk kostete 5,5 Mio. Euro.|Es wurde nie gebaut.",
        "Der 2. Weltkrieg begann 1939.|Er dauerte sechs Jahre.",
        "Der König Ludwig XIV. regierte lange.|Er starb 1715.",
        "Das ist auf Abb. 3 zu sehen.|Und auf der nächsten.",
        "Die Fa. Müller baut Häuser.|Und Brücken.",
        "Ленин умер в 1924 г. в Горках.|Это было зимой.",
        "А. С. Пушкин родился в Москве.|Он был поэтом.",
        "To jest miasto, np. Warszawa.|Nie jest to wieś.",
        "Los EE. UU. son un país.|Es el tercero.",
        "Kongen blev født 5. maj 1900.|Han var den sidste.",
        "Narodil se dne 14. května 1900.|Byl to básník.",
        "Τι είναι αυτό;|Είναι νερό.",
        "M. Dupont est dans la maison.|Il dort.",
        "It is approx. 5 km to the sea.|Nobody walks.",
        "See vol. 3 of the work.|It is long.",
        "The max. speed was 5 knots.|It was low.",
        "It was built in 1908.|It burned down.",
        "He paid 5.|Then he left.",
        "It is about -179 °C.|A lander came down.",
        "No. 5 is the house.|It is old.",
    ],
)
def test_sentences(text: str) -> None:
    sentences = text.split("|")
    whole = " ".join(sentences)
    assert [whole[sentence.start : sentence.end] for sentence in sentences_of(whole)] == sentences


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("Konrad Adenauer wurde am 5.", False),
        ("It is approx.", False),
        ("He was born in 1984.", True),
        ("I see.", True),
        ("I see", False),
    ],
)
def test_the_end_of_a_sentence(text: str, ends: bool) -> None:
    assert ends_sentence(text) == ends


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The die was cast in the house of the king.", "en"),
        ("Der König starb.", "de"),
        ("Helium", "en"),
        ("", "en"),
        ("ヘリウムは無色である。", "en"),
    ],
)
def test_languages(text: str, language: str) -> None:
    assert language_of(text) == language


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("## The gas\nIt is light. It glows.", ["## The gas", "It is light.", "It glows."]),
        ("So\n**The gas**\nIt is light.", ["So", "**The gas**", "It is light."]),
        ("**The gas** is\nlight. It glows.", ["**The gas** is\nlight.", "It glows."]),
        (
            "It is so:\n| Gas | It is |\n|:--|--:|\n| He | light. Or \\| dense |\nGood.",
            [
                "It is so:",
                "Gas",
                "It is",
                ":--",
                "--:",
                "He",
                "light.",
                "Or \\| dense",
                "Good.",
            ],
        ),
        ("a || b", ["a || b"]),
    ],
)
def test_headings_and_cells_of_an_answer(text: str, sentences: list[str]) -> None:
    found = sentences_of(text, is_answer=True)
    assert [text[sentence.start : sentence.end] for sentence in found] == sentences
