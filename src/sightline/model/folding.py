"""Batch normalisation folded into the convolution before it: the same numbers from fewer layers, exported in half the time.

A normalisation that keeps its statistics only scales and shifts each channel, which the weights of the convolution can do as well.
"""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import torch
from timm.layers import BatchNormAct2d, Conv2dSame
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

# Of the kinds that use their weights as they are.
CONVOLUTIONS, NORMS = (nn.Conv2d, Conv2dSame), (nn.BatchNorm2d, BatchNormAct2d)
# Of the largest output; folding rounds otherwise in the last digits.
TOLERANCE = 1e-4

Outputs = dict[str, Tensor]


class _Clip(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return maps.clamp(0, 6)


def folded(network: nn.Module, example: Tensor) -> tuple[nn.Module, Outputs]:
    """A network in evaluation mode with fewer layers that computes the same, and what it gives for an example.

    What follows what is seen in a pass over the ``example``; where the outputs are not the same afterwards, as where something else uses
    what a convolution gives, the network is returned as it was.
    """
    pairs, before = _pairs(network, example)
    simpler = copy.deepcopy(network)
    for convolution, norm in pairs:
        _fold(simpler, convolution, norm)
    for name, module in list(simpler.named_modules()):
        if type(module) is nn.ReLU6:  # the exporter takes this apart at length
            simpler.set_submodule(name, _Clip())
    with torch.no_grad():
        after = simpler(example)
    return (simpler, after) if _alike(before, after) else (network, before)


def _pairs(network: nn.Module, example: Tensor) -> tuple[list[tuple[str, str]], Outputs]:
    """Names of convolutions and of the normalisations that take just what they give, each used once; and the network's outputs."""
    names = {module: name for name, module in network.named_modules() if type(module) in (*CONVOLUTIONS, *NORMS)}
    givers: dict[int, tuple[nn.Module, Tensor]] = {}  # with what they gave, whose address nothing else can have while it is kept
    found: list[tuple[nn.Module, nn.Module]] = []
    used: Counter[nn.Module] = Counter()

    def look(module: nn.Module, given: tuple[Tensor, ...], output: Any) -> None:
        used[module] += 1
        if type(module) in CONVOLUTIONS:
            givers[id(output)] = module, output
        elif given and id(given[0]) in givers:
            found.append((givers[id(given[0])][0], module))

    hooks = [module.register_forward_hook(look) for module in names]
    try:
        with torch.no_grad():
            outputs = network(example)
    finally:
        for hook in hooks:
            hook.remove()
    taken = Counter(convolution for convolution, _ in found)
    once = [pair for pair in found if used[pair[0]] == used[pair[1]] == taken[pair[0]] == 1 and pair[1].running_mean is not None]
    return [(names[convolution], names[norm]) for convolution, norm in once], outputs


def _fold(network: nn.Module, convolution: str, norm: str) -> None:
    """Give the weights of one layer what the other does, in place."""
    first: Any = network.get_submodule(convolution)
    second: Any = network.get_submodule(norm)
    first.weight, first.bias = fuse_conv_bn_weights(
        first.weight, first.bias, second.running_mean, second.running_var, second.eps, second.weight, second.bias
    )
    remaining = nn.Sequential(second.drop, second.act) if isinstance(second, BatchNormAct2d) else nn.Identity()
    network.set_submodule(norm, remaining)


def _alike(before: Outputs, after: Outputs) -> bool:
    return all(float((after[name] - given).abs().max()) <= TOLERANCE * max(1.0, float(given.abs().max())) for name, given in before.items())
