"""What the README shows works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import nest_demo
from nest_engine import Passage

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTIONS = {
    heading: re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    for heading, text in re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", README, re.DOTALL | re.M)
}
NOTES = {
    "Helium": "Helium was discovered by Jules Janssen in 1868. It is lighter than air.",
    "Neon": "Neon glows reddish orange in a discharge tube.",
    "Sun": "The Sun is the star at the centre of the Solar System.",
}


def run(section: str, folder: Path, **given: Any) -> dict[str, Any]:
    """Run the lines of a section, with the shipped model in place of the one of the hub."""
    [lines] = SECTIONS[section]
    lines = lines.replace("HuggingFaceTB/SmolLM2-360M-Instruct", str(nest_demo.model_path()))
    names = dict(given)
    exec(compile(lines, "README.md", "exec"), names)
    return names


def test_every_python_block_is_tried() -> None:
    tried = {"In Python", "In LangChain", "In LlamaIndex", "Behind any other model"}
    assert {heading for heading, blocks in SECTIONS.items() if blocks} == tried
    assert README.count("```python") == len(tried)
    assert all(len(blocks[0].splitlines()) <= 16 for blocks in SECTIONS.values() if blocks)


def test_a_stranger_reads_it_in_a_minute() -> None:
    assert len(README.splitlines()) <= 180


def test_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes").mkdir()
    for title in ("Helium", "Neon", "Sun"):
        Path("notes", f"{title}.txt").write_text(NOTES[title], encoding="utf-8")
    run("In Python", tmp_path)
    assert re.search(r"\| Helium \d+ \d+", capsys.readouterr().out)
    assert "Helium" in Path("answer.html").read_text(encoding="utf-8")


def test_langchain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("langchain_core", reason="needs: pip install 'nest-engine[langchain]'")
    from langchain_core.documents import Document
    from langchain_core.embeddings import DeterministicFakeEmbedding
    from langchain_core.prompts import PromptTemplate
    from langchain_core.vectorstores import InMemoryVectorStore

    class ByTheFirstWord(DeterministicFakeEmbedding):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            about = ["helium" if "helium" in text.lower() else text[:6] for text in texts]
            return super().embed_documents(about)

        def embed_query(self, text: str) -> list[float]:
            return self.embed_documents([text])[0]

    store = InMemoryVectorStore(ByTheFirstWord(size=64))
    store.add_documents(
        [Document(NOTES[title], metadata={"title": title}) for title in ("Helium", "Neon")]
    )
    prompt = PromptTemplate.from_template("Question: {question}\nAnswer:")
    names = run("In LangChain", tmp_path, vectorstore=store, prompt=prompt)
    assert names["cited"].citations
    assert "| Helium 0" in capsys.readouterr().out


def test_llama_index(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("llama_index.core", reason="needs: pip install 'nest-engine[llama-index]'")
    from llama_index.core import SummaryIndex
    from llama_index.core.schema import TextNode

    nodes = [
        TextNode(text=NOTES[title], metadata={"file_name": title}) for title in ("Helium", "Neon")
    ]
    names = run("In LlamaIndex", tmp_path, index=SummaryIndex(nodes))
    assert names["response"].citations
    assert re.search(r"[.] \w+ \d+$", capsys.readouterr().out, re.MULTILINE)


def test_cite(tmp_path: Path) -> None:
    names = run(
        "Behind any other model",
        tmp_path,
        answer="Helium is a colourless gas that was first seen in the light of the Sun.",
        passages=[Passage("It is a colourless gas that was first seen in the light of the Sun.")],
    )
    assert [citation.cited_text for citation in names["cited"].citations]


@pytest.mark.parametrize("target", re.findall(r"^\$ make ([\w-]+)", README, re.MULTILINE))
def test_make_has_these_targets(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#:]+)\)", README))
def test_links_lead_to_files(link: str) -> None:
    assert (ROOT / link).exists()
