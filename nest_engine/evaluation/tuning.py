"""Finding a model's own settings: how far to trust the datastore, where to draft, what to accept.

The paper's values belong to Llama-2. Here the beginnings of the user's own documents are predicted
token by token, after a request for their subject, in two conditions: the document is among the
passages (``gold``), or kept out of them (``no-gold``). The first alone would teach blind trust,
since there is always something right to copy. For ``nest`` both are repeated with a few passages in
the prompt as well, as a chain writes them. The model then knows itself how they go on, and its
hidden states lie elsewhere: settings found without such prompts would hardly copy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nest_engine.engine import NestEngine
from nest_engine.evaluation.draft_outcomes import (
    AcceptanceRow,
    DraftingRow,
    DraftLengthRow,
    DraftOutcome,
    acceptance_by_gamma,
    choose_delta,
    choose_gamma,
    choose_length,
    draft_outcomes,
    drafting_by_lambda,
    yield_by_length,
)
from nest_engine.evaluation.samples import Sample, force, make_samples
from nest_engine.evaluation.trust import (
    KNN_TEMPERATURES,
    PredictedTexts,
    Trust,
    TrustRow,
    choose_trust,
)

__all__ = ["Sample", "Tuning", "make_samples", "tune"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Tuning:
    """Recommended settings and the evidence for them.

    Args:
        method: the method they are for.
        settings: the settings.
        perplexity: for each alpha, tau and temperature, the perplexity under p_M in each condition.
        perplexity_of: perplexity in each condition of ``lm`` (the model alone), ``before`` (the
            engine's settings) and ``recommended``.
        drafting: for each range of lambda, the number of drafts that could begin there and the
            share whose next token was right.
        acceptance: for each gamma, the shares of right and of wrong tokens that are accepted.
        draft_yield: for each draft length, expected tokens for the time of a forward over two
            tokens.
    """

    method: str
    settings: dict[str, Any]
    perplexity: list[TrustRow]
    perplexity_of: dict[str, dict[str, float]]
    drafting: list[DraftingRow]
    acceptance: list[AcceptanceRow]
    draft_yield: list[DraftLengthRow]


def tune(
    engine: NestEngine, samples: Sequence[Sample], *, progress: Progress = lambda done, total: None
) -> Tuning:
    """Choose settings by how well the texts are predicted, and by which drafts agree with them.

    Perplexity decides on alpha, tau and the temperature, drafts on delta, gamma and the draft
    length.

    Args:
        engine: its configuration names the method, and is compared with what is recommended.
        samples: of :func:`make_samples`.
        progress: called with the number of texts read so far and their total; each is read twice.

    Returns:
        the settings and the evidence.
    """
    total = 2 * len(samples)
    texts = PredictedTexts({*KNN_TEMPERATURES, engine.config.knn_temperature})
    for number, sample in enumerate(samples, 1):
        for predicted in force(engine, engine.config, sample).predict():
            texts.add(sample.condition, predicted)
        progress(number, total)
    perplexity = texts.sweep()
    trust = choose_trust(perplexity)

    config = engine.config.replace(**trust._asdict())
    outcomes: list[DraftOutcome] = []
    for number, sample in enumerate(samples, len(samples) + 1):
        forced = force(engine, config, sample)
        for predicted in forced.predict():
            outcomes += draft_outcomes(predicted, forced.index, config)
        progress(number, total)
    drafting = drafting_by_lambda(outcomes)
    delta = choose_delta(drafting)
    begun = [outcome for outcome in outcomes if outcome.lambda_ <= delta]
    draft_yield = yield_by_length(begun, engine.language_model.marginal_token_cost)
    return Tuning(
        method=engine.config.method,
        settings={
            **trust._asdict(),
            "delta": delta,
            "gamma": choose_gamma(begun),
            "max_draft_tokens": choose_length(draft_yield),
        },
        perplexity=perplexity,
        perplexity_of={
            "lm": texts.perplexity(None),
            "before": texts.perplexity(Trust.of(engine.config)),
            "recommended": texts.perplexity(trust),
        },
        drafting=drafting,
        acceptance=acceptance_by_gamma(begun),
        draft_yield=draft_yield,
    )
