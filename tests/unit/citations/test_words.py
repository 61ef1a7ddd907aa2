"""The words of texts as they are compared for citing."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nest_engine.citations.words import (
    chunks_of,
    compounds_of,
    keys_in,
    settled_length,
    words_of,
)


def keys(text: str, compounds: frozenset[str] = frozenset()) -> list[str]:
    return [word.key for word in words_of(text, compounds)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Curac\u0327ao", "Curaçao"),  # Unicode normalization
        ("\u1100\u1161\u11a8", "각"),
        ("Å", "\u212b"),
        ("The \ufb01lter's e\ufb03ciency", "The filter's efficiency"),  # ligatures
        ("Ⅳ. Kapitel", "IV. Kapitel"),
        ("ﻻ", "لا"),
        ("１２３％", "123%"),  # width
        ("ﾍﾘｳﾑ", "ヘリウム"),
        ("Strom\u00ading\u00adenieure", "Stromingenieure"),  # invisible characters
        ("zero\u200bwidth\ufeff and \u200eleft", "zerowidth and left"),
        ("❤\ufe0f", "❤"),
        ("photo-\nsynthesis", "photosynthesis"),  # line ends
        ("photo-  \r\n   synthesis", "photosynthesis"),
        ("Inge\u00ad\nnieur", "Ingenieur"),
        ("Anglo-\nSaxon", "Anglo-Saxon"),
        ("“light” and ‘old’", "\"light\" and 'old'"),  # typographic signs
        ("„leicht“ «léger»", '"leicht" "léger"'),
        ("it’s Halley´s", "it's Halley's"),
        ("1914–1918", "1914-1918"),
        ("gas — light", "gas -- light"),
        ("gas — light", "gas - light"),
        ("gas—light", "gas--light"),
        ("−5 °C", "-5 °C"),
        ("wait…", "wait..."),
        ("``so''", '"so"'),
        ("a\u00a0b\u2003c\r\n\td", "a b c d"),  # white space
        ("5 %", "5%"),
        ("北京\n烤鸭", "北京烤鸭"),
        ("**Helium** is *light*", "Helium is light"),  # emphasis
        ("__bold__ and _it_ and ***both***", "bold and it and both"),
        ("run `make` never", "run make never"),
        ("(*see* **1868**)", "(see 1868)"),
        ("the **N**ational **A**ssembly's", "the National Assembly's"),  # within a word
        ("un**believ**able **Unfall**versicherung", "unbelievable Unfallversicherung"),
        ("<b>Helium</b> is <em>light</em>", "Helium is light"),  # of HTML
        ("long<br>and wide<br />and <u>h</u>igh", "long and wide and high"),
        ("[T]he gas", "The gas"),  # brackets that tell of a letter put in
        ("…[i]t is", "…it is"),
        ("see <https://a.org/b_c?x=1&y=2>.", "see https://a.org/b_c?x=1&y=2."),
        ("to <a.b@example.org>", "to a.b@example.org"),
    ],
)
def test_the_same_words_in_other_characters(one: str, other: str) -> None:
    assert keys(one) == keys(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1868", "1869"),
        ("10²", "102"),
        ("x²", "x2"),
        ("½", "1/2"),
        ("①", "1"),
        ("1.5", "15"),
        ("1.5", "1,5"),
        ("1. 5", "1.5"),
        ("1,000", "1 000"),
        (".5", "5"),
        ("-5", "5"),
        ("grew -5", "grew 5"),
        ("+5", "-5"),
        ("±5", "5"),
        ("$5", "€5"),
        ("5 %", "5 ‰"),
        ("a < b", "a > b"),
        ("2 * 3 * 4", "2 3 4"),
        ("a*b", "ab"),
        ("is not", "is"),
        ("can", "can't"),
        ("résumé", "resume"),
        ("Polish", "polish"),
        ("re-sign", "resign"),
        ("well known", "well-known"),
        ("snake_case", "snakecase"),
        ("ＡＢＣ", "abc"),
        ("पैन", "पानी"),
        ("🇩🇪", "🇫🇷"),
        ("👍🏽", "👍🏿"),
        ("👨\u200d👩\u200d👧", "👨👩👧"),
        ("GDP* grew", "GDP grew"),
        ("a**b", "ab"),
        ("2**3**4", "234"),
        ("a**b and c**d", "ab and cd"),
        ("[t]he gas", "The gas"),
        ("10<sup>5</sup>", "105"),
        ("a<b>c", "a c"),
        ("<https://a b>", "https://a b"),
        ("a <b> c", "a c"),
        ("use <em> and <strong>", "use <strong> and <em>"),
        ("a[i]b", "aib"),
        ("[注]因此", "注因此"),
    ],
)
def test_another_letter_digit_or_sign_is_another_word(one: str, other: str) -> None:
    assert keys(one) != keys(other)


def test_words_have_exact_offsets() -> None:
    text = "The \ufb01lter — **e\ufb03cient** at photo-\nsynthesis."
    assert [text[start:end] for _, start, end in words_of(text)] == [
        "The",
        "\ufb01lter",
        "—",
        "e\ufb03cient",
        "at",
        "photo-\nsynthesis",
        ".",
    ]


def test_a_known_compound_keeps_its_hyphen_at_a_line_end() -> None:
    broken = "price-\ndetermining"
    assert keys(broken) == ["pricedetermining"]
    assert keys(broken, frozenset({"price-determining"})) == keys("price-determining")


def test_compounds_are_words_with_a_hyphen() -> None:
    assert compounds_of("a well-known, state\u2011of\u2010the-art idea from 1914-1918") == {
        "well-known",
        "state-of-the-art",
    }


TEXTS = st.text() | st.text(
    st.sampled_from("ab1.,-+[]'\"’“*_`~ \n\t\u00ad\u200d\u0301ﬁ北ไ้👍🏽🇩🇪²％—…")
)


TAGS = st.lists(st.sampled_from([*"ab5 <>/*[]", "<b>", "</b>", "<br />", "<em>", "**"])).map(
    "".join
)


def has_letter(text: str) -> bool:
    """Arabic's filler, which stretches a word, counts as one to Python."""
    return any(char.isalnum() for char in text if char != "\N{ARABIC TATWEEL}")


@given(TEXTS)
@example("\N{ARABIC TATWEEL}")
def test_words_follow_each_other_and_cover_every_letter(text: str) -> None:
    end = 0
    for word in words_of(text):
        assert word.key
        assert end <= word.start < word.end <= len(text)
        assert not has_letter(text[end : word.start])
        end = word.end
    assert not has_letter(text[end:])


@given(TEXTS)
def test_chunks_have_the_same_keys(text: str) -> None:
    assert [key for chunk in chunks_of(text) for key in keys_in(chunk)] == keys(text)


@given(TEXTS)
def test_keys_do_not_depend_on_unicode_normalization(text: str) -> None:
    assert keys(unicodedata.normalize("NFC", text)) == keys(unicodedata.normalize("NFD", text))


@given(TEXTS | TAGS, TEXTS | TAGS)
def test_what_is_settled_stays(text: str, more: str) -> None:
    settled = settled_length(text)
    before = [word for word in words_of(text) if word.end <= settled]
    assert [word for word in words_of(text + more) if word.end <= settled] == before


@pytest.mark.parametrize(
    "text",
    [
        *["a" * 300_000, "北" * 300_000, "a-\n" * 100_000, "*a " * 100_000, "a**" * 100_000],
        *["[a]" * 100_000, "<b>" * 100_000],
    ],
)
def test_hostile_texts_take_linear_time(text: str) -> None:
    assert words_of(text)  # a quadratic scan would take minutes
