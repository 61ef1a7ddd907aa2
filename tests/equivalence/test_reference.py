"""The engine decides what the naive reference decoder decides."""

from __future__ import annotations

from functools import cache

import pytest

from nest_engine import NestConfig, NestEngine, Passage
from tests.reference_decoder import ReferenceAnswer, ReferenceDecoder
from tests.tiny_models import ARCHITECTURES, EVERY, tiny_model, tiny_tokenizer

PASSAGES = [
    Passage(
        "The river flows from the mountains to the sea. Copper is a metal that conducts heat. A "
        "moon moves around.",
        title="River",
    ),
    Passage(
        "A planet is a body that moves around a star, and the sea gives the rain back to the "
        "mountains."
    ),
    Passage(
        "Neon is a gas. Iron is a metal. Question: What is a planet? A moon is a body 🌙 of rock.",
        title="Neon",
    ),
]
PROMPT = "Question: What is a river? Answer: The"

# Random models trust neither themselves nor their neighbours; these settings make every branch of
# the loop happen.
MORE_TRUST = {"max_new_tokens": 48, "k": 32, "alpha": 0.6, "delta": 0.9}
STRICT = {"max_new_tokens": 48, "k": 16, "alpha": 0.8, "delta": 0.9, "gamma": 0.05}


def nest(**settings) -> NestConfig:
    """NEST as in the paper, but for what is set."""
    return NestConfig.paper_7b(**{"draft_after_rejection": True} | settings)


CONFIGS = {
    "paper": nest(**MORE_TRUST),
    "temperature": nest(**MORE_TRUST, knn_temperature=0.3),
    "strict": nest(**STRICT | {"tau": 0.2, "delta": 0.8, "max_draft_tokens": 6}),
    "plausible tokens only": nest(**MORE_TRUST, gamma=0.05, plausibility=0.02),
    "single token after rejection": nest(**STRICT, max_draft_tokens=9, draft_after_rejection=False),
    "fewer keys than k, copies again": nest(
        max_new_tokens=48, k=5000, alpha=0.7, delta=1.0, gamma=0.2, mask_copied=False
    ),
    "knn-lm": NestConfig.knn_lm(max_new_tokens=32, k=16, fixed_lambda=0.3),
    "lossless": NestConfig.lossless(max_new_tokens=48, k=64),
}


@cache
def run_both(
    name: str, config: NestConfig, key_layer: str = "ffn_input"
) -> tuple[object, ReferenceAnswer]:
    model, tokenizer = tiny_model(name), tiny_tokenizer()
    engine = NestEngine(model, tokenizer, key_layer=key_layer)
    output = engine.generate(PROMPT, passages=PASSAGES, query=PROMPT, config=config)

    architecture = EVERY[name]
    module = architecture.last_layer + (
        f".{architecture.feed_forward}" if key_layer == "ffn_input" else ""
    )
    tokens = engine.language_model.tokenizer
    reference = ReferenceDecoder(model, module, set(tokens.control_ids))
    entries = []
    for number, passage in enumerate(PASSAGES):
        tokenized = tokens.encode_passage(passage)
        entries += reference.passage_entries(
            number, list(tokenized.context_ids), list(tokenized.token_ids)
        )
    prompt_ids = tokenizer(PROMPT)["input_ids"]
    return output, reference.decode(prompt_ids, entries, config, set(engine.language_model.eos_ids))


def assert_same(output, expected: ReferenceAnswer) -> None:
    assert list(output.token_ids) == expected.tokens
    assert [None if p is None else tuple(p) for p in output.provenance] == expected.provenance
    assert output.lambdas == pytest.approx(expected.lambdas, abs=1e-4)
    last = max(i for i, (status, *_) in enumerate(expected.trace) if status != "rejected")
    statuses, tokens, probabilities, lambdas = zip(*expected.trace[: last + 1], strict=True)
    assert tuple(token.status for token in output.trace) == statuses
    assert tuple(token.token_id for token in output.trace) == tokens
    assert [token.probability for token in output.trace] == pytest.approx(probabilities, abs=1e-4)
    assert [token.lambda_ for token in output.trace] == pytest.approx(lambdas, abs=1e-4)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
@pytest.mark.parametrize("key_layer", ["ffn_input", "penultimate"])
def test_engine_equals_reference(config, key_layer):
    output, expected = run_both("llama", config, key_layer)
    assert_same(output, expected)


@pytest.mark.parametrize("name", [*ARCHITECTURES, "qwen3_5", "lfm2", "falcon_h1"])
def test_engine_equals_reference_on_every_architecture(name):
    output, expected = run_both(name, CONFIGS["strict"])
    assert_same(output, expected)


def test_settings_reach_every_branch():
    """Guard the tests above: long drafts, rejections within them and plain tokens all occur."""
    configs = [config for name, config in CONFIGS.items() if name != "knn-lm"]
    answers = [run_both("llama", config, "ffn_input")[1] for config in configs]
    assert sum(answer.num_drafts for answer in answers) >= 10
    assert sum(answer.num_rejections for answer in answers) >= 5
    assert sum(source is None for answer in answers for source in answer.provenance) >= 5
    assert sum(source is not None for answer in answers for source in answer.provenance) >= 50


@pytest.mark.parametrize("draft_after_rejection", [True, False])
def test_prompt_index_equals_reference(draft_after_rejection):
    """``ra-nest`` takes the keys of a passage in the prompt from there, and encodes the others."""
    model, tokenizer = tiny_model("llama"), tiny_tokenizer()
    engine = NestEngine(model, tokenizer)
    prompt = f"Background: {PASSAGES[0].text}\nQuestion: What is a river? Answer:"
    config = NestConfig.ra_nest(
        max_new_tokens=48,
        k=24,
        alpha=0.8,
        delta=0.9,
        gamma=0.05,
        draft_after_rejection=draft_after_rejection,
        knn_temperature=1.0,
        plausibility=0.0,
        by_sentence=False,
    )
    output = engine.generate(prompt, passages=PASSAGES, config=config)
    assert output.stats.encoded_passages == 2

    tokens = engine.language_model.tokenizer
    encoded = tokenizer(prompt, return_offsets_mapping=True)
    start = prompt.index(PASSAGES[0].text)
    inside = [
        i
        for i, (a, b) in enumerate(encoded["offset_mapping"])
        if b > start and b <= start + len(PASSAGES[0].text)
    ]
    reference = ReferenceDecoder(model, "model.layers.2.mlp", set(tokens.control_ids))
    entries = reference.prompt_entries(0, encoded["input_ids"], inside[0], inside[-1] + 1)
    for number in (1, 2):
        tokenized = tokens.encode_passage(PASSAGES[number])
        entries += reference.passage_entries(
            number, list(tokenized.context_ids), list(tokenized.token_ids)
        )
    expected = reference.decode(
        encoded["input_ids"], entries, config, set(engine.language_model.eos_ids)
    )
    assert_same(output, expected)
    assert any(source and source.passage == 0 for source in output.provenance)
