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
from sightline.training.augment import erase, recolour, sample_affine, sample_colour, warp
from sightline.training.mixing import mix, sample_mixing, soft

# Sets the random numbers of mixing apart from those of the images.
MIXING = 1
Made = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[Any]]


@dataclass(frozen=True)
class TrainBatches:
    """Shuffled, augmented batches of a store's images.

    Every random number is drawn from (seed, epoch, row), so an epoch is the same whenever and wherever it is repeated,
    and a resumed run needs no state of a sampler.

    shares  (n,) chances of each image to be drawn, adding up to 1; None for every image once an epoch
    """

    store: Store
    targets: NDArray[Any]
    prepare: Prepare
    augment: AugmentConfig
    batch_size: int
    seed: int
    device: torch.device
    classes: int
    shares: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        """Batches in an epoch; a last one of a single image is left out, as batch normalisation cannot use it."""
        full, rest = divmod(len(self.store), self.batch_size)
        return full + (rest > (1 if full else 0))

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """From batch ``start`` on: images (n, size, size, channels) float32 in [0, 255] and their targets, on the device.

        Targets are (n,) int64 or (n, k) bool as the data has them, and (n, k) float32 where images are mixed.
        """
        order = self._order(epoch)
        with ThreadPoolExecutor(1) as maker:
            upcoming = maker.submit(self._make, order, start, epoch)
            for step in range(start, len(self)):
                images, colours, targets = upcoming.result()
                if step + 1 < len(self):
                    upcoming = maker.submit(self._make, order, step + 1, epoch)
                pixels = torch.from_numpy(images).to(self.device, non_blocking=True)
                factors = torch.from_numpy(colours).to(self.device, non_blocking=True)
                views, truth = recolour(pixels, factors), torch.from_numpy(targets).to(self.device, non_blocking=True)
                mixing = sample_mixing(np.random.default_rng([self.seed, epoch, step, MIXING]), self.augment)
                yield (views, truth) if mixing is None else mix(views, soft(truth, self.classes), mixing)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        rng, n = np.random.default_rng([self.seed, epoch]), len(self.store)
        return rng.permutation(n) if self.shares is None else rng.choice(n, n, p=self.shares)

    def _make(self, order: NDArray[np.int64], step: int, epoch: int) -> Made:
        rows = order[step * self.batch_size : (step + 1) * self.batch_size]
        images = np.empty((len(rows), self.prepare.size, self.prepare.size, self.prepare.channels), np.uint8)
        colours = np.empty((len(rows), 3), np.float32)
        for place, row in enumerate(rows):
            # Drawn twice in an epoch, an image is to be seen in two ways.
            again = [] if self.shares is None else [step, place]
            rng = np.random.default_rng([self.seed, epoch, int(row), *again])
            image = self.store[row]
            affine = sample_affine(rng, *image.shape[:2], self.prepare, self.augment)
            images[place] = warp(image, affine, self.prepare.size)
            colours[place] = sample_colour(rng, self.augment)
            if self.augment.erase:
                erase(rng, images[place], self.augment.erase)
        return images, colours, self.targets[rows]


def plain_batches(store: Store, prepare: Prepare, batch_size: int) -> Iterator[NDArray[np.uint8]]:
    """The stored images as evaluation would see them, in order, (n, size, size, channels) uint8."""
    for start in range(0, len(store), batch_size):
        yield np.stack([prepare(store[row])[0] for row in range(start, min(start + batch_size, len(store)))])
