"""A base model's answer ends where it would ask the next question itself."""

from __future__ import annotations

from itertools import product

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


TURNS = [
    *("\n\n\nQuestion: x", "\r\n\r\nQuestion: x", "\n \nQuestion: x", "\nQuestion\uff1ax"),
    *(
        "\n\nHuman: x",
        "\nUser: x",
        "\n\nQ: x",
        "\nAssistant: x",
        "\n\nquestion: x",
        "\nQUESTION: x",
    ),
    *("\n\n**Question:** x", "\n### Question 2: x"),
    "\n\nBackground: Neon glows.\n\nQuestion: x",
]
ASKED = [
    "Question: What?\nAnswer:",
    "Query: What?\nAnswer: ",
    "Q: What?\nA:",
    "Question: What?\nHelpful Answer:",
    "user: What?\nassistant: ",
    "Human: What?\nAI:",
]


@pytest.mark.parametrize(
    ("prompt", "turn"), [*product(ASKED, TURNS), *product(ASKED[:4], ["\n\nAnswer: x"])]
)
def test_a_turn_may_have_many_forms(prompt, turn):
    engine = NestEngine(ScriptedLanguageModel(f" A gas.{turn}"))
    chunks = list(engine.stream(prompt, method="lm", passages=[]))
    assert "".join(chunk.text for chunk in chunks) == " A gas."
    assert chunks[-1].finish_reason == "stop"
    assert chunks[-1].output.stop_string is None


@pytest.mark.parametrize(
    "said", [" A gas. Question: none.\n", " Yes.\nQuestions: two\n\n- a", "\nAnswer: A gas."]
)
def test_what_is_no_turn_is_said(said):
    engine = NestEngine(ScriptedLanguageModel(said))
    assert engine.ask("What is helium?", method="lm", passages=[]).text == said


def test_an_agent_may_end_with_its_answer():
    said = "Thought: I know.\nAnswer: A gas."
    engine = NestEngine(ScriptedLanguageModel(f"{said}\nuser: And neon?"))
    answer = engine.generate("user: What is helium?\nassistant: ", method="lm", passages=[])
    assert answer.text == said


def test_a_conversation_in_plain_text_ends_at_the_next_turn():
    said = "\nAI: A gas.\nHuman: And neon?\nAI: Too."
    answer = NestEngine(ScriptedLanguageModel(said)).generate(
        "Human: What is helium?", method="lm", passages=[]
    )
    assert answer.text == "\nAI: A gas."


def test_nothing_of_the_next_question_is_streamed():
    engine = NestEngine(ScriptedLanguageModel(SAID))
    prompt = engine.format_question("What is helium?")
    chunks = list(engine.stream(prompt, method="lm", passages=[]))
    assert "".join(chunk.text for chunk in chunks) == " A gas."


def test_own_stop_strings_still_end_it():
    engine = NestEngine(ScriptedLanguageModel(SAID))
    answer = engine.ask("What is helium?", method="lm", stop=["xyz", "as", "gas"])
    assert (answer.text, answer.stop_string) == (" A ", "gas")


def test_another_prompt_goes_on():
    engine = NestEngine(ScriptedLanguageModel(SAID))
    assert engine.generate("Write questions:", method="lm", passages=[]).text == SAID
