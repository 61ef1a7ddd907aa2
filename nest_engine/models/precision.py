"""The number format of a model whose caller chose none."""

from __future__ import annotations

import platform
from typing import Any

import torch

from nest_engine.errors import ConfigError


def default_dtype(
    device: str | torch.device | None, placement: Any, quantization_config: Any
) -> str | torch.dtype:
    """Return how to load a model: on a CPU bfloat16 if it computes that natively, else float32.

    Where bfloat16 is emulated it is slower than float32; where it is native, half the memory is
    read for a token, and a draft of 16 tokens costs hardly more than one. Elsewhere the checkpoint
    has the say.

    Args:
        device: where the model goes; None is the CPU.
        placement: what else places it (``device_map``, ``tp_plan``), or None.
        quantization_config: how its weights are quantized, or None.

    Returns:
        a type, or ``auto``.
    """
    on_cpu = placement is None and (device is None or str(device).startswith("cpu"))
    if not on_cpu or quantization_config is not None:
        return "auto"
    return torch.bfloat16 if cpu_computes_bfloat16() else torch.float32


def require_dtype(
    dtype: str | torch.dtype | None, torch_dtype: str | torch.dtype | None
) -> str | torch.dtype | None:
    """Return the number format that a caller has chosen, None if none.

    Args:
        dtype: as transformers takes it.
        torch_dtype: its older name.

    Raises:
        ConfigError: if it is none, or the two differ.
    """
    names = [
        each.removeprefix("torch.") if isinstance(each, str) else each
        for each in (dtype, torch_dtype)
        if each is not None
    ]
    for name in names:
        if isinstance(name, str) and not (
            name == "auto" or isinstance(getattr(torch, name, None), torch.dtype)
        ):
            raise ConfigError(
                f"dtype={name!r} is not valid: expected auto, or a type of torch such as bfloat16, "
                "float16 or float32"
            )
    formats = {getattr(torch, str(name), name) for name in names}
    if len(formats) > 1:
        raise ConfigError(
            f"dtype={dtype!r} and torch_dtype={torch_dtype!r} contradict each other; give dtype"
        )
    return formats.pop() if formats else None


def cpu_computes_bfloat16() -> bool:
    """Return whether this CPU has instructions for bfloat16: AVX-512 BF16, AMX, or ARM's BF16."""
    if platform.machine().lower() in ("arm64", "aarch64"):
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    # On x86 the question above is answered with yes by every AVX-512, which emulates it.
    questions = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, question, bool)() for question in questions)
