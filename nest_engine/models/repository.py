"""Where the files of a model are: in a folder, or in a repository on the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError

from nest_engine.errors import ModelLoadError

# What transformers needs to find the files of a repository: the tokenizer's, too.
REPOSITORY_ARGUMENTS = frozenset(
    {
        "cache_dir",
        "code_revision",
        "force_download",
        "gguf_file",
        "local_files_only",
        "proxies",
        "revision",
        "subfolder",
        "token",
        "trust_remote_code",
    }
)
_OF_ONE_FILE = (
    *("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token"),
)


def is_gguf(model_id: str) -> bool:
    """Return whether a model's name is that of a GGUF file."""
    return model_id.endswith(".gguf")


def find_gguf(model_id: str, *, gguf_file: str | None = None, **place: Any) -> Path:
    """Return where a GGUF file is, downloading it from the hub if it is there.

    Args:
        model_id: the file itself; with ``gguf_file``, a folder or a hub id.
        gguf_file: name of the file in the folder or repository.
        place: further ``REPOSITORY_ARGUMENTS``.

    Raises:
        ModelLoadError: if there is no such file.
    """
    if gguf_file is not None and not Path(model_id).expanduser().is_dir():
        try:
            return Path(
                hf_hub_download(
                    model_id,
                    gguf_file,
                    **{name: place[name] for name in _OF_ONE_FILE if place.get(name) is not None},
                )
            )
        except (OSError, ValueError, HfHubHTTPError) as error:
            raise ModelLoadError(
                f"the file {gguf_file!r} of the model {model_id!r} cannot be had: {error}"
            ) from error
    file = Path(model_id).expanduser()
    if gguf_file is not None:
        file = file / (place.get("subfolder") or "") / gguf_file
    if not file.is_file():
        raise ModelLoadError(f"the model file {file} does not exist; give a .gguf file")
    return file
