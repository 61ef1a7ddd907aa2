"""Drafts as long as they pay."""

from __future__ import annotations

import pytest

from nest_engine import NestConfig, NestEngine, Passage
from nest_engine.draft_length import AdaptiveDraftLength, FixedDraftLength
from nest_engine.testing import ScriptedLanguageModel
from tests.tiny_models import tiny_model, tiny_tokenizer


def rate(length: int, acceptance: float, cost: float) -> float:
    """Return expected tokens for the time of a forward over one token."""
    return sum(acceptance**i for i in range(length)) / (1 + cost * (length - 1))


@pytest.mark.parametrize("cost", [0.001, 0.02, 0.1, 0.2])
@pytest.mark.parametrize("accepted", [0, 1, 3, 9, 63])
def test_limit_is_the_best_of_all_lengths(accepted, cost):
    length = AdaptiveDraftLength(64, cost)
    for _ in range(200):  # so often that the prior is forgotten
        length.observe(64, accepted + 1)
    acceptance = accepted / (accepted + 1) if accepted < 63 else 1.0
    best = max(rate(n, acceptance, cost) for n in range(2, 65))
    assert rate(length.limit, acceptance, cost) == pytest.approx(best, rel=1e-6)


def test_acceptance_lengthens_and_rejection_shortens():
    length = AdaptiveDraftLength(64, 0.05)
    start = length.limit
    for _ in range(3):
        length.observe(length.limit, length.limit)
    grown = length.limit
    for _ in range(60):
        length.observe(length.limit, 1)
    assert length.limit < start < grown
    assert length.limit == 2, "a draft of one token tests nothing, so nothing could be learnt any more"


def test_fixed_length_stays():
    length = FixedDraftLength(64)
    length.observe(64, 1)
    assert length.limit == 64


def test_lossless_text_does_not_depend_on_the_length():
    text = "A sentence that is copied in parts, and one that is not."
    passages = [Passage("A sentence that is copied in parts, but others are"), Passage("and one that is not. Or?")]
    answers = [
        NestEngine(ScriptedLanguageModel(text)).generate("x", passages=passages, method="lossless", **settings)
        for settings in ({}, {"adaptive_draft": False}, {"max_draft_tokens": 2}, {"max_draft_tokens": 1})
    ]
    assert {answer.text for answer in answers} == {text}
    assert all(answer.citations for answer in answers)
    assert answers[0].stats.lm_forwards < answers[2].stats.lm_forwards < answers[3].stats.lm_forwards
    assert NestConfig.lossless().adaptive_draft
    assert not NestConfig().adaptive_draft


def test_cost_is_measured_once_and_within_bounds():
    engine = NestEngine(tiny_model("llama", max_position_embeddings=40), tiny_tokenizer())
    cost = engine.language_model.marginal_token_cost
    assert 0.001 <= cost <= 0.2
    assert engine.language_model.marginal_token_cost is cost
