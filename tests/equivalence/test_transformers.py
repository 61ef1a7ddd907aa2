"""``lm`` and ``lossless`` give what transformers' own ``generate`` gives, on every architecture."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from itertools import product

import pytest
import torch
from scipy.stats import chisquare

from nest_engine import NestConfig, NestEngine, Passage
from tests.tiny_models import ARCHITECTURES, HYBRIDS, tiny_model, tiny_tokenizer

PROMPTS = [
    "Question: What is a river? Answer: The",
    "A planet",
    "Iron is a metal. Neon is a gas. Helium is",
]
NUM_TOKENS = 40


def reference_ids(model, prompt: str, **settings) -> list[int]:
    inputs = tiny_tokenizer()(prompt, return_tensors="pt").to(model.device)
    with torch.no_grad():
        output = model.generate(**inputs, max_new_tokens=NUM_TOKENS, **settings)
    return output[0, inputs["input_ids"].shape[1] :].tolist()


def passages_from(ids: list[int]) -> list[Passage]:
    """Cut what the model will say into passages that fit in part: drafts are rejected midway."""
    text = tiny_tokenizer().decode(ids, errors="replace")
    return [
        Passage("The " + text[:40] + " river flows"),
        Passage(text[20:60] + " metal"),
        Passage(text[50:]),
    ]


@pytest.mark.parametrize(
    ("name", "attention"),
    [*product(ARCHITECTURES, ["sdpa", "eager"]), *product(HYBRIDS, ["sdpa"])],
)
def test_lm_and_lossless_equal_generate(name, attention):
    model = tiny_model(name, attn_implementation=attention)
    engine = NestEngine(model, tiny_tokenizer())
    drafted = rejected = 0
    for prompt in PROMPTS:
        expected = reference_ids(model, prompt, do_sample=False)
        assert (
            list(engine.generate(prompt, method="lm", max_new_tokens=NUM_TOKENS).token_ids)
            == expected
        )
        output = engine.generate(
            prompt, method="lossless", passages=passages_from(expected), max_new_tokens=NUM_TOKENS
        )
        assert list(output.token_ids) == expected
        drafted += output.stats.drafted_tokens
        rejected += output.stats.drafted_tokens - output.stats.accepted_tokens
    assert drafted > 0, "no draft was in play"
    assert rejected > 0, "no draft was rejected midway"


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_penultimate_keys_are_lossless_too(name):
    model = tiny_model(name)
    engine = NestEngine(model, tiny_tokenizer(), key_layer="penultimate")
    expected = reference_ids(model, PROMPTS[0], do_sample=False)
    output = engine.generate(
        PROMPTS[0], method="lossless", passages=passages_from(expected), max_new_tokens=NUM_TOKENS
    )
    assert list(output.token_ids) == expected
    assert output.stats.drafted_tokens > 0


@pytest.mark.parametrize(
    "settings", [{"temperature": 0.7}, {"temperature": 1.3, "top_k": 20}, {"top_p": 0.8}]
)
def test_sampled_lm_equals_generate_under_the_same_seed(settings):
    model = tiny_model("llama")
    engine = NestEngine(model, tiny_tokenizer())
    sampling = {"temperature": 1.0, "top_k": None, "top_p": 1.0} | settings
    torch.manual_seed(7)
    expected = reference_ids(
        model, PROMPTS[0], do_sample=True, **(sampling | {"top_k": sampling["top_k"] or 0})
    )
    output = engine.generate(PROMPTS[0], method="lm", seed=7, max_new_tokens=NUM_TOKENS, **sampling)
    assert list(output.token_ids) == expected


@pytest.mark.parametrize(
    "settings", [{"temperature": 0.6}, {"temperature": 1.0, "top_k": 5, "top_p": 0.9}]
)
def test_lossless_sampling_follows_the_models_distribution(settings):
    """Chi-square over pairs of tokens: the second is accepted or rejected as part of a draft."""
    model, tokenizer = tiny_model("llama", initializer_range=0.3), tiny_tokenizer()
    engine = NestEngine(model, tokenizer)
    prompt, num_samples = PROMPTS[1], 2000
    expected = pair_probabilities(model, prompt, **settings)
    # Passages that offer likely pairs, so that drafts are accepted about as often as the model
    # would.
    likely = sorted(expected, key=expected.get, reverse=True)
    texts = [tokenizer.decode(pair) for pair in likely if len(pair) == 2]
    passages = [Passage(prompt + text + " and more") for text in texts if text.isascii()][:30]

    torch.manual_seed(0)
    outputs = engine.generate_batch(
        [prompt] * num_samples,
        passages=[passages] * num_samples,
        method="lossless",
        max_new_tokens=2,
        **settings,
    )
    counts = Counter(output.token_ids for output in outputs)
    assert set(counts) <= set(expected), "a token outside the warped distribution was sampled"
    # Pairs too rare for the test's approximation are counted together.
    frequent = [pair for pair, probability in expected.items() if probability * num_samples >= 5]
    observed = [counts[pair] for pair in frequent]
    wanted = [expected[pair] * num_samples for pair in frequent]
    if num_samples - sum(wanted) >= 5:
        observed.append(num_samples - sum(observed))
        wanted.append(num_samples - sum(wanted))
    assert len(frequent) >= 5
    assert chisquare(observed, [w * sum(observed) / sum(wanted) for w in wanted]).pvalue > 1e-3
    accepted = sum(
        output.stats.accepted_tokens - 1 for output in outputs if output.stats.drafted_tokens > 1
    )
    rejected = sum(output.stats.drafted_tokens - output.stats.accepted_tokens for output in outputs)
    assert accepted > 50, "no drafts were accepted"
    assert rejected > 50, "sampling around rejected drafts was not exercised"


def pair_probabilities(
    model, prompt: str, *, temperature=1.0, top_k=None, top_p=1.0
) -> dict[tuple[int, int], float]:
    """Return the probability of every pair of next tokens, by transformers' own warpers."""
    from transformers import (
        LogitsProcessorList,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    warpers = LogitsProcessorList(
        [TemperatureLogitsWarper(temperature)] if temperature != 1.0 else []
    )
    if top_k:
        warpers.append(TopKLogitsWarper(top_k))
    if top_p < 1.0:
        warpers.append(TopPLogitsWarper(top_p))

    def next_probs(ids):
        with torch.no_grad():
            return warpers(ids, model(ids).logits[:, -1].float()).softmax(-1)[0]

    ids = tiny_tokenizer()(prompt, return_tensors="pt")["input_ids"].to(model.device)
    first_V = next_probs(ids)
    pairs = {}
    for first in first_V.nonzero().flatten().tolist():
        if first == model.generation_config.eos_token_id:
            pairs[(first,)] = float(first_V[first])
            continue
        second_V = next_probs(torch.cat([ids, torch.tensor([[first]], device=ids.device)], dim=1))
        pairs |= {
            (first, i): float(first_V[first] * second_V[i])
            for i in second_V.nonzero().flatten().tolist()
        }
    return pairs


def test_eos_ends_where_generate_ends():
    """Make the model's own third token its end-of-sequence token."""
    model = tiny_model("llama")
    greedy = reference_ids(model, PROMPTS[0], do_sample=False)
    eos = next(token for token in greedy[2:] if token not in greedy[:2])
    model.generation_config.eos_token_id = [eos, 1]
    engine = NestEngine(model, tiny_tokenizer())
    expected = reference_ids(model, PROMPTS[0], do_sample=False)
    assert expected[-1] == eos
    for method in ("lm", "lossless"):
        output = engine.generate(
            PROMPTS[0], method=method, passages=passages_from(greedy), max_new_tokens=NUM_TOKENS
        )
        assert list(output.token_ids) == expected
        assert output.finish_reason == "eos"


@pytest.mark.parametrize(
    ("name", "method"),
    [
        *product(ARCHITECTURES, ["lm", "knn-lm", "nest", "ra", "ra-nest", "lossless"]),
        *product(["qwen3_5", "lfm2"], ["nest", "lossless"]),
    ],
)
def test_batch_equals_single(name, method):
    """Rows of different length, with different passages and different stopping points."""
    engine = NestEngine(tiny_model(name), tiny_tokenizer())
    config = NestConfig(method=method, max_new_tokens=24, k=16, alpha=0.8, delta=0.9, gamma=0.05)
    passages = [
        [Passage("A planet is a body that moves around a star. Neon is a gas.")],
        [],
        [
            Passage("Iron is a metal."),
            Passage("The river flows from the mountains to the sea, and back."),
        ],
    ]
    unstopped = engine.generate(PROMPTS[0], passages=passages[0], config=config).text
    config = config.replace(stop=(unstopped[12:15],))
    single = [
        engine.generate(prompt, passages=given, config=config)
        for prompt, given in zip(PROMPTS, passages, strict=True)
    ]
    alone = pytest.warns(
        UserWarning, match="the 3 rows of this batch are decoded one after the other"
    )
    with alone if name in HYBRIDS else nullcontext():
        batch = engine.generate_batch(PROMPTS, passages=passages, config=config)
    for one, other in zip(single, batch, strict=True):
        assert (one.text, one.token_ids, one.provenance) == (
            other.text,
            other.token_ids,
            other.provenance,
        )
        assert (one.citations, one.finish_reason) == (other.citations, other.finish_reason)
        assert (one.stats.lm_forwards, one.stats.steps) == (
            other.stats.lm_forwards,
            other.stats.steps,
        )
    assert len({len(one.token_ids) for one in single}) > 1, "rows did not stop at different points"
