"""The attention mask of rows of different length: made of positions alone, window by window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ATTENTION_LAYERS = frozenset({"full_attention", "sliding_attention"})


class AttentionMasks:
    """The masks that a model's attention layers take.

    Args:
        model: the model.
        text_config: the configuration of its text decoder.
    """

    def __init__(self, model: PreTrainedModel, text_config: Any) -> None:
        self._model = model
        self._config = text_config
        self._windows = _attention_windows(text_config)

    def __call__(self, positions_BQ: Tensor, num_slots: int) -> Tensor | dict[str, Tensor]:
        """Let each token see its own row up to itself, within the window.

        Cache slot ``i`` of a row always holds its token at position ``i``, so positions decide
        everything: slots beyond a row's length hold later positions or leftovers, which no query
        reaches.

        Args:
            positions_BQ: position of each token that is read.
            num_slots: how many slots there are to attend to.

        Returns:
            the mask ``[B, 1, Q, KV]``; one for each kind of layer where there are several.
        """
        slots_KV = torch.arange(num_slots, device=positions_BQ.device)
        positions = positions_BQ[:, None, :, None]
        causal = slots_KV <= positions
        masks = {
            kind: self._as_attention_input(
                causal if window is None else causal & (slots_KV > positions - window)
            )
            for kind, window in self._windows.items()
        }
        return masks if len(masks) > 1 else next(iter(masks.values()))

    def _as_attention_input(self, mask: Tensor) -> Tensor:
        if self._config._attn_implementation == "sdpa":
            return mask
        dtype = self._model.dtype
        return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(
            ~mask, torch.finfo(dtype).min
        )


def _attention_windows(config: Any) -> dict[str, int | None]:
    """Return the kinds of attention layers and their sliding windows (None: unlimited)."""
    window = getattr(config, "sliding_window", None)
    kinds = sorted(set(getattr(config, "layer_types", None) or ()) & ATTENTION_LAYERS)
    if not kinds:
        kinds = ["sliding_attention" if window else "full_attention"]
    return {kind: window if kind == "sliding_attention" else None for kind in kinds}
