"""Tiny random models of many architectures, and their tokenizer: all in memory, float32."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import tokenizers
import torch
import transformers as hf
from tokenizers import decoders, models, pre_tokenizers, trainers

_TRAINING_TEXT = [
    "The river flows from the mountains to the sea, and the sea gives the rain back to the "
    "mountains.",
    "A planet is a body that moves around a star. A moon is a body that moves around a planet.",
    "Question: What is a planet? Answer: A planet is a body that moves around a star.",
    "Helium is a gas. Neon is a gas. Iron is a metal. Copper is a metal that conducts heat and "
    "electricity well.",
]
# `NEST_TEST_DEVICE=cuda pytest tests/equivalence` holds an accelerator to the same answers.
DEVICE = os.environ.get("NEST_TEST_DEVICE", "cpu")
CONTROL_TOKENS = ["<|im_start|>", "<|im_end|>"]


@lru_cache
def tiny_tokenizer() -> hf.PreTrainedTokenizerFast:
    """Return a byte-level BPE of 320 tokens with chat control tokens, one not marked special."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|endoftext|>", *CONTROL_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(_TRAINING_TEXT, trainer)
    tokenizer = hf.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
    )
    tokenizer.add_tokens([tokenizers.AddedToken("<tool_call>", special=False)])
    return tokenizer


def tokenizer_that_refuses(*, ending: str) -> hf.PreTrainedTokenizerFast:
    """Return the tokenizer with a template that knows system and user alone.

    Args:
        ending: Jinja, behind the last turn.
    """
    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role not in ['system', 'user'] %}"
        "{{ raise_exception('who is ' + m.role) }}{% endif %}{{ m.role }}: {{ m.content }}\n"
        "{% endfor %}" + ending
    )
    return tokenizer


@dataclass(frozen=True)
class Architecture:
    """How to build a tiny model, and where its last feed-forward block and its last layer are."""

    config: type[Any]
    model: type[Any]
    settings: dict[str, Any]
    last_layer: str
    feed_forward: str


_COMMON = {
    "vocab_size": 336,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
    "initializer_range": 0.2,
}
_LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
_NEOX = {name: value for name, value in _LLAMA.items() if name != "num_key_value_heads"}

ARCHITECTURES = {
    "llama": Architecture(hf.LlamaConfig, hf.LlamaForCausalLM, _LLAMA, "model.layers.2", "mlp"),
    "gpt2": Architecture(
        hf.GPT2Config,
        hf.GPT2LMHeadModel,
        {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256},
        "transformer.h.2",
        "mlp",
    ),
    "gpt_neox": Architecture(
        hf.GPTNeoXConfig, hf.GPTNeoXForCausalLM, _NEOX, "gpt_neox.layers.2", "mlp"
    ),
    "opt": Architecture(
        hf.OPTConfig,
        hf.OPTForCausalLM,
        {
            "hidden_size": 32,
            "word_embed_proj_dim": 32,
            "ffn_dim": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "max_position_embeddings": 256,
            "init_std": 0.2,
        },
        "model.decoder.layers.2",
        "fc1",
    ),
    # A window shorter than the texts of the tests, so that it matters.
    "mistral": Architecture(
        hf.MistralConfig,
        hf.MistralForCausalLM,
        _LLAMA | {"sliding_window": 24},
        "model.layers.2",
        "mlp",
    ),
    "qwen3": Architecture(
        hf.Qwen3Config,
        hf.Qwen3ForCausalLM,
        _LLAMA
        | {"head_dim": 8, "use_sliding_window": True, "sliding_window": 24, "max_window_layers": 1},
        "model.layers.2",
        "mlp",
    ),
    "gemma": Architecture(
        hf.GemmaConfig, hf.GemmaForCausalLM, _LLAMA | {"head_dim": 8}, "model.layers.2", "mlp"
    ),
    "phi": Architecture(hf.PhiConfig, hf.PhiForCausalLM, _LLAMA, "model.layers.2", "mlp"),
}


_HYBRID = _LLAMA | {"num_hidden_layers": 4, "head_dim": 8}
_DELTA_NET = _HYBRID | {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
_MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8}

# Attention beside layers that keep a state.
HYBRIDS = {
    "qwen3_next": Architecture(
        hf.Qwen3NextConfig,
        hf.Qwen3NextForCausalLM,
        _DELTA_NET
        | {
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
            "shared_expert_intermediate_size": 16,
        },
        "model.layers.3",
        "mlp",
    ),
    "qwen3_5": Architecture(
        hf.Qwen3_5TextConfig, hf.Qwen3_5ForCausalLM, _DELTA_NET, "model.layers.3", "mlp"
    ),
    "lfm2": Architecture(
        hf.Lfm2Config,
        hf.Lfm2ForCausalLM,
        _HYBRID
        | {"layer_types": ["conv", "conv", "full_attention", "conv"], "block_multiple_of": 16},
        "model.layers.3",
        "feed_forward",
    ),
    "falcon_h1": Architecture(
        hf.FalconH1Config,
        hf.FalconH1ForCausalLM,
        _HYBRID | _MAMBA | {"mamba_d_ssm": 64, "mamba_n_groups": 1},
        "model.layers.3",
        "feed_forward",
    ),
    "granitemoehybrid": Architecture(
        hf.GraniteMoeHybridConfig,
        hf.GraniteMoeHybridForCausalLM,
        _HYBRID
        | _MAMBA
        | {
            "layer_types": ["mamba", "attention", "mamba", "attention"],
            "num_local_experts": 0,
            "shared_intermediate_size": 64,
            "position_embedding_type": "rope",
        },
        "model.layers.3",
        "shared_mlp",
    ),
    "olmo_hybrid": Architecture(
        hf.OlmoHybridConfig, hf.OlmoHybridForCausalLM, _HYBRID, "model.layers.3", "mlp"
    ),
}
EVERY = ARCHITECTURES | HYBRIDS


def tiny_model(
    name: str, *, seed: int = 0, attn_implementation: str = "sdpa", **changes: Any
) -> hf.PreTrainedModel:
    """Return a tiny random model in evaluation mode, on ``DEVICE``."""
    architecture = EVERY[name]
    config = architecture.config(**(_COMMON | architecture.settings | changes))
    config._attn_implementation = attn_implementation
    torch.manual_seed(seed)
    model = architecture.model(config).eval()
    # Random models hardly depend on distant text unless their attention is made sharp.
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter.ndim == 2 and ("q_proj" in parameter_name or "query" in parameter_name):
                parameter.mul_(2.0)
    return model.to(DEVICE)
