"""A base model's answer ends where it would ask the next question itself."""

from __future__ import annotations

import pytest

from nest_engine import NestEngine, Passage
from nest_engine.testing import ScriptedLanguageModel

SAID = " A gas.\n\nQuestion: What is neon?\nAnswer: Another gas."


@pytest.mark.parametrize("method", ["lm", "ra", "lossless"])
def test_an_answer_ends_before_the_next_question(method):
    engine = NestEngine(ScriptedLanguageModel(SAID))
    passages = [Passage("A gas.\n\nQuestion: What is neon?")]
    answer = engine.ask("What is helium?", method=method, passages=passages)
    assert (answer.text, answer.finish_reason) == (" A gas.", "stop")
    assert all(citation.answer_end <= len(answer.text) for citation in answer.citations)


def test_nothing_of_the_next_question_is_streamed():
    engine = NestEngine(ScriptedLanguageModel(SAID))
    prompt = engine.format_question("What is helium?")
    chunks = list(engine.stream(prompt, method="lm", passages=[]))
    assert "".join(chunk.text for chunk in chunks) == " A gas."


def test_own_stop_strings_still_end_it():
    engine = NestEngine(ScriptedLanguageModel(SAID))
    assert engine.ask("What is helium?", method="lm", stop=["gas"]).text == " A "


def test_another_prompt_goes_on():
    engine = NestEngine(ScriptedLanguageModel(SAID))
    assert engine.generate("Write questions:", method="lm", passages=[]).text == SAID
