"""Which part of a draft stands."""

from __future__ import annotations

import pytest
import torch

from nest_engine.decoding.acceptance import accept_lossless, accept_relaxed, accepted_prefix
from nest_engine.decoding.sampling import without

PROBS = torch.tensor([[0.5, 0.125, 0.375, 0.0]] * 4)
EACH_TOKEN = torch.arange(4)


@pytest.mark.parametrize(
    ("gamma", "expected"),
    [
        (0.5, [True, False, True, False]),  # token 1 lies exactly on the threshold 0.5 * 0.5 * 0.5
        (0.499, [True, True, True, False]),
        (1.0, [True, False, True, False]),
        (0.0, [True, True, True, False]),  # even then an impossible token is rejected
    ],
)
def test_relaxed_acceptance_is_strict_at_the_threshold(gamma, expected):
    assert accept_relaxed(PROBS, EACH_TOKEN, gamma).tolist() == expected


def test_the_most_probable_token_is_always_accepted():
    assert accept_relaxed(PROBS, torch.zeros(4, dtype=torch.long), 1.0).all()


def test_relaxed_threshold_belongs_to_each_position():
    probs = torch.tensor([[0.9, 0.1], [0.4, 0.6]])
    assert accept_relaxed(probs, torch.tensor([1, 0]), 0.5).tolist() == [False, True]


def test_lossless_greedy_accepts_only_the_most_probable_token():
    assert accept_lossless(PROBS, EACH_TOKEN, None).tolist() == [True, False, False, False]


def test_lossless_sampling_accepts_with_the_models_probability():
    generator = torch.Generator().manual_seed(0)
    num_trials = 20_000
    probs = torch.tensor([0.2, 0.7, 0.1, 0.0])
    for token in range(4):
        tokens = torch.full((num_trials,), token)
        share = accept_lossless(probs.expand(num_trials, -1), tokens, generator).float().mean()
        assert float(share) == pytest.approx(float(probs[token]), abs=0.015)
    certain = torch.tensor([[0.0, 1.0]]).expand(num_trials, -1)
    assert accept_lossless(certain, torch.ones(num_trials, dtype=torch.long), generator).all()
    assert not accept_lossless(certain, torch.zeros(num_trials, dtype=torch.long), generator).any()


@pytest.mark.parametrize("drafted", [0, 1, 2])
def test_acceptance_and_resampling_together_give_the_models_distribution(drafted):
    generator = torch.Generator().manual_seed(1)
    num_trials, probs = 40_000, torch.tensor([0.6, 0.3, 0.1])
    tokens = torch.full((num_trials,), drafted)
    is_accepted = accept_lossless(probs.expand(num_trials, -1), tokens, generator)
    resampled = torch.multinomial(
        without(probs, drafted), num_trials, replacement=True, generator=generator
    )
    outcome = torch.where(is_accepted, tokens, resampled)
    assert (torch.bincount(outcome, minlength=3) / num_trials).tolist() == pytest.approx(
        probs.tolist(), abs=0.01
    )


@pytest.mark.parametrize(
    ("accepted", "length"),
    [
        ([], 0),
        ([0], 0),
        ([1], 1),
        ([1, 1, 1], 3),
        ([1, 0, 1], 1),
        ([0, 1, 1], 0),
        ([1, 1, 0, 1], 2),
    ],
)
def test_accepted_prefix_ends_at_the_first_rejection(accepted, length):
    assert accepted_prefix(torch.tensor(accepted, dtype=torch.bool)) == length
