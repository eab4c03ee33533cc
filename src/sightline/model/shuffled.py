"""A network's twin that has learned nothing: the same layers with every weight at a random place."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sightline.model.network import Network


def shuffled(network: Network, images: NDArray[np.uint8], seed: int) -> Network:
    """A copy in evaluation mode, on the processor, whose weights are those of each tensor in a random order.

    So they have the sizes that a trained network's have, and no meaning. Batch normalisation learns its statistics anew from
    ``images`` (n, size, size, channels): with the old ones a deep network would give nought or infinity, for every image the same.
    """
    twin = copy.deepcopy(network).cpu()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weights in twin.parameters():
            order = torch.randperm(weights.numel(), generator=generator)
            weights.copy_(weights.reshape(-1)[order].reshape(weights.shape))
        norms = [module for module in twin.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        twin.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean over all batches, of which there is one
            norm.train()
        if norms:  # a single image would have no spread
            twin(torch.from_numpy(np.resize(images, (max(2, len(images)), *images.shape[1:]))))
    return twin.eval()
