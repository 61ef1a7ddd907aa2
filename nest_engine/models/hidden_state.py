"""The hidden state that keys and queries are made of: where a model computes it, how to tap it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from nest_engine.errors import ConfigError, UnsupportedModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

KeyLayer = Literal["ffn_input", "penultimate"]

_FEED_FORWARD_NAMES = ("mlp", "feed_forward", "ffn", "block_sparse_moe", "shared_mlp", "fc1")


def key_module(last_layer: nn.Module, key_layer: str) -> nn.Module:
    """Return the module whose input is the hidden state of a key layer.

    Args:
        last_layer: the last decoder layer.
        key_layer: a ``KeyLayer``.

    Returns:
        the feed-forward block of the layer, or the layer itself.

    Raises:
        ConfigError: if ``key_layer`` is unknown.
        UnsupportedModelError: if the layer has no feed-forward block of a known name.
    """
    if key_layer == "penultimate":
        return last_layer
    if key_layer != "ffn_input":
        raise ConfigError(
            f"key_layer={key_layer!r} is not valid: expected 'ffn_input' or 'penultimate'"
        )
    for name in _FEED_FORWARD_NAMES:
        module = getattr(last_layer, name, None)
        if isinstance(module, nn.Module):
            return module
    raise UnsupportedModelError(
        f"{type(last_layer).__name__} has no feed-forward block named "
        f"{', '.join(_FEED_FORWARD_NAMES)}; use key_layer='penultimate'"
    )


def decoder_layers(model: PreTrainedModel, num_layers: int) -> nn.ModuleList:
    """Find the layers that compute the text.

    A multimodal model may have towers of as many layers, and a layer as many experts. The text
    decoder's own list is the one closest to the token embeddings, and the outermost of those.

    Args:
        model: the model.
        num_layers: how many layers its text decoder has.

    Returns:
        the layers, first to last.

    Raises:
        UnsupportedModelError: if there is no list of that length.
    """
    paths = {module: name.split(".") for name, module in model.named_modules()}
    embeddings = paths.get(model.get_input_embeddings(), [])
    in_decoder = set(model.get_decoder().modules())
    candidates = [
        module
        for module in paths
        if isinstance(module, nn.ModuleList)
        and len(module) == num_layers
        and all(_has_parts(layer) for layer in module)
    ]
    if not candidates:
        raise UnsupportedModelError(
            f"{type(model).__name__} has no list of {num_layers} decoder layers"
        )
    return max(
        candidates,
        key=lambda layers: (
            _shared_length(paths[layers], embeddings),
            layers in in_decoder,  # where the embeddings stand apart from all layers
            -len(paths[layers]),
        ),
    )


class Captured:
    """The hidden state that one forward showed."""

    def __init__(self, stop_forward: bool) -> None:
        self.stop_forward = stop_forward
        self.tensor: Tensor | None = None

    def hidden(self, batch: int, length: int) -> Tensor:
        """Return it as ``[B, T, D]``; some feed-forward blocks see the first two axes merged."""
        if self.tensor is None:
            raise UnsupportedModelError("the model's forward did not pass through its key layer")
        return self.tensor.reshape(batch, length, -1)


class HiddenStateTap:
    """A forward pre-hook that hands a module's input to the thread that asked for it."""

    def __init__(self, module: nn.Module) -> None:
        self._requests = threading.local()
        module.register_forward_pre_hook(self._hook, with_kwargs=True)

    @contextmanager
    def capture(self, *, stop_forward: bool = False) -> Iterator[Captured]:
        """Capture the module's input during the block; ``stop_forward`` ends the forward there."""
        self._requests.current = captured = Captured(stop_forward)
        try:
            yield captured
        except _ForwardStoppedError:
            pass
        finally:
            self._requests.current = None

    def _hook(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        captured = getattr(self._requests, "current", None)
        if captured is None:
            return
        captured.tensor = args[0] if args else kwargs["hidden_states"]
        if captured.stop_forward:
            raise _ForwardStoppedError


class _ForwardStoppedError(Exception):
    """Raised inside a forward once the wanted hidden state is known."""


def _has_parts(module: nn.Module) -> bool:
    """Tell a layer from a bare embedding, projection or norm, which also come in lists."""
    return next(module.children(), None) is not None


def _shared_length(path: list[str], other: list[str]) -> int:
    """Return how many names two paths begin with in common."""
    for length, (mine, its) in enumerate(zip(path, other, strict=False)):
        if mine != its:
            return length
    return min(len(path), len(other))
