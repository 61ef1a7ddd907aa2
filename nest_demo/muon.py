"""The Muon optimizer for weight matrices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

# Quintic iteration that moves all singular values into about [0.7, 1.2]; coefficients by K. Jordan,
# "Muon", 2024.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_STEPS = 5


class Muon(torch.optim.Optimizer):
    """Momentum with orthogonalized updates (Jordan, 2024; scaled as in arXiv 2502.16982).

    ``torch.optim.Muon`` always computes in bfloat16, which takes fifty times as long on a CPU
    without it. Matrices of one shape are orthogonalized together.

    Args:
        params: matrices.
        lr: learning rate; updates are scaled to the size of AdamW's, so its rates fit.
        momentum: share of the last update that is kept.
        weight_decay: decoupled weight decay.
        dtype: what to orthogonalize in; bfloat16 is exact enough.
    """

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._dtype = dtype
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update the matrices by their gradients."""
        for group in self.param_groups:
            by_shape = defaultdict(list)
            for weight in group["params"]:
                by_shape[weight.shape].append(weight)
            for weights in by_shape.values():
                averages = torch.stack(
                    [self._momentum(weight, group["momentum"]) for weight in weights]
                )
                updates = orthogonalize(averages.to(self._dtype)).to(averages.dtype)
                rate = group["lr"] * 0.2 * max(updates.shape[-2:]) ** 0.5
                for weight, update in zip(weights, updates, strict=True):
                    weight.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-rate)

    def _momentum(self, weight: Tensor, momentum: float) -> Tensor:
        assert weight.grad is not None
        average = self.state[weight].setdefault("average", torch.zeros_like(weight))
        average.lerp_(weight.grad, 1 - momentum)
        return weight.grad.lerp(average, momentum)  # Nesterov's


def orthogonalize(matrices: Tensor) -> Tensor:
    """Return matrices with the same singular vectors and singular values near 1.

    Args:
        matrices: ``[..., rows, columns]``.
    """
    wide = matrices.shape[-2] <= matrices.shape[-1]
    x = matrices if wide else matrices.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    orthogonal: Tensor = x if wide else x.mT
    return orthogonal
