"""The check on load that a model decodes in steps what it computes in one pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from nest_engine.errors import UnsupportedModelError
from nest_engine.models.passage_reading import ReadRows
from nest_engine.models.row_by_row import RowByRowSession
from nest_engine.models.session import HuggingFaceSession

if TYPE_CHECKING:
    from transformers import PreTrainedModel


_ASKED: dict[type, str] = {
    HuggingFaceSession: "it does not take explicit positions with a [B, 1, Q, KV] mask, by which "
    "rows of different length are decoded together",
    RowByRowSession: "it does not go on from a cache of transformers with several tokens at once",
}


@torch.inference_mode()
def require_exact_steps(
    model: PreTrainedModel,
    session: HuggingFaceSession | RowByRowSession,
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
    keeps_a_state = isinstance(session, RowByRowSession)
    # Where layers keep a state, many read one token by another rule than several: what that changes
    # adds up from step to step.
    num_steps = 16 if keeps_a_state else 1
    tokens = [(7 * i + 3) % vocabulary_size for i in range(7 + num_steps)]
    try:
        session.forward([tokens[:5], tokens[:3]])
        session.truncate([4, 3])
        session.extend([tokens[4:7], tokens[3:6]])
        session.truncate([4, 3])
        first, second = session.extend([tokens[4:6], tokens[3:7]])
        session.keep([1])
        for token in tokens[7:]:
            [last] = session.extend([[token]])
        logits_TV = model(torch.tensor([tokens], device=device), use_cache=False).logits[0]
        hidden_TD = read([tuple(tokens)])[0]
    except UnsupportedModelError:
        raise
    except Exception as error:
        raise UnsupportedModelError(
            f"{type(model).__name__} cannot be read in steps: {_ASKED[type(session)]} "
            f"({type(error).__name__}: {error})"
        ) from error
    exact = 5e-5 if keeps_a_state else 1e-3
    tolerance = exact if model.dtype == torch.float32 else 0.1
    for found, start, end in ((first, 4, 6), (second, 3, 7), (last, -1, None)):
        _require_close(model, found.logits_TV, logits_TV[start:end].float(), tolerance)
        _require_close(model, found.hidden_TD.float(), hidden_TD[start:end].float(), tolerance)


def _require_close(
    model: PreTrainedModel, found: torch.Tensor, expected: torch.Tensor, tolerance: float
) -> None:
    difference = (found - expected).abs().max() / expected.abs().max().clamp(min=1e-6)
    if not float(difference) < tolerance:  # not a number fails, too
        raise UnsupportedModelError(
            f"{type(model).__name__} gives other values in steps than in one pass "
            f"(relative difference {float(difference):.2g}, allowed {tolerance:g}): its "
            f"architecture cannot be decoded speculatively"
        )
