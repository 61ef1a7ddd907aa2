"""How a model and its tokenizer are loaded by transformers, and what goes wrong there."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.distributed import DistributedConfig

from nest_engine.errors import ConfigError, ModelLoadError
from nest_engine.models.gguf import converted
from nest_engine.models.repository import REPOSITORY_ARGUMENTS, is_gguf


def require_compatible_placement(
    device: str | torch.device | None,
    device_map: str | dict[str, Any] | None,
    tp_plan: str | dict[str, str] | None,
    *,
    distributed_config: Any = None,
    static_cache: bool = False,
    prompt_cache: int | None = None,
) -> None:
    """Raise ``ConfigError`` if arguments ask for the model in two places, or in too many."""
    placement = {"device": device, "device_map": device_map, "tp_plan": tp_plan}
    chosen = [f"{name}={value!r}" for name, value in placement.items() if value is not None]
    if len(chosen) > 1:
        raise ConfigError(f"{' and '.join(chosen)} exclude each other; give one")
    wanted = {"static_cache": static_cache, "prompt_cache": prompt_cache}
    if tp_plan is not None or distributed_config is not None:
        for name, value in wanted.items():
            if value:
                raise ConfigError(
                    f"{name}={value} needs the whole model in one process; leave it or the "
                    "splitting out"
                )


def load_pretrained(
    model_id: str,
    *,
    revision: str | None,
    trust_remote_code: bool,
    device: str | torch.device | None,
    tp_plan: str | dict[str, str] | None,
    **model_kwargs: Any,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model and its tokenizer from the hub, a folder or a GGUF file.

    Args:
        model_id: hub id, local folder or GGUF file.
        revision: branch, tag or commit on the hub.
        trust_remote_code: whether code from the model repository may run.
        device: where to put the model; None leaves it where transformers does.
        tp_plan: how to split the layers over the processes; None does not split.
        model_kwargs: further arguments of ``AutoModelForCausalLM.from_pretrained``; those that say
            where the files are (``token``, ``cache_dir``, ``local_files_only``, ``subfolder``,
            ``gguf_file`` ...) also find the tokenizer.

    Returns:
        the model and the tokenizer.

    Raises:
        ModelLoadError: if transformers cannot find or load the model, or the device cannot take it.
    """
    if is_gguf(model_id):
        model_id = str(converted(Path(model_id).expanduser()))
    if model_id.startswith((".", "/", "~")) and not Path(model_id).is_dir():
        raise ModelLoadError(
            f"the model folder {model_id} does not exist; give a folder or a hub id"
        )
    place = {name: model_kwargs[name] for name in REPOSITORY_ARGUMENTS & model_kwargs.keys()}
    place |= {"revision": revision, "trust_remote_code": trust_remote_code}
    splitting = _split_by(tp_plan) if tp_plan is not None else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(model_id, **place)
        model = AutoModelForCausalLM.from_pretrained(model_id, **(model_kwargs | place | splitting))
    except (OSError, ValueError, ImportError, TypeError, RuntimeError) as error:
        raise ModelLoadError(f"the model {model_id!r} cannot be loaded: {error}") from error
    if device is not None:
        try:
            model = model.to(device)
        # torch asserts that it was built for CUDA
        except (RuntimeError, AssertionError) as error:
            raise ModelLoadError(
                f"the model {model_id!r} cannot be put on {device!r}: {error}"
            ) from error
    return cast(PreTrainedModel, model), tokenizer


def _split_by(tp_plan: str | dict[str, str]) -> dict[str, Any]:
    """Return the arguments by which this release of transformers splits a model."""
    if "tp_plan" in DistributedConfig.__dataclass_fields__:
        return {"distributed_config": DistributedConfig(tp_plan=tp_plan)}
    return {"tp_plan": tp_plan}  # the first releases of transformers 5
