"""Finding a model's own settings: how far to trust the datastore, where to draft, what to accept.

The paper's values belong to Llama-2. Texts that documents of the user begin with are predicted token by token, behind
a request for their subject, in two conditions: the document is among the passages (``gold``), or kept out of them
(``no-gold``). The first alone would teach blind trust: what is asked for would always be there to copy. For ``nest``
both are repeated with a few passages that also stand in the prompt, as a chain writes them: the model then knows
itself how they go on, its states lie elsewhere, and settings that were found without hardly copy there.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, product, starmap, takewhile
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nest_engine.conditions import CONDITIONS, request_for, search
from nest_engine.config import NestConfig
from nest_engine.drafting import nearest_entry
from nest_engine.engine import NestEngine
from nest_engine.errors import InputError
from nest_engine.mixture import distance_scale, knn_distribution, neighbor_weights, retrieval_confidence
from nest_engine.request import Request
from nest_engine.scoring import ForcedText, Predicted
from nest_engine.token_index import TokenIndex
from nest_engine.types import Passage

Progress = Callable[[int, int], None]

ALPHAS = tuple(round(0.1 * i, 1) for i in range(-2, 11))
TAUS = (0.02, 0.05, 0.1, 0.2, 0.3)
KNN_TEMPERATURES = (0.03, 0.1, 0.3, 1.0)
DELTAS = tuple(round(0.1 * i, 1) for i in range(1, 11))
GAMMAS = (1e-5, 1e-4, 5e-4, 1e-3, 5e-3, 1e-2, 5e-2, 0.1, 0.2, 0.5, 1.0)
DRAFT_LENGTHS = (8, 16, 32, 64)


class Trust(NamedTuple):
    """How far the datastore is trusted: the settings of ``NestConfig`` that p_M depends on."""

    alpha: float
    tau: float
    knn_temperature: float

    @classmethod
    def of(cls, config: NestConfig) -> Trust:
        """Return those of a configuration."""
        return cls(config.alpha, config.tau, config.knn_temperature)


@dataclass(frozen=True)
class Sample:
    """A text to predict behind a request for its subject.

    Args:
        prompt: what the model reads.
        query: what the passages were searched for.
        text: the text.
        passages: what may be copied.
        condition: whether the text's document is among the passages, and whether they stand in the prompt.
    """

    prompt: str
    query: str
    text: str
    passages: tuple[Passage, ...]
    condition: str


@dataclass(frozen=True)
class Copy:
    """A place where a draft could begin, and how well it would have gone.

    Args:
        lambda_: interpolation coefficient there.
        right: tokens of the passage that agree with the text, the decided first one included.
        right_ratios: ``p_M(w) / max p_M`` of those that verification would have judged.
        wrong_ratio: the same of the first that does not agree; None where passage or text ended.
    """

    lambda_: float
    right: int
    right_ratios: tuple[float, ...]
    wrong_ratio: float | None


@dataclass(frozen=True)
class Tuning:
    """Recommended settings and what speaks for them.

    Args:
        method: the method they are for.
        settings: the settings.
        perplexity: for each alpha, tau and temperature, the perplexity under p_M in each condition.
        perplexity_of: perplexity in each condition of ``lm``, of the former and of the recommended settings.
        drafting: for each range of lambda, the number of drafts that could begin there and the share whose next token
            was right.
        acceptance: for each gamma, the shares of right and of wrong tokens that are accepted.
        draft_yield: for each draft length, expected tokens for the time of a forward over two tokens.
    """

    method: str
    settings: dict[str, Any]
    perplexity: list[dict[str, float]]
    perplexity_of: dict[str, dict[str, float]]
    drafting: list[dict[str, float]]
    acceptance: list[dict[str, float]]
    draft_yield: list[dict[str, float]]


def make_samples(engine: NestEngine, passages: Sequence[Passage], count: int, *, seed: int = 0) -> list[Sample]:
    """Draw documents, and search passages for each with and without it.

    Args:
        engine: with the first-stage search; its configuration names the method.
        passages: passages that are searched; the first of a titled document is the text to predict.
        count: number of documents.
        seed: draws others.

    Returns:
        two samples for each document, and for a method that writes no passages into the prompt two more, with
        ``prompt_passages`` of them written there all the same.

    Raises:
        InputError: if no passage has a title, or the engine searches nothing.
    """
    if engine.retriever is None:
        raise InputError("the engine has no retriever: tuning searches passages; give one")
    leads: dict[str, Passage] = {}
    for passage in passages:
        if passage.title:
            leads.setdefault(passage.title, passage)
    if not leads:
        raise InputError("no passage has a title: tuning asks for documents by title; give documents with titles")
    chosen = random.Random(seed).sample(list(leads.values()), min(count, len(leads)))
    queries = [request_for(passage.title) for passage in chosen]
    found = search(engine.retriever, queries, [[passage.title] for passage in chosen], engine.config.passages_to_find)
    samples = []
    for lead, query, passages_of in zip(chosen, queries, found, strict=True):
        prompt, text = engine.format_question(query), f" {lead.text}"
        searched = [Sample(prompt, query, text, passages_of[condition], condition) for condition in CONDITIONS]
        samples += searched
        if not engine.config.uses_prompt_passages:
            samples += [_in_prompt(engine, sample) for sample in searched]
    return samples


def _in_prompt(engine: NestEngine, sample: Sample) -> Sample:
    """Return a sample whose few passages stand in the prompt; as in a chain, nobody says which part is the question."""
    request = _prepare(engine, engine.config.replace(method="ra"), sample)
    placed = tuple(sample.passages[located.number] for located in request.located)
    return Sample(request.prompt, request.prompt, sample.text, placed, f"{sample.condition}, in prompt")


def _prepare(engine: NestEngine, config: NestConfig, sample: Sample) -> Request:
    """Return the request of a sample; passages in its prompt leave room for the text."""
    room = len(engine.language_model.tokenizer.encode_prompt(sample.text).token_ids)
    [request] = engine.prepare([sample.prompt], [sample.passages], [sample.query], config.replace(max_new_tokens=room))
    return request


def tune(engine: NestEngine, samples: Sequence[Sample], *, progress: Progress = lambda done, total: None) -> Tuning:
    """Choose how far to trust the datastore by perplexity, where to draft by what agrees with the texts.

    Alpha, tau and the temperature are what trust is made of; delta, gamma and the draft length decide on drafts.

    Args:
        engine: its configuration names the method, and is compared with what is recommended.
        samples: of :func:`make_samples`.
        progress: told how many texts were read, and of how many; each is read twice.

    Returns:
        the settings and the evidence.
    """
    total = 2 * len(samples)
    observed = _Observed({*KNN_TEMPERATURES, engine.config.knn_temperature})
    for number, sample in enumerate(samples, 1):
        for predicted in _force(engine, engine.config, sample).predict():
            observed.add(sample.condition, predicted)
        progress(number, total)
    sweep = [
        {**trust._asdict(), **observed.perplexity(trust), "mean": observed.mean_perplexity(trust)}
        for trust in starmap(Trust, product(ALPHAS, TAUS, KNN_TEMPERATURES))
    ]
    row = _choose_trust(sweep)
    best = Trust(row["alpha"], row["tau"], row["knn_temperature"])
    trusted = engine.config.replace(**best._asdict())

    copies: list[Copy] = []
    for number, sample in enumerate(samples, len(samples) + 1):
        forced = _force(engine, trusted, sample)
        for predicted in forced.predict():
            copies += _copies(predicted, forced.index, trusted)
        progress(number, total)
    drafting = _drafting(copies)
    delta = _choose_delta(drafting)
    begun = [copy for copy in copies if copy.lambda_ <= delta]
    acceptance = _acceptance(begun)
    gamma = _choose_gamma(begun)
    draft_yield = _draft_yield(begun, engine.language_model.marginal_token_cost)
    length = max(draft_yield, key=lambda row: (row["tokens"], -row["length"]))["length"]
    return Tuning(
        method=engine.config.method,
        settings={
            **best._asdict(),
            "delta": delta,
            "gamma": gamma,
            "max_draft_tokens": int(length),
        },
        perplexity=sweep,
        perplexity_of={
            "lm": observed.perplexity(None),
            "before": observed.perplexity(Trust.of(engine.config)),
            "recommended": observed.perplexity(best),
        },
        drafting=drafting,
        acceptance=acceptance,
        draft_yield=draft_yield,
    )


def _force(engine: NestEngine, config: NestConfig, sample: Sample) -> ForcedText:
    return ForcedText(engine.language_model, engine.key_cache, _prepare(engine, config, sample), sample.text)


class _Observed:
    """What predicted each token of the texts, apart from alpha and tau: every pair of those is then arithmetic.

    Args:
        temperatures: those that p_kNN is kept for.
    """

    def __init__(self, temperatures: Iterable[float]) -> None:
        self.temperatures = tuple(temperatures)
        self.lm_probs: dict[str, list[Tensor]] = defaultdict(list)
        self.distances: dict[str, list[Tensor]] = defaultdict(list)  # nearest and farthest
        # By temperature: probability of the token under p_kNN, and the share of trust that relevance leaves.
        self.copied: dict[tuple[str, float], list[Tensor]] = defaultdict(list)

    def add(self, condition: str, predicted: Predicted) -> None:
        targets_Q1 = torch.tensor(predicted.targets, device=predicted.lm_probs_QV.device)[:, None]
        lm_probs_Q = predicted.lm_probs_QV.gather(1, targets_Q1)[:, 0]
        self.lm_probs[condition].append(lm_probs_Q.double().cpu())
        if predicted.neighbors is None:
            ends_Q2 = torch.ones(len(lm_probs_Q), 2)
        else:
            distances_QK = predicted.neighbors.distances_QK
            ends_Q2 = torch.stack([distances_QK.amin(-1), distances_QK.amax(-1)], dim=-1)
        self.distances[condition].append(ends_Q2.double().cpu())
        for temperature in self.temperatures:
            copied_Q2 = _copied(predicted, targets_Q1, temperature)
            self.copied[condition, temperature].append(copied_Q2.double().cpu())

    def perplexity(self, trust: Trust | None) -> dict[str, float]:
        """Return the perplexity in each condition; without trust in the datastore, the model's own."""
        return {condition: math.exp(self._nll(condition, trust)) for condition in self.lm_probs}

    def mean_perplexity(self, trust: Trust) -> float:
        """Return the perplexity over the conditions, each counting the same."""
        return math.exp(sum(self._nll(condition, trust) for condition in self.lm_probs) / len(self.lm_probs))

    def _nll(self, condition: str, trust: Trust | None) -> float:
        lm_probs_T = torch.cat(self.lm_probs[condition])
        if trust is None:
            return -float(lm_probs_T.log().mean())
        knn_probs_T, shares_T = torch.cat(self.copied[condition, trust.knn_temperature]).unbind(-1)
        distances_T2 = torch.cat(self.distances[condition])
        lambda_T = 1 - (1 - retrieval_confidence(distances_T2, trust.alpha, trust.tau)) * shares_T
        return -float(torch.lerp(knn_probs_T, lm_probs_T, lambda_T).log().mean())


def _copied(predicted: Predicted, targets_Q1: Tensor, temperature: float) -> Tensor:
    """Return the targets' probability under p_kNN, and the share of trust that relevance leaves, ``[Q, 2]``."""
    lm_probs_QV = predicted.lm_probs_QV
    if predicted.neighbors is None:
        return lm_probs_QV.new_zeros(len(lm_probs_QV), 2)
    scale = distance_scale(predicted.width, temperature)
    weights_QK, share_Q = neighbor_weights(predicted.neighbors, scale)
    knn_probs_QV = knn_distribution(weights_QK, predicted.neighbors.values_QK, lm_probs_QV.shape[-1])
    knn_probs_Q = knn_probs_QV.gather(1, targets_Q1)[:, 0]
    return torch.stack([knn_probs_Q, torch.ones_like(knn_probs_Q) if share_Q is None else share_Q], dim=-1)


@torch.inference_mode()
def _copies(predicted: Predicted, index: TokenIndex, config: NestConfig) -> Iterator[Copy]:
    """Yield the drafts that could begin along a text: where the picked token is right and some neighbour has it."""
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
        ahead = list(zip(drafted, predicted.targets[start:], strict=False))
        right = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], ahead))
        yield Copy(
            lambda_=float(mixture.lambda_Q[start]),
            right=right,
            right_ratios=tuple(float(ratios_QV[start + i, drafted[i]]) for i in range(1, right)),
            wrong_ratio=float(ratios_QV[start + right, drafted[right]]) if right < len(ahead) else None,
        )
        start += right


def _drafting(copies: Sequence[Copy]) -> list[dict[str, float]]:
    """Return, for each range of lambda, how many drafts begin there and how many of their second tokens are right."""
    rows = []
    for delta in DELTAS:
        judged = [
            copy.right > 1
            for copy in copies
            if delta - 0.1 < copy.lambda_ <= delta and (copy.right > 1 or copy.wrong_ratio is not None)
        ]
        rows.append({"delta": delta, "drafts": len(judged), "right": sum(judged) / len(judged) if judged else 0.0})
    return rows


def _choose_delta(drafting: Sequence[dict[str, float]]) -> float:
    """Return the lambda up to which drafting gains most: a right next token counts for it, a wrong one against it."""
    gains = list(accumulate(row["drafts"] * (2 * row["right"] - 1) for row in drafting))
    return drafting[gains.index(max(gains))]["delta"]


def _acceptance(copies: Sequence[Copy]) -> list[dict[str, float]]:
    """Return, for each gamma, the shares of right and wrong drafted tokens that relaxed verification accepts."""
    right = [ratio for copy in copies for ratio in copy.right_ratios]
    wrong = [copy.wrong_ratio for copy in copies if copy.wrong_ratio is not None]
    return [
        {"gamma": gamma, "right": _share_above(right, 0.5 * gamma), "wrong": _share_above(wrong, 0.5 * gamma)}
        for gamma in GAMMAS
    ]


def _choose_trust(sweep: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the row that trusts the passages most among those that predict as well as the best.

    Within a hundredth of the best perplexity the texts do not decide; more trust then quotes more, and faster.
    """
    least = min(row["mean"] for row in sweep)
    return max((row for row in sweep if row["mean"] <= 1.01 * least), key=lambda row: (row["alpha"], -row["mean"]))


def _choose_gamma(copies: Sequence[Copy]) -> float:
    """Return the gamma that gains most; of equal ones the largest.

    What counts are the right tokens that are copied before verification ends the copy: refusing one of them loses all
    that follow. A wrong one accepted behind them counts against it.
    """

    def gain(gamma: float) -> int:
        tokens = 0
        for copy in copies:
            stood = sum(1 for _ in takewhile(lambda ratio: ratio > 0.5 * gamma, copy.right_ratios))
            is_wrong = copy.wrong_ratio is not None and copy.wrong_ratio > 0.5 * gamma
            tokens += stood - (is_wrong and stood == len(copy.right_ratios))
        return tokens

    return max(GAMMAS, key=lambda gamma: (gain(gamma), gamma))


def _share_above(ratios: Sequence[float], threshold: float) -> float:
    return sum(ratio > threshold for ratio in ratios) / len(ratios) if ratios else 0.0


def _draft_yield(copies: Sequence[Copy], marginal_cost: float) -> list[dict[str, float]]:
    """Return, for each draft length, the tokens that it brings for the time of a forward over two tokens."""
    rows = []
    for length in DRAFT_LENGTHS:
        tokens = sum(min(copy.right, length) for copy in copies) / max(len(copies), 1)
        rows.append({"length": length, "tokens": tokens / (1 + marginal_cost * (length - 2))})
    return rows
