"""Which library runs a model: transformers, or llama.cpp for GGUF files."""

from __future__ import annotations

from importlib.util import find_spec
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, Literal, cast

from nest_engine.errors import ConfigError, UnsupportedModelError
from nest_engine.models.llama_cpp import OPTIONS
from nest_engine.models.repository import REPOSITORY_ARGUMENTS, is_gguf

if TYPE_CHECKING:
    from nest_engine.interfaces import LanguageModel

Backend = Literal["transformers", "llama.cpp"]


def load_language_model(
    model_id: str | PathLike[str],
    *,
    backend: Backend | None = None,
    key_layer: str | None = None,
    **model_kwargs: Any,
) -> LanguageModel:
    """Load a model with the library that is asked for, or that runs it fastest.

    Args:
        model_id: hub id, local folder or ``.gguf`` file.
        backend: ``transformers`` or ``llama.cpp``. None: llama.cpp for a GGUF file if one of
            ``model_kwargs`` is an option that only llama.cpp has, or if llama-cpp-python is
            installed, can decode its architecture and takes all of them; else transformers.
        key_layer: which hidden state keys and queries are; None: the library's best.
        model_kwargs: for the ``from_pretrained`` of the language model.

    Returns:
        the model.

    Raises:
        ConfigError: if ``backend`` is unknown, or cannot read the model.
    """
    model_id = fspath(model_id)
    is_of_gguf = is_gguf(model_id) or model_kwargs.get("gguf_file") is not None
    if backend not in (None, "transformers", "llama.cpp"):
        raise ConfigError(
            f"backend={backend!r} is not valid: expected 'transformers' or 'llama.cpp'"
        )
    if backend == "llama.cpp" and not is_of_gguf:
        raise ConfigError(
            f"backend='llama.cpp' reads GGUF files, and {model_id!r} is none: give a .gguf file, "
            "or gguf_file= for one in a folder or repository"
        )
    if backend is None and is_of_gguf and model_kwargs.keys() & OPTIONS:
        backend = "llama.cpp"
    if backend == "llama.cpp" or (backend is None and is_of_gguf and find_spec("llama_cpp")):
        from nest_engine.models.llama_cpp.model import LlamaCppLanguageModel

        is_for_transformers = bool(
            model_kwargs.keys() - {"prompt_cache"} - REPOSITORY_ARGUMENTS
            or key_layer not in (None, LlamaCppLanguageModel.key_layer)
        )
        if backend is not None or not is_for_transformers:
            try:
                return LlamaCppLanguageModel.from_pretrained(
                    model_id, key_layer=key_layer, **model_kwargs
                )
            except UnsupportedModelError:
                if backend is not None:
                    raise
    if unknown := model_kwargs.keys() & OPTIONS:
        raise ConfigError(
            f"{min(unknown)} is an option of llama.cpp, and transformers is to run {model_id!r}: "
            "leave it out, or give a .gguf file and backend='llama.cpp'"
        )
    from nest_engine.models.huggingface import HuggingFaceLanguageModel
    from nest_engine.models.tensor_parallel import TensorParallelLanguageModel

    is_split = bool(model_kwargs.get("tp_plan") or model_kwargs.get("distributed_config"))
    kind = TensorParallelLanguageModel if is_split else HuggingFaceLanguageModel
    return kind.from_pretrained(
        model_id, key_layer=cast(Any, key_layer or "ffn_input"), **model_kwargs
    )
