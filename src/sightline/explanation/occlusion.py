"""Occlusion maps: Zeiler and Fergus, "Visualizing and understanding convolutional networks" (2014).

They ask nothing of a network but its answers: each part of an image is painted over, and what the answer loses by it is the
evidence that was there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.explanation.subject import Images, Scored, log_odds

# Cells a side: a few dozen passes an image. A cell is not made smaller than this many pixels.
CELLS, SMALLEST_CELL = 7, 2


def patches(shape: tuple[int, int], cells: int = CELLS) -> list[tuple[slice, slice]]:
    """The (rows, columns) that are painted over in turn, (cells + 1) ** 2 of them: two cells wide and high, a cell apart, so
    that each cell lies under four of them; those at the border are cut off by it."""
    down, across = (np.linspace(0, side, cells + 1).round().astype(int).tolist() for side in shape)
    rows, columns = (
        [slice(edges[max(place - 1, 0)], edges[min(place + 1, cells)]) for place in range(cells + 1)] for edges in (down, across)
    )
    return [(high, wide) for high in rows for wide in columns]


def cells_for(shape: tuple[int, int], most: int = CELLS) -> int:
    """Cells a side for images of this height and width."""
    return max(1, min(most, min(shape) // SMALLEST_CELL))


@dataclass(frozen=True)
class Occlusion:
    """Squares painted over in the image's mean colour; the evidence is the mean loss of log-odds under the squares on a cell."""

    cells: int = CELLS
    name: str = "occlusion"

    @property
    def passes(self) -> int:
        return (self.cells + 1) ** 2 + 1

    def evidence(self, subject: Scored, images: Images, targets: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.stack([self._one(subject, image, target) for image, target in zip(images, targets.tolist(), strict=True)])

    def forgetting(self, seed: int) -> Occlusion:
        """Itself: it has no weights."""
        return self

    def _one(self, subject: Scored, image: Images, target: int) -> NDArray[np.float32]:
        shape = image.shape[0], image.shape[1]
        cells, colour = cells_for(shape, self.cells), mean_colour(image)
        painted = [image]
        for rows, columns in patches(shape, cells):
            copy = image.copy()
            copy[rows, columns] = colour
            painted.append(copy)
        whole, *without = log_odds(subject.probabilities(np.stack(painted))[:, target])
        lost = whole - np.array(without).reshape(cells + 1, cells + 1)
        return ((lost[:-1, :-1] + lost[1:, :-1] + lost[:-1, 1:] + lost[1:, 1:]) / 4).astype(np.float32)


def mean_colour(image: Images) -> NDArray[np.uint8]:
    """(channels,) uint8 of an image (h, w, channels)."""
    return image.mean(axis=(0, 1)).round().astype(np.uint8)
