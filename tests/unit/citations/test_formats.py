"""Offsets in every format slice exactly, whatever the characters; nothing unsafe leaves."""

import json
from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nest_engine.citations import formats
from nest_engine.output import NestOutput
from nest_engine.records import Citation, DecodeStats, Passage

FAMILY = "👩‍👩‍👧"  # five code points, eight UTF-16 units, eighteen bytes


def output_of(pieces: list[tuple[str, Passage | None]]) -> NestOutput:
    """Return an answer made of pieces; one with a passage quotes its first occurrence there."""
    text, citations = "", []
    for piece, passage in pieces:
        if passage is not None:
            source_start = passage.text.index(piece)
            citations.append(
                Citation(
                    answer_start=len(text),
                    answer_end=len(text) + len(piece),
                    passage_id=passage.id,
                    source_start=source_start,
                    source_end=source_start + len(piece),
                    cited_text=piece,
                    title=passage.title,
                    uri=passage.uri,
                    passage_sha256=passage.sha256,
                    score=passage.score,
                    license=passage.license,
                    metadata=passage.metadata,
                )
            )
        text += piece
    passages = tuple({p.id: p for _, p in pieces if p}.values())
    return NestOutput(text, tuple(citations), "eos", DecodeStats(), passages=passages)


@st.composite
def outputs(draw: st.DrawFn) -> NestOutput:
    """Answers of arbitrary Unicode, quoting passages at arbitrary places."""
    words = st.text(min_size=1, max_size=8) | st.sampled_from(
        [FAMILY, "e\u0301", "שלום", "\r\n", "𝒳"]
    )
    passages = [
        Passage(
            draw(words) + quote + draw(words), title=draw(st.text(max_size=5)), id=f"p{i}", uri=uri
        )
        for i, (quote, uri) in enumerate(
            draw(
                st.lists(
                    st.tuples(words, st.sampled_from([None, "https://a.org/x"])),
                    min_size=1,
                    max_size=3,
                )
            )
        )
    ]
    pieces: list[tuple[str, Passage | None]] = []
    for _ in range(draw(st.integers(0, 5))):
        passage = draw(st.sampled_from(passages))
        start = draw(st.integers(0, len(passage.text) - 1))
        end = draw(st.integers(start + 1, len(passage.text)))
        pieces += [(draw(words), None)] if draw(st.booleans()) else []
        pieces += [(passage.text[start:end], passage)]
    return output_of(pieces)


EARTH = Passage(
    "Helium was found in 1868.",
    "Helium",
    "earth/1",
    "https://a.org/he",
    0.5,
    "CC-BY-4.0",
    {"page": 7, "index": 3},
)
LOCAL = Passage(f"It is rare {FAMILY} on Earth.", id="local 2")


@pytest.fixture
def answer() -> NestOutput:
    return output_of(
        [
            (f"{FAMILY} So ", None),
            (f"rare {FAMILY} on", LOCAL),
            (", ", None),
            ("was found in 1868", EARTH),
            (".", None),
        ]
    )


@given(outputs())
def test_anthropic_blocks_concatenate_and_quote_their_document(output: NestOutput) -> None:
    blocks = formats.to_anthropic(output)

    assert "".join(block["text"] for block in blocks) == output.text
    cited = [block for block in blocks if "citations" in block]
    assert len(cited) == len(output.citations)
    for block in cited:
        (location,) = block["citations"]
        document = output.passages[location["document_index"]].text
        assert document[location["start_char_index"] : location["end_char_index"]] == block["text"]
        assert location["cited_text"] == block["text"]


@given(outputs())
def test_answer_offsets_slice_the_cited_text(output: NestOutput) -> None:
    quotes = [citation.cited_text for citation in output.citations]

    cohere = formats.to_cohere(output)
    assert (
        [output.text[c["start"] : c["end"]] for c in cohere]
        == [c["text"] for c in cohere]
        == quotes
    )
    openai = formats.to_openai_annotations(output)
    assert [output.text[a["start_index"] : a["end_index"]] for a in openai] == quotes
    langchain = formats.to_langchain(output)
    assert [output.text[c["start_index"] : c["end_index"]] for c in langchain] == quotes
    assert [c["cited_text"] for c in langchain] == quotes


@given(outputs())
def test_gemini_offsets_slice_the_utf8_answer(output: NestOutput) -> None:
    grounding = formats.to_gemini(output)

    encoded = output.text.encode()
    for support, citation in zip(grounding["groundingSupports"], output.citations, strict=True):
        segment = support["segment"]
        assert (
            encoded[segment["startIndex"] : segment["endIndex"]].decode()
            == segment["text"]
            == citation.cited_text
        )
        (chunk,) = support["groundingChunkIndices"]
        assert (
            citation.cited_text in grounding["groundingChunks"][chunk]["retrievedContext"]["text"]
        )


@given(outputs())
def test_every_format_survives_json(output: NestOutput) -> None:
    for value in (
        formats.to_dicts(output),
        formats.to_anthropic(output),
        formats.to_cohere(output),
        formats.to_openai_annotations(output),
        formats.to_openai_annotations(output, chat_completions=True),
        formats.to_gemini(output),
        formats.to_langchain(output),
    ):
        assert json.loads(json.dumps(value, allow_nan=False)) == value


@given(st.text(), st.data())
def test_edge_offsets_slice_the_encoded_text(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))

    utf8 = text.encode()[formats.utf8_offset(text, start) : formats.utf8_offset(text, end)]
    assert utf8.decode() == text[start:end]
    first, last = (2 * formats.utf16_offset(text, i) for i in (start, end))
    assert text.encode("utf-16-le")[first:last].decode("utf-16-le") == text[start:end]


def test_edge_offsets_count_units_of_their_encoding() -> None:
    assert formats.utf8_offset(FAMILY, 5) == 18
    assert formats.utf16_offset(FAMILY, 5) == 8
    assert formats.utf16_offset("\ud800x", 1) == 1  # a lone surrogate is one unit


def test_anthropic_fields(answer: NestOutput) -> None:
    blocks = formats.to_anthropic(answer)

    assert [block["text"] for block in blocks] == [
        f"{FAMILY} So ",
        f"rare {FAMILY} on",
        ", ",
        "was found in 1868",
        ".",
    ]
    assert blocks[0] == {"type": "text", "text": f"{FAMILY} So "}
    assert blocks[1]["citations"][0]["document_title"] is None
    assert blocks[3]["citations"] == [
        {
            "type": "char_location",
            "cited_text": "was found in 1868",
            "document_index": 1,
            "document_title": "Helium",
            "start_char_index": 7,
            "end_char_index": 24,
            "file_id": None,
        }
    ]


def test_anthropic_counts_documents_that_were_offered_but_not_quoted() -> None:
    output = output_of([("found", EARTH)])
    offered = NestOutput(
        output.text, output.citations, "eos", DecodeStats(), passages=(LOCAL, EARTH)
    )

    assert formats.to_anthropic(offered)[0]["citations"][0]["document_index"] == 1


def test_anthropic_counts_sources_that_the_output_does_not_hold_after_the_others() -> None:
    other = Passage("other", id="other")
    output = output_of(
        [("rare", LOCAL), ("found", EARTH), ("Earth", LOCAL), ("other", other), ("in", EARTH)]
    )
    held = NestOutput(output.text, output.citations, "eos", DecodeStats(), passages=(LOCAL,))

    blocks = formats.to_anthropic(held)
    assert [block["citations"][0]["document_index"] for block in blocks] == [0, 1, 0, 2, 1]


def test_cohere_fields(answer: NestOutput) -> None:
    rare, found = formats.to_cohere(answer)

    assert found == {
        "start": answer.text.index("was"),
        "end": answer.text.index("was") + 17,
        "text": "was found in 1868",
        "sources": [
            {
                "type": "document",
                "id": "earth/1",
                "document": {
                    "id": "earth/1",
                    "title": "Helium",
                    "text": EARTH.text,
                    "url": "https://a.org/he",
                },
            }
        ],
        "content_index": 0,
        "type": "TEXT_CONTENT",
    }
    assert rare["sources"][0]["document"] == {
        "id": "local 2",
        "title": "Passage local 2",
        "text": LOCAL.text,
    }


def test_openai_fields_in_both_nestings(answer: NestOutput) -> None:
    flat = formats.to_openai_annotations(answer)
    nested = formats.to_openai_annotations(answer, chat_completions=True)

    start = answer.text.index("was")
    found = {
        "start_index": start,
        "end_index": start + 17,
        "url": "https://a.org/he",
        "title": "Helium",
    }
    assert flat[1] == {"type": "url_citation", **found}
    assert nested[1] == {"type": "url_citation", "url_citation": found}
    assert flat[0]["url"] == "urn:nest:passage:local%202"


def test_gemini_fields(answer: NestOutput) -> None:
    assert formats.to_gemini(answer) == {
        "groundingChunks": [
            {"retrievedContext": {"title": "Passage local 2", "text": LOCAL.text}},
            {
                "retrievedContext": {
                    "title": "Helium",
                    "text": EARTH.text,
                    "uri": "https://a.org/he",
                }
            },
        ],
        "groundingSupports": [
            {
                "segment": {
                    "partIndex": 0,
                    "startIndex": 22,
                    "endIndex": 48,
                    "text": f"rare {FAMILY} on",
                },
                "groundingChunkIndices": [0],
            },
            {
                "segment": {
                    "partIndex": 0,
                    "startIndex": 50,
                    "endIndex": 67,
                    "text": "was found in 1868",
                },
                "groundingChunkIndices": [1],
            },
        ],
    }


def test_gemini_lists_each_source_once_in_order_of_first_use() -> None:
    grounding = formats.to_gemini(output_of([("rare", LOCAL), ("found", EARTH), ("Earth", LOCAL)]))

    assert [chunk["retrievedContext"]["text"] for chunk in grounding["groundingChunks"]] == [
        LOCAL.text,
        EARTH.text,
    ]
    assert [support["groundingChunkIndices"] for support in grounding["groundingSupports"]] == [
        [0],
        [1],
        [0],
    ]


def test_langchain_fields(answer: NestOutput) -> None:
    rare, found = formats.to_langchain(answer)

    start = answer.text.index("was")
    assert found == {
        "type": "citation",
        "title": "Helium",
        "url": "https://a.org/he",
        "start_index": start,
        "end_index": start + 17,
        "cited_text": "was found in 1868",
        "extras": {
            "document_id": "earth/1",
            "source_start": 7,
            "source_end": 24,
            "passage_sha256": EARTH.sha256,
            "score": 0.5,
            "license": "CC-BY-4.0",
            "page": 7,
        },
    }
    assert "url" not in rare
    assert rare["title"] == "Passage local 2"


def test_langchain_dicts_fit_its_own_type(answer: NestOutput) -> None:
    content = pytest.importorskip("langchain_core.messages.content")
    declared = set(content.Citation.__annotations__)

    for citation in formats.to_langchain(answer):
        assert set(citation) <= declared
        fields = {name: value for name, value in citation.items() if name not in ("type", "extras")}
        made = content.create_citation(**fields, **citation["extras"])
        assert {name: value for name, value in made.items() if name != "id"} == citation


def test_langchain_keeps_every_citation_when_chunks_merge(answer: NestOutput) -> None:
    merge_lists = pytest.importorskip("langchain_core.utils._merge").merge_lists
    first, second = formats.to_langchain(answer)

    assert merge_lists([first], [second]) == [first, second]


@pytest.mark.parametrize(
    "uri",
    [
        "javascript:alert(1)",
        " \x01JavaScript:alert(1)",
        "java\nscript:alert(1)",
        "data:text/html,<b>",
        "vbscript:x",
    ],
)
def test_a_uri_that_would_run_code_is_never_a_link(uri: str) -> None:
    output = output_of([("found", Passage("found", id="p", uri=uri))])

    assert formats.to_openai_annotations(output)[0]["url"] == "urn:nest:passage:p"
    assert "url" not in formats.to_langchain(output)[0]
    assert "url" not in formats.to_cohere(output)[0]["sources"][0]["document"]
    assert "uri" not in formats.to_gemini(output)["groundingChunks"][0]["retrievedContext"]


@pytest.mark.parametrize(
    ("title", "uri", "shown"),
    [(" T ", "u", "T"), (" \n", "u", "u"), ("", "u", "u"), ("", None, "Passage p")],
)
def test_the_title_is_never_empty(title: str, uri: str | None, shown: str) -> None:
    output = output_of([("found", Passage("found", title, "p", uri))])

    assert formats.to_langchain(output)[0]["title"] == shown
    assert formats.to_openai_annotations(output)[0]["title"] == shown


@pytest.mark.parametrize(
    "uri", ["https://a.org/javascript:", "notes/data.md", "file:///a.md", "s3://bucket/key"]
)
def test_other_uris_are_kept_as_they_are(uri: str) -> None:
    output = output_of([("found", Passage("found", id="p", uri=uri))])

    assert formats.to_openai_annotations(output)[0]["url"] == uri


@pytest.mark.parametrize(
    ("value", "ready"),
    [
        (date(2026, 1, 2), "2026-01-02"),
        (float("nan"), "nan"),
        (Fraction(1, 2), 0.5),
        (Path("a/b"), "a/b"),
        ({1: (2, {"deep": Path("x")})}, {"1": [2, {"deep": "x"}]}),
        (True, True),
        (None, None),
    ],
)
def test_json_ready(value: Any, ready: Any) -> None:
    assert formats.json_ready(value) == ready
    assert type(formats.json_ready(value)) is type(ready)


def test_to_dicts_keeps_every_field_and_makes_metadata_plain() -> None:
    passage = Passage("found", "T", "p", metadata={"day": date(2026, 1, 2), "page": 3})
    (citation,) = formats.to_dicts(output_of([("found", passage)]))

    assert set(citation) == set(Citation.__dataclass_fields__)
    assert citation["metadata"] == {"day": "2026-01-02", "page": 3}
    assert (citation["answer_start"], citation["answer_end"], citation["source_end"]) == (0, 5, 5)


def test_passage_of_looks_at_the_text_not_only_the_id() -> None:
    output = output_of([("found", EARTH)])
    changed = Passage("something else entirely", id=EARTH.id)
    held = NestOutput(
        output.text, output.citations, "eos", DecodeStats(), passages=(changed, EARTH)
    )
    lost = NestOutput(output.text, output.citations, "eos", DecodeStats(), passages=(changed,))

    assert formats.passage_of(held, output.citations[0]) is EARTH
    assert formats.passage_of(lost, output.citations[0]) is None


def test_an_empty_answer_has_no_blocks() -> None:
    assert formats.to_anthropic(output_of([])) == []
