"""Where sentences end, in several languages."""

from __future__ import annotations

import time

import pytest

from nest_engine import Passage
from nest_engine.citations.languages import language_of
from nest_engine.citations.sentences import ends_sentence, in_tokens, sentences_of
from nest_engine.testing import ByteTokenizer


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
        "It is in Moravia.[^1]|It was founded in 1954.[^2]|It is old.",
        "It is in Moravia.[citation needed]|It was founded.[12][a]|It is old.",
        "It is in Moravia.²|It was founded.^3^|It is old.<sup>4</sup>|So it is.",
        "He paid 5.|Then he left.",
        "It is about -179 °C.|A lander came down.",
        "No. 5 is the house.|It is old.",
        "Add a lemon, e.g. a small one.|Stir.",
        "Choose a dense metal, i.e. lead.|Melt it.",
        "Take a pill at 5 p.m. daily.|See Dr. Smith.",
        "Er kam nicht.|D. h. er blieb zu Hause.|Das war z. B. gut.",
        "Bu olay 19. yüzyılda oldu.|Sonra bitti.",
        "2. Dünya Savaşı 1939'da başladı.|Çok uzun bir savaş oldu.",
        "Rođen je 5. svibnja 1900.|Bio je pjesnik.",
        "Narodil sa 14. mája 1900.|Bol to básnik.",
        "Rojen je bil 5. maja 1900.|Bil je pesnik.",
        "Ta on sündinud 5. mail 1900.|See oli kevadel.",
        "Viņš ir dzimis 5. maijā.|Tas bija pavasarī.",
        "Hann fæddist 5. maí 1900.|Það var að vori.",
        "TP. Hồ Chí Minh là một thành phố lớn.|TS. Nguyễn đã đến.",
        "ភ្នំពេញ​ជា​រាជធានី។|មាន​ផ្លែឈើ មាន​ត្រី ។ល។ ច្រើន។|ល្អ៕",
        "བོད་ཡིག་རེད།|འདི་ཡག་པོ་རེད། །|དེ་ཡང་།",
        "Монгол улс᠃|Улаанбаатар᠃",
    ],
)
def test_sentences(text: str) -> None:
    sentences = text.split("|")
    whole = " ".join(sentences)
    assert [whole[sentence.start : sentence.end] for sentence in sentences_of(whole)] == sentences


@pytest.mark.parametrize(
    "text",
    [
        "```\n" + "x = 1\n" * 200,
        "```python\n" + "x = 1\n" * 200 + "```x",
        "It ended." + "*" * 200 + "a",
        "It ended." + "</b>*" * 100 + "a",
        "It ended." + "²" * 200 + "a",
        "It ended." + "*" * 8000 + "a",
        "| a " * 200,
        "- \n" * 200,
        "> " * 200,
    ],
    ids=lambda text: text[:12],
)
def test_no_text_takes_forever(text: str) -> None:
    """A block of code that is not closed, and a line of stars, once took years."""
    start = time.perf_counter()
    assert sentences_of(text)
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("Konrad Adenauer wurde am 5.", False),
        ("It is approx.", False),
        ("He was born in 1984.", True),
        ("I see.", True),
        ("I see", False),
        ("", True),
        ("It boils at 4 kelvin.", True),
        ('He said "no."', True),
        ("富士山は高い。", True),
        ("A line\n", True),
        ("He met Mr.", False),
        ("It costs 4.5", False),
        ("The sea", False),
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
        ("A cat sat.", "en"),
        ("What is a Möbius strip?", "en"),
        ("Metals, e.g. iron, rust, i.e. corrode.", "en"),
        ("A kutya a házban van.", "hu"),
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


@pytest.mark.parametrize(
    "text",
    [
        "Your contact is Dr. Eva Sommer, tel. 040 123456.|Call her.",
        "Le musée se trouve au 14, bd. Gambetta, à 5 min. de la gare.|Il est grand.",
        "Der Preis beträgt 5 € inkl. MwSt. und Versand.|Er ist fest.",
        "The fee is GBP 1,250.00 excl. VAT.|It is due.",
        "See para. 3 of it.|Then go.",
        "Er wohnt in der Kantstr. 21 in Berlin.|Er ist alt.",
        "Ouvert du lun. au ven. de 9 h à 17 h.|Fermé le samedi.",
        "We are open on Sat. 9 to 2.|Closed on Monday.",
        "He sat.|9 people came.",
        "It orbits the Sun.|27 moons orbit it.",
        "II. Methods\n\n|We did it.",
        "## 2. First use\n\n|Plug it in.",
        "1. Mix it.\n|2. Bake it for 5 min.\n|3. While the cake cools, eat.",
        "4. Liability\n|4.1 The liability of the Provider is limited to the fees paid.",
    ],
)
def test_abbreviations_and_numbers_end_no_sentence(text: str) -> None:
    whole = text.replace("\n|", "\n").replace("|", " ")
    said = [whole[each.start : each.end] for each in sentences_of(whole)]
    assert said == [each.strip() for each in text.split("|")]


@pytest.mark.parametrize(
    "text",
    [
        "[2024-03-08, 14:03:11] Ben: 480 €\n|[2024-03-08, 14:05:02] Anna: who brings it?",
        "3/8/24, 2:03 PM - Ben: 480 €\n|3/8/24, 2:05 PM - Anna: who?",
        "08.03.24, 14:03 - Ben: 480 €\n|08.03.24, 14:05 - Anna: wer?",
        "[14:03] Ben: it costs 480 €\n|[14:05] Anna: who brings it?\n|[14:06] Ben: me",
        "9:00 Breakfast\n|10.30 Talk\n|12:00 Lunch",
        "Anna: who brings it?\n|Dev: I do\n|Anna: and wifi",
        "**Place:** Oslo\n|**Pay:** 5 euros an hour\n|**Begin:** May",
        "Cards, 350 g     500     60.00\n|Flyers, A5    2000     80.00\n|            VAT    20.00",
        "Options:\n|  -v, --verbose    Tell more, and\n              why.\n|  -q     Be quiet.",
        "**Name:** Ada\n**Phone:** 55\n\n|**Name:** Bo\n**Phone:** 56",  # records are whole
        "Name: Ada\nPhone: 55\n\n|Name: Bo\nPhone: 56",
        "Run:\n|```bash\npip install it\n# or with extras. All.\npip install it[all]\n```\n|Done.",
        "~~~\nx = 1\n\n# y\n~~~",
        "Run:\n|```bash\npip install it\n\n# or. With",  # another passage goes on
    ],
)
def test_entries_records_and_code_of_a_source(text: str) -> None:
    whole = text.replace("\n|", "\n").replace("|", " ")
    said = [whole[each.start : each.end] for each in sentences_of(whole)]
    assert said == [each.strip() for each in text.split("|")]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("**Access.** Nobody has it. It is shut.", ["**Access.** Nobody has it.", "It is shut."]),
        (
            "It is so.\n- **By size.** Big first.\n2. **Late.** Not so.",
            ["It is so.", "- **By size.** Big first.", "2. **Late.** Not so."],
        ),
        ("**Access.**\n\nNobody has it.", ["**Access.**", "Nobody has it."]),
        ("So it is. **Bold words.** More.", ["So it is.", "**Bold words.**", "More."]),
        (
            "**No dog may be here without a leash.** Cats may.",
            ["**No dog may be here without a leash.**", "Cats may."],
        ),
        ("**The end.**", ["**The end.**"]),
    ],
)
def test_a_few_bold_words_in_front_are_part_of_a_sentence_of_a_source(
    text: str, sentences: list[str]
) -> None:
    assert [text[each.start : each.end] for each in sentences_of(text)] == sentences


def test_code_that_began_in_another_passage() -> None:
    text = "```\nStart it with:\n```bash\nrun it. Now\n```"
    said = [text[each.start : each.end] for each in sentences_of(text)]
    assert said == ["Start it with:", "```bash\nrun it. Now\n```"]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        (
            "It is so:\n\n| Gas | It is |\n|:--|--:|\n| He | light |\n|  | |\n| Xe | heavy |\n",
            ["It is so:", "Gas | It is", "He | light", "Xe | heavy"],
        ),
        ("Gas | It is\r\n--- | ---\r\nHe | light\r\n", ["Gas | It is", "He | light"]),
        ("| He | light |\n\n| Xe. | heavy |", ["He | light", "Xe.", "heavy"]),  # its end alone
        (
            "|x| is the norm,\nand |y| is not.\n\nIt is |z|.",
            ["|x| is the norm,\nand |y| is not.", "It is |z|."],
        ),
        ("One | two\nor three | four.", ["One | two\nor three | four."]),
    ],
)
def test_rows_of_a_source(text: str, sentences: list[str]) -> None:
    found = sentences_of(text)
    assert [text[sentence.start : sentence.end] for sentence in found] == sentences


@pytest.mark.parametrize(
    "text",
    [
        "Titan\n|Titan is the largest moon.| It has lakes.",
        "Refunds\n|Ten days.|\nShipping\n|Orders leave in two days.",
        "3.2 Storage\r\n|Keep it cold.|\r\n",
        "Contents\nTitan\n|Titan is the largest moon.",
        "土卫六\n|土卫六是土星最大的卫星。",
        "# Titan\n|Titan is the largest moon.",
        "**Titan**\n|It is the largest moon.",
        "Titan|\n=====\n|Titan is a moon.|\n\nLakes|\n-----\n|It has lakes.",
        "It is late.|\n---\n|It is early.",
        # lines that are broken by their width
        "It was led by\nNASA and another agency, which sent\nHuygens there.",
        "The eighth planet of the Sun was found in\nBerlin by a man who looked for it.",
        "Der größte Mond des Saturn heißt\nTitan und hat eine dichte Luft aus\nStickstoff.",
        "It is so:\nOrders leave in two days.",
        "Oslo\nRome\nBern",
        "University of\nOxford is old.",
        "Wait ...\nand see.",
    ],
)
def test_headings_of_a_source_stand_by_themselves(text: str) -> None:
    sentences = [part.strip() for part in text.split("|")]
    sentences = [part for part in sentences if any(map(str.isalnum, part))]
    whole = text.replace("|", "")
    assert [whole[sentence.start : sentence.end] for sentence in sentences_of(whole)] == sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("He met Mr. Smith. It was late.", ["He met Mr. Smith.", "It was late."]),
        ("One.\n\nTwo here\n", ["One.", "Two here"]),
        ("富士山は高い。東京も。", ["富士山は高い。", "東京も。"]),
        ("पेन नीला है। पानी ठंडा है।", ["पेन नीला है।", "पानी ठंडा है।"]),
        ("", []),
        (" \n ", []),
    ],
)
def test_sentences_in_characters_and_in_tokens(text: str, expected: list[str]) -> None:
    found = sentences_of(text)
    assert [text[sentence.start : sentence.end] for sentence in found] == expected
    tokens = ByteTokenizer().encode_passage(Passage(text))
    for sentence, of_tokens in zip(found, in_tokens(found, tokens), strict=True):
        covered = bytes(tokens.token_ids[of_tokens.start : of_tokens.end]).decode()
        assert covered == text[sentence.start : sentence.end]
