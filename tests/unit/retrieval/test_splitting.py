from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nest_engine.errors import ConfigError
from nest_engine.retrieval import Document, estimate_tokens, split_document


def document(text: str, **details: object) -> Document:
    return Document(text, "Title", "doc", "doc.txt", "files/doc.txt", **details)  # type: ignore[arg-type]


def split(text: str, max_tokens: int = 200, **options: object) -> list[str]:
    return [
        passage.text for passage in split_document(document(text), max_tokens=max_tokens, **options)
    ]  # type: ignore[arg-type]


def count_words(text: str) -> int:
    return len(text.split())


CHARACTERS = "aZé。. \n\r\t!\x00\u0301👩\u200d漢5\u2028"
texts = st.text(st.sampled_from(CHARACTERS), max_size=200) | st.text(max_size=200)


@settings(max_examples=300, deadline=None)
@given(texts, st.integers(2, 30), st.sampled_from([estimate_tokens, count_words, len]))
def test_passages_are_slices_that_hold_all_the_text(text: str, max_tokens: int, count_tokens):
    passages = list(
        split_document(document(text), max_tokens=max_tokens, count_tokens=count_tokens)
    )
    end = 0
    for passage in passages:
        start = passage.metadata["start_index"]
        assert text[start : start + len(passage.text)] == passage.text == passage.text.strip() != ""
        assert text[end:start].strip() == ""  # nothing but white space lies between
        assert count_tokens(passage.text) < max_tokens
        end = start + len(passage.text)
    assert text[end:].strip() == ""


@settings(deadline=None)
@given(
    st.lists(st.text("abc", min_size=1, max_size=12), min_size=1, max_size=100), st.integers(2, 20)
)
def test_words_stay_whole(words: list[str], max_tokens: int):
    assert " ".join(split(" ".join(words), max_tokens, count_tokens=count_words)) == " ".join(words)


def test_passages_are_well_filled():
    sizes = [
        count_words(text)
        for text in split(
            "Ten words stand in this sentence, and no more. " * 100, count_tokens=count_words
        )
    ]
    assert all(100 <= size < 200 for size in sizes[:-1])


@pytest.mark.parametrize(
    "heading",
    [
        "Venus",
        "## Venus",
        "# What is Venus?",
        "Venus\n=====",
        "Planets\n\nVenus",
        "金星",
        "It has:",
    ],
)
def test_a_heading_goes_with_what_follows(heading: str):
    sentences = "One two three four. Five six seven eight."
    text = f"{sentences}\n\n{heading}\n\n{sentences}"
    assert split(text, 14, count_tokens=count_words) == [sentences, f"{heading}\n\n{sentences}"]


def test_a_list_is_not_made_of_headings():
    lines = "\n\n".join(["alpha", "beta", "gamma", "delta"] * 5)
    sizes = [count_words(each) for each in split(lines, 9, count_tokens=count_words)]
    assert sizes == [8, 8, 4]


def test_prefers_paragraphs_then_sentences_then_lines_then_words():
    sentences = "One two three four. Five six seven eight. "
    paragraphs = f"{sentences}\n\n{sentences}\n\n{sentences}"
    assert split(paragraphs, 15, count_tokens=count_words) == [sentences.strip()] * 3
    assert (
        split(sentences * 2, 15, count_tokens=count_words)[0]
        == "One two three four. Five six seven eight. One two three four."
    )
    assert split("one two three\nfour five six\nseven", 7, count_tokens=count_words) == [
        "one two three\nfour five six",
        "seven",
    ]
    assert split("one two three four five", 4, count_tokens=count_words) == [
        "one two three",
        "four five",
    ]


def test_a_sentence_end_at_the_end_of_a_line_beats_one_inside():
    """Many corpora set paragraphs apart by a single line break."""
    text = "A b c. D e f.\nG h. I j k l m n."
    assert split(text, 10, count_tokens=count_words) == ["A b c. D e f.", "G h. I j k l m n."]


def test_an_initial_or_a_number_does_not_end_a_sentence():
    text = "The book is by J. R. Tolkien alone. It costs 3.50 and is sold."
    assert split(text, 11, count_tokens=count_words) == [
        "The book is by J. R. Tolkien alone.",
        "It costs 3.50 and is sold.",
    ]


def test_an_abbreviation_does_not_end_a_passage():
    text = (
        "We treat each other with respect. Write to the ombudswoman, Dr. Ilka Maren, at any time."
    )
    first, second = split(text, 12, count_tokens=count_words)
    assert (first, second) == ("We treat each other with respect.", text[len(first) + 1 :])


def test_a_full_stop_that_does_not_fit_is_left_to_the_next_passage():
    assert split("漢漢漢。", 4) == ["漢漢漢", "。"]


def test_chinese_is_cut_after_its_full_stops():
    assert split("氦是一种元素。它很轻。氢更轻。", 13) == ["氦是一种元素。它很轻。", "氢更轻。"]


@pytest.mark.parametrize(
    "sentence",
    [
        "真的吗！？",
        "他说：“好。”",
        "彼は「行こう。」",
        "これは例です｡",
        "ភ្នំពេញជារាជធានី។",
        "མཐོ་བོ་རེད།",
        "Սա մեկն է։ ",
        "ရန်ကုန်မြို့။",
        "Il a dit : « Oui. » ",
        "Er sagte: „Ja.“ ",
        "Er sagte: »Ja.« ",
        "He said, “Yes.” ",
    ],
)
def test_what_closes_a_sentence_stays_with_it(sentence: str):
    passages = split_document(document(sentence * 20), max_tokens=60)
    for passage in passages:
        assert (passage.text + " ").replace(sentence.strip(), "").strip() == ""


def test_line_ends_of_windows_are_kept():
    text = "First line\r\nsecond line.\r\n\r\nNext paragraph."
    assert split(text) == [text]
    assert split(text, 6, count_tokens=count_words) == [
        "First line\r\nsecond line.",
        "Next paragraph.",
    ]


def test_a_giant_word_is_cut_into_bounded_pieces():
    word = "x" * 1_000_000
    pieces = split(word)
    assert "".join(pieces) == word
    assert all(estimate_tokens(piece) < 200 for piece in pieces)
    assert max(map(len, pieces)) < 1000


def test_a_giant_word_is_bounded_even_if_it_counts_as_one_token():
    assert max(map(len, split("x" * 100_000, count_tokens=count_words))) == 1200


def test_a_giant_word_does_not_break_its_neighbours():
    pieces = split(f"Before it. {'x' * 5000} After it.")
    assert pieces[0] == "Before it."
    assert pieces[-1].endswith(" After it.")


def test_giant_white_space_is_skipped():
    assert split("a" + " \n" * 1_000_000 + "b") == ["a", "b"]


def test_a_tokenizer_that_counts_every_character_high_still_ends():
    assert split("abc", 2, count_tokens=lambda text: 5 * len(text)) == ["a", "b", "c"]


def test_passages_know_the_headings_they_begin_below():
    sentences = "One two three four five. Six seven eight nine ten."
    text = (
        f"# Jug\n\n{sentences}\n\n## Care\n\n{sentences}\n\n{sentences}\n\n```\n# make\n```\n\n"
        f"{sentences}\n\n## Data\n\n{sentences}\n\n# Cup\n\n{sentences}"
    )
    passages = split_document(document(text), max_tokens=13, count_tokens=count_words)
    found = [(each.text.split()[1], each.metadata.get("section")) for each in passages]
    assert found == [
        ("Jug", None),
        ("Care", "# Jug"),
        ("two", "# Jug\n## Care"),
        ("#", "# Jug\n## Care"),
        ("two", "# Jug\n## Care"),
        ("Data", "# Jug"),
        ("Cup", None),
    ]


def test_what_is_hidden_is_no_section():
    text = "<!--\n# Secret\n-->\n\n# Jug\n\nOne two three. Four five six."
    shown = document(text, quotable=((17, len(text)),))
    passages = list(split_document(shown, max_tokens=5, count_tokens=count_words))
    assert passages[-1].metadata["section"] == "# Jug"


def test_a_slide_does_not_stand_below_another():
    text = "# Jug\n\nIt is blue.\fNone is here."
    slides = document(text, page_starts=(0, text.index("\f") + 1))
    assert ["section" in each.metadata for each in split_document(slides)] == [False, False]


@pytest.mark.parametrize("opening", ["```python", "~~~", "```"])
def test_blocks_of_code_are_whole_where_they_fit(opening: str):
    block = f"{opening}\na = 1\nb = 2\n\nc = 3\n{opening[:3]}"
    text = f"One two three four five. Six seven.\n\n## Example\n\n{block}\n\nEight nine."
    found = split(text, 17, count_tokens=count_words)
    assert found == ["One two three four five. Six seven.", f"## Example\n\n{block}\n\nEight nine."]


def test_rows_are_not_cut_behind_the_full_stop_of_a_cell():
    row = "| one | Two three four. |"
    assert split("\n".join([row] * 6), 15, count_tokens=count_words) == [f"{row}\n{row}"] * 3


def test_passages_never_span_pages():
    text = "On page one.\fOn page two.\f\fOn page four."
    passages = list(split_document(document(text, page_starts=(0, 13, 26, 27))))
    assert [(p.text, p.metadata["page"]) for p in passages] == [
        ("On page one.", 1),
        ("On page two.", 2),
        ("On page four.", 4),
    ]


def test_a_passage_knows_its_source():
    source = document("A fox.", license="CC0", metadata={"author": "Aesop", "source": "not this"})
    (passage,) = split_document(source)
    assert passage.to_dict() == {
        "id": "doc#0",
        "title": "Title",
        "text": "A fox.",
        "uri": "files/doc.txt",
        "score": None,
        "license": "CC0",
        "metadata": {"author": "Aesop", "source": "doc.txt", "start_index": 0},
    }


@pytest.mark.parametrize("max_tokens", [1, 0, -5, 2.5, None])
def test_max_tokens_must_leave_room_for_a_token(max_tokens: object):
    with pytest.raises(
        ConfigError, match=r"max_tokens=.* is not valid: expected a whole number of at least 2"
    ):
        split("text", max_tokens)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("a fox", 2),
        ("encyclopedia", 3),
        ("1984", 4),
        ("well-kept", 3),
        ("naïve", 3),
        ("漢字", 2),
        ("👩\u200d🚀", 3),
    ],
)
def test_the_estimate(text: str, tokens: int):
    assert estimate_tokens(text) == tokens
