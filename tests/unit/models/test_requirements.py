"""Models that cannot be decoded are refused, and told why."""

from __future__ import annotations

import pytest
import transformers as hf

from nest_engine import ConfigError, NestEngine, UnsupportedModelError
from nest_engine.models.huggingface import HuggingFaceLanguageModel
from nest_engine.models.requirements import require_one_device
from tests.tiny_models import _COMMON, _LLAMA, tiny_model, tiny_tokenizer
from tests.unit.models.tiny_language_models import language_model


def test_states_that_steps_do_not_agree_on_are_refused():
    """Jamba forgets its state where several tokens are read; Mamba has no attention to count by."""
    config = hf.MambaConfig(vocab_size=336, hidden_size=32, num_hidden_layers=2, state_size=4)
    with pytest.raises(UnsupportedModelError, match="Mamba"):
        HuggingFaceLanguageModel(hf.MambaForCausalLM(config), tiny_tokenizer())
    config = hf.JambaConfig(
        **(_COMMON | _LLAMA), attn_layer_period=2, attn_layer_offset=1, num_experts=2
    )
    with pytest.raises(UnsupportedModelError, match="other values in steps than in one pass"):
        HuggingFaceLanguageModel(hf.JambaForCausalLM(config), tiny_tokenizer())


def test_states_need_caches_of_their_own():
    with pytest.raises(UnsupportedModelError, match="linear_attention layers, whose state"):
        HuggingFaceLanguageModel(tiny_model("qwen3_5"), tiny_tokenizer(), static_cache=True)


def test_other_misfits_are_refused():
    with pytest.raises(UnsupportedModelError, match="encoder-decoder"):
        HuggingFaceLanguageModel(
            hf.BartForConditionalGeneration(
                hf.BartConfig(vocab_size=336, d_model=32, encoder_layers=1)
            ),
            tiny_tokenizer(),
        )
    with pytest.raises(UnsupportedModelError, match=r"flex_attention.*attn_implementation='sdpa'"):
        language_model(attn_implementation="flex_attention")
    with pytest.raises(
        UnsupportedModelError, match=r"tokenizer has 3\d\d tokens and LlamaForCausalLM embeds 100"
    ):
        language_model(vocab_size=100)
    with pytest.raises(ConfigError, match="key_layer='last' is not valid"):
        HuggingFaceLanguageModel(tiny_model("llama"), tiny_tokenizer(), key_layer="last")
    with pytest.raises(ConfigError, match="needs its tokenizer"):
        NestEngine(tiny_model("llama"))


def test_a_static_cache_needs_one_device():
    model = tiny_model("llama").to("meta")
    with pytest.raises(
        ConfigError, match="static_cache=True needs the whole model on one device; it is on meta"
    ):
        require_one_device(model)
