"""Batches of small images that lie on the device as a whole: views are cut, moved and mirrored there, and nothing is copied in an epoch.

A processor that prepares a batch image by image keeps a small network waiting on any accelerator. What can be had here is what needs
no resampling: mirroring, moving, erasing, colour; ``batches.py`` does the rest, and images that do not fit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sightline.config import AugmentConfig
from sightline.data.store import Store
from sightline.processor import memory_bytes
from sightline.training.augment import ERASED_AREA, ERASED_ASPECT, mirrored_in, recolour
from sightline.training.batches import MIXING, TrainBatches, batches_of, plain_batches, shuffled
from sightline.training.mixing import mix, sample_mixing, soft
from sightline.training.plan import PLAIN, Show

# Larger images have few that fit, and a network whose steps take longer than making them.
LARGEST_SIDE = 96
# Of the device's free memory, or the computer's, that images may take.
MEMORY_SHARE = 0.2
READ_AT_ONCE = 512
# Random numbers of a view: mirror, down, right; erase, its area, aspect, top and left; brightness, contrast, saturation.
NUMBERS, VIEWS = 11, 5


@dataclass(frozen=True)
class DeviceBatches:
    """Shuffled, changed batches as those that they are ``of``; every random number is drawn from (seed, epoch, row)."""

    of: TrainBatches

    def __len__(self) -> int:
        """Batches in an epoch."""
        return batches_of(len(self.of.store), self.of.batch_size)

    @property
    def device(self) -> torch.device:
        return self.of.device

    @cached_property
    def images(self) -> Tensor:
        """(n, size, size, channels) uint8 as evaluation sees them, on the device."""
        parts = [torch.from_numpy(part).to(self.device) for part in plain_batches(self.of.store, self.of.prepare, READ_AT_ONCE)]
        return torch.cat(parts)

    @cached_property
    def targets(self) -> Tensor:
        return torch.from_numpy(self.of.targets).to(self.device)

    def epoch(self, epoch: int, start: int = 0, show: Show = PLAIN) -> Iterator[tuple[Tensor, Tensor]]:
        """As ``TrainBatches.epoch``."""
        of, n = self.of, len(self.of.store)
        order = shuffled(n, of.shares, of.seed, epoch)[:n]
        numbers = np.random.default_rng([of.seed, epoch, VIEWS]).random((n, NUMBERS), np.float32)
        if of.shares is None:  # an image that is drawn once has its own numbers; one drawn twice is to be seen in two ways
            numbers = numbers[order]
        mirrored = mirrored_in(epoch, order, of.seed) if of.augment.alternate else numbers[:, 0] < 0.5
        mirrored &= bool(of.augment.flip)
        rows, chances, mirror = (torch.from_numpy(each).to(self.device) for each in (order, numbers, mirrored))
        for step in range(start, len(self)):
            part = slice(step * of.batch_size, (step + 1) * of.batch_size)
            views = self._views(rows[part], chances[part], mirror[part], epoch, step)
            truth = self.targets[rows[part]]
            views = resized(views, show.size or of.prepare.size)
            mixing = sample_mixing(np.random.default_rng([of.seed, epoch, step, MIXING]), of.augment)
            yield (views, truth) if mixing is None else mix(views, soft(truth, of.classes), mixing)

    def _views(self, rows: Tensor, chances: Tensor, mirror: Tensor, epoch: int, step: int) -> Tensor:
        """Images (n, size, size, channels) float32 in [0, 255], each by its own numbers ``chances`` (n, NUMBERS) in [0, 1)."""
        augment, size = self.of.augment, self.images.shape[1]
        down, right = ((chances[:, 1:3] * (2 * augment.shift + 1)).floor().long() - augment.shift).unbind(1)
        across = torch.arange(size, device=self.device)
        columns = torch.where(mirror[:, None], across.flip(0), across) + right[:, None]
        ys, xs = inside(across + down[:, None], size), inside(columns, size)
        pixels = self.images[rows[:, None, None], ys[:, :, None], xs[:, None, :]]
        views = recolour(pixels, 1 + augment.colour * (2 * chances[:, 8:11] - 1)) if augment.colour else pixels.float()
        return self._erased(views, chances[:, 3:8], epoch, step) if augment.erase else views

    def _erased(self, views: Tensor, chances: Tensor, epoch: int, step: int) -> Tensor:
        """Some of the images with a rectangle of noise, as ``augment.erase`` paints it."""
        (share, area, aspect, top, left), side = chances.unbind(1), views.shape[1]
        low, high = ERASED_ASPECT
        ratio = low * (high / low) ** aspect
        painted = (ERASED_AREA[0] + (ERASED_AREA[1] - ERASED_AREA[0]) * area).sqrt() * side
        tall, wide = ((painted * root).round().clamp(1, side) for root in (ratio.sqrt(), ratio.rsqrt()))
        top, left = (top * (side - tall + 1)).floor(), (left * (side - wide + 1)).floor()
        across = torch.arange(side, device=self.device)
        rows = (across >= top[:, None]) & (across < (top + tall)[:, None])
        columns = (across >= left[:, None]) & (across < (left + wide)[:, None])
        hidden = rows[:, :, None] & columns[:, None, :] & (share < self.of.augment.erase)[:, None, None]
        generator = torch.Generator(self.device).manual_seed(int(np.random.default_rng([self.of.seed, epoch, step]).integers(2**31)))
        noise = torch.randint(0, 256, views.shape, generator=generator, device=self.device, dtype=torch.uint8)
        return torch.where(hidden[..., None], noise, views)


def inside(places: Tensor, side: int) -> Tensor:
    """Places beyond a side mirrored back into [0, side), the edge itself not repeated."""
    return (side - 1) - ((side - 1) - places.abs()).abs()


def resized(views: Tensor, side: int) -> Tensor:
    """Images (n, h, w, c) float32 with sides of so many pixels, each averaged over what it covers where they shrink."""
    if views.shape[1] == side:
        return views
    smaller = F.interpolate(views.permute(0, 3, 1, 2), (side, side), mode="bilinear", antialias=True, align_corners=False)
    return smaller.permute(0, 2, 3, 1).contiguous()


def fit_on(device: torch.device, store: Store, augment: AugmentConfig, shape: tuple[int, ...]) -> bool:
    """Whether all images of this shape (height, width, channels) have room on the device, and are changed in ways that it knows."""
    elsewhere = augment.crop_scale < 1 or augment.rotate or augment.robust
    # Processes that train together have each a share of the batches that are made elsewhere.
    together = torch.distributed.is_available() and torch.distributed.is_initialized()
    if elsewhere or together or shape[0] != shape[1] or shape[0] > LARGEST_SIDE:
        return False
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else memory_bytes()
    return len(store) * int(np.prod(shape)) <= MEMORY_SHARE * free
