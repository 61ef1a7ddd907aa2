"""`benchmarks/answers.py` writes its page, from made-up data and a scripted model."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import nest_demo
from benchmarks import answers
from nest_engine import NestEngine
from nest_engine.testing import ScriptedLanguageModel

ANIMALS = ("otter", "elk", "heron", "newt", "badger", "stoat")


def _write(path: Path, lines: list[dict[str, object]]) -> str:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return str(path)


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    model = ScriptedLanguageModel("It lives by water.", confidence=0.1)
    monkeypatch.setattr(nest_demo, "load_engine", lambda *_, **__: NestEngine(model))
    questions = [
        {
            "id": number,
            "question": f"where was the {animal} first seen",
            "answers": [f"{animal.title()}ton"],
            "title": animal.title(),
            "text": f"The animal is shy. The {animal} was first seen at {animal.title()}ton.",
        }
        for number, animal in enumerate(ANIMALS)
    ]
    entities = [
        {"question": each["question"], "answers": each["answers"], "gold_title": each["title"]}
        for each in questions
    ]
    articles = [
        {"title": each["title"], "text": f"{each['text']} {' It swims.' * 400}"}
        for each in questions
    ]
    return [
        "--questions",
        _write(tmp_path / "questions.jsonl", questions),
        "--entity-questions",
        _write(tmp_path / "entities.jsonl", entities),
        "--articles",
        _write(tmp_path / "articles.jsonl", articles),
        *("--examples", "4", "--sweep-examples", "2", "--work", str(tmp_path / "work")),
        *("--out", str(tmp_path / "results.md")),
    ]


def test_the_page(arguments: list[str], tmp_path: Path) -> None:
    arguments = [*arguments, "--parts", *answers.PARTS]
    answers.main(arguments)
    page = (tmp_path / "results.md").read_text(encoding="utf-8")

    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        f"## {heading}" for heading, _ in answers.PARTS.values()
    ]
    rows = {
        cells[1].strip(): cells[2].strip()
        for line in reversed(page.splitlines())  # what the first of the tables says
        if len(cells := line.split("|")) > 4
    }
    assert rows["ra-nest"].startswith("100.0")  # the scripted model answers nothing
    assert rows["ra"].startswith("0.0")
    assert rows[f"{answers.LIST}, {answers.TOKENS} tokens"].startswith("100.0")
    assert re.search(r"`ra-nest` against ra: \+100\.0 ", page)
    measured = len((tmp_path / "work/questions/results.jsonl").read_text().splitlines())
    assert measured == 4 * (len(answers.METHODS) + 1)
    answers.main(arguments)  # nothing is measured again
    assert len((tmp_path / "work/questions/results.jsonl").read_text().splitlines()) == measured


def test_the_paragraph_stands_among_others_and_without_it_none_names_an_answer(
    arguments: list[str],
) -> None:
    examples = answers.with_given_passages(Path(arguments[1]))
    for example in examples:
        conditions = answers.given(example)
        assert any(example.answers[0] in each.text for each in conditions["gold"][: answers.GIVEN])
        assert len(conditions["no-gold"]) >= answers.GIVEN
        assert not any(example.answers[0] in each.text for each in conditions["no-gold"])
