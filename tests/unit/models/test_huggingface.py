"""A model whole, in lower precision, or in parts that accelerate moves: the same answers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from nest_engine import ContextOverflowError, NestConfig, NestEngine, Passage
from tests.tiny_models import tiny_model, tiny_tokenizer
from tests.unit.models.tiny_language_models import PLANETS, QUOTING, in_parts, language_model, saved


def test_from_pretrained_loads_what_was_saved(tmp_path):
    model, tokenizer = tiny_model("qwen3"), tiny_tokenizer()
    model.config.nest = {"ra-nest": {"alpha": 0.4, "gamma": 0.01}}
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    engine = NestEngine.from_pretrained(
        str(tmp_path), dtype=torch.float32, attn_implementation="eager", device="cpu"
    )
    assert (engine.config.alpha, engine.config.gamma, engine.config.tau) == (0.4, 0.01, 0.1)
    assert (
        NestConfig(method="nest", tuned=engine.config.tuned).alpha
        == NestConfig(method="nest").alpha
    )
    assert engine.language_model.model.config._attn_implementation == "eager"
    prompt = "A planet"
    direct = NestEngine(model, tokenizer).generate(prompt, method="lm", max_new_tokens=20)
    assert engine.generate(prompt, method="lm", max_new_tokens=20).token_ids == direct.token_ids


def test_device_map_auto_places_a_model(tmp_path):
    engine = NestEngine.from_pretrained(saved(tmp_path), dtype=torch.float32, device_map="auto")
    direct = NestEngine(tiny_model("llama"), tiny_tokenizer())
    outputs = [each.generate("A planet", passages=PLANETS, **QUOTING) for each in (engine, direct)]
    assert outputs[0].token_ids == outputs[1].token_ids
    assert outputs[0].citations == outputs[1].citations != ()


@pytest.mark.parametrize("is_tied", [False, True])
@pytest.mark.parametrize(
    "on_disk", [("model.layers.1", "model.layers.2"), ("model.embed_tokens", "lm_head")]
)
def test_a_model_in_parts_answers_as_a_whole_one(tmp_path, on_disk, is_tied):
    """The key layer, the embeddings and the head may each be where their weights come and go."""
    direct = NestEngine.from_pretrained(
        saved(tmp_path, tie_word_embeddings=is_tied), dtype=torch.float32
    )
    engine = in_parts(tmp_path, *on_disk)
    assert any(parameter.is_meta for parameter in engine.language_model.model.parameters())
    assert engine.language_model.device == torch.device("cpu")
    assert engine.language_model.fingerprint == direct.language_model.fingerprint
    passage = direct.language_model.tokenizer.encode_passage(PLANETS[0])
    keys = [each.language_model.encode([passage])[0] for each in (engine, direct)]
    torch.testing.assert_close(*keys, rtol=1e-5, atol=1e-5)
    outputs = [each.generate("A planet", passages=PLANETS, **QUOTING) for each in (engine, direct)]
    assert outputs[0].token_ids == outputs[1].token_ids
    assert outputs[0].citations == outputs[1].citations != ()


def test_threads_share_a_model_in_parts(tmp_path):
    """accelerate takes weights away behind each layer: another thread may need them just then."""
    saved(tmp_path)
    engine = in_parts(tmp_path, "model.layers.1", "model.layers.2")

    def answer(number: int) -> tuple[int, ...]:
        prompt = f"A planet has {number} moons"
        return engine.generate(prompt, passages=PLANETS, **QUOTING).token_ids

    alone = [answer(number) for number in range(8)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(answer, range(8))) == alone


def test_a_prompt_that_fills_the_context_is_refused():
    lm = language_model(max_position_embeddings=16)
    with pytest.raises(ContextOverflowError, match="16 tokens and the model's context holds 16"):
        lm.prefill([list(range(16))])


def test_logits_wider_than_the_vocabulary_are_no_obstacle():
    engine = NestEngine(tiny_model("llama", vocab_size=512), tiny_tokenizer())
    output = engine.generate(
        "A planet", passages=[Passage("A planet is a body.")], max_new_tokens=20
    )
    assert output.stats.completion_tokens > 0


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_lower_precision_decodes(name):
    model = tiny_model(name).to(torch.bfloat16)
    output = NestEngine(model, tiny_tokenizer()).generate(
        "A planet",
        passages=[Passage("A planet is a body that moves.")],
        **QUOTING,
    )
    assert output.stats.attributed_share > 0
