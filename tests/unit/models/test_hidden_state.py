"""The layers that compute the text are found, whatever else comes in lists of the same length."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as hf
from torch import nn

from nest_engine import Passage, UnsupportedModelError
from nest_engine.models.hidden_state import decoder_layers
from nest_engine.models.huggingface import HuggingFaceLanguageModel
from tests.tiny_models import _COMMON, _LLAMA, ARCHITECTURES, tiny_model, tiny_tokenizer

NUM_LAYERS = 3


class Layer(nn.Module):
    """A layer of a made-up model, of experts if it has any."""

    def __init__(self, num_experts: int = 0) -> None:
        super().__init__()
        self.mlp = nn.Linear(2, 2)
        self.experts = nn.ModuleList(Layer() for _ in range(num_experts))


class Stack(nn.Module):
    """Layers, and the token embeddings of those that read text."""

    def __init__(self, *, embeds: bool = False, num_experts: int = 0) -> None:
        super().__init__()
        # Registered first, as towers are: the order must not matter.
        self.norms = nn.ModuleList(nn.LayerNorm(2) for _ in range(NUM_LAYERS))
        self.layers = nn.ModuleList(Layer(num_experts) for _ in range(NUM_LAYERS))
        if embeds:
            self.embed_tokens = nn.Embedding(4, 2)


class Model(nn.Module):
    """A made-up model, with paths to what transformers takes for its decoder and embeddings."""

    def __init__(self, decoder: str, embeddings: str, /, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)
        self._decoder, self._embeddings = decoder, embeddings

    def get_decoder(self) -> nn.Module:
        return self.get_submodule(self._decoder)

    def get_input_embeddings(self) -> nn.Module:
        return self.get_submodule(self._embeddings)


class Wrapped(nn.Module):
    """A tower, inside the model that reads text."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = Stack()
        self.text = Stack(embeds=True, num_experts=NUM_LAYERS)


def found(model: Any) -> str:
    """Return the path of the layers."""
    layers = decoder_layers(model, NUM_LAYERS)
    return next(name for name, module in model.named_modules() if module is layers)


@pytest.mark.parametrize("tower", ["vision_tower", "audio_tower"])
def test_a_tower_is_not_taken(tower: str) -> None:
    text = Stack(embeds=True)
    model = Model(
        "language_model", "language_model.embed_tokens", **{tower: Stack()}, language_model=text
    )
    assert found(model) == "language_model.layers"


def test_a_tower_is_not_taken_where_transformers_knows_no_decoder() -> None:
    """Then it gives the whole model; the embeddings tell the decoder."""
    model = Model("", "model.text.embed_tokens", model=Wrapped())
    assert found(model) == "model.text.layers"


def test_a_tower_is_not_taken_where_the_embeddings_stand_apart() -> None:
    embeddings = nn.Embedding(4, 2)
    model = Model("decoder", "wte", tower=Stack(), decoder=Stack(), wte=embeddings)
    assert found(model) == "decoder.layers"


def test_experts_are_not_taken() -> None:
    model = Model("model", "model.embed_tokens", model=Stack(embeds=True, num_experts=NUM_LAYERS))
    assert found(model) == "model.layers"


def test_a_head_called_decoder_does_no_harm() -> None:
    model = Model(
        "decoder", "model.embed_tokens", decoder=nn.Linear(2, 4), model=Stack(embeds=True)
    )
    assert found(model) == "model.layers"


def test_a_model_without_such_a_list_is_refused() -> None:
    model: Any = Model("model", "model.embed_tokens", model=Stack(embeds=True))
    with pytest.raises(UnsupportedModelError, match="Model has no list of 5 decoder layers"):
        decoder_layers(model, 5)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_has_them(name: str) -> None:
    assert found(tiny_model(name)) == ARCHITECTURES[name].last_layer.rpartition(".")[0]


_TEXT = _COMMON | _LLAMA
_TOWER = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": NUM_LAYERS,
    "num_attention_heads": 4,
}
_IMAGES = {"image_size": 16, "patch_size": 8}


def gemma3() -> hf.PreTrainedModel:
    layers = ["sliding_attention", "full_attention", "sliding_attention"]
    config = hf.Gemma3Config(
        text_config=_TEXT | {"head_dim": 8, "sliding_window": 24, "layer_types": layers},
        vision_config=_TOWER | _IMAGES,
        mm_tokens_per_image=4,
        image_token_index=332,
    )
    # What loading a causal language model makes of such a configuration.
    model = hf.AutoModelForCausalLM.from_config(config)
    assert isinstance(model, hf.Gemma3ForConditionalGeneration)
    return model


def llava() -> hf.PreTrainedModel:
    config = hf.LlavaConfig(
        text_config=hf.LlamaConfig(**_TEXT),
        vision_config=hf.CLIPVisionConfig(**_TOWER, **_IMAGES),
        image_token_index=332,
    )
    return hf.LlavaForConditionalGeneration(config)


def voxtral() -> hf.PreTrainedModel:
    config = hf.VoxtralConfig(
        text_config=_TEXT | {"model_type": "llama"},
        audio_config=_TOWER | {"num_mel_bins": 8, "max_source_positions": 16},
        audio_token_id=332,
    )
    return hf.VoxtralForConditionalGeneration(config)


@pytest.mark.parametrize("make", [gemma3, llava, voxtral])
def test_multimodal_models_decode_text(make: Any) -> None:
    """Their towers have as many layers and are registered first."""
    torch.manual_seed(0)
    model = make()
    assert found(model) == "model.language_model.layers"
    lm = HuggingFaceLanguageModel(model, tiny_tokenizer())
    passage = lm.tokenizer.encode_passage(Passage("Neon is a gas."))
    [keys_TD] = lm.encode([passage])
    _, [prefill] = lm.prefill([passage.context_ids + passage.token_ids])
    torch.testing.assert_close(keys_TD, prefill.hidden_TD[:-1], rtol=1e-4, atol=1e-4)
