"""The command `nest cite`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from nest_engine import Passage
from nest_engine.cli import app
from nest_engine.retrieval import PassageIndex

SENTENCE = "Helium was first detected in 1868 as an unknown, yellow spectral line."
ANSWER = f'So they say. {SENTENCE} And "it is the second heaviest element" of all.\n'


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    long = "Nothing of that kind was ever written here before or since. " * 40
    text = f"# Helium\n\n{long}\n\n{SENTENCE} It is the second lightest element.\n"
    (folder / "helium.md").write_text(text, encoding="utf-8")
    return folder


def nest_cite(*arguments: object, input: str | bytes | None = None) -> Result:
    return CliRunner().invoke(app, ["cite", *map(str, arguments)], input=input)


def test_a_file(tmp_path: Path, docs: Path) -> None:
    answer = tmp_path / "answer.txt"
    answer.write_text(ANSWER, encoding="utf-8")
    result = nest_cite(answer, "--docs", docs)
    assert result.exit_code == 0, result.stderr
    assert "[1] Helium" in result.stdout
    assert "altered: “it is the second heaviest element”" in result.stdout
    assert "“heaviest” for “lightest”" in " ".join(result.stdout.split())


@pytest.mark.parametrize("name", [[], ["-"]])
def test_a_pipe(docs: Path, name: list[str]) -> None:
    result = nest_cite(*name, "--docs", docs, "--json", input=ANSWER)
    shown = json.loads(result.stdout)
    assert set(shown) == {"text", "citations", "sentences", "quotations"}
    assert shown["text"] == ANSWER
    [citation] = shown["citations"]
    assert citation["cited_text"] == SENTENCE
    source = (docs / "helium.md").read_text(encoding="utf-8")
    start = citation["metadata"]["start_index"] + citation["source_start"]
    assert source[start : start + len(SENTENCE)] == SENTENCE
    assert [sentence["kind"] for sentence in shown["sentences"]] == ["own", "quoted", "own"]
    assert [quotation["verdict"] for quotation in shown["quotations"]] == ["altered"]


def test_a_number_names_no_file_of_a_folder(tmp_path: Path, docs: Path) -> None:
    (docs / "a.md").write_text("Another gas altogether.\n", encoding="utf-8")
    listed = tmp_path / "listed.jsonl"
    rows = [{"text": "Another gas altogether.", "title": "a"}, {"text": SENTENCE, "title": "b"}]
    listed.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")

    def verdict(reference: str, given: Path) -> str:
        result = nest_cite("--docs", given, "--json", input=f'"{SENTENCE}" {reference}')
        [quotation] = json.loads(result.stdout)["quotations"]
        return str(quotation["verdict"])

    assert [verdict(each, docs) for each in ("[1]", "[9]", "[a]")] == [
        *["verbatim", "verbatim", "elsewhere"]
    ]
    assert [verdict(each, listed) for each in ("[1]", "[2]", "[a]")] == [
        *["elsewhere", "verbatim", "elsewhere"]
    ]


def test_a_pipe_gets_long_lines_as_they_are(docs: Path) -> None:
    answer = f"{SENTENCE} {SENTENCE}"
    result = nest_cite("--docs", docs, input=answer)
    assert result.stdout.splitlines()[0].replace("[1]", "") == answer


def test_the_formats(docs: Path) -> None:
    for arguments in (["--html"], ["--format", "html"]):
        page = nest_cite("--docs", docs, *arguments, input=ANSWER).stdout
        assert page.startswith("<!DOCTYPE html>")
        assert "<mark" in page
    markdown = nest_cite("--docs", docs, "--format", "markdown", input=ANSWER).stdout
    assert f"{SENTENCE}[^1]" in markdown


def test_settings(docs: Path) -> None:
    few = nest_cite("--docs", docs, "--json", "--min-words", 40, input=ANSWER)
    assert json.loads(few.stdout)["citations"] == []
    asked = nest_cite("--docs", docs, "--json", "--question", SENTENCE, input=ANSWER)
    assert json.loads(asked.stdout)["citations"] == []


def test_an_index_serves_as_documents(tmp_path: Path) -> None:
    PassageIndex.build([Passage(f"{SENTENCE} It is light.", id="p")], tmp_path / "index")
    result = nest_cite("--docs", tmp_path / "index", "--json", input=ANSWER)
    assert json.loads(result.stdout)["citations"][0]["passage_id"] == "p"


@pytest.mark.parametrize(
    ("arguments", "input", "message"),
    [
        (["nowhere.txt", "--docs", "{docs}"], None, "nowhere.txt: No such file"),
        (["--docs", "nowhere"], ANSWER, "nowhere does not exist"),
        (["--docs", "{docs}"], b"\xff\xfe\xfa", "standard input is not UTF-8 (byte 0)"),
    ],
)
def test_failures_are_one_line(
    docs: Path, arguments: list[str], input: str | bytes | None, message: str
) -> None:
    result = nest_cite(*(each.format(docs=docs) for each in arguments), input=input)
    assert result.exit_code == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_it_needs_no_torch(docs: Path) -> None:
    code = (
        "import sys; from nest_engine.cli import app; "
        f"app(['cite', '--docs', {str(docs)!r}], standalone_mode=False); "
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=ANSWER, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
