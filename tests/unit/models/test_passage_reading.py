"""The keys of passages: those of a session, in windows where a passage is long."""

from __future__ import annotations

import pytest
import torch

from nest_engine import Passage
from nest_engine.interfaces import TokenizedPassage
from nest_engine.models.huggingface import HuggingFaceLanguageModel
from tests.tiny_models import EVERY, tiny_model, tiny_tokenizer
from tests.unit.models.tiny_language_models import language_model


@pytest.mark.parametrize("key_layer", ["ffn_input", "penultimate"])
@pytest.mark.parametrize("name", EVERY)
def test_keys_are_the_hidden_states_of_a_session(name, key_layer):
    """A passage read by itself, batched with others, has the hidden states of the same prompt."""
    lm = HuggingFaceLanguageModel(tiny_model(name), tiny_tokenizer(), key_layer=key_layer)
    passages = [
        lm.tokenizer.encode_passage(
            Passage("Neon is a gas. Iron is a metal that conducts heat.", title="Metals")
        ),
        lm.tokenizer.encode_passage(Passage("A moon")),
    ]
    for passage, keys_TD in zip(passages, lm.encode(passages), strict=True):
        _, [prefill] = lm.prefill([passage.context_ids + passage.token_ids])
        first = len(passage.context_ids) - 1
        torch.testing.assert_close(keys_TD, prefill.hidden_TD[first:-1], rtol=1e-4, atol=1e-4)


def test_a_passage_without_context_has_no_key_for_its_first_token():
    lm = language_model()
    assert [
        len(keys) for keys in lm.encode([TokenizedPassage((), (5, 6, 7), (0, 1, 2), (1, 2, 3))])
    ] == [2]
    assert [len(keys) for keys in lm.encode([TokenizedPassage((), (5,), (0,), (1,))])] == [0]
    assert [len(keys) for keys in lm.encode([TokenizedPassage((), (), (), ())])] == [0]


def test_a_passage_longer_than_the_context_is_read_in_windows():
    lm = language_model(max_position_embeddings=32)
    tokens = tuple(range(5, 5 + 150))
    passage = TokenizedPassage((0,), tokens, tuple(range(150)), tuple(range(1, 151)))
    [keys_TD] = lm.encode([passage])
    assert len(keys_TD) == 150
    everything = (0, *tokens)
    for position in (0, 10, 30, 32, 46, 48, 100, 142):
        # Windows of 32 tokens begin every 16; each gives the keys of its second half, the first all
        # of its own.
        start = 0 if position < 32 else (position - 16) // 16 * 16
        _, [prefill] = lm.prefill([everything[start : position + 1]])
        torch.testing.assert_close(keys_TD[position], prefill.hidden_TD[-1], rtol=1e-4, atol=1e-4)
