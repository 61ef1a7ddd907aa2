"""What people see first: answers of the offline model, with their sources."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

import nest_demo
from nest_engine import NestEngine
from nest_engine.cli import app


def test_the_file_gives_its_template_and_ends_of_turns(engine: NestEngine) -> None:
    tokenizer = engine.language_model.tokenizer
    prompt = engine.format_question("What is helium?")
    assert prompt.endswith("<|im_start|>user\nWhat is helium?<|im_end|>\n<|im_start|>assistant\n")
    assert tokenizer.decode(tokenizer.encode_prompt(prompt).token_ids[-3:]) == "assistant\n"
    assert set(tokenizer.encode_prompt("<|im_end|>").token_ids) <= engine.language_model.eos_ids
    assert engine.ask("What is the capital of France?", method="lm").text.startswith(
        "The capital of France is Paris."
    )


def test_the_demo_compares_answers_over_the_same_passages(
    smollm2: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEST_MODEL", smollm2)
    question = nest_demo.load_questions()[0].question
    result = CliRunner().invoke(app, ["demo", "--json", "--question", question])
    assert result.exit_code == 0, result.output
    [answer] = json.loads(result.stdout)["answers"]
    assert list(answer["methods"]) == ["ra", "ra-nest"]
    corpus = {passage.id: passage.text for passage in nest_demo.load_passages()}
    said = answer["methods"]["ra-nest"]
    assert said["citations"]
    for citation in said["citations"]:
        source = corpus[citation["passage_id"]]
        assert source[citation["source_start"] : citation["source_end"]] == citation["cited_text"]
