"""Citations are exact, whole words and characters, and the same however the answer grew."""

from __future__ import annotations

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from nest_engine import Citation, Passage, Provenance
from nest_engine.citations.attribution import Attributor, Source
from nest_engine.citations.detokenizer import Detokenizer
from nest_engine.testing import ByteTokenizer

BYTES = ByteTokenizer()
FAMILY = "👨\u200d👩\u200d👧"
PIECES = [
    *(
        "a",
        "b",
        " ",
        "  ",
        ".",
        "'",
        "’",
        "_",
        "7",
        "\n",
        "\r\n",
        "\r",
        "\0",
        "\ufffd",
        "\u200d",
        "\u0301",
        "\ufe0f",
    ),
    *("é", "e\u0301", "ß", "سلام", "ם", "日本", "か", "語", "ไทย", "हि", "한"),
    *("🌙", FAMILY, "👍🏽", "🇫🇷", "🇫🇷🇩🇪", "1\ufe0f\u20e3", "❤\ufe0f"),
]
TEXT = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)

Part = str | tuple[int, int, int]
"""Words of the model, or bytes ``start`` to ``end`` of a passage."""


class Told:
    """An answer of byte tokens, put together from the model's words and pieces of passages."""

    def __init__(self, passages: list[str], parts: list[Part]) -> None:
        self.passages = [Passage(text) for text in passages]
        self.parts = parts
        tokens = [BYTES.encode_passage(passage) for passage in self.passages]
        self.sources = [
            Source(passage, t.starts, t.ends)
            for passage, t in zip(self.passages, tokens, strict=True)
        ]
        self.token_ids: list[int] = []
        self.provenance: list[Provenance | None] = []
        for part in parts:
            if isinstance(part, str):
                self.token_ids += part.encode()
                self.provenance += [None] * len(part.encode())
            else:
                number, start, end = part
                copied = range(start, min(end, len(tokens[number].token_ids)))
                self.token_ids += [tokens[number].token_ids[i] for i in copied]
                self.provenance += [Provenance(number, i) for i in copied]

    def __repr__(self) -> str:
        return f"Told({[passage.text for passage in self.passages]!r}, {self.parts!r})"

    def cite(self, *, min_tokens: int = 1, steps: int | None = None) -> list[Citation]:
        """Cite the whole answer at once, or every ``steps`` tokens."""
        attributor = Attributor(self.sources, min_tokens=min_tokens)
        detokenizer = Detokenizer(BYTES.decode)
        citations = []
        for number, token in enumerate(self.token_ids, start=1):
            detokenizer.push(token)
            if steps and number % steps == 0:
                settled = len(detokenizer.starts)
                provenance = self.provenance[: max(settled, number)]
                citations += attributor.settle(
                    detokenizer.text,
                    detokenizer.starts,
                    detokenizer.ends,
                    provenance,
                    is_final=False,
                )
        detokenizer.flush()
        self.text, self.starts, self.ends = detokenizer.text, detokenizer.starts, detokenizer.ends
        return citations + attributor.settle(
            self.text, self.starts, self.ends, self.provenance, is_final=True
        )


def quoted(passages: list[str], parts: list[Part], **settings) -> list[str]:
    return [citation.cited_text for citation in Told(passages, parts).cite(**settings)]


def test_a_run_becomes_a_citation_with_every_field():
    passage = Passage(
        "The sea is deep.",
        title="Sea",
        id="s",
        uri="u",
        score=0.5,
        license="CC0",
        metadata={"page": 3},
    )
    source = Source(passage, range(16), range(1, 17))
    provenance = [None, None, *[Provenance(0, i) for i in range(4, 15)]]
    [citation] = Attributor([source], min_tokens=3).settle(
        "A sea is deep", range(13), range(1, 14), provenance, is_final=True
    )
    assert citation == Citation(
        answer_start=2,
        answer_end=13,
        passage_id="s",
        source_start=4,
        source_end=15,
        cited_text="sea is deep",
        title="Sea",
        uri="u",
        passage_sha256=passage.sha256,
        token_start=2,
        token_end=13,
        score=0.5,
        license="CC0",
        metadata={"page": 3},
    )


@pytest.mark.parametrize(
    ("before", "source", "copied", "after", "expected"),
    [
        ("", "one two three", (4, 7), "", ["two"]),
        ("", "one two three", (3, 8), "", ["two"]),  # space at both ends
        ("", "one two three", (1, 10), "", ["two"]),  # partial words at both ends
        ("", "one two three", (0, 13), "some", ["one two"]),  # the answer goes on within the word
        ("s", "one two three", (0, 13), "", ["two three"]),
        ("", "one two three", (5, 6), "", []),
        ("", "one two three", (3, 4), "", []),
        ("", "(one) two", (0, 5), "x", ["(one)"]),
        ("", "snake_case x", (0, 5), "", []),
        ("Halley", "Halley's Comet is", (6, 17), "", ["Comet is"]),  # the name was the model's own
        ("", "seen by Halley's crew", (0, 14), " dog", ["seen by"]),
        ("", "the dogs’ tails", (0, 11), " x", ["the dogs’"]),  # an apostrophe at the end of a word
        ("", "say 'yes' now", (4, 9), " x", ["'yes'"]),
        # scripts without spaces are cut between characters
        ("", "日本語です", (3, 9), "", ["本語"]),
        ("", "日本語です", (3, 11), "", ["本語"]),  # the last character is not complete
        ("", "naïve idea", (0, 3), "", []),
        ("", "cafe\u0301 noir", (0, 4), " x", []),
        ("", "a 👍🏽 b", (0, 6), " b", ["a"]),  # the thumb without its colour
        ("", f"a {FAMILY} b", (0, 6), " b", ["a"]),
        ("", "a 🇫🇷 b", (0, 6), " b", ["a"]),
        ("", "line\r\nnext", (0, 5), "", ["line"]),
        ("", "a b\0c d", (0, 7), "", ["a b\0c d"]),
        ("", "סוף שלום כאן", (7, 16), "", ["שלום"]),
    ],
)
def test_boundaries(before, source, copied, after, expected):
    """``copied`` counts bytes."""
    assert quoted([source], [before, (0, *copied), after]) == expected


@pytest.mark.parametrize(
    ("source", "end", "cited"),
    [
        ("نمی\u200cخواهم رفت", 6, []),  # a zero-width non-joiner stands inside a word
        # tags belong to the flag in front of them
        ("a 🏴\U000e0067\U000e0062\U000e007f b", 6, ["a"]),
    ],
)
def test_invisible_characters_do_not_end_a_word(source, end, cited):
    assert quoted([source], [(0, 0, end), " b"]) == cited


def test_space_stripped_at_the_start_lays_no_mark_bare():
    assert quoted(["hello \u0301abc def"], [(0, 3, 17)]) == ["def"]


def test_a_word_that_shrinks_to_nothing_is_not_cited():
    source = Source(Passage(" lo lo"), [0, 3], [3, 6])
    attributor = Attributor([source], min_tokens=1)
    assert attributor.settle(" low", [0, 3], [3, 4], [Provenance(0, 0), None], is_final=True) == []


def test_jumps_within_a_passage_and_between_passages_end_a_run():
    citations = Told(["one two three", "two one"], [(0, 0, 3), (0, 7, 13), (1, 3, 7)]).cite()
    assert [(c.cited_text, c.answer_start, c.source_start) for c in citations] == [
        ("one", 0, 0),
        ("three", 4, 8),
        ("one", 10, 4),
    ]


def test_a_character_whose_bytes_come_from_two_passages_is_not_cited_twice():
    citations = Told(["é x", "é y"], ["a ", (0, 0, 1), (1, 1, 4)]).cite()
    assert len(citations) < 2 or citations[0].answer_end <= citations[1].answer_start


def test_a_run_is_split_where_the_texts_differ():
    """A tokenizer that gives back other text: the answer says ``ue`` for the source's ``ü``."""
    source = Source(Passage("The grün sea is deep."), [0, 4, 8, 12, 15], [3, 8, 12, 15, 20])
    provenance = [Provenance(0, i) for i in range(5)]
    citations = Attributor([source], min_tokens=1).settle(
        "The gruen sea is deep", [0, 4, 9, 13, 16], [3, 9, 13, 16, 21], provenance, is_final=True
    )
    assert [(c.cited_text, c.answer_start, c.source_start) for c in citations] == [
        ("The", 0, 0),
        ("sea is deep", 10, 9),
    ]


def test_short_citations_are_hidden():
    parts = [(0, 0, 10), ". ", (0, 7, 18)]
    assert quoted(["copper tin handles"], parts, min_tokens=10) == ["copper tin", "tin handles"]
    assert quoted(["copper tin handles"], parts, min_tokens=11) == ["tin handles"]
    assert quoted(["copper tin handles"], parts, min_tokens=12) == []


@pytest.mark.parametrize(
    ("text", "is_telling"),
    [
        ("one of the", False),
        (", and the", False),
        ("of 1868", True),
        ("copper tin", True),
        ("copper", True),
        ("it is as it is", True),
        ("of the silver", True),
    ],
)
def test_citations_of_common_words_are_hidden(text: str, is_telling: bool):
    assert quoted([text], [(0, 0, len(text))], min_tokens=1) == [text]
    assert quoted([text], [(0, 0, len(text))], min_tokens=3) == [text] * is_telling


def test_a_citation_is_final_once_the_character_behind_it_is_known():
    attributor = Attributor([Source(Passage("one two"), range(7), range(1, 8))], min_tokens=1)
    provenance = [Provenance(0, i) for i in range(3)]
    offsets = (range(4), range(1, 5))
    assert attributor.settle("one", range(3), range(1, 4), provenance, is_final=False) == []
    assert attributor.settle("one", *offsets, [*provenance, None], is_final=False) == []
    assert [
        c.cited_text
        for c in attributor.settle("one.", *offsets, [*provenance, None], is_final=False)
    ] == ["one"]
    assert attributor.settle("one.", *offsets, [*provenance, None], is_final=True) == []


def test_an_apostrophe_behind_a_citation_may_go_on_with_its_word():
    def cited(*answers: str) -> list[list[str]]:
        attributor = Attributor([Source(Passage("one two"), range(7), range(1, 8))], min_tokens=1)
        found = []
        for answer in answers:
            provenance = [*(Provenance(0, i) for i in range(7)), *[None] * (len(answer) - 7)]
            offsets = range(len(answer)), range(1, len(answer) + 1)
            found.append(
                [
                    c.cited_text
                    for c in attributor.settle(answer, *offsets, provenance, is_final=False)
                ]
            )
        return found

    assert cited("one two'", "one two's") == [[], ["one"]]
    assert cited("one two'", "one two' ") == [[], ["one two"]]


class Counted(list):
    """A list that counts how often it is read."""

    reads = 0

    def __getitem__(self, index):
        self.reads += 1
        return super().__getitem__(index)


def test_words_of_the_model_are_looked_at_once():
    attributor, num_tokens = Attributor([], min_tokens=1), 300
    provenance = Counted()
    for number in range(1, num_tokens + 1):
        provenance.append(None)
        attributor.settle(
            "x" * number, range(number), range(1, number + 1), provenance, is_final=False
        )
    assert provenance.reads < 10 * num_tokens


@st.composite
def told(draw: st.DrawFn) -> Told:
    passages = draw(st.lists(TEXT, min_size=1, max_size=2))
    stretch = st.tuples(st.integers(0, len(passages) - 1), st.integers(0, 30), st.integers(0, 40))
    parts = draw(st.lists(TEXT | stretch.filter(lambda part: part[1] < part[2]), max_size=6))
    return Told(passages, parts)


def is_split(text: str, index: int) -> bool:
    """Return whether a cut at ``index`` splits a character (by Unicode's rules) or a Latin word."""
    starts = {match.start() for match in regex.finditer(r"\X", text)} | {len(text)}
    around = text[max(index - 1, 0) : index + 1]
    return index not in starts or (
        0 < index < len(text) and bool(regex.fullmatch(r"[\p{Latin}\d_]{2}", around))
    )


@settings(derandomize=True, database=None, deadline=None, max_examples=300)
@given(told=told())
def test_every_citation_is_exact_whole_and_apart_from_the_others(told):
    previous_end = 0
    for citation in told.cite():
        [passage] = {p.text: p for p in told.passages if p.id == citation.passage_id}.values()
        answer = told.text[citation.answer_start : citation.answer_end]
        assert (
            answer
            == passage.text[citation.source_start : citation.source_end]
            == citation.cited_text
        )
        assert citation.cited_text == citation.cited_text.strip() != ""
        for text, start, end in (
            (told.text, citation.answer_start, citation.answer_end),
            (passage.text, citation.source_start, citation.source_end),
        ):
            assert not is_split(text, start)
            assert not is_split(text, end)
        assert citation.answer_start >= previous_end, "citations overlap"
        previous_end = citation.answer_end
        ranges = list(zip(told.starts, told.ends, strict=True))[
            citation.token_start : citation.token_end
        ]
        assert ranges[0][0] <= citation.answer_start < ranges[0][1]
        assert ranges[-1][0] < citation.answer_end <= ranges[-1][1]
        assert all(told.provenance[citation.token_start : citation.token_end])


@settings(derandomize=True, database=None, deadline=None, max_examples=150)
@given(told=told(), steps=st.integers(1, 5))
def test_citations_do_not_depend_on_how_the_answer_grew(told, steps):
    assert told.cite(steps=steps) == told.cite()
