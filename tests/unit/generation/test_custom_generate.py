"""``model.generate(custom_generate=engine.as_custom_generate())`` keeps transformers' promises."""

from __future__ import annotations

import pytest
import torch

from nest_engine import ConfigError, NestEngine, Passage
from tests.tiny_models import tiny_model, tiny_tokenizer

PASSAGES = [
    Passage("A planet is a body that moves around a star."),
    Passage("Neon is a gas. Iron is a metal."),
]
PROMPTS = ["A planet", "Question: What is a river? Answer: The"]


@pytest.fixture(scope="module")
def engine():
    return NestEngine(tiny_model("llama"), tiny_tokenizer())


def padded_inputs():
    return tiny_tokenizer()(PROMPTS, return_tensors="pt", padding=True, padding_side="left")


@pytest.mark.parametrize(
    "settings",
    [
        {"do_sample": False},
        {"do_sample": False, "repetition_penalty": 1.4},
        {"do_sample": False, "no_repeat_ngram_size": 2},
        {"do_sample": False, "bad_words_ids": [[20], [30, 31]], "min_new_tokens": 5},
    ],
)
@pytest.mark.parametrize("method", ["lm", "lossless"])
def test_greedy_equals_generate_with_padding_and_processors(engine, method, settings):
    model, inputs = engine.language_model.model, padded_inputs()
    expected = model.generate(**inputs, max_new_tokens=40, **settings)
    text = tiny_tokenizer().decode(expected[0, inputs["input_ids"].shape[1] :][:20])
    method_ = engine.as_custom_generate([*PASSAGES, Passage("A planet" + text)], method=method)
    found = model.generate(**inputs, max_new_tokens=40, custom_generate=method_, **settings)
    assert torch.equal(found, expected)


def test_sampling_equals_generate_under_the_same_seed(engine):
    model = engine.language_model.model
    inputs = tiny_tokenizer()(PROMPTS[0], return_tensors="pt")
    settings = {
        "do_sample": True,
        "temperature": 0.8,
        "top_k": 30,
        "top_p": 0.9,
        "max_new_tokens": 30,
    }
    torch.manual_seed(11)
    expected = model.generate(**inputs, **settings)
    found = model.generate(
        **inputs, **settings, custom_generate=engine.as_custom_generate(method="lm", seed=11)
    )
    assert torch.equal(found, expected)


def test_stopping_criteria_cut_inside_a_draft(engine):
    model, tokenizer = engine.language_model.model, tiny_tokenizer()
    inputs = tokenizer(PROMPTS[0], return_tensors="pt")
    greedy = model.generate(**inputs, max_new_tokens=40)
    said = greedy[0, inputs["input_ids"].shape[1] :]

    def after_seven_tokens(input_ids, scores, **kwargs):
        return torch.tensor([input_ids.shape[1] >= inputs["input_ids"].shape[1] + 7])

    method = engine.as_custom_generate(
        [Passage("A planet" + tokenizer.decode(said))], method="lossless"
    )
    output = model.generate(
        **inputs,
        max_new_tokens=40,
        custom_generate=method,
        stopping_criteria=[after_seven_tokens],
        return_dict_in_generate=True,
    )
    assert torch.equal(output.sequences, greedy[:, : inputs["input_ids"].shape[1] + 7])
    assert output.outputs[0].stats.accepted_tokens > 1


def test_citations_come_with_the_dict(engine):
    model, inputs = engine.language_model.model, padded_inputs()
    output = model.generate(
        **inputs,
        max_new_tokens=40,
        return_dict_in_generate=True,
        custom_generate=engine.as_custom_generate(
            PASSAGES, by_sentence=False, plausibility=0.0, delta=1.0, gamma=0.0, alpha=3.0
        ),
    )
    width = inputs["input_ids"].shape[1]
    assert any(output.citations)
    for row, citations in zip(output.sequences, output.citations, strict=True):
        answer = tiny_tokenizer().decode(row[width:], skip_special_tokens=True)
        for citation in citations:
            assert answer[citation.answer_start : citation.answer_end] == citation.cited_text


def test_passages_in_the_prompt_are_not_read_again(engine):
    model, tokenizer = engine.language_model.model, tiny_tokenizer()
    inputs = tokenizer(f"{PASSAGES[0].text} What is a planet?", return_tensors="pt")
    output = model.generate(
        **inputs,
        max_new_tokens=10,
        return_dict_in_generate=True,
        custom_generate=engine.as_custom_generate(PASSAGES[:1], method="ra-nest"),
    )
    assert output.outputs[0].stats.encoded_passages == 0


def test_what_cannot_be_done_says_so(engine):
    method = engine.as_custom_generate(PASSAGES)
    inputs = tiny_tokenizer()(PROMPTS[0], return_tensors="pt")
    with pytest.raises(ConfigError, match="belongs to another model"):
        tiny_model("llama").generate(**inputs, custom_generate=method, max_new_tokens=2)
    with pytest.raises(ConfigError, match="num_beams=2"):
        engine.language_model.model.generate(
            **inputs, custom_generate=method, max_new_tokens=2, num_beams=2
        )
