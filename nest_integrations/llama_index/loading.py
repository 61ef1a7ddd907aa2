"""Engines from the arguments that ``HuggingFaceLLM`` takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import is_accelerate_available

from nest_engine import ConfigError, LanguageModel, NestEngine
from nest_engine.models.repository import REPOSITORY_ARGUMENTS, is_gguf

_OF_ONE_REPOSITORY = {"code_revision", "gguf_file", "revision", "subfolder"}


def load_engine(
    model_name: str | None,
    tokenizer_name: str | None,
    model: Any,
    tokenizer: Any,
    device_map: str | dict[str, Any] | None,
    model_kwargs: dict[str, Any],
    tokenizer_kwargs: dict[str, Any],
) -> NestEngine:
    """Return an engine on a model that is given or loaded, with its tokenizer.

    Raises:
        ConfigError: if there is nothing to load.
    """
    if model is None and model_name is None:
        raise ConfigError(
            "there is no model: give model_name='...' (hub id or folder), or model= and "
            "tokenizer=, or engine="
        )
    is_of_gguf = is_gguf(str(model_name)) or "gguf_file" in model_kwargs
    if model is None and model_name is not None and is_of_gguf:
        if tokenizer is not None or tokenizer_name not in (None, model_name):
            raise ConfigError(f"{model_name} brings its own tokenizer; do not give another")
        return NestEngine.from_pretrained(model_name, **model_kwargs)
    if model is None:
        model = _load_model(model_name, device_map, model_kwargs)
    if isinstance(model, torch.nn.Module) and tokenizer is None:
        place = {name: model_kwargs[name] for name in REPOSITORY_ARGUMENTS & model_kwargs.keys()}
        if tokenizer_name not in (None, model_name):  # another repository has other files
            place = {name: place[name] for name in place if name not in _OF_ONE_REPOSITORY}
        tokenizer = AutoTokenizer.from_pretrained(
            tokenizer_name or model.name_or_path, **(place | tokenizer_kwargs)
        )
    return NestEngine(model, tokenizer)


def _load_model(model_name: str | None, device_map: Any, model_kwargs: dict[str, Any]) -> Any:
    if device_map == "auto" and not is_accelerate_available():
        # Without accelerate transformers cannot spread a model, but one device can be chosen.
        model = AutoModelForCausalLM.from_pretrained(model_name, **model_kwargs)
        return model.to("cuda" if torch.cuda.is_available() else "cpu")
    return AutoModelForCausalLM.from_pretrained(model_name, device_map=device_map, **model_kwargs)


class StoppingLanguageModel:
    """A language model whose answers also end at other tokens.

    Args:
        model: the language model.
        stopping_ids: the other tokens.
    """

    def __init__(self, model: LanguageModel, stopping_ids: Sequence[int]) -> None:
        self._model = model
        self._stopping_ids = frozenset(stopping_ids)

    @property
    def eos_ids(self) -> frozenset[int]:
        """Tokens that end an answer."""
        return self._model.eos_ids | self._stopping_ids

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # copying and pickling look these up before there is a model
            raise AttributeError(name)
        return getattr(self._model, name)
