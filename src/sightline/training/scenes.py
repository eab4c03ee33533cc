"""Batches of images on which things lie: what is drawn at random is drawn once, and moves pixels, boxes and label maps alike.

A training picture is put together from pieces: one image, or four around a point (Bochkovskiy et al., "YOLOv4", 2020), which shows
more objects, of more sizes and in other surroundings. Each piece has an affine of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sightline.config import AugmentConfig
from sightline.data.channels import GREY
from sightline.data.masks import read_map
from sightline.data.prepare import Prepare
from sightline.data.store import Store
from sightline.model.assignment import CROWD, PADDING
from sightline.scenes import IGNORED, Objects
from sightline.training.augment import erase, harden, recolour, sample_colour, warp
from sightline.training.batches import HARDENED, ahead, batches_of, shuffled
from sightline.training.plan import PLAIN, Show
from sightline.training.ranks import ALONE, Ranks

# An object of which less than this share is left in a piece is not asked for; of which less than the other, not there.
VISIBLE, GONE = 0.35, 0.05
# The shortest side in pixels of the input that an object may have to be asked for.
SHORTEST = 2.0
# How far images are enlarged and shrunk, of how far a crop of the smallest area would (as logarithms): objects have sizes of their own.
ENLARGE, SHRINK = 0.6, 0.3
ASPECT = 0.1
# Where four images meet, as a share of the picture; each is shown at this share of its size, as it has a quarter of the place.
MEETING, QUARTER = (0.35, 0.65), 0.7
# A network halves its maps five times, so that other sides would not fit.
STEP = 32


@dataclass(frozen=True)
class Piece:
    """What of a training picture comes from one image.

    row     of the image
    affine  (2, 3) from (x, y, 1) in the picture to (x, y) in the stored image
    window  left, top, right and bottom of the piece in the picture
    """

    row: int
    affine: NDArray[np.float64]
    window: tuple[int, int, int, int]


@dataclass(frozen=True)
class SceneBatches:
    """Shuffled, augmented batches of a store's images with their objects or label maps; as ``TrainBatches``, drawn from (seed, epoch, row).

    targets  (n,) of ``Objects`` or of ``LabelMap``
    mosaic   share of the pictures that are put together from four images, except late in training
    """

    store: Store
    targets: NDArray[Any]
    prepare: Prepare
    augment: AugmentConfig
    batch_size: int
    seed: int
    device: torch.device
    mosaic: float
    shares: NDArray[np.float64] | None = None
    ranks: Ranks = ALONE

    def __len__(self) -> int:
        """Batches in an epoch."""
        return batches_of(len(self.store), self.batch_size)

    def epoch(self, epoch: int, start: int = 0, show: Show = PLAIN) -> Iterator[tuple[Tensor, Tensor]]:
        """From batch ``start`` on: images (n, height, width, channels) float32 in [0, 255] and their targets, on the device.

        Objects are (n, m, 5) float32: label, left, top, right and bottom in pixels of the input, with the labels ``PADDING`` and
        ``CROWD``; label maps (n, height, width) uint8. Of several processes each has its share, as of ``TrainBatches``.
        """
        prepare, mosaic = sized(self.prepare, show.size), 0.0 if show.late else self.mosaic
        order = shuffled(len(self.store), self.shares, self.seed, epoch)
        steps = range(start, len(self))

        join = padded if isinstance(self.targets[0], Objects) else np.stack

        def made(step: int) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[Any]]:
            rows = order[step * self.batch_size : (step + 1) * self.batch_size]
            places, count = self.ranks.share(len(rows))
            pictures, colours, targets = zip(*(self._picture(row, epoch, prepare, mosaic) for row in rows[places].tolist()), strict=True)
            return np.stack(pictures), np.stack(colours), join(targets)[:count]

        for pixels, colours, targets in ahead(made, steps):
            images = torch.from_numpy(pixels).to(self.device, non_blocking=True)
            colour = torch.from_numpy(colours).to(self.device, non_blocking=True)
            yield recolour(images, colour), torch.from_numpy(targets).to(self.device, non_blocking=True)

    def _picture(
        self, row: int, epoch: int, prepare: Prepare, mosaic: float
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[Any]]:
        rng = np.random.default_rng([self.seed, epoch, row])
        pieces = self.pieces(rng, row, prepare, mosaic)
        picture = np.full((*prepare.shape, prepare.channels), GREY, np.uint8)
        for piece in pieces:
            left, top, right, bottom = piece.window
            affine = _from(piece.affine, left, top)
            picture[top:bottom, left:right] = warp(self.store[piece.row], affine, (bottom - top, right - left))
        if self.augment.erase:
            erase(rng, picture, self.augment.erase)
        if self.augment.robust and rng.random() < HARDENED:
            picture = harden(rng, picture, turn=False)
        target = self._objects(pieces) if isinstance(self.targets[row], Objects) else self._map(pieces, prepare.shape)
        return picture, sample_colour(rng, self.augment), target

    def pieces(self, rng: np.random.Generator, row: int, prepare: Prepare, mosaic: float) -> list[Piece]:
        """What a picture that begins with an image is put together from."""
        rows, columns = prepare.shape
        if not mosaic or rng.random() >= mosaic:
            return [self._piece(rng, row, (0, 0, columns, rows), prepare, 1.0)]
        x, y = (round(side * rng.uniform(*MEETING)) for side in (columns, rows))
        windows = ((0, 0, x, y), (x, 0, columns, y), (0, y, x, rows), (x, y, columns, rows))
        others = rng.integers(len(self.store), size=3).tolist()
        return [self._piece(rng, one, window, prepare, QUARTER) for one, window in zip((row, *others), windows, strict=True)]

    def _piece(self, rng: np.random.Generator, row: int, window: tuple[int, int, int, int], prepare: Prepare, scale: float) -> Piece:
        height, width = self.store[row].shape[:2]
        boxes = self._boxes(row) if isinstance(self.targets[row], Objects) else np.empty((0, 4))
        return Piece(row, sample_view(rng, (height, width), boxes, window, prepare.shape, self.augment, scale), window)

    def _boxes(self, row: int) -> NDArray[np.float64]:
        """An image's boxes in pixels of the stored image."""
        return np.asarray(self.targets[row].boxes / np.tile(self._reduced(row), 2))

    def _reduced(self, row: int) -> NDArray[np.float64]:
        """How many pixels of the original, across and down, are one of the stored image."""
        height, width = self.store[row].shape[:2]
        return np.array([self.store.facts.width[row] / width, self.store.facts.height[row] / height])

    def _objects(self, pieces: list[Piece]) -> NDArray[np.float32]:
        """(m, 5) the objects that can be seen in a picture, and the regions where nothing counts."""
        found = [np.empty((0, 5), np.float32)]
        for piece in pieces:
            boxes, shares = seen(self._boxes(piece.row), piece)
            objects, sides = self.targets[piece.row], boxes[:, 2:] - boxes[:, :2]
            asked = (shares >= VISIBLE) & (sides.min(axis=1, initial=np.inf) >= SHORTEST) & ~objects.crowd
            labels = np.where(asked, objects.labels, CROWD)
            found.append(np.column_stack([labels, boxes])[shares > GONE].astype(np.float32))
        return np.concatenate(found)

    def _map(self, pieces: list[Piece], shape: tuple[int, int]) -> NDArray[np.uint8]:
        """(height, width) the classes of a picture's pixels."""
        found = np.full(shape, IGNORED, np.uint8)
        for piece in pieces:
            left, top, right, bottom = piece.window
            classes = read_map(self.targets[piece.row])
            reduced = np.array(classes.shape[::-1]) / self.store[piece.row].shape[1::-1]
            affine = _from(piece.affine, left, top) * reduced[:, None]
            view = Image.fromarray(classes).transform(
                (right - left, bottom - top), Image.Transform.AFFINE, tuple(affine.ravel()), Image.Resampling.NEAREST, fillcolor=IGNORED
            )
            found[top:bottom, left:right] = view
        return found


def sample_view(
    rng: np.random.Generator, size: tuple[int, int], boxes: NDArray[np.float64], window: tuple[int, int, int, int], shape: tuple[int, int],
    config: AugmentConfig, scale: float = 1.0,
) -> NDArray[np.float64]:  # fmt: skip
    """A (2, 3) affine from (x, y, 1) in a picture of ``shape`` to an image of ``size`` (height, width), for a window of the picture.

    The image is fitted to the picture, enlarged or shrunk, moved, mirrored and turned at random. What is cut out holds the centre
    of one of the ``boxes`` (m, 4), where there are any.
    """
    (height, width), (left, top, right, bottom) = size, window
    fitted = max(width / shape[1], height / shape[0])
    most = math.log(1 / math.sqrt(config.crop_scale))
    enlarged = scale * math.exp(rng.uniform(-SHRINK * most, ENLARGE * most))
    aspect = math.exp(rng.uniform(-ASPECT, ASPECT)) if most else 1.0
    per = np.array([fitted / enlarged * aspect, fitted / enlarged / aspect])
    view = per * (right - left, bottom - top)
    slack = np.abs(np.array([width, height]) - view) / 2
    low, high = np.array([width, height]) / 2 - slack, np.array([width, height]) / 2 + slack
    if len(boxes):
        kept = boxes[rng.integers(len(boxes))].reshape(2, 2).mean(axis=0)
        low, high = np.clip(kept - view / 2, low, high), np.clip(kept + view / 2, low, high)
    centre = rng.uniform(low, high)
    angle = math.radians(rng.uniform(-config.rotate, config.rotate)) if config.rotate else 0.0
    mirror = -1 if config.flip and rng.random() < 0.5 else 1
    cos, sin = math.cos(angle), math.sin(angle)
    linear = np.array([[cos, -sin], [sin, cos]]) * (mirror * per[0], per[1])
    return np.column_stack([linear, centre - linear @ ((left + right) / 2, (top + bottom) / 2)])


def seen(boxes: NDArray[np.float64], piece: Piece) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Boxes (m, 4) of a stored image in the picture, cut at the piece's window, and (m,) the share of each that is left.

    Where the image is turned, the box around the turned box is meant.
    """
    inverse = np.linalg.inv(np.vstack([piece.affine, (0, 0, 1)]))[:2]
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2) @ inverse[:, :2].T + inverse[:, 2]
    whole = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    left, top, right, bottom = piece.window
    cut = np.clip(whole, (left, top, left, top), (right, bottom, right, bottom))
    areas = [np.prod(each[:, 2:] - each[:, :2], axis=1) for each in (cut, whole)]
    return cut, areas[0] / np.maximum(areas[1], 1e-9)


def padded(targets: tuple[NDArray[np.float32], ...]) -> NDArray[np.float32]:
    """(n, m, 5) of n images' objects, with rows of ``PADDING`` where an image has fewer; m is at least 1."""
    found = np.full((len(targets), max(1, *map(len, targets)), 5), PADDING, np.float32)
    for place, target in enumerate(targets):
        found[place, : len(target)] = target
    return found


def sized(prepare: Prepare, size: int | None) -> Prepare:
    """The same with an input whose width is ``size``, as nearly as a network takes it; unchanged for None."""
    if size is None or size == prepare.size:
        return prepare
    height, width = (max(STEP, STEP * round(side * size / prepare.size / STEP)) for side in prepare.shape)
    return replace(prepare, size=width, height=height)


def _from(affine: NDArray[np.float64], left: int, top: int) -> NDArray[np.float64]:
    """The affine for coordinates that begin at a window's corner."""
    return np.column_stack([affine[:, :2], affine @ (left, top, 1)])
