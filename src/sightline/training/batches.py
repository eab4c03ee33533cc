"""Batches for the loop: random views of stored images, made beside the step by one thread."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sightline.config import AugmentConfig
from sightline.data.prepare import Prepare
from sightline.data.store import Store
from sightline.training.augment import recolour, sample_affine, sample_colour, warp

Made = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[Any]]


@dataclass(frozen=True)
class TrainBatches:
    """Shuffled, augmented batches of a store's images.

    Every random number is drawn from (seed, epoch, row), so an epoch is the same whenever and wherever it is repeated,
    and a resumed run needs no state of a sampler.
    """

    store: Store
    targets: NDArray[Any]
    prepare: Prepare
    augment: AugmentConfig
    batch_size: int
    seed: int
    device: torch.device

    def __len__(self) -> int:
        """Batches in an epoch; a last one of a single image is left out, as batch normalisation cannot use it."""
        full, rest = divmod(len(self.store), self.batch_size)
        return full + (rest > (1 if full else 0))

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Images (n, size, size, channels) float32 in [0, 255] and their targets, on the device."""
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.store))
        rows = [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)][: len(self)]
        with ThreadPoolExecutor(1) as maker:
            upcoming = maker.submit(self._make, rows[0], epoch)
            for following in [*rows[1:], None]:
                images, colours, targets = upcoming.result()
                if following is not None:
                    upcoming = maker.submit(self._make, following, epoch)
                pixels = torch.from_numpy(images).to(self.device, non_blocking=True)
                factors = torch.from_numpy(colours).to(self.device, non_blocking=True)
                yield recolour(pixels, factors), torch.from_numpy(targets).to(self.device, non_blocking=True)

    def _make(self, rows: NDArray[np.int64], epoch: int) -> Made:
        images = np.empty((len(rows), self.prepare.size, self.prepare.size, self.prepare.channels), np.uint8)
        colours = np.empty((len(rows), 3), np.float32)
        for place, row in enumerate(rows):
            rng = np.random.default_rng([self.seed, epoch, int(row)])
            image = self.store[row]
            affine = sample_affine(rng, *image.shape[:2], self.prepare, self.augment)
            images[place] = warp(image, affine, self.prepare.size)
            colours[place] = sample_colour(rng, self.augment)
        return images, colours, self.targets[rows]


def plain_batches(store: Store, prepare: Prepare, batch_size: int) -> Iterator[NDArray[np.uint8]]:
    """The stored images as evaluation would see them, in order, (n, size, size, channels) uint8."""
    for start in range(0, len(store), batch_size):
        yield np.stack([prepare(store[row])[0] for row in range(start, min(start + batch_size, len(store)))])
