"""A light feature pyramid: whatever maps a backbone has become maps of one width at the strides that a head asks for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from sightline.model.pyramid import Level

# As in the light detectors for phones: wider costs more than it brings on a processor.
WIDTH = 96
# Larger ones see more, and have no fast gradient: on a processor 5 takes 13 times as long as 3 in bfloat16, and 3.5 times in float32.
KERNEL = 3


class Separable(nn.Module):
    """A convolution of each channel by itself, then one over channels: about a ninth of the work of an ordinary one.

    ``versions`` normalisations share the convolutions, for maps of several strides, whose statistics differ.
    """

    def __init__(self, channels: int, width: int, stride: int = 1, versions: int = 1) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(channels, channels, KERNEL, stride, KERNEL // 2, groups=channels, bias=False)
        self.across = nn.Conv2d(channels, width, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(versions))

    def forward(self, features: Tensor, version: int = 0) -> Tensor:
        return F.relu(self.norms[version](self.across(self.spatial(features))), inplace=True)


class Neck(nn.Module):
    """The backbone's maps, finest first, to maps of ``strides``, finest first, all of them WIDTH wide.

    Top-down, every map hears what the coarser ones saw (Lin et al., "Feature pyramid networks", 2017); with ``rising``, each then
    hears from the finer ones (Liu et al., "Path aggregation network", 2018). A map coarser than any that the backbone has is
    made from the coarsest, and a finer one comes from above alone.
    """

    def __init__(self, levels: Sequence[Level], strides: Sequence[int], *, rising: bool) -> None:
        super().__init__()
        self.strides = tuple(strides)
        # Finer maps than any that is asked for are left out, unless there are no others.
        used = [level for level in levels if level.stride >= min(strides)] or [levels[-1]]
        self.skipped = len(levels) - len(used)
        self.given = tuple(level.stride for level in used)
        self.chain = tuple(sorted({*self.given, *strides}))
        self.laterals = nn.ModuleDict({str(level.stride): _narrowed(level.channels) for level in used})
        self.coarser = nn.ModuleDict({str(stride): Separable(WIDTH, WIDTH, 2) for stride in self.chain if stride > max(self.given)})
        wanted = [stride for stride in self.chain if min(strides) <= stride <= max(strides)]
        self.falling = nn.ModuleDict({str(stride): Separable(WIDTH, WIDTH) for stride in wanted if stride < self.chain[-1]})
        self.rising = nn.ModuleDict({str(stride): Separable(WIDTH, WIDTH, 2) for stride in wanted[1:]} if rising else {})

    def forward(self, maps: Sequence[Tensor], shape: tuple[int, int]) -> list[Tensor]:
        """``maps`` are those of an input of ``shape`` (height, width)."""
        found = {stride: self.laterals[str(stride)](each) for stride, each in zip(self.given, maps[self.skipped :], strict=True)}
        for finer, stride in pairwise(self.chain):
            if str(stride) in self.coarser:
                found[stride] = self.coarser[str(stride)](found[finer])
        for finer, stride in reversed(list(pairwise(self.chain))):
            if str(finer) in self.falling:
                size = found[finer].shape[2:] if finer in found else [math.ceil(side / finer) for side in shape]
                heard = _sized(found[stride], size)
                found[finer] = self.falling[str(finer)](found[finer] + heard if finer in found else heard)
        for finer, stride in pairwise(self.chain):
            if str(stride) in self.rising:
                found[stride] = found[stride] + _sized(self.rising[str(stride)](found[finer]), found[stride].shape[2:])
        return [found[stride] for stride in self.strides]


def _narrowed(channels: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, WIDTH, 1, bias=False), nn.BatchNorm2d(WIDTH))


def _sized(features: Tensor, size: Sequence[int]) -> Tensor:
    return features if list(features.shape[2:]) == list(size) else F.interpolate(features, size=list(size), mode="nearest")
