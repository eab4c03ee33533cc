"""Taking whole channels out of a convolutional network, the least important first."""

from __future__ import annotations

import torch
from torch import nn

from sightline.errors import UsageError
from sightline.model.network import Network

# Widths stay multiples of this, which is what vector instructions of processors take at once.
ROUND_TO = 8


def pruned(network: Network, share: float) -> Network:
    """The network with about a ``share`` of the channels of each group of layers that belong together, in training mode.

    The importance of a channel is the norm of its weights over all layers that it passes through (Li et al., "Pruning Filters for
    Efficient ConvNets", 2017; grouped as by Fang et al., "DepGraph: Towards Any Structural Pruning", 2023). The embedding keeps its width.
    Raises UsageError for a network without convolutions, or whose layers cannot be followed.
    """
    try:
        import torch_pruning
    except ModuleNotFoundError as error:
        raise UsageError("taking out channels needs torch-pruning, which is not installed: pip install 'sightline[train]'") from error
    if not any(isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1) for module in network.modules()):
        raise UsageError("it has no convolutions whose channels could be taken out")
    example = torch.zeros(2, *network.prepare.shape, network.prepare.channels)
    try:
        pruner = torch_pruning.pruner.BasePruner(
            network.eval(), example, importance=torch_pruning.importance.GroupMagnitudeImportance(p=2), pruning_ratio=1 - share,
            ignored_layers=_kept_whole(network), round_to=ROUND_TO, forward_fn=lambda it, images: it(images)["embedding"],
        )  # fmt: skip
        pruner.step()
        with torch.no_grad():
            network(example)
    except Exception as error:  # it follows gradients through code that it has not seen before, and fails in as many ways
        raise UsageError(f"its channels cannot be taken out ({type(error).__name__}: {error})") from error
    return network.train()


def _kept_whole(network: Network) -> list[nn.Module]:
    """The head, and the layers that make the embedding and the last feature map, whose width the head and others know."""
    width = network.backbone.num_features
    last = [module for module in network.backbone.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    return [network.head, *[module for module in last[-1:] if (module.weight.shape[0] == width)]]
