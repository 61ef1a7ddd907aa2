"""How drafts would have gone along a text: what delta, gamma and the draft length are chosen by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import NamedTuple

import torch

from nest_engine.config import NestConfig
from nest_engine.datastore.token_index import TokenIndex
from nest_engine.decoding.mixture import distance_scale
from nest_engine.decoding.proposal import nearest_entry
from nest_engine.generation.scoring import Predicted

DELTAS = tuple(round(0.1 * i, 1) for i in range(1, 11))
GAMMAS = (1e-5, 1e-4, 5e-4, 1e-3, 5e-3, 1e-2, 5e-2, 0.1, 0.2, 0.5, 1.0)
DRAFT_LENGTHS = (8, 16, 32, 64)


@dataclass(frozen=True)
class DraftOutcome:
    """A draft that could have begun at some place of a text, and how well it would have gone.

    Args:
        lambda_: interpolation coefficient there.
        right: tokens of the passage that agree with the text, the first one included, which was
            picked before the draft.
        right_ratios: ``p_M(w) / max p_M`` of those that verification would have judged.
        wrong_ratio: the same for the first token that does not agree; None where the passage or the
            text ended.
    """

    lambda_: float
    right: int
    right_ratios: tuple[float, ...]
    wrong_ratio: float | None


class DraftingRow(NamedTuple):
    """The drafts that begin in a range of lambda.

    Args:
        delta: upper end of the range, which is a tenth wide.
        drafts: how many begin there.
        right: share of them whose second token is right.
    """

    delta: float
    drafts: int
    right: float


class AcceptanceRow(NamedTuple):
    """What relaxed verification accepts with some gamma.

    Args:
        gamma: relaxation factor.
        right: share of the right tokens that is accepted.
        wrong: share of the wrong tokens that is accepted.
    """

    gamma: float
    right: float
    wrong: float


class DraftLengthRow(NamedTuple):
    """What a draft length yields.

    Args:
        length: the draft length in tokens.
        tokens: expected tokens for the time of a forward over two tokens.
    """

    length: int
    tokens: float


@torch.inference_mode()
def draft_outcomes(
    predicted: Predicted, index: TokenIndex, config: NestConfig
) -> Iterator[DraftOutcome]:
    """Yield the drafts that could begin along a text.

    One begins wherever the picked token is right and some neighbour has it.

    Args:
        predicted: consecutive tokens of the text.
        index: the datastore's tokens.
        config: settings.
    """
    mixture = predicted.mixture(config)
    scale = distance_scale(predicted.width, config.knn_temperature)
    picked = mixture.probs_QV.argmax(-1).tolist()
    ratios_QV = mixture.probs_QV / mixture.probs_QV.amax(-1, keepdim=True)
    start = 0
    while start < len(picked):
        entry = None
        if picked[start] == predicted.targets[start]:
            entry = nearest_entry(mixture.neighbors, start, picked[start], scale)
        if entry is None:
            start += 1
            continue
        drafted = [index.value(each) for each in index.span(entry, max(DRAFT_LENGTHS))]
        pairs = list(zip(drafted, predicted.targets[start:], strict=False))
        right = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        yield DraftOutcome(
            lambda_=float(mixture.lambda_Q[start]),
            right=right,
            right_ratios=tuple(float(ratios_QV[start + i, drafted[i]]) for i in range(1, right)),
            wrong_ratio=float(ratios_QV[start + right, drafted[right]])
            if right < len(pairs)
            else None,
        )
        start += right


def drafting_by_lambda(outcomes: Sequence[DraftOutcome]) -> list[DraftingRow]:
    """Return how many drafts begin in each range of lambda, and how many go on rightly."""
    rows = []
    for delta in DELTAS:
        judged = [
            outcome.right > 1
            for outcome in outcomes
            if delta - 0.1 < outcome.lambda_ <= delta
            and (outcome.right > 1 or outcome.wrong_ratio is not None)
        ]
        rows.append(DraftingRow(delta, len(judged), sum(judged) / len(judged) if judged else 0.0))
    return rows


def choose_delta(rows: Sequence[DraftingRow]) -> float:
    """Return the lambda up to which drafting gains most.

    A right second token counts for a draft, a wrong one against it.
    """
    gains = list(accumulate(row.drafts * (2 * row.right - 1) for row in rows))
    return rows[gains.index(max(gains))].delta


def acceptance_by_gamma(outcomes: Sequence[DraftOutcome]) -> list[AcceptanceRow]:
    """Return the shares of right and of wrong drafted tokens that each gamma accepts."""
    right = [ratio for outcome in outcomes for ratio in outcome.right_ratios]
    wrong = [outcome.wrong_ratio for outcome in outcomes if outcome.wrong_ratio is not None]
    return [
        AcceptanceRow(gamma, _share_above(right, 0.5 * gamma), _share_above(wrong, 0.5 * gamma))
        for gamma in GAMMAS
    ]


def choose_gamma(outcomes: Sequence[DraftOutcome]) -> float:
    """Return the gamma that gains most; of equal ones the largest.

    What counts are the right tokens that are accepted before the first rejection, because a
    rejected right token loses all that follow. A wrong token accepted after them counts against a
    gamma.
    """

    def gain(gamma: float) -> int:
        tokens = 0
        for outcome in outcomes:
            ratios, wrong = outcome.right_ratios, outcome.wrong_ratio
            accepted = sum(1 for _ in takewhile(lambda ratio: ratio > 0.5 * gamma, ratios))
            accepts_wrong = wrong is not None and wrong > 0.5 * gamma
            tokens += accepted - (accepts_wrong and accepted == len(ratios))
        return tokens

    return max(GAMMAS, key=lambda gamma: (gain(gamma), gamma))


def yield_by_length(outcomes: Sequence[DraftOutcome], marginal_cost: float) -> list[DraftLengthRow]:
    """Return what each draft length yields for its cost.

    Args:
        outcomes: the drafts.
        marginal_cost: time of each further token in a forward, as a share of a forward over two
            tokens.
    """
    rows = []
    for length in DRAFT_LENGTHS:
        tokens = sum(min(outcome.right, length) for outcome in outcomes) / max(len(outcomes), 1)
        rows.append(DraftLengthRow(length, tokens / (1 + marginal_cost * (length - 2))))
    return rows


def choose_length(rows: Sequence[DraftLengthRow]) -> int:
    """Return the draft length that yields most; of equal ones the shortest."""
    return max(rows, key=lambda row: (row.tokens, -row.length)).length


def _share_above(ratios: Sequence[float], threshold: float) -> float:
    return sum(ratio > threshold for ratio in ratios) / len(ratios) if ratios else 0.0
