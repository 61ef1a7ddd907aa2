"""Picking tokens, against the warpers of transformers."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from nest_engine.decoding.sampling import pick, warp, without

PLAIN = {"temperature": 1.0, "top_k": None, "top_p": 1.0}
PROBS = torch.tensor([[0.5, 0.25, 0.125, 0.125]])


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"temperature": 0.3},
        {"temperature": 2.5},
        {"top_k": 1},
        {"top_k": 7},
        {"top_k": 50},
        {"top_k": 1000},
        {"top_p": 0.01},
        {"top_p": 0.5},
        {"top_p": 0.999},
        {"temperature": 0.7, "top_k": 20, "top_p": 0.8},
    ],
)
def test_warp_agrees_with_transformers(settings):
    settings = PLAIN | settings
    logits = torch.randn(5, 50, generator=torch.Generator().manual_seed(3)) * 2
    warpers = LogitsProcessorList([TemperatureLogitsWarper(settings["temperature"])])
    if settings["top_k"]:
        warpers.append(TopKLogitsWarper(settings["top_k"]))
    if settings["top_p"] < 1:
        warpers.append(TopPLogitsWarper(settings["top_p"]))
    expected = warpers(torch.zeros(5, 1, dtype=torch.long), logits).softmax(-1)
    found = warp(logits.softmax(-1), **settings)
    assert torch.allclose(found, expected, atol=1e-6)
    assert torch.equal(found > 0, expected > 0)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [0.5, 0.25, 0.125, 0.125]),
        ({"temperature": 0.5}, [16 / 22, 4 / 22, 1 / 22, 1 / 22]),
        ({"temperature": 1e-6}, [1, 0, 0, 0]),
        ({"temperature": 1e6}, [0.25, 0.25, 0.25, 0.25]),
        ({"top_k": 2}, [2 / 3, 1 / 3, 0, 0]),
        ({"top_k": 3}, [0.5, 0.25, 0.125, 0.125]),  # ties are kept
        ({"top_k": 4}, [0.5, 0.25, 0.125, 0.125]),
        ({"top_p": 1e-9}, [1, 0, 0, 0]),
        ({"top_p": 0.51}, [2 / 3, 1 / 3, 0, 0]),
    ],
)
def test_warp_by_hand(settings, expected):
    assert warp(PROBS, **(PLAIN | settings)).tolist() == [pytest.approx(expected, abs=1e-5)]


def test_impossible_tokens_stay_impossible():
    found = warp(torch.tensor([[0.0, 1.0, 0.0]]), temperature=2.0, top_k=2, top_p=0.9)
    assert found.tolist() == [[0.0, 1.0, 0.0]]


@pytest.mark.parametrize("temperature", [1e-42, 5e-324])
def test_the_smallest_temperature_is_greedy(temperature):
    found = warp(PROBS, temperature=temperature, top_k=None, top_p=1.0)
    assert found.tolist() == [[1.0, 0.0, 0.0, 0.0]]


def test_without_removes_one_token_and_leaves_the_original():
    probs = PROBS[0].clone()
    assert without(probs, 0).tolist() == [0.0, 0.5, 0.25, 0.25]
    assert without(probs, None) is probs
    assert torch.equal(probs, PROBS[0])


def test_pick():
    assert pick(torch.tensor([0.2, 0.5, 0.3]), None) == 1
    first = [pick(PROBS[0], torch.Generator().manual_seed(seed)) for seed in range(200)]
    assert first == [pick(PROBS[0], torch.Generator().manual_seed(seed)) for seed in range(200)]
    assert set(first) == {0, 1, 2, 3}
    assert {
        pick(torch.tensor([0.0, 1.0, 0.0]), torch.Generator().manual_seed(seed))
        for seed in range(20)
    } == {1}
