"""The trace tells how each token came about, and agrees with the answer and its statistics."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from nest_engine import NestEngine, Passage
from nest_engine.output import NestOutput
from nest_engine.records import TracedToken
from nest_engine.testing import ScriptedLanguageModel
from tests.settings import WORD_BY_WORD

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
# A random model trusts nothing; with these settings it drafts, accepts and rejects.
SETTINGS: dict[str, Any] = {
    "config": WORD_BY_WORD,
    "max_new_tokens": 48,
    "k": 16,
    "alpha": 0.8,
    "tau": 0.2,
    "delta": 0.8,
    "gamma": 0.05,
    "max_draft_tokens": 6,
}


def standing(output: NestOutput) -> list[TracedToken]:
    return [token for token in output.trace if token.status != "rejected"]


@pytest.fixture(scope="module")
def answer(tiny_engine: NestEngine) -> NestOutput:
    output = tiny_engine.generate(PROMPT, passages=PASSAGES, **SETTINGS)
    assert {token.status for token in output.trace} == {"picked", "accepted", "rejected"}
    return output


def test_what_stands_is_the_answer(answer: NestOutput) -> None:
    tokens = standing(answer)

    assert tuple(token.token_id for token in tokens) == answer.token_ids
    assert tuple(token.provenance for token in tokens) == answer.provenance
    assert tuple(token.lambda_ for token in tokens) == answer.lambdas
    assert "".join(token.text for token in tokens) == answer.text


def test_it_counts_what_the_statistics_count(answer: NestOutput) -> None:
    assert len({token.step for token in answer.trace}) == answer.stats.steps
    first_of_step = [
        before is None or before.step != token.step
        for before, token in zip([None, *answer.trace], answer.trace, strict=False)
    ]
    # The first token of a step is rejected when a passage's continuation is: that one was never
    # drafted.
    dropped = sum(
        token.dropped for token, first in zip(answer.trace, first_of_step, strict=True) if not first
    )
    assert 0 < dropped == answer.stats.drafted_tokens - answer.stats.accepted_tokens


def test_rejected_tokens_show_their_text_and_come_from_nowhere(answer: NestOutput) -> None:
    rejected = [token for token in answer.trace if token.status == "rejected"]

    assert any(token.text for token in rejected)
    assert all(token.provenance is None and token.dropped >= 1 for token in rejected)


def test_probabilities_are_those_of_the_score(tiny_engine: NestEngine) -> None:
    settings: dict[str, Any] = {
        "passages": PASSAGES,
        "config": WORD_BY_WORD,
        "mask_copied": False,
        "alpha": 0.8,
        "max_new_tokens": 24,
    }
    output = tiny_engine.generate(PROMPT, **settings)
    score = tiny_engine.score(output.text, prompt=PROMPT, **settings)

    assert score.num_tokens == len(output.token_ids)
    nll = -sum(math.log(token.probability) for token in standing(output))
    assert nll == pytest.approx(score.nll, rel=1e-3)


def test_a_stop_string_cuts_the_trace_with_the_answer(
    tiny_engine: NestEngine, answer: NestOutput
) -> None:
    stop = answer.text[len(answer.text) // 2 :][:4]
    output = tiny_engine.generate(PROMPT, passages=PASSAGES, stop=[stop], **SETTINGS)

    assert output.finish_reason == "stop"
    assert tuple(token.token_id for token in standing(output)) == output.token_ids
    assert "".join(token.text for token in standing(output)) == output.text
    assert output.trace[-1].status != "rejected"


def test_characters_of_several_tokens_belong_to_the_first() -> None:
    engine = NestEngine(ScriptedLanguageModel("Ah, 🌙!"))
    output = engine.generate("x", method="lm", max_new_tokens=20)

    assert output.finish_reason == "eos"
    assert [token.text for token in output.trace] == [*"Ah, ", "🌙", "", "", "", "!", ""]


def test_lossless_text_is_the_models_own(tiny_engine: NestEngine) -> None:
    output = tiny_engine.generate(PROMPT, passages=PASSAGES, method="lossless", max_new_tokens=24)
    alone = tiny_engine.generate(PROMPT, method="lm", max_new_tokens=24)

    assert {token.lambda_ for token in output.trace} == {1.0}
    expected = [token.probability for token in alone.trace]
    assert [token.probability for token in standing(output)] == pytest.approx(expected, abs=1e-4)


def test_an_answer_cancelled_at_once_has_none(tiny_engine: NestEngine) -> None:
    assert tiny_engine.generate(PROMPT, method="lm", cancel=lambda: True).trace == ()


def test_it_is_ready_for_json(answer: NestOutput) -> None:
    token = next(token for token in answer.trace if token.provenance)
    plain = json.loads(json.dumps(token.to_dict()))

    assert plain["lambda"] == token.lambda_
    assert plain["provenance"] == {
        "passage": token.provenance.passage,
        "position": token.provenance.position,
    }
    assert replace(token, provenance=None).to_dict()["provenance"] is None
