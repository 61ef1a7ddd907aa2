"""Loading, the cache, keys, and the models that cannot work."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import transformers as hf

from nest_engine import ConfigError, ContextOverflowError, NestConfig, NestEngine, Passage, UnsupportedModelError
from nest_engine.language_model import HuggingFaceLanguageModel
from nest_engine.types import TokenizedPassage
from tests.tiny_models import _COMMON, _LLAMA, ARCHITECTURES, tiny_model, tiny_tokenizer


def language_model(name: str = "llama", **changes) -> HuggingFaceLanguageModel:
    return HuggingFaceLanguageModel(tiny_model(name, **changes), tiny_tokenizer())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_uneven_rows_equal_plain_forwards(name):
    """Extend, cut back in the middle of a draft, drop a row, extend again: always as if read in one pass."""
    lm = language_model(name)
    texts = [list(range(5, 45)), list(range(60, 90)), list(range(100, 125))]
    with torch.no_grad():
        expected = [lm.model(torch.tensor([text]), use_cache=False).logits[0] for text in texts]
    session, prefills = lm.prefill([text[:n] for text, n in zip(texts, (20, 3, 9), strict=True)])
    for prefill, logits_TV, n in zip(prefills, expected, (20, 3, 9), strict=True):
        torch.testing.assert_close(prefill.frontier.logits_V, logits_TV[n - 1], rtol=1e-4, atol=1e-4)
    session.extend([[*texts[0][20:22], 1, 1], texts[1][3:9], [*texts[2][9:10], 7]])
    session.truncate([22, 9, 10])
    assert session.lengths == (22, 9, 10)
    session.keep([0, 2])
    outputs = session.extend([texts[0][22:40], texts[2][10:12]])
    torch.testing.assert_close(outputs[0].logits_TV, expected[0][22:40], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(outputs[1].logits_TV, expected[2][10:12], rtol=1e-4, atol=1e-4)
    assert session.lengths == (40, 12)
    with pytest.raises(ValueError, match="row 1 holds 12 tokens and cannot be cut back to 13"):
        session.truncate([40, 13])


@pytest.mark.parametrize("key_layer", ["ffn_input", "penultimate"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_keys_are_the_hidden_states_of_a_session(name, key_layer):
    """Reading a passage by itself, in a batch with others, gives what reading it as a prompt gives."""
    lm = HuggingFaceLanguageModel(tiny_model(name), tiny_tokenizer(), key_layer=key_layer)
    passages = [
        lm.tokenizer.encode_passage(Passage("Neon is a gas. Iron is a metal that conducts heat.", title="Metals")),
        lm.tokenizer.encode_passage(Passage("A moon")),
    ]
    for passage, keys_TD in zip(passages, lm.encode(passages), strict=True):
        _, [prefill] = lm.prefill([passage.context_ids + passage.token_ids])
        first = len(passage.context_ids) - 1
        torch.testing.assert_close(keys_TD, prefill.hidden_TD[first:-1], rtol=1e-4, atol=1e-4)


def test_a_passage_without_context_has_no_key_for_its_first_token():
    lm = language_model()
    assert [len(keys) for keys in lm.encode([TokenizedPassage((), (5, 6, 7), (0, 1, 2), (1, 2, 3))])] == [2]
    assert [len(keys) for keys in lm.encode([TokenizedPassage((), (5,), (0,), (1,))])] == [0]
    assert [len(keys) for keys in lm.encode([TokenizedPassage((), (), (), ())])] == [0]


def test_a_passage_longer_than_the_context_is_read_in_windows():
    lm = language_model(max_position_embeddings=32)
    tokens = tuple(range(5, 5 + 150))
    passage = TokenizedPassage((0,), tokens, tuple(range(150)), tuple(range(1, 151)))
    [keys_TD] = lm.encode([passage])
    assert len(keys_TD) == 150
    everything = (0, *tokens)
    for position in (0, 10, 30, 32, 46, 48, 100, 142):
        # Windows of 32 tokens begin every 16; each gives the keys of its second half, the first all of its own.
        start = 0 if position < 32 else (position - 16) // 16 * 16
        _, [prefill] = lm.prefill([everything[start : position + 1]])
        torch.testing.assert_close(keys_TD[position], prefill.hidden_TD[-1], rtol=1e-4, atol=1e-4)


def test_from_pretrained_loads_what_was_saved(tmp_path):
    model, tokenizer = tiny_model("qwen3"), tiny_tokenizer()
    model.config.nest = {"nest": {"alpha": 0.4, "gamma": 0.01}}
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    engine = NestEngine.from_pretrained(str(tmp_path), dtype=torch.float32, attn_implementation="eager", device="cpu")
    assert (engine.config.alpha, engine.config.gamma, engine.config.tau) == (0.4, 0.01, 0.1)
    assert NestConfig(method="ra-nest", tuned=engine.config.tuned).alpha == NestConfig(method="ra-nest").alpha
    assert engine.language_model.model.config._attn_implementation == "eager"
    prompt = "A planet"
    direct = NestEngine(model, tokenizer).generate(prompt, method="lm", max_new_tokens=20)
    assert engine.generate(prompt, method="lm", max_new_tokens=20).token_ids == direct.token_ids


def test_fingerprint_tells_models_and_key_layers_apart():
    model, tokenizer = tiny_model("llama"), tiny_tokenizer()
    fingerprints = {
        HuggingFaceLanguageModel(model, tokenizer).fingerprint,
        HuggingFaceLanguageModel(model, tokenizer, key_layer="penultimate").fingerprint,
        language_model(seed=1).fingerprint,
        language_model("gemma").fingerprint,
    }
    assert len(fingerprints) == 4
    assert HuggingFaceLanguageModel(tiny_model("llama"), tokenizer).fingerprint in fingerprints


def test_two_devices_at_once_are_refused():
    with pytest.raises(ConfigError, match=r"device='cpu' and device_map='auto' exclude each other"):
        HuggingFaceLanguageModel.from_pretrained("anything", device="cpu", device_map="auto")
    with pytest.raises(ConfigError, match=r"device_map='auto' and tp_plan='auto' exclude each other"):
        HuggingFaceLanguageModel.from_pretrained("anything", device_map="auto", tp_plan="auto")


def saved(folder: Path, **changes) -> str:
    tiny_model("llama", **changes).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def in_parts(folder: Path, *on_disk: str) -> NestEngine:
    """Return an engine whose model accelerate spreads: some parts in memory, the named ones on disk."""
    parts = [f"model.{part}" for part in ("embed_tokens", "layers.0", "layers.1", "layers.2", "norm", "rotary_emb")]
    return NestEngine.from_pretrained(
        str(folder),
        dtype=torch.float32,
        device_map={part: "disk" if part in on_disk else "cpu" for part in [*parts, "lm_head"]},
        offload_folder=str(folder / "offloaded"),
    )


QUOTING = {"delta": 1.0, "gamma": 0.0, "max_new_tokens": 24, "adaptive_draft": False}
PLANETS = [Passage("A planet is a body that moves around a star. A moon is a body that moves around a planet.")]


def test_device_map_auto_places_a_model(tmp_path):
    engine = NestEngine.from_pretrained(saved(tmp_path), dtype=torch.float32, device_map="auto")
    direct = NestEngine(tiny_model("llama"), tiny_tokenizer())
    outputs = [each.generate("A planet", passages=PLANETS, **QUOTING) for each in (engine, direct)]
    assert outputs[0].token_ids == outputs[1].token_ids
    assert outputs[0].citations == outputs[1].citations != ()


@pytest.mark.parametrize("is_tied", [False, True])
@pytest.mark.parametrize("on_disk", [("model.layers.1", "model.layers.2"), ("model.embed_tokens", "lm_head")])
def test_a_model_in_parts_answers_as_a_whole_one(tmp_path, on_disk, is_tied):
    """The key layer, the embeddings and the head may each be where their weights come and go."""
    direct = NestEngine.from_pretrained(saved(tmp_path, tie_word_embeddings=is_tied), dtype=torch.float32)
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


def test_the_fingerprint_reads_what_is_on_disk(tmp_path):
    """Two models that differ only in what is offloaded must not take each other's keys."""
    engines = []
    for seed in (0, 1):
        folder = tmp_path / str(seed)
        saved(folder, seed=seed)
        engines.append(in_parts(folder, "model.embed_tokens", *(f"model.layers.{n}" for n in range(3)), "lm_head"))
    first, second = (engine.language_model.fingerprint for engine in engines)
    assert first != second


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


def test_recurrent_layers_are_refused():
    config = hf.MambaConfig(vocab_size=336, hidden_size=32, num_hidden_layers=2, state_size=4)
    with pytest.raises(UnsupportedModelError, match="Mamba"):
        HuggingFaceLanguageModel(hf.MambaForCausalLM(config), tiny_tokenizer())
    config = hf.Qwen3NextConfig(**(_COMMON | _LLAMA), head_dim=8, num_experts=2, num_experts_per_tok=1)
    assert "linear_attention" in config.layer_types
    with pytest.raises(UnsupportedModelError, match="linear_attention layers, whose state cannot be cut back"):
        HuggingFaceLanguageModel(hf.Qwen3NextForCausalLM(config), tiny_tokenizer())


def test_positions_derived_from_padding_are_refused():
    """BLOOM builds its position bias from a 2D padding mask: the exactness check has to notice."""
    config = hf.BloomConfig(vocab_size=336, hidden_size=32, n_layer=2, n_head=4)
    with pytest.raises(UnsupportedModelError, match="BloomForCausalLM"):
        HuggingFaceLanguageModel(hf.BloomForCausalLM(config), tiny_tokenizer())


def test_other_misfits_are_refused():
    with pytest.raises(UnsupportedModelError, match="encoder-decoder"):
        HuggingFaceLanguageModel(
            hf.BartForConditionalGeneration(hf.BartConfig(vocab_size=336, d_model=32, encoder_layers=1)),
            tiny_tokenizer(),
        )
    with pytest.raises(UnsupportedModelError, match=r"flex_attention.*attn_implementation='sdpa'"):
        language_model(attn_implementation="flex_attention")
    with pytest.raises(UnsupportedModelError, match=r"tokenizer has 3\d\d tokens and LlamaForCausalLM embeds 100"):
        language_model(vocab_size=100)
    with pytest.raises(ConfigError, match="key_layer='last' is not valid"):
        HuggingFaceLanguageModel(tiny_model("llama"), tiny_tokenizer(), key_layer="last")
    with pytest.raises(ConfigError, match="needs its tokenizer"):
        NestEngine(tiny_model("llama"))


def test_a_prompt_that_fills_the_context_is_refused():
    lm = language_model(max_position_embeddings=16)
    with pytest.raises(ContextOverflowError, match="16 tokens and the model's context holds 16"):
        lm.prefill([list(range(16))])


def test_logits_wider_than_the_vocabulary_are_no_obstacle():
    engine = NestEngine(tiny_model("llama", vocab_size=512), tiny_tokenizer())
    output = engine.generate("A planet", passages=[Passage("A planet is a body.")], max_new_tokens=20)
    assert output.stats.completion_tokens > 0


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_lower_precision_decodes(name):
    model = tiny_model(name).to(torch.bfloat16)
    output = NestEngine(model, tiny_tokenizer()).generate(
        "A planet", passages=[Passage("A planet is a body that moves.")], max_new_tokens=20, delta=1.0, gamma=0.0
    )
    assert output.stats.attributed_share > 0
