"""Drafts as long as they pay."""

from __future__ import annotations

import pytest

from nest_engine import NestConfig, NestEngine, Passage
from nest_engine.decoding.draft_length import AdaptiveDraftLength, FixedDraftLength
from nest_engine.models import forward_time, huggingface
from nest_engine.testing import ScriptedLanguageModel
from tests.tiny_models import tiny_model, tiny_tokenizer


def rate(length: int, first: float, later: float, cost: float) -> float:
    """Return expected tokens for the time of a forward over two tokens."""
    return (1 + first * sum(later**i for i in range(length - 1))) / (1 + cost * (length - 2))


@pytest.mark.parametrize("cost", [0.001, 0.02, 0.1, 0.2])
@pytest.mark.parametrize("continues", [False, True])
@pytest.mark.parametrize("accepted", [1, 2, 3, 9, 63])
def test_limit_is_the_best_of_all_lengths(accepted, continues, cost):
    length = AdaptiveDraftLength(64, cost)
    for _ in range(300):  # so often that the prior is forgotten; every other draft fails at once
        length.observe(64, accepted + 1, continues=False)
        length.observe(64, 1, continues=False)
    tested = accepted - 1 + (accepted < 63)
    later = (accepted - 1) / tested if tested else 18 / 20
    first = later if continues else 9 / 19  # the latest counts most, and it failed
    found = length.limit(continues=continues)
    best = max(rate(n, first, later, cost) for n in range(2, 65))
    assert rate(found, first, later, cost) == pytest.approx(best, rel=1e-6)


def test_acceptance_lengthens_and_rejection_shortens():
    length = AdaptiveDraftLength(64, 0.05)
    start = length.limit(continues=False)
    for _ in range(3):
        length.observe(start, start, continues=False)
    grown = length.limit(continues=False)
    for _ in range(60):
        length.observe(grown, 2, continues=False)
    assert length.limit(continues=False) < start < grown
    assert length.limit(continues=True) == 2, (
        "a draft of one token tests nothing, so nothing could be learnt any more"
    )


def test_what_went_on_so_far_goes_on():
    """Half of the new places fail at once: that says nothing about a copy that stands for long."""
    length = AdaptiveDraftLength(64, 0.05)
    for _ in range(20):
        length.observe(30, 1, continues=False)
        length.observe(30, 30, continues=True)
    assert length.limit(continues=True) > 2 * length.limit(continues=False)


def test_fixed_length_stays():
    length = FixedDraftLength(64)
    length.observe(64, 1, continues=False)
    assert length.limit(continues=False) == length.limit(continues=True) == 64


def test_lossless_text_does_not_depend_on_the_length():
    text = "A sentence that is copied in parts, and one that is not."
    passages = [
        Passage("A sentence that is copied in parts, but others are"),
        Passage("and one that is not. Or?"),
    ]
    answers = [
        NestEngine(ScriptedLanguageModel(text)).generate(
            "x", passages=passages, method="lossless", **settings
        )
        for settings in (
            {},
            {"adaptive_draft": False},
            {"max_draft_tokens": 2},
            {"max_draft_tokens": 1},
        )
    ]
    assert {answer.text for answer in answers} == {text}
    assert all(answer.citations for answer in answers)
    assert (
        answers[0].stats.lm_forwards < answers[2].stats.lm_forwards < answers[3].stats.lm_forwards
    )
    assert NestConfig.lossless().adaptive_draft
    assert not NestConfig().adaptive_draft


@pytest.mark.parametrize("context", [33, 40, 256])
def test_cost_is_measured_once_and_within_bounds(monkeypatch, tmp_path, context):
    monkeypatch.setattr(huggingface, "marginal_token_cost", forward_time.marginal_token_cost)
    monkeypatch.setenv("NEST_CACHE", str(tmp_path))
    model = tiny_model("llama", max_position_embeddings=context)
    engine = NestEngine(model, tiny_tokenizer())
    cost = engine.language_model.marginal_token_cost
    assert 0.001 <= cost <= 0.2
    assert engine.language_model.marginal_token_cost is cost
    # Another start of the same model drafts alike.
    monkeypatch.setattr(forward_time, "_seconds", lambda *_: pytest.fail("measured again"))
    assert NestEngine(model, tiny_tokenizer()).language_model.marginal_token_cost == cost
    assert len(list(tmp_path.rglob("*.json"))) == len(list(tmp_path.rglob("*.*"))) == 1


@pytest.mark.parametrize("kept", ["", "[]", "{}", '{"marginal_token_cost": "much"}'])
def test_what_was_kept_may_be_spoilt_or_not_be_kept_at_all(monkeypatch, tmp_path, kept):
    monkeypatch.setenv("NEST_CACHE", str(tmp_path))
    lm = NestEngine(tiny_model("llama"), tiny_tokenizer()).language_model
    forward_time.marginal_token_cost(lm)
    [file] = tmp_path.rglob("*.json")
    file.write_text(kept)
    monkeypatch.setattr(forward_time, "_measured", lambda _: 0.125)
    assert forward_time.marginal_token_cost(lm) == 0.125
    assert forward_time.marginal_token_cost(lm) == 0.125
    (tmp_path / "file").touch()
    monkeypatch.setenv("NEST_CACHE", str(tmp_path / "file"))  # where no folder can be made
    assert forward_time.marginal_token_cost(lm) == 0.125
