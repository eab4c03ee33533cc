"""Muon: filters learn by the direction nearest to their momentum in which all singular values are alike.

After Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024). A plain gradient is dominated by a few directions;
made orthogonal, the rare ones count as much. Everything that is no bank of filters (biases, normalisation, the head) learns by SGD with
Nesterov's momentum beside it.

Two things are our own. The iteration runs on the Gram matrix (outputs x outputs) instead of the filters, each of which has many times as
many numbers: the same in exact arithmetic, for a third of the work. And a bank of filters keeps its norm: a step turns it by an angle,
which for small ones is ``lr`` in radians, because what follows filters (batch normalisation) makes their length meaningless.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sightline.model.network import Trainable
from sightline.training.plan import Plan

# Of the fifth-order iteration x -> a x + b x^3 + c x^5 that takes every singular value in (0, 1] near to 1 in few steps, as published.
A, B, C = 3.4445, -4.7750, 2.0315
STEPS = 5
# Learning rates of what SGD learns, as a multiple of that of the filters.
HEAD_SHARE, REST_SHARE = 1.0, 1.0
TINY = 1e-7


def orthogonal(matrix: Tensor, steps: int = STEPS) -> Tensor:
    """Of matrices (..., m, n) float the nearest with singular values of about 1 (0.7 to 1.2); the same shape and dtype float32.

    The exact one would be U V^T of the singular value decomposition U S V^T; so near is near enough, and takes products of matrices alone.
    """
    tall = matrix.shape[-2] > matrix.shape[-1]
    wide = (matrix.mT if tall else matrix).float()
    # Below 1 are all singular values where their squares add up to 1.
    wide = wide / (torch.linalg.matrix_norm(wide, keepdim=True) + TINY)
    gram = wide @ wide.mT
    identity = torch.eye(gram.shape[-1], device=gram.device)
    factor = whole = A * identity + B * gram + C * (gram @ gram)
    for _ in range(steps - 1):
        gram = factor @ gram @ factor
        factor = A * identity + B * gram + C * (gram @ gram)
        whole = factor @ whole
    made = whole @ wide
    return made.mT if tall else made


def is_filters(weight: Tensor) -> bool:
    """Whether a parameter is a bank of filters or a matrix that mixes channels; depthwise filters mix none."""
    return weight.ndim in (2, 4) and min(weight.shape[:2]) > 1


class Muon(torch.optim.Optimizer):
    """Groups with ``filters=True`` learn as the module says, the others by SGD with Nesterov's momentum and decoupled weight decay."""

    def __init__(self, groups: list[dict[str, Any]], momentum: float) -> None:
        super().__init__(groups, {"lr": 0.0, "momentum": momentum, "weight_decay": 0.0, "filters": False})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            learning = [weight for weight in group["params"] if weight.grad is not None]
            if not learning:
                continue
            moments = [self._moment(weight) for weight in learning]
            gradients = [weight.grad for weight in learning]
            torch._foreach_mul_(moments, group["momentum"])
            torch._foreach_add_(moments, gradients)
            ahead = torch._foreach_add(gradients, moments, alpha=group["momentum"])
            if group["weight_decay"]:
                torch._foreach_mul_(learning, 1 - group["lr"] * group["weight_decay"])
            if group["filters"]:
                _turn(learning, ahead, group["lr"])
            else:
                torch._foreach_add_(learning, ahead, alpha=-group["lr"])

    def _moment(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if "moment" not in state:
            state["moment"] = torch.zeros_like(weight)
        moment: Tensor = state["moment"]
        return moment


def _turn(banks: list[Tensor], directions: list[Tensor], angle: float) -> None:
    """Move each bank of filters against its direction made orthogonal, by ``angle`` times its norm, and back to its norm."""
    for bank, direction in zip(banks, directions, strict=True):
        step = orthogonal(direction.flatten(1)).view_as(bank)
        norm = bank.norm()
        bank.add_(step * (norm / (step.norm() + TINY)), alpha=-angle)
        bank.mul_(norm / (bank.norm() + TINY))


def make_muon(network: Trainable, plan: Plan) -> Muon:
    """The optimiser of a network: its backbone's filters by Muon, its head and the rest by SGD, at shares of the plan's rate."""
    backbone = plan.lr * plan.backbone_lr_scale
    learned = list(network.backbone.parameters())
    heads = [weight for part in (network.head, network.auxiliary) for weight in part.parameters()]
    parts = [
        ([weight for weight in learned if is_filters(weight)], backbone, True, 0.0),
        ([weight for weight in learned if not is_filters(weight)], backbone * REST_SHARE, False, 0.0),
        ([weight for weight in heads if weight.ndim > 1], plan.lr * HEAD_SHARE, False, plan.weight_decay),
        ([weight for weight in heads if weight.ndim == 1], plan.lr * HEAD_SHARE, False, 0.0),
    ]
    groups = [
        {"params": weights, "lr": rate, "peak": rate, "filters": turned, "weight_decay": decay}
        for weights, rate, turned, decay in parts if weights
    ]  # fmt: skip
    return Muon(groups, plan.momentum)
