"""Batches for the loop: random views of stored images, made beside the step by one thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sightline.config import AugmentConfig
from sightline.data.prepare import Prepare
from sightline.data.shuffle import Order
from sightline.data.store import Store
from sightline.scenes import frame_of
from sightline.training.augment import erase, harden, mirrored_in, recolour, sample_affine, sample_colour, shifted, warp
from sightline.training.feeding import copied, makers
from sightline.training.mixing import mix, sample_mixing, soft
from sightline.training.plan import PLAIN, Show
from sightline.training.ranks import ALONE, Ranks

# Sets the random numbers of mixing apart from those of the images, and of views in order from those of epochs.
MIXING, VIEW = 1, 0
# Sets those of the validation images' conditions apart.
HARDER = 3
# Share of the images that are made harder where images are.
HARDENED = 0.5
# Above so many images, an epoch's order is computed as it is asked for, and never in memory.
MANY = 1_000_000
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
    ranks: Ranks = ALONE

    def __len__(self) -> int:
        """Batches in an epoch."""
        return batches_of(len(self.store), self.batch_size)

    def epoch(self, epoch: int, start: int = 0, show: Show = PLAIN) -> Iterator[tuple[Tensor, Tensor]]:
        """From batch ``start`` on: images (n, size, size, channels) float32 in [0, 255] and their targets, on the device.

        ``show`` says of which size. Targets are (n,) int64 or (n, k) bool as the data has them, and
        (n, k) float32 where images are mixed. Of several processes each has its share, ``Ranks.share``, with no targets where the
        images do not count.
        """
        prepare = self.prepare if show.size is None else replace(self.prepare, size=show.size)
        order = shuffled(len(self.store), self.shares, self.seed, epoch)
        steps = range(start, len(self))

        def make(step: int) -> Made:
            rows = order[step * self.batch_size : (step + 1) * self.batch_size]
            places, count = self.ranks.share(len(rows))
            images, colours, targets = self._make(prepare, rows[places], epoch, [(step, place) for place in places.tolist()])
            return images, colours, targets[:count]

        made = ahead(make, steps, makers(self.device))
        for step, (images, colours, targets) in zip(steps, made, strict=True):
            views, truth = self._on_device(images, colours), copied(targets, self.device)
            mixing = sample_mixing(np.random.default_rng([self.seed, epoch, step, MIXING]), self.augment)
            yield (views, truth) if mixing is None else mix(views, soft(truth, self.classes), mixing)

    def in_order(self, view: int) -> Iterator[Tensor]:
        """Every image once and in the store's order, changed at random as in no other ``view``; batches as of ``epoch``."""
        starts = range(0, len(self.store), self.batch_size)
        rows = np.arange(len(self.store))

        def make(start: int) -> Made:
            part = rows[start:][: self.batch_size]
            return self._make(self.prepare, part, view, [(VIEW, place) for place in range(len(part))])

        for images, colours, _ in ahead(make, starts):
            yield self._on_device(images, colours)

    def _on_device(self, images: NDArray[np.uint8], colours: NDArray[np.float32]) -> Tensor:
        return recolour(copied(images, self.device), copied(colours, self.device))

    def _make(self, prepare: Prepare, rows: NDArray[np.int64], epoch: int, turns: Sequence[tuple[int, int]]) -> Made:
        """``turns`` are each image's step and its place in that step's batch."""
        images = np.empty((len(rows), *prepare.shape, prepare.channels), np.uint8)
        colours = np.empty((len(rows), 3), np.float32)
        turned = mirrored_in(epoch, rows, self.seed).tolist() if self.augment.alternate else [None] * len(rows)
        for place, row in enumerate(rows):
            # Drawn twice in an epoch, an image is to be seen in two ways.
            again = [] if self.shares is None else turns[place]
            rng = np.random.default_rng([self.seed, epoch, int(row), *again])
            image = shifted(rng, self.store[row], self.augment.shift) if self.augment.shift else self.store[row]
            affine = sample_affine(rng, *image.shape[:2], prepare, self.augment, turned[place])
            images[place] = warp(image, affine, prepare.shape)
            colours[place] = sample_colour(rng, self.augment)
            if self.augment.erase:
                erase(rng, images[place], self.augment.erase)
            if self.augment.robust and rng.random() < HARDENED:
                images[place] = harden(rng, images[place], turn=bool(self.augment.rotate))
        return images, colours, self.targets[rows]


def batches_of(n: int, batch_size: int) -> int:
    """How many batches n images give; a last one of a single image is left out, as batch normalisation cannot use it."""
    full, rest = divmod(n, batch_size)
    return full + (rest > (1 if full else 0))


def shuffled(n: int, shares: NDArray[np.float64] | None, seed: int, epoch: int) -> NDArray[np.int64] | Order:
    """The rows of an epoch in their order, to be asked for by slices: each once, or as often as its chances ``shares`` (n,) have it."""
    if shares is None and n > MANY:
        return Order(n, (seed, epoch))
    rng = np.random.default_rng([seed, epoch])
    return rng.permutation(n) if shares is None else rng.choice(n, n, p=shares)


def ahead(make: Callable[[int], Made], places: Sequence[int], threads: int = 1) -> Iterator[Made]:
    """What ``make`` gives for each place in order, the next ones being made by ``threads``, one each, while one is used."""
    with ThreadPoolExecutor(threads) as pool:
        upcoming = deque(pool.submit(make, place) for place in places[:threads])
        for following in range(threads, threads + len(places)):
            made = upcoming.popleft().result()
            upcoming.extend(pool.submit(make, place) for place in places[following : following + 1])
            yield made


def plain_batches(store: Store, prepare: Prepare, batch_size: int) -> Iterator[NDArray[np.uint8]]:
    """The stored images as evaluation would see them, in order, (n, size, size, channels) uint8."""
    for start in range(0, len(store), batch_size):
        yield np.stack([prepare(store[row])[0] for row in range(start, min(start + batch_size, len(store)))])


def frames_of(store: Store, prepare: Prepare) -> NDArray[np.float64]:
    """(n, 10) how each image of ``plain_batches`` lies on its original."""
    sizes = np.stack([store.shapes[:, 1], store.shapes[:, 0], store.facts.width, store.facts.height], axis=1).tolist()
    return np.stack(
        [frame_of(prepare.way_back(wide, high), prepare.shape, (wide, high), (width, height)) for wide, high, width, height in sizes]
    )


def harder_batches(store: Store, prepare: Prepare, batch_size: int, seed: int, *, turn: bool) -> Iterator[NDArray[np.uint8]]:
    """The images of ``plain_batches``, each in a harder condition that (seed, row) decides."""
    for number, batch in enumerate(plain_batches(store, prepare, batch_size)):
        rngs = (np.random.default_rng([seed, HARDER, number * batch_size + place]) for place in range(len(batch)))
        yield np.stack([harden(rng, image, turn=turn) for rng, image in zip(rngs, batch, strict=True)])
