"""Accounting of the loop: forwards, steps, and what the cache holds."""

from __future__ import annotations

import pytest

from nest_engine import NestEngine, Passage
from nest_engine.config import METHODS
from nest_engine.decoding.decoder import Decoder
from nest_engine.models.huggingface import HuggingFaceLanguageModel
from nest_engine.testing import ScriptedLanguageModel
from tests.settings import WORD_BY_WORD
from tests.tiny_models import tiny_model, tiny_tokenizer

PASSAGES = [
    Passage(
        "The river flows from the mountains to the sea. Copper is a metal that conducts heat.",
        title="River",
    ),
    Passage(
        "A planet is a body that moves around a star, and the sea gives the rain back to the "
        "mountains."
    ),
]
PROMPT = "Question: What is a river? Answer: The"


def count_forwards(monkeypatch, model) -> list[int]:
    """Count the calls of a model's forward that go through the language-model head."""
    widths, forward = [], model.forward

    def counted(input_ids, *args, **kwargs):
        widths.append(input_ids.shape[1])
        return forward(input_ids, *args, **kwargs)

    monkeypatch.setattr(model, "forward", counted)
    return widths


@pytest.mark.parametrize("method", METHODS)
def test_one_forward_per_step(monkeypatch, method):
    model = tiny_model("llama")
    engine = NestEngine(HuggingFaceLanguageModel(model, tiny_tokenizer(), prompt_cache=0))
    config = WORD_BY_WORD.replace(
        method=method, max_new_tokens=40, k=16, alpha=0.8, delta=0.9, gamma=0.05
    )
    assert engine.language_model.forward_cost  # measured by forwards of its own, once
    widths = count_forwards(monkeypatch, model)
    output = engine.generate(PROMPT, passages=PASSAGES, config=config)
    assert len(widths) == output.stats.lm_forwards
    # The prompt's forward comes on top; the last step saves one when its token ends the answer.
    assert output.stats.lm_forwards in (output.stats.steps, output.stats.steps + 1)
    assert (
        sum(widths[1:])
        <= config.max_new_tokens + output.stats.drafted_tokens - output.stats.accepted_tokens
    )
    if method in ("lm", "ra", "knn-lm"):
        assert output.stats.lm_forwards == output.stats.completion_tokens
    elif method != "lossless":  # a random model agrees with no passage
        assert output.stats.lm_forwards < output.stats.completion_tokens


@pytest.mark.parametrize("method", ["nest", "knn-lm", "ra-nest", "lossless"])
def test_cache_holds_exactly_the_accepted_tokens(monkeypatch, method):
    engine = NestEngine(tiny_model("llama"), tiny_tokenizer())
    step, num_checked, num_rejected = Decoder.step, 0, 0

    def checked_step(decoder):
        nonlocal num_checked, num_rejected
        before = [sequence.stats() for sequence in decoder._sequences]
        step(decoder)
        unfinished = [sequence for sequence in decoder._sequences if sequence.finish_reason is None]
        lengths = decoder._session.lengths
        for sequence, length in zip(decoder._sequences, lengths, strict=True):
            if sequence in unfinished:
                assert length == sequence.num_tokens
                num_checked += 1
        if len(before) == len(decoder._sequences):
            for old, sequence in zip(before, decoder._sequences, strict=True):
                new = sequence.stats()
                drafted, accepted = (
                    new.drafted_tokens - old.drafted_tokens,
                    new.accepted_tokens - old.accepted_tokens,
                )
                num_rejected += drafted > accepted

    monkeypatch.setattr(Decoder, "step", checked_step)
    config = WORD_BY_WORD.replace(
        method=method, max_new_tokens=40, k=16, alpha=0.8, delta=0.9, gamma=0.05
    )
    engine.generate_batch([PROMPT, "A planet"], passages=[PASSAGES, PASSAGES], config=config)
    assert num_checked > 10
    assert num_rejected > 0 or method == "knn-lm", "no draft was cut, so nothing was truncated"


def test_finished_rows_leave_the_forward(monkeypatch):
    """A row that ends early costs nothing afterwards."""
    rows = []
    extend = Decoder._extend
    monkeypatch.setattr(
        Decoder, "_extend", lambda self, drafts: (rows.append(len(drafts)), extend(self, drafts))[1]
    )
    model = ScriptedLanguageModel(
        lambda said: 256 if said.endswith(b"!") else ord("!") if b"short" in said else 97
    )
    engine = NestEngine(model)
    outputs = engine.generate_batch(["short", "long"], method="lm", max_new_tokens=12)
    assert [output.text for output in outputs] == ["!", "a" * 12]
    assert rows == [2] + [1] * 10


def test_a_copied_sentence_is_not_copied_again():
    passage = Passage("round and round it goes.")
    model = ScriptedLanguageModel("round and round it goes. " * 3)
    engine = NestEngine(model, config=WORD_BY_WORD)
    masked = engine.generate("x", passages=[passage], max_new_tokens=75)
    sources = [source for source in masked.provenance if source]
    assert len(sources) == len(set(sources)), "an entry was copied twice"
    repeated = engine.generate("x", passages=[passage], max_new_tokens=75, mask_copied=False)
    sources = [source for source in repeated.provenance if source]
    assert len(sources) > len(set(sources))


def test_a_wholly_accepted_draft_goes_on_with_its_passage():
    """With drafts of four tokens, a copied sentence takes a forward for each four."""
    text = "one long sentence that is copied from beginning to end"
    model = ScriptedLanguageModel(text)
    output = NestEngine(model).generate(
        "x", passages=[Passage(text)], method="lossless", max_draft_tokens=4
    )
    assert output.text == text
    assert output.stats.lm_forwards <= 1 + len(text) // 4 + 3
