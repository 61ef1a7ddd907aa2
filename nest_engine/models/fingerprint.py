"""The fingerprint of a model: a digest of all that the keys of passages depend on."""

from __future__ import annotations

import hashlib
import json
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Parts of a configuration that keys do not depend on.
_NOT_IN_KEYS = ("nest", "transformers_version", "_name_or_path", "distributed_config")


def fingerprint(
    model: PreTrainedModel,
    text_config: Any,
    tokenizer_definition: str,
    key_layer: str,
    exclusive: AbstractContextManager[Any],
) -> str:
    """Return a digest of weights (sampled), configuration, tokenizer and key layer.

    Args:
        model: the model.
        text_config: the configuration of its text decoder.
        tokenizer_definition: the tokenizer's definition.
        key_layer: which hidden state keys are.
        exclusive: held while a weight is fetched, so that no forward moves it meanwhile.

    Returns:
        the SHA-256 digest in hexadecimal.
    """
    digest = hashlib.sha256()
    shape = {k: v for k, v in text_config.to_dict().items() if k not in _NOT_IN_KEYS}
    digest.update(json.dumps(shape, sort_keys=True, default=str).encode())
    digest.update(tokenizer_definition.encode())
    digest.update(key_layer.encode())
    # Tied weights are listed twice where accelerate has untied them.
    tied = getattr(model, "all_tied_weights_keys", {})
    for name, parameter in model.named_parameters():
        if name in tied:
            continue
        with exclusive:
            weight = _whole_weight(model, name, parameter)
        sample = weight.flatten()[:: max(1, weight.numel() // 64)][:64]
        digest.update(f"{name}{tuple(weight.shape)}{weight.dtype}".encode())
        digest.update(sample.float().cpu().numpy().tobytes())
    return digest.hexdigest()


def _whole_weight(model: PreTrainedModel, name: str, parameter: nn.Parameter) -> Tensor:
    """Return a weight from wherever it is; processes that share it must all ask for it."""
    if parameter.is_meta:  # offloaded
        from accelerate.utils import align_module_device

        path, _, leaf = name.rpartition(".")
        module = model.get_submodule(path)
        with align_module_device(module):
            return cast(Tensor, getattr(module, leaf)).detach()
    weight: Any = parameter.detach()
    is_split = hasattr(weight, "full_tensor")  # a DTensor
    return cast(Tensor, weight.full_tensor() if is_split else weight)
