"""Passages in the prompt: finding them, placing them, and the tokens that stand for them."""

from __future__ import annotations

import re

import pytest

from nest_engine import InputError, NestEngine, Passage
from nest_engine.generation.prompts import (
    LocatedPassage,
    locate,
    passage_in_prompt,
    place,
    question_in,
    question_start,
)
from nest_engine.models.tokenization import TextTokenizer
from nest_engine.testing import ByteTokenizer, ScriptedLanguageModel
from tests.tiny_models import tiny_tokenizer

RIVER = Passage("The river flows from the mountains to the sea.", title="River")
PLANET = Passage("A planet is a body that moves around a star.")
QUESTION = "Question: What is a river? Answer:"


def found(prompt: str, *passages: Passage) -> list[tuple[int, str]]:
    return [(at.number, prompt[at.start : at.end]) for at in locate(prompt, passages)]


def test_passages_are_found_in_the_order_of_the_prompt():
    prompt = f"{PLANET.text}\n{RIVER.text}\n{QUESTION}"
    assert found(prompt, RIVER, Passage("absent " * 9), PLANET) == [
        (2, PLANET.text),
        (0, RIVER.text),
    ]


def test_short_texts_are_not_looked_for():
    assert found("a river " + RIVER.text, Passage("a river"), Passage("")) == []


def test_overlapping_passages_keep_the_first():
    later = Passage(RIVER.text[10:] + " And then it rests in the deep blue.")
    prompt = RIVER.text + " And then it rests in the deep blue."
    assert found(prompt, RIVER, later) == [(0, RIVER.text)]
    assert found(prompt, later, RIVER) == [(0, later.text)]
    assert found(prompt, RIVER, RIVER) == [(0, RIVER.text)]


def test_adjacent_passages_are_both_found():
    assert found(RIVER.text + PLANET.text, RIVER, PLANET) == [(0, RIVER.text), (1, PLANET.text)]


def test_place():
    prompt, located = place(
        "<chat>" + QUESTION, [RIVER, PLANET], at=6, background="Read {passages} now. "
    )
    assert prompt == f"<chat>Read River. {RIVER.text}\n\n{PLANET.text} now. {QUESTION}"
    assert [prompt[at.start : at.end] for at in located] == [RIVER.text, PLANET.text]
    assert [prompt[at.untrusted_start : at.end] for at in located] == [
        f"River. {RIVER.text}",
        PLANET.text,
    ]


def test_braces_in_passages_are_text():
    prompt, located = place("", [Passage("{passages} {0}")], at=0)
    assert prompt == "Background: {passages} {0}\n\n"
    assert prompt[located[0].start : located[0].end] == "{passages} {0}"


@pytest.mark.parametrize("background", ["Background:", "{passages} and {passages}"])
def test_a_background_has_one_place_for_passages(background):
    with pytest.raises(InputError, match="exactly once"):
        NestEngine(ScriptedLanguageModel(), background=background)


def test_background_stands_before_everything_or_before_the_question_of_a_chat():
    chat = f"<user>{QUESTION} {QUESTION}<model>"
    control = [(0, len("<user>")), (chat.index("<model>"), len(chat))]
    assert question_start(chat, QUESTION, []) == 0
    assert question_start(chat, QUESTION, control[:1]) == len("<user>"), (
        "behind a start-of-text string"
    )
    assert question_start(chat, QUESTION, control) == chat.rindex(QUESTION)
    # A question in other words than the prompt's belongs to the last turn.
    assert question_start(chat, "Who?", control) == chat.index(QUESTION)
    for query in (None, ""):
        with pytest.raises(
            InputError, match=r"does not stand in the chat prompt.*give the question as query="
        ):
            question_start(chat, query, control)


def inside(tokenizer, prompt: str, text: str):
    start = prompt.index(text)
    located = LocatedPassage(0, start, start + len(text), start)
    encoded = tokenizer.encode_prompt(prompt)
    first, tokens = passage_in_prompt(encoded, located, prompt)
    assert tokens.token_ids == encoded.token_ids[first : first + len(tokens.token_ids)]
    return tokens


def test_byte_tokens_of_a_passage_in_the_prompt():
    tokens = inside(ByteTokenizer(), "é: añ🌙b.", "añ🌙b")
    assert bytes(tokens.token_ids).decode() == "añ🌙b"
    assert tokens.starts == (0, 1, 1, 2, 2, 2, 2, 3)
    assert tokens.ends == (1, 2, 2, 3, 3, 3, 3, 4)


@pytest.mark.parametrize("before", ["", "\n", "Background: ", "(", "xé"])
@pytest.mark.parametrize("text", [RIVER.text, " river 🌙 sea", "iver flows né"])
@pytest.mark.parametrize("after", ["", " More.", "s", "é"])
def test_bpe_tokens_of_a_passage_in_the_prompt(before, text, after):
    tokenizer = TextTokenizer(tiny_tokenizer())
    tokens = inside(tokenizer, before + text + after, text)
    assert tokens.starts[0] == 0
    # a last word may be merged with what follows
    assert len(text) - 3 <= tokens.ends[-1] <= len(text)
    assert [*tokens.starts] == sorted(tokens.starts)
    for token, start, end in zip(tokens.token_ids, tokens.starts, tokens.ends, strict=True):
        piece = tokenizer.decode([token])
        assert piece.lstrip(" \n") == text[start:end].lstrip(" ") or "\ufffd" in piece


def test_a_token_that_reaches_outside_is_left_out():
    tokenizer = TextTokenizer(tiny_tokenizer())
    whole = tokenizer.decode([tokenizer.encode_prompt("a mountains").token_ids[-1]])
    assert whole == " mountains", "the test needs a long token"
    tokens = inside(tokenizer, "a mountains", "tains")
    assert tokens.token_ids == ()
    assert inside(tokenizer, "a mountains", "mountains").starts == (0,)


_STUFFED = "Janssen discovered helium in 1868. Is it light?"


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("Who found helium? I forgot.", "Who found helium? I forgot."),  # no prompt: as it is
        ("Helium: who found it", "Helium: who found it"),
        ("Question: Tell me about helium.\nAnswer:", "Tell me about helium."),
        (
            f"Be brief.\nQuestion: who found helium\nContext: {_STUFFED}\nAnswer:",
            "who found helium",
        ),
        (f"Clear?\n---\n{_STUFFED}\n---\nQuery: Who found it?\nAnswer: ", "Who found it?"),
        (f"Context:\n{_STUFFED}\n\nHuman: Hello! How are you?\nAI:", "How are you?"),
        (f"{_STUFFED}\n\nwho found helium", "who found helium"),
        (f"根据上下文回答。\n{_STUFFED}\n问题:谁发现了氦?\n回答:", "谁发现了氦?"),
        (_STUFFED, _STUFFED),
        (f"Sum up the following:\n\n{_STUFFED}\n\nSUMMARY:", "Sum up the following:\nSUMMARY:"),
        (f"Summarize: {_STUFFED}", "Summarize:"),
    ],
)
def test_what_a_chains_prompt_asks(text: str, asked: str) -> None:
    assert question_in(text, [Passage(_STUFFED)]) == asked


LONG_TITLE = "Science Fiction and Fantasy Writers of America"


@pytest.mark.parametrize(
    "text",
    [
        f"Tell me about {LONG_TITLE}.",
        f"{LONG_TITLE}\n{_STUFFED}\n\nTell me about {LONG_TITLE}.",
        f"Context:\n{LONG_TITLE}\n{_STUFFED}\n\nQuestion: Tell me about {LONG_TITLE}.\nAnswer:",
    ],
)
def test_a_title_in_a_question_is_part_of_it_and_one_above_its_passage_is_not(text: str) -> None:
    asked = question_in(text, [Passage(_STUFFED, title=LONG_TITLE)])
    assert asked == f"Tell me about {LONG_TITLE}."


def test_who_asks_by_a_title_alone_asks_that() -> None:
    text = f"{_STUFFED}\n\n{LONG_TITLE}"
    assert question_in(text, [Passage(_STUFFED, title=LONG_TITLE)]) == LONG_TITLE


def test_control_strings_are_not_asked() -> None:
    text = "<s>user\nWho found helium?</s><s>assistant\n"
    marks = [(m.start(), m.end()) for m in re.finditer("</?s>", text)]
    assert question_in(text, [], marks) == "Who found helium?"


GAS = "Helium is a colourless gas that is lighter than air."
CHAT = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\nWho are you?<|im_end|>\n<|im_start|>assistant\nA model.<|im_end|>\n"
    "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ("Tell me about helium.", "Tell me about helium."),
        (
            f"{GAS}\n\nTell me about helium.",
            "Tell me about helium.",
        ),
        (
            f"{GAS}\nIs it light? Say why.",
            "Is it light?",
        ),
        (
            "Helium is a colourless gas that is lighter than air.",
            "Who are you?",
        ),  # a turn of nothing but passages asks nothing
        (f"Context:\n{GAS}", "Who are you?"),
    ],
)
def test_what_the_last_turn_of_a_chat_asks(said: str, asked: str) -> None:
    prompt = CHAT.format(said)
    control = [match.span() for match in re.finditer(r"<\|im_(?:start|end)\|>", prompt)]
    found = question_in(prompt, [Passage(GAS)], control)
    assert found == asked


def test_a_chat_of_one_turn_may_ask_by_a_label() -> None:
    prompt = f"<s>system\nWrite a summary of the following:\n\n{GAS}</s>\n<s>assistant\n"
    control = [match.span() for match in re.finditer(r"</?s>", prompt)]
    assert question_in(prompt, [Passage(GAS)], control) == "Write a summary of the following:"
