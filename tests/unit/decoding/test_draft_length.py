"""Drafts as long as they pay."""

from __future__ import annotations

import pytest

from nest_engine import DecodeStats, NestConfig, NestEngine, Passage
from nest_engine.decoding.draft_length import AdaptiveDraftLength, FixedDraftLength
from nest_engine.interfaces import ForwardCost
from nest_engine.models import forward_time
from nest_engine.models.forward_time import forward_cost  # before any test replaces it
from nest_engine.testing import ScriptedLanguageModel
from tests.tiny_models import tiny_model, tiny_tokenizer

NEW, LONG = 1, 8  # tokens that agree


def rate(length: int, first: float, later: float, cost: ForwardCost) -> float:
    """Return expected tokens for the time of a forward over one."""
    if length == 1:
        return 1.0
    expected = 1 + first * sum(later**i for i in range(length - 1))
    return expected / (cost.two * (1 + cost.more * (length - 2)))


@pytest.mark.parametrize("two", [1.0, 1.5, 2.0])
@pytest.mark.parametrize("more", [0.001, 0.02, 0.1, 0.2])
@pytest.mark.parametrize("accepted", [1, 2, 3, 9, 63])
def test_limit_is_the_best_of_all_lengths(accepted, more, two):
    cost = ForwardCost(two, more)
    length = AdaptiveDraftLength(64, cost)
    for _ in range(300):  # so often that the prior is forgotten; every other draft fails at once
        length.observe(64, accepted + 1, NEW)
        length.observe(64, 1, NEW)
    tested = accepted - 1 + (accepted < 63)
    later = (accepted - 1) / tested if tested else 7 / 10
    first = 9 / 19  # the latest counts most, and it failed
    found = length.limit(NEW)
    best = max(rate(n, first, later, cost) for n in range(1, 65))
    assert rate(found, first, later, cost) == pytest.approx(best, rel=1e-6)


def test_acceptance_lengthens_and_rejection_shortens():
    length = AdaptiveDraftLength(64, ForwardCost(1.0, 0.05))
    start = length.limit(NEW)
    for _ in range(3):
        length.observe(start, start, NEW)
    grown = length.limit(NEW)
    for _ in range(60):
        length.observe(grown, 2, NEW)
    assert length.limit(NEW) < start < grown
    assert length.limit(LONG) < start, "what follows the first token is the same for all"


def test_places_are_told_apart_by_what_agrees():
    """Half of the new places fail at once: that says nothing about a copy that stands for long."""
    length = AdaptiveDraftLength(64, ForwardCost(1.5, 0.05))
    for _ in range(20):
        length.observe(30, 1, NEW)
        length.observe(30, 30, LONG)
    assert length.limit(NEW) == 1
    assert length.limit(LONG) > 20


def test_fixed_length_stays():
    length = FixedDraftLength(64)
    length.observe(64, 1, NEW)
    assert length.limit(NEW) == length.limit(LONG) == 64


def test_where_drafts_cost_more_than_they_save_nothing_is_drafted_until_they_save():
    own, copied = "a0b1c2d3e4f5g6h7i8j9k0l1m2n3o4p5q6r7s8", "The tale that is told is true. " * 3
    passages = [Passage("a b c d e f g h i j k l m n o p q r s "), Passage(copied)]

    def stats(two: float) -> DecodeStats:
        lm = ScriptedLanguageModel(own + copied, confidence=0.95)
        lm.forward_cost = ForwardCost(two, more=0.01)
        asked = {"passages": passages, "method": "lossless", "max_new_tokens": 200}
        return NestEngine(lm).generate("x", **asked).stats

    cheap, dear = stats(two=1.0), stats(two=2.0)
    rejected = [each.drafted_tokens - each.accepted_tokens for each in (cheap, dear)]
    assert rejected[1] < rejected[0] / 2
    assert cheap.lm_forwards <= dear.lm_forwards < len(own) + len(copied) / 4


@pytest.mark.parametrize("method", ["ra-nest", "lossless"])
def test_whoever_wants_no_clock_gets_none(method):
    """Neither where nothing answers, and the model chooses every word."""
    text = "Helium is a gas. It boils at 4 kelvin, and nothing boils below that."

    def forwards(**settings: bool) -> int:
        lm = ScriptedLanguageModel(text)
        lm.forward_cost = ForwardCost(two=2.0, more=0.5)
        asked = {"passages": [Passage(text)], "method": method, **settings}
        return NestEngine(lm).ask("Where is Rome?", **asked).stats.lm_forwards

    assert forwards() == forwards(adaptive_draft=True) >= len(text)
    assert forwards(adaptive_draft=False) < len(text) / 2


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
    assert NestConfig().adaptive_draft is None


@pytest.mark.parametrize("context", [33, 40, 256])
def test_cost_is_measured_once_and_within_bounds(monkeypatch, tmp_path, context):
    monkeypatch.setattr(forward_time, "forward_cost", forward_cost)
    monkeypatch.setenv("NEST_CACHE", str(tmp_path))
    model = tiny_model("llama", max_position_embeddings=context)
    engine = NestEngine(model, tiny_tokenizer())
    cost = engine.language_model.forward_cost
    assert 1 <= cost.two <= 2
    assert 0.001 <= cost.more <= 0.2
    assert engine.language_model.forward_cost is cost
    # Another start of the same model drafts alike.
    monkeypatch.setattr(forward_time, "_seconds", lambda *_: pytest.fail("measured again"))
    assert NestEngine(model, tiny_tokenizer()).language_model.forward_cost == cost
    assert len(list(tmp_path.rglob("*.json"))) == len(list(tmp_path.rglob("*.*"))) == 1


@pytest.mark.parametrize("kept", ["", "[]", "{}", '{"two": 1.5, "more": "much"}'])
def test_what_was_kept_may_be_spoilt_or_not_be_kept_at_all(monkeypatch, tmp_path, kept):
    monkeypatch.setenv("NEST_CACHE", str(tmp_path))
    lm = NestEngine(tiny_model("llama"), tiny_tokenizer()).language_model
    forward_cost(lm)
    [file] = tmp_path.rglob("*.json")
    file.write_text(kept)
    measured = ForwardCost(1.5, 0.125)
    monkeypatch.setattr(forward_time, "_measured", lambda _: measured)
    assert forward_cost(lm) == measured
    assert forward_cost(lm) == measured
    (tmp_path / "file").touch()
    monkeypatch.setenv("NEST_CACHE", str(tmp_path / "file"))  # where no folder can be made
    assert forward_cost(lm) == measured
