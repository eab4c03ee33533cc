"""The network: a backbone and a head behind one door, uint8 images in and named raw outputs out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sightline.data.prepare import Prepare
from sightline.model.backbone import Backbone
from sightline.records import Infer


class Network(nn.Module):
    """``forward((n, size, size, channels) uint8, or float in [0, 255])`` gives a dict of named raw outputs.

    Normalisation is the first layer, so the exported graph takes what ``Prepare`` gives and nothing is left to its caller.
    The permuted view of NHWC input is already in PyTorch's ``channels_last`` layout, which its convolutions are fastest in.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, backbone: Backbone, head: nn.Module, prepare: Prepare) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.prepare = prepare
        mean, std = torch.tensor(prepare.mean), torch.tensor(prepare.std)
        # Fixed by Prepare and not learned, so they are not part of the weights file.
        self.register_buffer("scale", 1 / (255 * std), persistent=False)
        self.register_buffer("shift", mean / std, persistent=False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        normal = images.to(self.scale.dtype) * self.scale - self.shift
        embedding, features = self.backbone(normal.permute(0, 3, 1, 2))
        return {**self.head(embedding), "embedding": embedding, "features": features}


def torch_infer(network: Network, device: torch.device, outputs: Sequence[str]) -> Infer:
    """The ``Infer`` seam over a network in evaluation mode, giving the named raw outputs."""
    network.eval()

    def infer(batch: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        with torch.inference_mode():
            found = network(torch.from_numpy(batch).to(device))
        return {name: found[name].float().cpu().numpy() for name in outputs}

    return infer
