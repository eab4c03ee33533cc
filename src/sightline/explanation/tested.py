"""Tests of an explanation: does what it points at matter, and does it depend on what the network learned?

Deletion and insertion: Petsiuk et al., "RISE: Randomized input sampling for explanation of black-box models" (2018), each against
smooth random maps of the same resolution. Randomisation: Adebayo et al., "Sanity checks for saliency maps" (2018).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFilter

from sightline.data.channels import changed
from sightline.explanation.grid import enlarged
from sightline.explanation.occlusion import mean_colour
from sightline.explanation.subject import Floats, Images

# Shares of the pixels at which the score is looked at: nought, all, and equal steps between.
STEPS = 8
# A label with a lower score has nothing to lose: taking pixels away shows nothing.
LEAST_SCORE = 0.05
# The blurred image that insertion begins with has lost what is smaller than this share of its side.
BLUR = 0.1

Score = Callable[[Images], NDArray[np.float64]]
"""Images (n, size, size, channels) to the probability (n,) of the label that is explained."""


@dataclass(frozen=True)
class Tested:
    """What became of one image's score as its pixels were taken away or put back, in the order of a map and of r random ones.

    deletion, insertion                (1 + r, STEPS + 1) scores, the map's own first, at equal steps from no pixel to all of them
    """

    deletion: NDArray[np.float64]
    insertion: NDArray[np.float64]

    def areas(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(1 + r,) areas under the curves of deletion, where less is better, and of insertion, where more is."""
        return area(self.deletion), area(self.insertion)

    def wins(self) -> tuple[float, float]:
        """The shares of the random maps that the map beats in deletion and in insertion; a tie is half a win."""
        deletion, insertion = self.areas()
        return _share_below(deletion[0], deletion[1:]), _share_below(-insertion[0], -insertion[1:])

    def to_json(self) -> dict[str, Any]:
        deletion, insertion = self.areas()
        wins = self.wins()
        return {
            "deletion": float(deletion[0]), "random_deletion": float(deletion[1:].mean()), "deletion_wins": wins[0],
            "insertion": float(insertion[0]), "random_insertion": float(insertion[1:].mean()), "insertion_wins": wins[1],
            "random_maps": len(deletion) - 1,
        }  # fmt: skip


def passes(random: int) -> int:
    """Images that the model computes to test one map against so many random ones."""
    return 2 * (1 + random) * (STEPS - 1) + 3


def random_maps(count: int, shape: tuple[int, int], seed: Any) -> NDArray[np.float32]:
    """(count, rows, columns) of independent noise: enlarged as a map of this resolution is, they are as smooth as one."""
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype(np.float32)


def delete_and_insert(score: Score, image: Images, evidence: Floats, random: Floats) -> Tested:
    """Delete and insert the pixels of an image (height, width, channels), those with most evidence first.

    evidence  (rows, columns) of the map;  random  (r, rows, columns), r at least 1
    """
    orders = np.stack([_ranks(enlarged(one, image.shape[:2])) for one in (evidence, *random)])
    plain, blurred = np.broadcast_to(mean_colour(image), image.shape), blur(image)
    taken = [orders * STEPS < step * orders[0].size for step in range(1, STEPS)]
    deleted = [np.where(mask[:, :, :, None], plain, image) for mask in taken]
    inserted = [np.where(mask[:, :, :, None], image, blurred) for mask in taken]
    scores = score(np.concatenate([np.stack([image, plain, blurred]), *deleted, *inserted]))
    whole, none, start = (np.full((len(orders), 1), value) for value in scores[:3])
    deletion, insertion = scores[3:].reshape(2, STEPS - 1, len(orders)).transpose(0, 2, 1)
    return Tested(np.hstack([whole, deletion, none]), np.hstack([start, insertion, whole]))


def blur(image: Images) -> Images:
    """An image (h, w, channels) of which only broad areas of colour are left."""
    return changed(image, lambda picture: picture.filter(ImageFilter.GaussianBlur(BLUR * max(picture.size))))


def area(curves: Floats) -> NDArray[np.float64]:
    """(n,) areas under (n, points) of equal distance on [0, 1], by trapezoids."""
    return np.asarray((curves[:, :-1] + curves[:, 1:]).mean(axis=1) / 2)


def _ranks(values: Floats) -> NDArray[np.int64]:
    """The place of each of the (h, w) values, the largest at 0."""
    order = np.argsort(-values, axis=None, kind="stable")
    ranks = np.empty(values.size, np.int64)
    ranks[order] = np.arange(values.size)
    return ranks.reshape(values.shape)


def _share_below(value: float, others: Floats) -> float:
    return float(((value < others) + (value == others) / 2).mean())


def rank_correlation(a: Floats, b: Floats) -> float:
    """Spearman's rank correlation of two maps of the same shape, in [-1, 1]; of one that is constant 0, of two that are 1."""
    first, second = (_mean_ranks(values.ravel()) for values in (a, b))
    spreads = first.std(), second.std()
    if not all(spreads):
        return 0.0 if any(spreads) else 1.0
    return float(((first - first.mean()) * (second - second.mean())).mean() / (spreads[0] * spreads[1]))


def _mean_ranks(values: Floats) -> NDArray[np.float64]:
    """(n,) ranks from 0, equal values sharing the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts + 1) / 2)[places])
