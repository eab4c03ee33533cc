"""A network of our own for small images from scratch: patches told apart before anything is learned, then three blocks of filters.

The parts are those that quick training of small networks has settled on (Page, "How to train your ResNet", 2018; Jordan, "94% on
CIFAR-10 in 3.29 seconds on a single GPU", 2024): a first layer that whitens patches of 2 x 2 pixels and is not learned, filters that
begin as the identity, normalisation without a scale, and GELU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

OURS = "sightline/"
PATCHNET = f"{OURS}patchnet"
# Channels of the blocks, by name: what a GPU computes in no time, and what a processor has time for.
WIDTHS = {PATCHNET: (64, 256, 256), f"{PATCHNET}_small": (48, 128, 256)}
PATCH = 2
# Larger images are taken apart into patches that do not overlap, for which there is a quarter of the work.
OVERLAPPING_UP_TO = 48
# Directions in which patches hardly vary are noise, which whitening would blow up; of images normalised to a spread of about 1.
LEAST_VARIANCE = 5e-4
# Statistics of few steps have to be learned quickly.
NORM_MOMENTUM = 0.2


class PatchStem(nn.Conv2d):
    """Patches of ``PATCH`` pixels a side in white coordinates, each with both signs: (n, c, h, w) to (n, 8 c, h', w').

    The filters are no parameters, as they are computed (``whiten``) and not learned; the bias is.
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__(channels, 2 * channels * PATCH**2, PATCH, stride)
        identity = torch.eye(channels * PATCH**2).reshape(-1, channels, PATCH, PATCH)
        del self.weight
        self.register_buffer("weight", torch.cat([identity, -identity]))
        nn.init.zeros_(self.bias)

    @torch.no_grad()
    def whiten(self, images: Tensor) -> None:
        """Take the coordinates from the patches of images (n, c, h, w) that are normalised as in training.

        In them patches have a mean of 0, and vary as much in every direction and independently of each other. It is computed on the
        processor: Apple's GPUs have no float64.
        """
        patches = images.cpu().unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(0, 2).double()
        mean = patches.mean(0)
        variances, directions = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
        white = directions.T / (variances + LEAST_VARIANCE).sqrt()[:, None]
        both = torch.cat([white, -white])
        self.weight.copy_(both.reshape(self.weight.shape))
        self.bias.copy_(-both @ mean)


class ShiftNorm(nn.BatchNorm2d):
    """Batch normalisation that learns a shift and no scale: the filters behind it make up for that."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, momentum=NORM_MOMENTUM)
        del self.weight
        self.register_buffer("weight", torch.ones(channels))


def filters(inputs: int, outputs: int) -> nn.Conv2d:
    """A 3 x 3 convolution whose first filters hand their inputs on (Zagoruyko and Komodakis, "DiracNets", 2017); the others are random."""
    layer = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    nn.init.dirac_(layer.weight[: min(inputs, outputs)])
    return layer


class Block(nn.Sequential):
    """Two layers of filters, the map halved after the first."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            filters(inputs, outputs), nn.MaxPool2d(2), ShiftNorm(outputs), nn.GELU(),
            filters(outputs, outputs), ShiftNorm(outputs), nn.GELU(),
        )  # fmt: skip


class PatchNet(nn.Module):
    """(n, channels, size, size) normalised images to the last feature map (n, widths[-1], h, w), whose average is the embedding."""

    def __init__(self, channels: int, size: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.stem = PatchStem(channels, _stride(size))
        inputs = (self.stem.out_channels, *widths)
        self.blocks = nn.Sequential(*(Block(*pair) for pair in zip(inputs, widths, strict=False)))

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.blocks(F.gelu(self.stem(images)))
        return features


def _stride(size: int) -> int:
    return 1 if size <= OVERLAPPING_UP_TO else PATCH


def is_same_at(backbone: str, size: int, other: int) -> bool:
    """Whether what a backbone learned at one size holds at another; of ours, where patches overlap at both or at neither."""
    return not backbone.startswith(OURS) or _stride(size) == _stride(other)


def whiten(network: nn.Module, images: Callable[[], Tensor]) -> None:
    """Set the stem of one of our own networks by normalised training images (n, c, h, w), which are only asked for where there is one."""
    for stem in (module for module in network.modules() if isinstance(module, PatchStem)):
        stem.whiten(images())
