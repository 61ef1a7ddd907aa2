"""The check on load that a model decodes in steps what it computes in one pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from nest_engine.errors import UnsupportedModelError
from nest_engine.models.passage_reading import ReadRows
from nest_engine.models.session import HuggingFaceSession

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@torch.inference_mode()
def require_exact_steps(
    model: PreTrainedModel,
    session: HuggingFaceSession,
    read: ReadRows,
    vocabulary_size: int,
    device: torch.device,
) -> None:
    """Decode a few tokens in two uneven rows, with cut-backs, and compare with plain forwards.

    Architectures that hold state of their own, or derive positions from a padding mask, fail here
    instead of producing wrong text.

    Args:
        model: the model.
        session: a session of it with two rows that hold no tokens.
        read: computes the hidden states of rows in one pass.
        vocabulary_size: tokens that the model and the tokenizer both know.
        device: where the model reads tokens.

    Raises:
        UnsupportedModelError: if a forward fails, or the values differ.
    """
    tokens = [(7 * i + 3) % vocabulary_size for i in range(9)]
    try:
        session.forward([tokens[:5], tokens[:3]])
        session.truncate([4, 3])
        session.extend([tokens[4:7], tokens[3:6]])
        session.truncate([4, 3])
        first, second = session.extend([tokens[4:6], tokens[3:7]])
        logits_TV = model(torch.tensor([tokens[:7]], device=device), use_cache=False).logits[0]
        hidden_TD = read([tuple(tokens[:7])])[0]
    except UnsupportedModelError:
        raise
    except Exception as error:
        raise UnsupportedModelError(
            f"{type(model).__name__} does not take explicit positions with a [B, 1, Q, KV] mask, "
            f"by which rows of different length are decoded together "
            f"({type(error).__name__}: {error})"
        ) from error
    for found, expected in (
        (first.logits_TV, logits_TV[4:6]),
        (second.logits_TV, logits_TV[3:7]),
        (first.hidden_TD, hidden_TD[4:6]),
        (second.hidden_TD, hidden_TD[3:7]),
    ):
        _require_close(model, found.float(), expected.float())


def _require_close(model: PreTrainedModel, found: torch.Tensor, expected: torch.Tensor) -> None:
    tolerance = 1e-3 if model.dtype == torch.float32 else 0.1
    difference = (found - expected).abs().max() / expected.abs().max().clamp(min=1e-6)
    if not float(difference) < tolerance:  # not a number fails, too
        raise UnsupportedModelError(
            f"{type(model).__name__} gives other values in steps than in one pass "
            f"(relative difference {float(difference):.2g}, allowed {tolerance:g}): its "
            f"architecture cannot be decoded speculatively"
        )
