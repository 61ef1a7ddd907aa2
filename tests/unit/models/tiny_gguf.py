"""A tiny model as a GGUF file, written as llama.cpp's converter writes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from tests.tiny_models import CONTROL_TOKENS, tiny_model, tiny_tokenizer

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{{ '<|im_start|>assistant\n' }}"
)
_LAYER = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def model_of_the_file() -> Any:
    """Return what ``write_gguf`` writes: weights that bfloat16 holds exactly."""
    model = tiny_model("llama", vocab_size=len(tiny_tokenizer()), tie_word_embeddings=False)
    for weight in model.parameters():
        weight.data = weight.data.bfloat16().float()
    return model


def write_gguf(
    file: Path,
    *,
    architecture: str = "llama",
    has_tokenizer: bool = True,
    split: str = "smollm",
    name: str | None = None,
) -> Path:
    """Write the model to a file and return the file.

    Args:
        file: the file.
        architecture: what it says it is.
        has_tokenizer: whether it brings one.
        split: what it says of how text is split; ``spm``: a SentencePiece vocabulary instead.
        name: of the model.
    """
    model = model_of_the_file()
    config = model.config
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    if name is not None:
        writer.add_name(name)
    if has_tokenizer and split == "spm":
        _add_sentence_pieces(writer, config.vocab_size)
    elif has_tokenizer:
        _add_tokenizer(writer, split)
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    writer.add_tensor("token_embd.weight", weights["model.embed_tokens.weight"])
    writer.add_tensor("output_norm.weight", weights["model.norm.weight"])
    writer.add_tensor("output.weight", weights["lm_head.weight"])
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for layer in range(config.num_hidden_layers):
        for name, ours in _LAYER.items():
            weight = weights[f"model.layers.{layer}.{ours}.weight"]
            if name in heads:
                weight = _interleaved(weight, heads[name])
            writer.add_tensor(f"blk.{layer}.{name}.weight", weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _add_tokenizer(writer: gguf.GGUFWriter, split: str) -> None:
    tokenizer = tiny_tokenizer()
    control = {tokenizer.eos_token, *CONTROL_TOKENS, "<tool_call>"}
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    kinds = [gguf.TokenType.CONTROL if t in control else gguf.TokenType.NORMAL for t in tokens]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(split)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(tokens.index("<|im_start|>"))
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    writer.add_chat_template(TEMPLATE)


def _add_sentence_pieces(writer: gguf.GGUFWriter, size: int) -> None:
    """Add a vocabulary of bytes, letters and a few words, which adds a space in front of a text."""
    kinds = {"<unk>": gguf.TokenType.UNKNOWN}
    kinds |= dict.fromkeys(
        ["<s>", "</s>", "<|user|>", "<|end|>", "<|endoftext|>"], gguf.TokenType.CONTROL
    )
    kinds |= {"<tool_call>": gguf.TokenType.USER_DEFINED}
    kinds |= {f"<0x{byte:02X}>": gguf.TokenType.BYTE for byte in range(256)}
    words = ["\u2581", *"abcdefghijklmnopqrstuvwxyzWH?.", "\u2581W", "\u2581Wh", "\u2581Wha"]
    words += ["\u2581What", "\u2581i", "\u2581is", "\u2581a", "\u2581b", "\u00e9", "\u6f22"]
    kinds |= dict.fromkeys(words, gguf.TokenType.NORMAL)
    kinds |= {f"<filler {number}>": gguf.TokenType.UNUSED for number in range(size - len(kinds))}
    writer.add_tokenizer_model("llama")
    writer.add_token_list(list(kinds))
    writer.add_token_scores([float(len(token)) for token in kinds])
    writer.add_token_types(list(kinds.values()))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)


def _interleaved(weight: np.ndarray, num_heads: int) -> np.ndarray:
    """Return the rows of queries or keys in llama.cpp's order: rotated pairs side by side."""
    rows, columns = weight.shape
    halves = weight.reshape(num_heads, 2, rows // num_heads // 2, columns)
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows, columns)
