"""What a model needs before it is tried: masks, a vocabulary that fits, one device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from torch import nn

from nest_engine.errors import ConfigError, UnsupportedModelError
from nest_engine.models.attention_mask import ATTENTION_LAYERS

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_MASKED_ATTENTION = ("eager", "sdpa")  # implementations that take a ready-made [B, 1, Q, KV] mask


def require_supported(model: PreTrainedModel, text_config: Any) -> None:
    """Raise ``UnsupportedModelError`` if a model's configuration rules it out."""
    name = type(model).__name__
    if getattr(model.config, "is_encoder_decoder", False):
        raise UnsupportedModelError(
            f"{name} is an encoder-decoder; NEST needs a decoder-only causal language model"
        )
    implementation = text_config._attn_implementation
    if implementation not in _MASKED_ATTENTION:
        raise UnsupportedModelError(
            f"attention implementation {implementation!r} takes no explicit mask, which rows of "
            f"different length need; load {name} with attn_implementation='sdpa' or 'eager'"
        )


def keeps_a_state(text_config: Any) -> bool:
    """Return whether a model has layers that attention masks do not rule: rows are read alone."""
    return bool(_other_layers(text_config))


def require_attention_only(model: PreTrainedModel, text_config: Any) -> None:
    """Raise ``UnsupportedModelError`` for a model of which one cache for all rows asks too much."""
    if other_layers := _other_layers(text_config):
        raise UnsupportedModelError(
            f"{type(model).__name__} has {', '.join(other_layers)} layers, whose state cannot be "
            "cut back to the accepted tokens in a shared cache; load it without static_cache, and "
            "in one process"
        )


def positions_depend_on_length(text_config: Any) -> bool:
    """Return whether a position is encoded otherwise in a longer text: so not in pieces."""
    parameters = getattr(text_config, "rope_parameters", None) or {}
    of_layers = [each for each in parameters.values() if isinstance(each, dict)] or [parameters]
    scaling = getattr(text_config, "rope_scaling", None)  # its name before transformers 5
    kinds = {
        each.get("rope_type", each.get("type"))
        for each in (*of_layers, scaling)
        if isinstance(each, dict)
    }
    return bool(kinds & {"longrope", "dynamic", "su", "yarn_dynamic"})


def _other_layers(text_config: Any) -> list[str]:
    return sorted(set(getattr(text_config, "layer_types", None) or ()) - ATTENTION_LAYERS)


def require_fitting_vocabulary(model: PreTrainedModel, num_tokens: int) -> None:
    """Raise ``UnsupportedModelError`` if a model does not embed all tokens of its tokenizer."""
    embeddings = cast(nn.Embedding, model.get_input_embeddings())
    if num_tokens > embeddings.num_embeddings:
        raise UnsupportedModelError(
            f"the tokenizer has {num_tokens} tokens and {type(model).__name__} embeds "
            f"{embeddings.num_embeddings}: they do not belong together, or the model's embeddings "
            "must be resized"
        )


def require_one_device(model: PreTrainedModel) -> None:
    """Raise ``ConfigError`` unless all of a model is on one device, as a static cache needs it."""
    devices = sorted({str(parameter.device) for parameter in model.parameters()})
    if len(devices) > 1 or "meta" in devices:
        raise ConfigError(
            f"static_cache=True needs the whole model on one device; it is on "
            f"{', '.join(devices)}: load it with device= instead of device_map=, or without "
            "static_cache"
        )
