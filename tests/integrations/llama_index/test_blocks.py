"""Content blocks that bring sources: `CitableBlock` and `DocumentBlock`."""

from __future__ import annotations

import asyncio
import base64
import io
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("llama_index.core", reason="needs: pip install 'nest-engine[llama-index]'")

from llama_index.core.base.llms.types import (
    AudioBlock,
    ChatMessage,
    CitableBlock,
    CitationBlock,
    ContentBlock,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
    VideoBlock,
)

from nest_engine import InputError, NestConfig, Passage
from nest_integrations.llama_index import CitationCollector, NestChatResponse, NestLLM
from tests.integrations.llama_index.support import HELIUM, NEON, FixedRetriever, node, scripted_llm

QUESTION = "What is helium?"
GASES = CitableBlock(
    title="Gases",
    source="https://gases.example",
    content=[TextBlock(text=NEON), TextBlock(text=HELIUM)],
)


def asking(*blocks: ContentBlock) -> ChatMessage:
    return ChatMessage(blocks=[*blocks, TextBlock(text=QUESTION)])


async def _last(stream: Any) -> NestChatResponse:
    return [response async for response in await stream][-1]


CHATS = {
    "chat": lambda llm, turns, **kw: llm.chat(turns, **kw),
    "achat": lambda llm, turns, **kw: asyncio.run(llm.achat(turns, **kw)),
    "stream_chat": lambda llm, turns, **kw: list(llm.stream_chat(turns, **kw))[-1],
    "astream_chat": lambda llm, turns, **kw: asyncio.run(_last(llm.astream_chat(turns, **kw))),
}


@pytest.mark.parametrize("endpoint", CHATS)
def test_a_citable_block_is_quoted(endpoint: str) -> None:
    response = CHATS[endpoint](scripted_llm(HELIUM), [asking(GASES)])
    [citation] = response.citations
    assert (citation.cited_text, citation.title, citation.uri) == (
        HELIUM,
        "Gases",
        "https://gases.example",
    )
    [block] = [each for each in response.message.blocks if isinstance(each, CitationBlock)]
    assert (block.source, block.title) == ("https://gases.example", "Gases")
    where = block.additional_location_info
    assert (where["search_result_index"], where["start_block_index"]) == (0, 1)
    assert HELIUM[where["source_start"] : where["source_end"]] == block.cited_content.text


def test_text_alone_is_the_prompt() -> None:
    with CitationCollector() as collected:
        scripted_llm(HELIUM, config=NestConfig.lossless()).chat([asking(GASES)])
    assert collected.outputs[0].prompt == f"user: {QUESTION}\nassistant: "


def test_blocks_of_tools_are_quoted_and_those_of_earlier_turns_are_not() -> None:
    turns = [
        asking(DocumentBlock(data=NEON.encode(), document_mimetype="text/plain")),
        ChatMessage("It is a gas.", role=MessageRole.ASSISTANT),
        ChatMessage(QUESTION),
        ChatMessage(blocks=[GASES], role=MessageRole.TOOL),
    ]
    assert scripted_llm(HELIUM).chat(turns).citations
    assert scripted_llm(NEON).chat(turns[:3]).citations == []
    assert scripted_llm(NEON).chat(turns[:1]).citations


def test_what_the_caller_gives_wins() -> None:
    retriever = FixedRetriever([node(HELIUM, id_="found")])
    llm = scripted_llm(HELIUM, retriever=retriever)
    turns = [asking(GASES)]
    assert llm.chat(turns, passages=[node(HELIUM, id_="given")]).citations[0].node_id == "given"
    bound = llm.with_passages([node(HELIUM, id_="bound")])
    assert bound.chat(turns).citations[0].node_id == "bound"
    assert bound.chat(turns, passages=[]).citations == []
    assert llm.chat(turns).citations[0].title == "Gases"
    assert retriever.queries == []
    assert llm.chat([ChatMessage(QUESTION)]).citations[0].node_id == "found"


def _document(folder: Path, form: str) -> DocumentBlock:
    text = f"Gases, in short. {HELIUM}"
    file = folder / "gases.md"
    file.write_text(text, encoding="utf-8-sig")
    encoded = base64.b64encode(text.encode())
    blocks = {
        "data": {"data": text.encode(), "document_mimetype": "text/plain"},
        "base64": {"data": encoded, "document_mimetype": "text/markdown; charset=utf-8"},
        "without a type": {"data": text.encode()},
        "stream": {"data": io.BytesIO(text.encode()), "document_mimetype": "text/plain"},
        "path": {"path": str(file)},
        "url": {"url": f"data:text/plain;base64,{encoded.decode()}"},
    }
    return DocumentBlock(**blocks[form])


@pytest.mark.parametrize("form", ["data", "base64", "without a type", "stream", "path", "url"])
def test_a_document_is_quoted(form: str, tmp_path: Path) -> None:
    block = _document(tmp_path, form)
    for _ in range(2):  # a stream too can be read again
        [citation] = scripted_llm(HELIUM).chat([asking(block)]).citations
        assert citation.cited_text == HELIUM
        assert citation.title == ("gases.md" if form == "path" else "")
        assert citation.document_start == len("Gases, in short. ")


def test_a_document_has_its_own_title() -> None:
    named = DocumentBlock(data=HELIUM.encode(), title="Helium")
    assert scripted_llm(HELIUM).chat([asking(named)]).citations[0].title == "Helium"
    inside = CitableBlock(title="Gases", source="s", content=[DocumentBlock(data=HELIUM.encode())])
    assert scripted_llm(HELIUM).chat([asking(inside)]).citations[0].title == "Gases"


def test_a_pdf_is_quoted_with_its_pages() -> None:
    fpdf = pytest.importorskip("fpdf", reason="fpdf2 is not installed")
    pytest.importorskip("pypdfium2", reason="pypdfium2 is not installed")
    pdf = fpdf.FPDF()
    pdf.set_font("helvetica", size=9)
    for text in (NEON, HELIUM):
        pdf.add_page()
        pdf.cell(text=text)
    block = DocumentBlock(data=bytes(pdf.output()), title="Gases")
    [citation] = scripted_llm(HELIUM).chat([asking(block)]).citations
    assert (citation.cited_text, citation.metadata["page"]) == (HELIUM, 2)


def test_of_much_what_shares_words_with_the_question_comes_first() -> None:
    pytest.importorskip("bm25s", reason="bm25s is not installed")
    paragraphs = [f"Nothing about it in part {number}." for number in range(200)]
    paragraphs[150] = HELIUM
    block = CitableBlock(
        title="Long", source="s", content=[TextBlock(text=text) for text in paragraphs]
    )
    with CitationCollector() as collected:
        scripted_llm(HELIUM).chat([asking(block)])
    [output] = collected.outputs
    assert output.passages[0].text == HELIUM
    assert len(output.passages) == 64
    assert output.citations


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (
            DocumentBlock(data=b"PK\x03\x04 \xff", document_mimetype="application/msword"),
            "the document '' is of type application/msword: NestLLM reads text/plain",
        ),
        (
            DocumentBlock(data=b"\xff\xfe!", title="Odd", document_mimetype="text/plain"),
            "the document 'Odd' is not UTF-8",
        ),
        (DocumentBlock(title="Gone", path="no/such.txt"), "the document 'Gone' cannot be read: "),
        (DocumentBlock(title="Empty"), "the document 'Empty' cannot be read: "),
        (
            DocumentBlock(data=b"%PDF-1.4 no", title="Torn"),
            "'Torn' in messages.0 cannot be read: messages.0.0.source: damaged or not what",
        ),
        (ImageBlock(image=b"x"), "a message of the user holds a ImageBlock"),
        (AudioBlock(audio=b"x"), "a message of the user holds a AudioBlock"),
        (VideoBlock(video=b"x"), "a message of the user holds a VideoBlock"),
        (
            CitableBlock(title="t", source="s", content=[ImageBlock(image=b"x")]),
            "a message of the user holds a ImageBlock",
        ),
    ],
)
def test_what_cannot_be_read_is_refused(block: ContentBlock, message: str) -> None:
    for chat in CHATS.values():
        with pytest.raises(InputError, match=message):
            chat(scripted_llm(), [asking(block)])


def test_sources_in_other_messages_are_refused() -> None:
    for role in (MessageRole.SYSTEM, MessageRole.ASSISTANT):
        with pytest.raises(InputError, match=f"a message of the {role.value} holds a CitableBlock"):
            scripted_llm().chat([ChatMessage(blocks=[GASES], role=role), ChatMessage(QUESTION)])


def test_a_quoting_answer_can_be_sent_back() -> None:
    llm: NestLLM = scripted_llm(HELIUM)
    first = llm.chat([asking(GASES)])
    again = llm.chat([asking(GASES), first.message, ChatMessage(QUESTION)])
    assert (again.message.content, again.citations) == (HELIUM, [])
    assert llm.chat([ChatMessage(QUESTION)], passages=[Passage(HELIUM)]).citations
