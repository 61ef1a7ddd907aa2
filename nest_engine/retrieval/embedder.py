"""Embedders, which turn texts into vectors."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from nest_engine._optional import require
from nest_engine.errors import ConfigError


@runtime_checkable
class Embedder(Protocol):
    """Maps texts to vectors whose cosine says how related they are."""

    @property
    def fingerprint(self) -> str:
        """Equal for two embedders only if they give the same vectors.

        It includes the model, the dimension and a hash of the weights.
        """
        ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one vector for each text, ``[len(texts), D]``; their lengths do not matter."""
        ...


@runtime_checkable
class QueryEmbedder(Embedder, Protocol):
    """An embedder that treats queries differently from passages, as many models require."""

    def embed_queries(self, queries: Sequence[str]) -> NDArray[np.float32]:
        """Return one vector for each query, ``[len(queries), D]``."""
        ...


def query_embedding(embedder: Embedder) -> Callable[[Sequence[str]], NDArray[np.float32]]:
    """Return what embeds queries: the embedder's own way, where it has one."""
    return embedder.embed_queries if isinstance(embedder, QueryEmbedder) else embedder.embed


def fingerprint_of(embeddings: object) -> str:
    """Return a fingerprint for another library's embeddings: their kind and what they show.

    Two that were made alike are one, so that an application may make them anew for each request.
    Those that show nothing of themselves are told apart as objects.
    """
    kind, shown = type(embeddings), repr(embeddings)
    if kind.__repr__ is object.__repr__:
        return f"{kind.__module__}.{kind.__qualname__} {id(embeddings)}"
    made = re.sub(r" at 0x[0-9a-fA-F]+", "", shown)
    return f"{kind.__module__}.{kind.__qualname__} {hashlib.sha256(made.encode()).hexdigest()[:16]}"


class SentenceTransformerEmbedder:
    """A model of the sentence-transformers library, with its prompts for queries and passages.

    Weights are read from safetensors files only, and code shipped with a model is never run.

    Args:
        model_name_or_path: a folder or a name on the Hugging Face Hub.
        device: device to run on; None leaves the choice to the library.
        batch_size: texts per forward pass.

    Raises:
        ConfigError: if the model cannot be loaded.
        MissingDependencyError: if sentence-transformers is not installed.
    """

    def __init__(
        self, model_name_or_path: str, *, device: str | None = None, batch_size: int = 32
    ) -> None:
        library = require("sentence_transformers", "sentence-transformers")
        try:
            self._model = library.SentenceTransformer(
                str(model_name_or_path),
                device=device,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"the embedding model {str(model_name_or_path)!r} cannot be loaded: {error}; give "
                f"a folder or a Hub "
                "name of a sentence-transformers model with safetensors weights"
            ) from error
        self._batch_size = batch_size
        self.name = str(model_name_or_path)
        self.fingerprint = _fingerprint(self._model, dimension=self.embed(["dimension"]).shape[1])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one vector for each passage, float32 ``[len(texts), D]``."""
        return self._encode(self._model.encode_document, texts)

    def embed_queries(self, queries: Sequence[str]) -> NDArray[np.float32]:
        """Return one vector for each query, float32 ``[len(queries), D]``."""
        return self._encode(self._model.encode_query, queries)

    def _encode(self, encode: Any, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = encode(
            list(texts), batch_size=self._batch_size, show_progress_bar=False, convert_to_numpy=True
        )
        return np.asarray(vectors, dtype=np.float32)


def _fingerprint(model: Any, dimension: int) -> str:
    """Name what the vectors depend on: layers, dimension, a hash of weights, prompts and length.

    The folder is not part of it: a model that has moved is still the same model.
    """
    # Already loaded wherever there is an embedder; importing this package must not load it.
    import torch

    digest = hashlib.sha256(
        json.dumps([model.prompts, model.max_seq_length], sort_keys=True).encode()
    )
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    layers = "+".join(type(module).__name__ for module in model)
    return f"{layers}, {dimension} dimensions, sha256 {digest.hexdigest()[:16]}"
