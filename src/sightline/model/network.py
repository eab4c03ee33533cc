"""The network: a backbone and a head behind one door, uint8 images in and named raw outputs out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sightline.data.prepare import Prepare
from sightline.model.backbone import Backbone
from sightline.model.views import ONE, seen
from sightline.records import Infer

AUXILIARY_WIDTH = 128


class Trainable(nn.Module):
    """What the training loop takes: a backbone, a head and any auxiliary heads, and a ``forward`` that gives named raw outputs."""

    backbone: nn.Module
    head: nn.Module
    auxiliary: nn.ModuleList


class DenseHead(nn.Module):
    """A head that reads a pyramid's maps and the input's (height, width), where others read the embedding."""


class Network(Trainable):
    """``forward((n, height, width, channels) uint8, or float in [0, 255])`` gives a dict of named raw outputs.

    Normalisation is the first layer, so the exported graph takes what ``Prepare`` gives and nothing is left to its caller.
    In training there are also the ``auxiliary`` logits (m, n, classes) of a backbone with m taps. In evaluation a backbone with several
    ``views`` sees each image in all of them.
    The permuted view of NHWC input is already in PyTorch's ``channels_last`` layout, which its convolutions are fastest in.
    """

    backbone: Backbone
    scale: Tensor
    shift: Tensor

    def __init__(self, backbone: Backbone, head: nn.Module, prepare: Prepare, auxiliary: Sequence[nn.Module] = ()) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.auxiliary = nn.ModuleList(auxiliary)
        self.prepare = prepare
        mean, std = torch.tensor(prepare.mean), torch.tensor(prepare.std)
        # Fixed by Prepare and not learned, so they are not part of the weights file.
        self.register_buffer("scale", 1 / (255 * std), persistent=False)
        self.register_buffer("shift", mean / std, persistent=False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        views = ONE if self.training else getattr(self.backbone, "views", ONE)
        normal = self.normal(images)
        embedding, features, *maps = self.backbone(normal) if views == ONE else seen(self.backbone, normal, views)
        read = (maps, tuple(images.shape[1:3])) if isinstance(self.head, DenseHead) else (embedding,)
        outputs = {**self.head(*read), "embedding": embedding, "features": features}
        if self.training and self.auxiliary:
            outputs["auxiliary"] = torch.stack([head(tap) for head, tap in zip(self.auxiliary, maps, strict=True)])
        return outputs

    def normal(self, images: Tensor) -> Tensor:
        """What the backbone takes: (n, channels, height, width), normalised."""
        return (images.to(self.scale.dtype) * self.scale - self.shift).permute(0, 3, 1, 2)


class AuxiliaryHead(nn.Module):
    """A second opinion from halfway up, which sends gradients to the lower layers while a deep network learns from nothing.

    (n, channels, h, w) to logits (n, classes), after Szegedy et al., "Going deeper with convolutions" (2015), with the average taken
    over the whole map, so that inputs of any size do. Part of training only: neither the bundle's graph nor its weights have it.
    """

    def __init__(self, channels: int, head: nn.Module) -> None:
        super().__init__()
        self.reduce = nn.Sequential(nn.Conv2d(channels, AUXILIARY_WIDTH, 1, bias=False), nn.BatchNorm2d(AUXILIARY_WIDTH), nn.ReLU())
        self.head = head

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.head(self.reduce(features).mean((2, 3)))["logits"]
        return logits


def torch_infer(network: Trainable, device: torch.device, outputs: Sequence[str]) -> Infer:
    """The ``Infer`` seam over a network in evaluation mode, giving the named raw outputs."""
    network.eval()

    def infer(batch: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        with torch.inference_mode():
            found = network(torch.from_numpy(batch).to(device))
        return {name: found[name].float().cpu().numpy() for name in outputs}

    return infer
