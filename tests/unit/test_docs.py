"""Commands and snippets of README and docs: those that no other test runs in its own page."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import nest_demo
from nest_engine import KeyCache, KeyStore, NestEngine, Passage
from nest_engine.cli import app
from nest_engine.retrieval import BM25Retriever, PassageIndex, read_passages
from tests.server.support import MODEL, served

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

ROOT = Path(__file__).parents[2]
DOCS = sorted((ROOT / "docs").glob("*.md"))
# Tested with their own pages, whose snippets build on each other.
ELSEWHERE = {"citing.md", "langchain.md", "llama_index.md", "ray.md"}
# What takes several GPUs, a GPU, or runs until Ctrl-C.
ONLY_READ = {"large_models.md": 2, "speed.md": 1, "stores.md": 1}
HELIUM = Passage("Helium was first seen in 1868, in the spectrum of the Sun.", title="Helium")


def snippets(page: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def run(snippet: str, **given: Any) -> dict[str, Any]:
    names = dict(given)
    exec(compile(snippet, "a page of docs/", "exec"), names)
    return names


@pytest.fixture(scope="module")
def engine() -> NestEngine:
    return nest_demo.load_engine(BM25Retriever([HELIUM]))


def test_every_page_with_snippets_is_tried() -> None:
    tried = {"models.md": 1, "retrieval.md": 1, "serving.md": 3, "stores.md": 2, "tuning.md": 1}
    found = {page.name: len(snippets(page.name)) for page in DOCS}
    rest = {name: number for name, number in found.items() if number and name not in ELSEWHERE}
    assert rest == ONLY_READ | tried


@pytest.mark.parametrize("page", [ROOT / "README.md", *DOCS], ids=lambda page: page.name)
def test_nothing_is_left_to_be_filled_in(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"^(?:[A-Z]{5,}|.*\b(?:TODO|FIXME|XXX)\b.*)$", text, re.MULTILINE) == []


@pytest.mark.parametrize("page", ONLY_READ)
def test_what_is_only_read_is_python(page: str) -> None:
    for snippet in snippets(page):
        ast.parse(snippet)


def test_models(engine: NestEngine) -> None:
    run(snippets("models.md")[0], engine=engine)


def test_retrieval(engine: NestEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fpdf import FPDF

    monkeypatch.chdir(tmp_path)
    page = FPDF()
    page.add_page()
    page.set_font("Helvetica", size=12)
    page.multi_cell(0, 8, HELIUM.text)
    page.output("helium.pdf")
    passages = read_passages(tmp_path).passages
    output = engine.ask("When was helium first seen?", passages=passages, max_new_tokens=48)
    run(snippets("retrieval.md")[0], output=output)
    assert Path("page.png").stat().st_size > 1000


@pytest.mark.parametrize(("number", "package"), [(0, "openai"), (1, "anthropic")])
def test_serving(engine: NestEngine, number: int, package: str) -> None:
    pytest.importorskip(package, reason=f"needs: pip install {package}")
    snippet = snippets("serving.md")[number]
    with served(engine) as address, redirect_stdout(StringIO()) as printed:
        run(snippet.replace("http://127.0.0.1:8000", address).replace("nest-demo", MODEL))
    assert "Helium was first seen in 1868" in printed.getvalue()


def test_the_scheduler(engine: NestEngine, capsys: pytest.CaptureFixture[str]) -> None:
    names = run(snippets("serving.md")[2], engine=engine, question="When was helium first seen?")
    assert names["answer"].result().citations
    assert "1868" in capsys.readouterr().out


def test_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("langchain_core", reason="needs: pip install 'nest-engine[langchain]'")
    from nest_integrations.langchain import NestRetriever

    snippet = snippets("stores.md")[0]
    named = snippet.replace("HuggingFaceTB/SmolLM2-360M-Instruct", str(nest_demo.model_path()))
    assert named != snippet
    names = run(named, store=NestRetriever(retriever=BM25Retriever([HELIUM])))
    assert isinstance(names["engine"], NestEngine)


def test_tuning(engine: NestEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    PassageIndex.build([HELIUM], "notes.index")
    KeyStore.build("notes.index/keys", engine.language_model, [HELIUM])
    other = NestEngine(engine.language_model)
    run(snippets("tuning.md")[0], engine=other, KeyStore=KeyStore, KeyCache=KeyCache)
    output = other.generate("Helium", passages=[HELIUM], method="nest", by_sentence=False)
    assert output.stats.encoded_passages == 0


def commands() -> Iterator[tuple[str, str]]:
    for page in (ROOT / "README.md", *DOCS, *sorted(ROOT.glob("packages/*/README.md"))):
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for block in re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            for line in re.findall(r"^\$ .*?\b(nest [a-z].*)$", block, re.MULTILINE):
                yield page.name, line


@pytest.mark.parametrize(("page", "line"), [*commands()])
def test_a_command_of_the_docs_takes_these_arguments(page: str, line: str) -> None:
    """The command is there, with each of its options, and with all that it requires."""
    name, *rest = shlex.split(line, comments=True)[1:]
    group: Any = get_command(app)
    command = group.get_command(None, name)
    while command is not None and hasattr(command, "get_command"):
        command, rest = command.get_command(None, rest[0]), rest[1:]
    assert command is not None, line
    flags = {flag: each for each in command.params for flag in (*each.opts, *each.secondary_opts)}
    used, free = set(), 0
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            free += 1
            continue
        assert word in flags, f"{page}: {line}"
        used.add(flags[word].name)
        if not getattr(flags[word], "is_flag", False):
            assert rest, f"{page}: {line}"
            rest.pop(0)
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    required = {
        each.name for each in command.params if each.required and each.param_type_name == "option"
    }
    assert required <= used, f"{page}: {line} lacks {required - used}"
    assert free <= len(arguments) or any(each.nargs == -1 for each in arguments)
