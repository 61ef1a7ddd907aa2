"""What a model says to itself stays apart from its answer, and quotes nothing."""

from __future__ import annotations

import copy

import pytest

from nest_engine import NestEngine, NestOutput, Passage
from nest_engine.citations.reasoning import Reasoning
from nest_engine.models.tokenization import TextTokenizer
from nest_engine.testing import ScriptedLanguageModel
from tests.settings import WORD_BY_WORD
from tests.tiny_models import tiny_tokenizer

THOUGHT = "Helium is a noble gas, I think."
ANSWER = "Helium is a noble gas, and light."
SAID = f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}"
PASSAGE = Passage(f"{THOUGHT} {ANSWER} So it is.", title="Helium")
METHODS = ["lm", "nest", "ra-nest", "lossless"]


def engine(script: str = SAID) -> NestEngine:
    return NestEngine(ScriptedLanguageModel(script, confidence=0.99))


def assert_cited_exactly(output: NestOutput) -> None:
    for citation in output.citations:
        quoted = output.text[citation.answer_start : citation.answer_end]
        source = PASSAGE.text[citation.source_start : citation.source_end]
        assert quoted == source == citation.cited_text
        tokens = bytes(output.token_ids[citation.token_start : citation.token_end])
        assert tokens.decode() == quoted
    assert output.citations


@pytest.mark.parametrize("method", METHODS)
def test_reasoning_is_no_part_of_the_answer(method: str) -> None:
    output = engine().generate(
        "What of helium? ", passages=[PASSAGE], method=method, max_new_tokens=200
    )
    assert (output.reasoning, output.notices) == (THOUGHT, ())
    assert output.to_dict()["reasoning"] == THOUGHT
    if method in ("lm", "lossless"):  # the model's own words
        assert output.text == ANSWER
        assert output.usage["completion_tokens"] == len(SAID) + 1
    shown = "".join(token.text for token in output.trace if token.status != "rejected")
    assert shown == output.text
    assert_cited_exactly(output)


@pytest.mark.parametrize("method", METHODS)
def test_streams_give_the_same(method: str) -> None:
    settings = {"passages": [PASSAGE], "method": method, "max_new_tokens": 200}
    whole = engine().generate("What of helium? ", **settings)
    chunks = list(engine().stream("What of helium? ", **settings))
    assert "".join(chunk.text for chunk in chunks) == whole.text
    assert "".join(chunk.reasoning for chunk in chunks) == whole.reasoning
    assert [c for chunk in chunks for c in chunk.citations] == list(whole.citations)
    begun = next(number for number, chunk in enumerate(chunks) if chunk.text)
    assert not any(chunk.reasoning for chunk in chunks[begun + 1 :])


def test_no_passage_speaks_while_the_model_reasons() -> None:
    """The passage begins as the reasoning does; copying would say the passage's words."""
    output = engine(f"<think>Helium is{' heavy' * 3}</think>Yes").generate(
        "What of helium? ",
        passages=[Passage("Helium is light and Helium is rare.")],
        config=WORD_BY_WORD.replace(delta=1.0),
    )
    assert output.reasoning == "Helium is heavy heavy heavy"
    assert "Helium" in output.text or "elium is light" in output.text


def test_a_template_may_open_the_reasoning() -> None:
    output = engine(f"{THOUGHT}</think>{ANSWER}").generate(
        "Say: <think>\n", passages=[PASSAGE], method="lossless"
    )
    assert (output.text, output.reasoning) == (ANSWER, THOUGHT)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mark", ["</think>", "\n</think>\n\n", "[/THINK]"])
def test_reasoning_that_nothing_has_opened_is_no_part_of_a_whole_answer(
    method: str, mark: str
) -> None:
    settings = {"passages": [PASSAGE], "method": method, "max_new_tokens": 200}
    output = engine(f"{THOUGHT}{mark}{ANSWER}").generate("What of helium? ", **settings)
    if method in ("lm", "lossless"):
        assert (output.text, output.reasoning) == (ANSWER, THOUGHT)
    assert_cited_exactly(output)
    *_, last = engine(f"{THOUGHT}{mark}{ANSWER}").stream("What of helium? ", **settings)
    assert (last.output.text, last.output.citations) == (output.text, output.citations)


@pytest.mark.parametrize(
    "said", ["Write `</think>` at its end.", "Between <think> and </think> it reasons."]
)
def test_an_answer_about_marks_is_an_answer(said: str) -> None:
    output = engine(said).generate("What of helium? ", passages=[], method="lm")
    assert (output.text, output.reasoning) == (said, "")


def test_reasoning_without_an_end_is_said() -> None:
    output = engine().generate("What of helium? ", passages=[PASSAGE], max_new_tokens=20)
    assert (output.text, output.citations, output.finish_reason) == ("", (), "length")
    assert THOUGHT.startswith(output.reasoning)
    assert "still reasoning after 20 tokens" in output.notices[0]


def test_stop_strings_stop_the_answer_alone() -> None:
    output = engine().generate(
        "What of helium? ", passages=[PASSAGE], stop=["noble"], max_new_tokens=200
    )
    assert (output.text, output.reasoning) == ("Helium is a ", THOUGHT)
    output = engine().generate("What of helium? ", passages=[], stop=["Helium"], max_new_tokens=200)
    assert (output.text, output.reasoning) == ("", THOUGHT)
    assert output.token_ids == tuple(SAID[: SAID.index(ANSWER)].encode())


@pytest.mark.parametrize(
    ("text", "has_begun", "expected"),
    [
        ("", False, ("", False, None)),
        (" \n", False, ("", False, None)),
        ("<thi", False, ("", True, None)),
        ("<this>", False, ("", False, 0)),
        (" Helium", False, ("", False, 0)),
        ("<think>a", False, ("a", True, None)),
        (" <think> a </thi", False, ("a", True, None)),
        ("<think>a</think>", False, ("a", False, None)),
        ("<think>a</think>\n\n", False, ("a", False, None)),
        ("<think>a</think>\n\nb", False, ("a", False, 18)),
        ("a</think>b", True, ("a", False, 9)),
        ("<think>a</think>b", True, ("a", False, 16)),
        ("", True, ("", True, None)),
        ("<thi", True, ("", True, None)),
        ("</think>\n\nb", False, ("", False, 10)),
        ("<think>a</think>\n<think>b</think> c", False, ("a\n\nb", False, 34)),
    ],
)
def test_where_reasoning_ends(text: str, has_begun: bool, expected: tuple) -> None:
    reasoning = Reasoning(has_begun=has_begun)
    reasoning.read(text, is_final=False)
    assert (reasoning.text, reasoning.is_open, reasoning.end) == expected
    by_character = Reasoning(has_begun=has_begun)
    for end in range(len(text) + 1):
        by_character.read(text[:end], is_final=False)
    assert (by_character.text, by_character.is_open, by_character.end) == expected
    by_character.read(text, is_final=True)
    assert by_character.end is not None


@pytest.mark.parametrize(
    "said",
    [
        "<Think>hm</Think>Helium.",
        "<thinking>hm</thinking>Helium.",
        "<thought>hm</thought>\nHelium.",
        "<reasoning>hm</reasoning>Helium.",
        "<seed:think>hm</seed:think>Helium.",
        "[THINK]hm[/THINK]Helium.",
        "◁think▷hm◁/think▷Helium.",
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Helium.",
        "<|channel|>analysis<|message|>hm<|start|>assistant<|channel|>final<|message|>Helium.",
    ],
)
def test_reasoning_has_many_marks(said: str) -> None:
    whole = engine(said).generate("What of helium? ", passages=[], method="lm")
    assert (whole.text, whole.reasoning) == ("Helium.", "hm")
    chunks = list(engine(said).stream("What of helium? ", passages=[], method="lm"))
    assert "".join(chunk.text for chunk in chunks) == "Helium."
    assert "".join(chunk.reasoning for chunk in chunks) == "hm"


def test_an_answer_without_reasoning_has_no_mark_either() -> None:
    output = engine("<|channel|>final<|message|>Helium.").generate("What? ", passages=[])
    assert (output.text, output.reasoning) == ("Helium.", "")


def test_marks_that_are_special_tokens_are_read() -> None:
    owner = copy.deepcopy(tiny_tokenizer())
    marks = ["<|channel|>", "<|message|>", "<|start|>", "<|end|>", "[THINK]", "[/THINK]"]
    owner.add_special_tokens({"additional_special_tokens": marks})
    tokenizer = TextTokenizer(owner)
    for said in (
        "[THINK]a[/THINK]b",
        "<|channel|>analysis<|message|>a<|start|>assistant<|channel|>final<|message|>b",
    ):
        reasoning = Reasoning(has_begun=False)
        ids = tokenizer.encode_prompt(said).token_ids
        text = tokenizer.decode(ids)
        reasoning.read(text, is_final=True)
        assert (reasoning.text.strip(), text[reasoning.end :].strip()) == ("a", "b")
        assert ids[0] in tokenizer.reasoning_ids
    hidden = tokenizer.encode_prompt("<|end|>").token_ids
    assert tokenizer.decode(hidden) == ""


def test_an_answer_that_ends_as_a_mark_begins_is_an_answer() -> None:
    output = engine("<thin").generate("What of helium? ", passages=[])
    assert (output.text, output.reasoning) == ("<thin", "")
