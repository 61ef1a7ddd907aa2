"""Rows with questions in, rows with the engine's answers out; a row that fails fails alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="needs: pip install 'nest-engine[ray]'")

import pyarrow as pa
import ray
from pyarrow import parquet

import nest_demo
from nest_engine import ConfigError, NestEngine, NestOutput, Passage
from nest_engine.testing import ScriptedLanguageModel
from nest_integrations.ray import generate_rows
from nest_integrations.ray.rows import _COLUMNS, _Answerer
from tests.integrations.ray.support import load_demo, load_down_for_helium

pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.allow_hosts(["127.0.0.1"])]

HELIUM: dict[str, Any] = {"text": "Helium is a gas.", "title": "Helium", "metadata": {"page": 1}}
NEON: dict[str, Any] = {"text": "Neon is a gas.", "title": "Neon", "metadata": {"year": 1898}}
SUN = "Helium is a gas that was found in the Sun."
QUESTIONS = [shipped.question for shipped in nest_demo.load_questions()[:6]]


@pytest.fixture(scope="module")
def shipped() -> NestEngine:
    return load_demo()


def assert_is(row: dict[str, Any], answer: NestOutput) -> None:
    """Compare the columns of an answer; what it took in seconds is another time's."""
    assert row["error"] is None
    assert (row["text"], row["finish_reason"]) == (answer.text, answer.finish_reason)
    cited = [
        citation | {"metadata": json.loads(citation["metadata"])} for citation in row["citations"]
    ]
    assert cited == [citation.to_dict() for citation in answer.citations]
    assert row["stats"].keys() == answer.stats.to_dict().keys()
    # A passage that several answers ask for is read once: which of them has it counted depends on
    # who asked before.
    timed = {"seconds", "encoded_passages"}
    assert {
        name: value for name, value in row["stats"].items() if name not in timed
    } == pytest.approx(
        {name: value for name, value in answer.stats.to_dict().items() if name not in timed}
    )


def test_answers_are_the_engines_and_failing_rows_keep_theirs(
    tmp_path: Path, shipped: NestEngine
) -> None:
    rows = [
        *({"number": number, "question": question} for number, question in enumerate(QUESTIONS)),
        {"number": 6, "prompt": "The sea", "query": "tides of the sea"},
        {"number": 7, "question": "What?", "passages": [HELIUM, NEON]},
        {"number": 8, "question": "Tell me about helium."},  # the search fails
        {"number": 9, "question": " "},
        {"number": 10, "prompt": ""},
        {"number": 11},
        {"number": 12, "question": "What?", "prompt": "The sea"},
        {"number": 13, "prompt": "The sea " * 5_000, "query": "the sea"},
        {"number": 14, "question": "What?", "passages": [{"title": "no text"}]},
    ]
    dataset = ray.data.from_items(rows, override_num_blocks=3)
    answered = generate_rows(
        dataset, load_down_for_helium, num_workers=2, batch_size=4, temperature=0.5, seed=3
    )
    answered.write_parquet(str(tmp_path / "answers"))
    results = parquet.read_table(tmp_path / "answers").select(["number", "question", *_COLUMNS])
    found = {row["number"]: row for row in results.to_pylist()}
    assert sorted(found) == list(range(len(rows)))
    assert {
        name: results.schema.field(name).type for name in _COLUMNS
    } == _COLUMNS  # whatever failed

    settings = {"temperature": 0.5, "seed": 3}
    for number, question in enumerate(QUESTIONS):
        assert found[number]["question"] == question
        assert_is(found[number], shipped.ask(question, **settings))
    given = [Passage(**HELIUM), Passage(**NEON)]
    assert_is(found[7], shipped.ask("What?", passages=given, **settings))
    assert any(found[number]["citations"] for number in range(6))
    assert_is(found[6], shipped.generate("The sea", query="tides of the sea", **settings))

    errors = {number: found[number]["error"] for number in range(8, len(rows))}
    assert errors[8] == "RetrievalError: DownForHelium failed: the store is down"
    assert errors[9] == "InputError: the question is empty"
    assert errors[10].startswith("InputError: ")
    assert errors[11].startswith(
        "InputError: the row has neither question nor prompt, but 'number'"
    )
    assert errors[12] == "InputError: the row has a question and a prompt; give one of them"
    assert errors[13].startswith("ContextOverflowError: ")
    assert errors[14].startswith("InputError: a passage has text and may have ")
    for number in errors:
        assert {found[number][name] for name in ("text", "finish_reason", "stats")} == {None}
        assert not found[number]["citations"]


def test_what_is_wrong_is_said_before_workers_start() -> None:
    dataset = ray.data.from_items([{"question": "What?"}])
    with pytest.raises(ConfigError, match="unknown setting 'gama'"):
        generate_rows(dataset, load_demo, num_workers=1, gama=0.5)
    with pytest.raises(ConfigError, match="num_workers=0 is not valid"):
        generate_rows(dataset, load_demo, num_workers=0)
    with pytest.raises(ConfigError, match="batch_size=0 is not valid"):
        generate_rows(dataset, load_demo, num_workers=1, batch_size=0)
    with pytest.raises(ConfigError, match="load_engine is a str; give a function"):
        generate_rows(dataset, "some/model", num_workers=1)  # type: ignore[arg-type]


def test_a_column_that_results_would_replace_is_refused() -> None:
    answerer = _Answerer(lambda: NestEngine(ScriptedLanguageModel("Yes.")), None, {})
    with pytest.raises(
        ConfigError, match=r"columns named text, .*rename_columns\(\{'text': ...\}\)"
    ):
        answerer(pa.table({"question": ["What?"], "text": ["mine"]}))
    assert (
        answerer(pa.table({"question": ["What?"], "mine": ["text"]})).to_pylist()[0]["text"]
        == "Yes."
    )


def answered_rows(*rows: dict[str, Any]) -> list[dict[str, Any]]:
    """Answer rows that need not have the same types."""
    engine = NestEngine(ScriptedLanguageModel(SUN))
    answerer = _Answerer(lambda: engine, None, {"method": "nest"})
    return [answer for row in rows for answer in answerer(pa.Table.from_pylist([row])).to_pylist()]


def test_names_of_passages_may_be_numbers() -> None:
    metadata = {"share": float("nan"), "page": 3}
    passage = {"text": SUN, "id": 7, "title": 8, "score": 1, "metadata": metadata}
    [row] = answered_rows({"question": "What?", "passages": [passage]})
    assert row["error"] is None
    [citation] = row["citations"]
    assert (citation["passage_id"], citation["title"], citation["score"]) == ("7", "8", 1.0)
    assert json.loads(citation["metadata"], parse_constant=str.upper) == {"share": "nan", "page": 3}


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ({"question": 3}, "the question must be a text, got int"),
        ({"question": b"What?"}, "the question must be a text, got bytes"),
        ({"question": "What?", "query": 3}, "the query must be a text, got int"),
        ({"question": None, "number": 3}, "the row has neither question nor prompt, but 'number'"),
        ({"question": "What?", "passages": "Helium"}, "passages must be a list of mappings"),
        ({"question": "What?", "passages": HELIUM}, "passages must be a list of mappings"),
        ({"question": "What?", "passages": ["Helium"]}, "a passage must be a mapping with a text"),
        ({"question": "What?", "passages": [HELIUM | {"page": 3}]}, "got 'text', .*'page'"),
        ({"question": "What?", "passages": [HELIUM | {"metadata": "{}"}]}, "metadata must be a"),
    ],
)
def test_what_is_wrong_with_a_row_is_said(row: dict[str, Any], error: str) -> None:
    [answered] = answered_rows(row)
    assert re.match(f"InputError: .*{error}", answered["error"])
    assert answered["text"] is None
