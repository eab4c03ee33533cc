"""What happens around a gradient: the optimiser, its learning rate over time, and the average of the weights."""

from __future__ import annotations

import math

import torch
from torch import nn

from sightline.model.network import Trainable
from sightline.training.muon import make_muon
from sightline.training.plan import Plan

NO_DECAY_BELOW_DIMENSIONS = 2
EMA_RAMP = 10


def make_optimizer(network: Trainable, plan: Plan) -> torch.optim.Optimizer:
    """AdamW or SGD over groups: backbone and heads, with and without weight decay (biases and normalisation have none); or Muon."""
    if plan.optimizer == "muon":
        return make_muon(network, plan)
    groups = []
    for part, lr in ((network.backbone, plan.lr * plan.backbone_lr_scale), (network.head, plan.lr), (network.auxiliary, plan.lr)):
        for decays in (True, False):
            parameters = [p for p in part.parameters() if (p.ndim >= NO_DECAY_BELOW_DIMENSIONS) == decays]
            if parameters:
                groups.append({"params": parameters, "lr": lr, "peak": lr, "weight_decay": plan.weight_decay if decays else 0.0})
    # In one pass over the weights, which for networks of many is much of a step.
    fused = next(network.parameters()).device.type in ("cpu", "cuda")
    if plan.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=plan.momentum, nesterov=plan.momentum > 0, fused=fused)
    return torch.optim.AdamW(groups, fused=fused)


def schedule(step: int, steps: int, warmup: float, fall: str = "cosine") -> float:
    """Share of the highest learning rate: a linear rise over the first ``warmup`` of the steps, then half a cosine, or a line, to zero."""
    rise = max(1, round(warmup * steps))
    if step < rise:
        return (step + 1) / rise
    done = (step - rise) / max(1, steps - rise)
    return 1 - done if fall == "linear" else 0.5 * (1 + math.cos(math.pi * done))


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def set_training(network: Trainable, *, frozen: bool, freeze_norm: bool) -> None:
    """Training mode; a frozen backbone neither learns nor updates its statistics, frozen norms keep theirs."""
    network.train()
    network.backbone.requires_grad_(not frozen)
    if frozen:
        network.backbone.eval()
    elif freeze_norm:
        for module in network.backbone.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Exponential moving average of weights and statistics, with a shorter memory in the first steps."""
    decay = min(decay, (1 + step) / (EMA_RAMP + step))
    weights = network.state_dict()
    kept = average.state_dict()
    moving = [name for name, tensor in kept.items() if tensor.is_floating_point()]
    torch._foreach_lerp_([kept[name] for name in moving], [weights[name] for name in moving], 1 - decay)
    for name in kept.keys() - moving:
        kept[name].copy_(weights[name])
