"""Documents become passages and come back; nothing about them is lost or invented."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("langchain_core", reason="needs: pip install 'nest-engine[langchain]'")

from langchain_core.documents import Document
from langchain_core.messages import (
    AIMessage,
    HumanMessage,
    ToolMessage,
    messages_from_dict,
    messages_to_dict,
)

from nest_engine import InputError, Passage
from nest_integrations.langchain import to_document, to_passage
from nest_integrations.langchain.documents import documents_of_turn, passages_of_each


def test_a_document_keeps_everything():
    metadata = {
        "source": "a.pdf",
        "title": "Gases",
        "page": 3,
        "score": 0.5,
        "license": "CC0",
        "start_index": 7,
    }
    passage = to_passage(Document(id="d1", page_content="Helium\r\n is  a gas.", metadata=metadata))
    assert (passage.id, passage.text, passage.title) == ("d1", "Helium\r\n is  a gas.", "Gases")
    assert (passage.uri, passage.score, passage.license) == ("a.pdf", 0.5, "CC0")
    assert dict(passage.metadata) == metadata


def test_headings_that_splitters_leave_are_a_section():
    metadata = {"Header 1": "Jug", "Header 3": "Lid", "source": "jug.md"}
    passage = to_passage(Document(page_content="Rinse it.", metadata=metadata))
    assert dict(passage.metadata) == metadata | {"section": "# Jug\n### Lid"}
    own = to_passage(Document(page_content="Rinse it.", metadata=metadata | {"section": "Care"}))
    assert own.metadata["section"] == "Care"


def test_round_trip_through_a_document():
    passage = Passage(
        "Neon glows.", title="Neon", id="n", uri="u", score=2.0, license="MIT", metadata={"page": 1}
    )
    there_and_back = to_passage(to_document(passage))
    assert there_and_back.to_dict() | {"metadata": None} == passage.to_dict() | {"metadata": None}
    assert there_and_back.metadata["page"] == 1


@pytest.mark.parametrize(
    ("document", "identity"),
    [
        (Document(id="own", page_content="x", metadata={"id": "other"}), "own"),
        (Document(page_content="x", metadata={"id": 17}), "17"),
        (Document(page_content="x", metadata={"pk": "milvus"}), "milvus"),
    ],
)
def test_identity_of_a_document(document: Document, identity: str):
    assert to_passage(document).id == identity


def test_identity_without_an_id_depends_on_content_and_source():
    first = to_passage(Document(page_content="x", metadata={"source": "a"}))
    again = to_passage(Document(page_content="x", metadata={"source": "a", "page": 2}))
    other_source = to_passage(Document(page_content="x", metadata={"source": "b"}))
    other_text = to_passage(Document(page_content="y", metadata={"source": "a"}))
    assert first.id == again.id
    assert len({first.id, other_source.id, other_text.id}) == 3


@pytest.mark.parametrize("value", ["0.9", True, float("nan"), None])
def test_what_is_no_score_is_not_taken_for_one(value: object):
    assert to_passage(Document(page_content="x", metadata={"score": value})).score is None


def test_passages_for_all_prompts_or_for_each():
    one, two = Document(page_content="one"), Document(page_content="two")
    assert [[p.text for p in each] for each in passages_of_each([one], 2)] == [["one"], ["one"]]
    assert [[p.text for p in each] for each in passages_of_each([[one], [two]], 2)] == [
        ["one"],
        ["two"],
    ]
    assert passages_of_each([], 2) == [[], []]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("a text", "passages must be a list of documents, got str"),
        ({"a": 1}, "passages must be a list of documents, got dict"),
        (3, "passages must be a list of documents, got int"),
        (Document(page_content="x"), "passages must be a list of documents, got Document"),
        (["a text"], "passages must be Document or Passage objects, got str"),
        ([[Document(page_content="x")]], "2 prompts but 1 lists of passages"),
    ],
)
def test_bad_passages_are_refused(given: object, message: str):
    with pytest.raises(InputError, match=message):
        passages_of_each(given, 2)


def test_documents_of_turn_since_the_last_question():
    old, new, newer = (Document(page_content=text) for text in ("old", "new", "newer"))
    messages = [
        ToolMessage("", tool_call_id="1", artifact=[old]),
        HumanMessage("?"),
        AIMessage(""),
        ToolMessage("", tool_call_id="2", artifact=[new, "not a document"]),
        ToolMessage("", tool_call_id="3", artifact=newer),
        ToolMessage("", tool_call_id="4", artifact={"rows": 3}),
    ]
    found = documents_of_turn(messages)
    assert found is not None
    assert [passage.text for passage in found] == ["new", "newer"]
    assert documents_of_turn(messages[:3]) is None


def test_documents_of_a_turn_that_was_stored():
    """Checkpoints and JSON turn what an artifact holds into mappings."""
    document = Document(id="d", page_content="new", metadata={"source": "a", "page": 3})
    passage = Passage("newer", id="p", title="P", metadata={"page": 4})
    found = ToolMessage("", tool_call_id="1", artifact=[document, passage, {"page": 3}, None])
    stored = json.loads(json.dumps(messages_to_dict([HumanMessage("?"), found])))
    assert documents_of_turn(messages_from_dict(stored)) == [to_passage(document), passage]
