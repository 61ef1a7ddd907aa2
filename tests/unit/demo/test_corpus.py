"""Checks on the demo corpus and its questions."""

import json
import re
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parents[3] / "nest_demo"


def read_jsonl(name):
    lines = (DEMO / name).read_text(encoding="utf-8").split("\n")
    assert lines.pop() == "", f"{name} must end with a newline"
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def passages():
    return read_jsonl("corpus.jsonl")


@pytest.fixture(scope="module")
def questions():
    return read_jsonl("questions.jsonl")


def test_there_are_enough_passages_with_the_expected_fields(passages):
    assert len(passages) >= 120
    for passage in passages:
        assert set(passage) == {"id", "title", "text"}
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", passage["id"])


@pytest.mark.parametrize("field", ["id", "title"])
def test_ids_and_titles_are_unique(passages, field):
    values = [passage[field] for passage in passages]
    assert len(set(values)) == len(values)


def test_each_text_is_one_line_of_moderate_length(passages):
    for passage in passages:
        text = passage["text"]
        assert len(text.splitlines()) == 1, passage["id"]
        assert text == text.strip(), passage["id"]
        assert 40 <= len(text.split()) <= 130, passage["id"]


def test_some_texts_are_not_ascii(passages):
    assert sum(not passage["text"].isascii() for passage in passages) >= 5


def test_no_two_passages_share_a_sentence(passages):
    seen = {}
    for passage in passages:
        for sentence in re.split(r"(?<=[.?!])\s+", passage["text"]):
            if len(sentence.split()) < 3:  # a fragment left by an initial such as "G. H."
                continue
            owner = seen.setdefault(sentence, passage["id"])
            assert owner == passage["id"], (owner, passage["id"], sentence)


def test_each_question_is_answered_by_its_passage(passages, questions):
    texts = {passage["id"]: passage["text"] for passage in passages}
    assert len(questions) == 40
    assert len({question["question"] for question in questions}) == 40
    for question in questions:
        assert set(question) == {"question", "answer", "passage_id"}
        assert question["passage_id"] in texts, question
        assert question["answer"].strip(), question
        assert question["answer"] in texts[question["passage_id"]], question
