"""What docs/citing.md shows works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).parents[3] / "docs" / "citing.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_first_example_prints_what_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    [shown] = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(SNIPPETS[0], "docs/citing.md", "exec"), {})
    assert capsys.readouterr().out == shown


def test_the_adapters_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    langchain_core = pytest.importorskip("langchain_core", reason="the chains are LangChain's")
    pytest.importorskip("langchain", reason="the agent is LangChain's")
    pytest.importorskip("llama_index.core", reason="the query engine is LlamaIndex's")
    from langchain_core.messages import AIMessage, ToolCall
    from langchain_core.prompts import ChatPromptTemplate
    from langchain_core.runnables import RunnableLambda
    from langchain_core.vectorstores import InMemoryVectorStore

    from tests.integrations.langchain.test_citing import ANSWER, DOCUMENTS, Titles, ToolCallingModel
    from tests.integrations.llama_index.test_citing import engine

    assert langchain_core, InMemoryVectorStore
    call = AIMessage("", tool_calls=[ToolCall(name="search", args={"query": "x"}, id="1")])
    namespace: dict[str, Any] = {
        "retriever": Titles(),
        "prompt": ChatPromptTemplate.from_template("{context}\n\n{question}"),
        "model": RunnableLambda(lambda _: AIMessage(ANSWER)),
        "tool_calling_model": ToolCallingModel(messages=iter([call, ANSWER])),
        "query_engine": engine(),
    }
    for number, snippet in enumerate(SNIPPETS[1:], 1):
        exec(compile(snippet, f"docs/citing.md, snippet {number}", "exec"), namespace)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 2 * len(DOCUMENTS), "\n".join(printed)
    assert printed[0].startswith("Helium ")
    assert len(namespace["message"].response_metadata["citations"]) == 2
    assert len(SNIPPETS[1].strip().splitlines()) <= 15
