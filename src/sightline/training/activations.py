"""Batches of activations: what the lower layers make of images is computed once and kept, and only the upper layers run in a step.

A kept image has a few views, one as evaluation sees it and others changed at random. Maps are moved by a cell, as a moved image's
activations are nearly its own moved, and mixed with other images'.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sightline.config import AugmentConfig
from sightline.training.batches import MIXING, batches_of, shuffled
from sightline.training.mixing import mix, sample_mixing, soft
from sightline.training.plan import PLAIN, Show

# Set the random choice of views, and how far maps are moved, apart from the other random numbers of a step.
CHOICE, MOVING = 2, 5
# Maps are moved by this share of their side at most.
MOVED_SHARE = 0.07
# (n, channels, rows, columns)
MAP = 4


class Kept:
    """Activations of n images, one or more views of each, as float16 on the processor's side."""

    def __init__(self, n: int, shape: tuple[int, ...]) -> None:
        """``shape`` is that of one image's activations, (channels, rows, columns) or any other."""
        self.is_map = len(shape) == MAP - 1
        # Channels last in memory, as convolutions are fastest that way.
        self.shape = (n, *shape[1:], shape[0]) if self.is_map else (n, *shape)
        self.views: list[Tensor] = []

    @property
    def bytes_of_view(self) -> int:
        return 2 * int(np.prod(self.shape))

    def __len__(self) -> int:
        """How many images there are."""
        return self.shape[0]

    def add_view(self, activations: Iterable[Tensor]) -> None:
        """Keep batches of activations (b, *shape) that together are all images, in order."""
        view, start = torch.empty(self.shape, dtype=torch.float16), 0
        for batch in activations:
            rows = batch.permute(0, 2, 3, 1) if self.is_map else batch
            view[start : start + len(rows)] = rows.to("cpu", torch.float16)
            start += len(rows)
        self.views.append(view)

    @property
    def most_moved(self) -> int:
        """By how many cells a map may be moved."""
        return round(MOVED_SHARE * min(self.shape[1:3])) if self.is_map else 0

    def get(self, views: Iterable[int], rows: Iterable[int], device: torch.device, moved: NDArray[np.int64] | None = None) -> Tensor:
        """(b, *shape) float32 of b images, each in its own one of the views; maps are ``moved`` (b, 2) by so many rows and columns."""
        found = torch.stack([self.views[view][row] for view, row in zip(views, rows, strict=True)])
        if moved is not None and self.is_map:
            found = _moved(found, torch.from_numpy(moved))
        found = found.to(device).float()
        return found.permute(0, 3, 1, 2) if self.is_map else found


def _moved(maps: Tensor, by: Tensor) -> Tensor:
    """Maps (b, rows, columns, channels), each with its content ``by`` (b, 2) cells further down and to the right; edges are repeated."""
    rows, columns = ((torch.arange(side) - steps[:, None]).clamp(0, side - 1) for side, steps in zip(maps.shape[1:3], by.T, strict=True))
    return maps[torch.arange(len(maps))[:, None, None], rows[:, :, None], columns[:, None, :]]


@dataclass(frozen=True)
class KeptBatches:
    """Shuffled batches of kept activations as the loop takes them, every random number drawn from (seed, epoch, step).

    shares  (n,) chances of each image to be drawn, adding up to 1; None for every image once an epoch
    """

    kept: Kept
    targets: NDArray[Any]
    augment: AugmentConfig
    batch_size: int
    seed: int
    device: torch.device
    classes: int
    shares: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        """Batches in an epoch."""
        return batches_of(len(self.targets), self.batch_size)

    def epoch(self, epoch: int, start: int = 0, show: Show = PLAIN) -> Iterator[tuple[Tensor, Tensor]]:
        """From batch ``start`` on: activations (b, *shape) float32 and their targets as ``TrainBatches.epoch`` gives them.

        Of ``show``, the size has to be None: activations have that which they were made in.
        """
        assert show.size is None
        order = shuffled(len(self.targets), self.shares, self.seed, epoch)
        views = np.random.default_rng([self.seed, epoch, CHOICE]).integers(len(self.kept.views), size=len(order))
        for step in range(start, len(self)):
            part = slice(step * self.batch_size, (step + 1) * self.batch_size)
            truth = torch.from_numpy(self.targets[order[part]]).to(self.device)
            mixing = sample_mixing(np.random.default_rng([self.seed, epoch, step, MIXING]), self.augment)
            activations = self.kept.get(views[part], order[part], self.device, self._moves(epoch, step, len(truth)))
            yield (activations, truth) if mixing is None else mix(activations, soft(truth, self.classes), mixing)

    def _moves(self, epoch: int, step: int, n: int) -> NDArray[np.int64] | None:
        most = self.kept.most_moved
        return np.random.default_rng([self.seed, epoch, step, MOVING]).integers(-most, most + 1, (n, 2)) if most else None
