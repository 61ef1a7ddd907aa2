"""Nodes as passages, and what their citations tell."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest

pytest.importorskip("llama_index.core", reason="llama-index-core is not installed")

from llama_index.core import Document, SimpleDirectoryReader
from llama_index.core.node_parser import (
    HierarchicalNodeParser,
    MarkdownNodeParser,
    SentenceSplitter,
    get_leaf_nodes,
)
from llama_index.core.schema import (
    ImageNode,
    MetadataMode,
    NodeRelationship,
    NodeWithScore,
    RelatedNodeInfo,
    TextNode,
)

from nest_engine import InputError, Passage
from nest_integrations.llama_index import NestSynthesizer, NodeRetriever, passage_of
from nest_integrations.llama_index.nodes import passages_of
from nest_integrations.llama_index.retriever import passage_retriever
from tests.integrations.llama_index.support import (
    HELIUM,
    NEON,
    QA,
    FixedRetriever,
    answering,
    node,
    scored,
    scripted_llm,
)

START = len(NEON) + 1
DOCUMENT = Document(text=f"{NEON} {HELIUM}", id_="gases")


def _cut(text=HELIUM, start=START, end=None, **kwargs) -> TextNode:
    return TextNode(
        text=text,
        start_char_idx=start,
        end_char_idx=start + len(HELIUM) if end is None else end,
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id="gases")},
        **kwargs,
    )


def test_a_passage_is_the_bare_text_of_the_node():
    metadata = {
        "file_name": "gases.txt",
        "file_path": "/notes/gases.txt",
        "page_label": "3",
        "secret": "1234",
    }
    found = NodeWithScore(node=_cut(metadata=metadata, id_="n1"), score=0.25)
    passage = passage_of(found)
    assert "1234" in found.get_content(MetadataMode.LLM)
    assert passage.text == HELIUM
    assert (passage.id, passage.title, passage.uri, passage.score) == (
        "n1",
        "gases.txt",
        "/notes/gases.txt",
        0.25,
    )
    assert passage.metadata["document_id"] == "gases"


def test_the_headings_of_a_nodes_path_are_its_section():
    document = Document(text="# Jug\n\nA jug.\n\n## Care\n\n### Lid\n\nRinse it.")
    nodes = MarkdownNodeParser().get_nodes_from_documents([document])
    sections = [passage_of(node).metadata.get("section") for node in nodes]
    assert (sections[0], sections[-1]) == (None, "# Jug\n## Care")


def test_a_title_goes_before_a_file_name_and_a_url_before_a_path():
    metadata = {
        "title": "Helium",
        "file_name": "x.txt",
        "url": "https://example.org",
        "file_path": "/x",
        "license": "MIT",
    }
    passage = passage_of(node(HELIUM, metadata=metadata))
    assert (passage.title, passage.uri, passage.license) == ("Helium", "https://example.org", "MIT")


@pytest.mark.parametrize(
    ("cut", "documents", "start"),
    [
        (_cut(), {}, START),
        (_cut(), {"gases": DOCUMENT.text}, START),
        (_cut(start=3), {"gases": DOCUMENT.text}, None),  # another place
        (_cut(), {"gases": "The file has changed since."}, None),
        (_cut(text=HELIUM.upper()), {"gases": DOCUMENT.text}, None),
        (_cut(text="shortened"), {}, None),  # the text has changed, its place has not
        (_cut(end=7), {}, None),
        (node(HELIUM), {}, None),
        (TextNode(text=HELIUM, metadata={"start_index": 5}), {}, None),  # somebody else's metadata
    ],
)
def test_places_in_the_document_are_given_where_they_verify(cut, documents, start):
    assert passage_of(cut, documents).metadata["start_index"] == start
    [citation] = (
        scripted_llm(cut.text).complete("? ", passages=[passage_of(cut, documents)]).citations
    )
    assert cut.text[citation.source_start : citation.source_end] == citation.cited_text
    if start is None:
        assert (citation.document_start, citation.document_end) == (None, None)
    else:
        assert DOCUMENT.text[citation.document_start : citation.document_end] == citation.cited_text


def test_places_of_split_files_verify_against_the_files(corpus):
    documents = SimpleDirectoryReader(corpus).load_data()
    nodes = SentenceSplitter(chunk_size=48, chunk_overlap=12).get_nodes_from_documents(documents)
    files = {path.name: path.read_bytes().decode() for path in corpus.iterdir()}
    assert len(nodes) > 20
    for each in nodes:
        passage = passage_of(each, {document.node_id: document.text for document in documents})
        start = passage.metadata["start_index"]
        assert (
            files[passage.metadata["file_name"]][start : start + len(passage.text)] == passage.text
        )


def test_a_citation_tells_all_in_json():
    source = _cut(
        id_="n1",
        metadata={"file_name": "gases.txt", "page_label": "3", "read": datetime.date(2026, 1, 2)},
    )
    response = scripted_llm(HELIUM).complete("? ", passages=scored(source))
    [citation] = response.raw["citations"]
    assert citation["cited_text"] == HELIUM
    assert {
        name: citation[name]
        for name in ("node_id", "document_id", "file_name", "page_label", "score")
    } == {
        "node_id": "n1",
        "document_id": "gases",
        "file_name": "gases.txt",
        "page_label": "3",
        "score": 1.0,
    }
    assert citation["document_start"] == START
    assert citation["metadata"]["read"] == "2026-01-02"


def test_nodes_without_text_are_left_out():
    assert (
        passages_of([node(""), node("  \n"), ImageNode(image_url="https://example.org/x.png")])
        == ()
    )
    assert [passage.text for passage in passages_of([node(""), node(HELIUM)])] == [HELIUM]


def test_passages_stay_as_they_are():
    passage = Passage(HELIUM)
    assert passages_of([passage])[0] is passage


def test_other_things_are_no_passages():
    with pytest.raises(
        InputError, match=r"got dict: use TextNode\(text=...\) or nest_engine.Passage"
    ):
        passages_of([{"text": HELIUM}])


def test_a_retriever_finds_passages_for_each_query():
    retriever = FixedRetriever([node(HELIUM, id_="a"), node(NEON, id_="b"), node("third", id_="c")])
    found = NodeRetriever(retriever).retrieve(["x", "y"], 2)
    assert [[passage.id for passage in passages] for passages in found] == [["a", "b"], ["a", "b"]]
    assert retriever.queries == ["x", "y"]


def test_retrievers_of_the_engine_are_not_wrapped():
    class Native:
        def retrieve(self, queries, k):
            return [[Passage(HELIUM)] for _ in queries]

    native = Native()
    assert passage_retriever(native) is native
    assert scripted_llm(HELIUM, retriever=native).complete("? ").citations[0].cited_text == HELIUM


def test_places_of_a_parser_behind_another_are_not_taken_for_the_documents(tmp_path):
    text = "# Gases\n\nAbout gases.\n\n" + "".join(
        f"## Gas {n}\n\n{HELIUM} {NEON} " * 4 + f"Number {n}.\n\n" for n in range(6)
    )
    (tmp_path / "gases.md").write_text(text)
    document = Document(text=text, metadata={"file_path": str(tmp_path / "gases.md")})
    splitter = SentenceSplitter(chunk_size=160, chunk_overlap=0)
    behind_markdown = splitter.get_nodes_from_documents(
        MarkdownNodeParser().get_nodes_from_documents([document])
    )
    in_memory = Document(text=text)
    behind_itself = get_leaf_nodes(
        HierarchicalNodeParser.from_defaults([200, 60], chunk_overlap=0).get_nodes_from_documents(
            [in_memory]
        )
    )
    direct = splitter.get_nodes_from_documents([document])
    for nodes in (behind_markdown, behind_itself, direct):
        for each in nodes:
            start = passage_of(each).metadata["start_index"]
            assert start is None or text[start : start + len(each.text)] == each.text
    assert all(passage_of(each).metadata["start_index"] is not None for each in direct)


def test_metadata_need_not_be_text():
    metadata = {"title": 7, "url": Path("notes") / "he.txt", "license": ["MIT"], "document_id": "d"}
    passage = passage_of(NodeWithScore(node=node(HELIUM, metadata=metadata), score=float("nan")))
    assert (passage.title, passage.uri, passage.license) == ("7", "notes/he.txt", "['MIT']")
    assert passage.score is None
    assert passage.metadata["document_id"] == "d"
    synthesizer = NestSynthesizer(scripted_llm(answering(HELIUM)), text_qa_template=QA)
    response = synthesizer.synthesize("What?", scored(node(HELIUM, metadata=metadata)))
    assert HELIUM in response._repr_html_()
    json.dumps(response.citations[0].to_dict() | {"metadata": None})
