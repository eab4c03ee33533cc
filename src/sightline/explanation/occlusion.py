"""Occlusion maps: Zeiler and Fergus, "Visualizing and understanding convolutional networks" (2014).

They ask nothing of a network but its answers: each part of an image is painted over, and what the answer loses by it is the
evidence that was there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.explanation.subject import Images, Subject, log_odds

# Cells a side: a few dozen passes an image. A cell is not made smaller than this many pixels.
CELLS, SMALLEST_CELL = 7, 2


def patches(size: int, cells: int = CELLS) -> list[tuple[slice, slice]]:
    """The (rows, columns) that are painted over in turn, (cells + 1) ** 2 of them: squares of two cells a side, a cell apart, so
    that each cell lies under four of them; those at the border are cut off by it."""
    edges = np.linspace(0, size, cells + 1).round().astype(int).tolist()
    spans = [slice(edges[max(place - 1, 0)], edges[min(place + 1, cells)]) for place in range(cells + 1)]
    return [(rows, columns) for rows in spans for columns in spans]


def cells_for(size: int) -> int:
    """Cells a side for images of this side."""
    return max(1, min(CELLS, size // SMALLEST_CELL))


@dataclass(frozen=True)
class Occlusion:
    """Squares painted over in the image's mean colour; the evidence is the mean loss of log-odds under the squares on a cell."""

    name: str = "occlusion"
    passes: int = (CELLS + 1) ** 2 + 1

    def evidence(self, subject: Subject, images: Images, targets: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.stack([self._one(subject, image, target) for image, target in zip(images, targets.tolist(), strict=True)])

    def forgetting(self, seed: int) -> Occlusion:
        """Itself: it has no weights."""
        return self

    @staticmethod
    def _one(subject: Subject, image: Images, target: int) -> NDArray[np.float32]:
        cells, colour = cells_for(len(image)), mean_colour(image)
        painted = [image]
        for rows, columns in patches(len(image), cells):
            copy = image.copy()
            copy[rows, columns] = colour
            painted.append(copy)
        whole, *without = log_odds(subject.probabilities(np.stack(painted))[:, target])
        lost = whole - np.array(without).reshape(cells + 1, cells + 1)
        return ((lost[:-1, :-1] + lost[1:, :-1] + lost[:-1, 1:] + lost[1:, 1:]) / 4).astype(np.float32)


def mean_colour(image: Images) -> NDArray[np.uint8]:
    """(channels,) uint8 of an image (h, w, channels)."""
    return image.mean(axis=(0, 1)).round().astype(np.uint8)
