"""What rare classes get so that they count: a weight in the loss, or more turns in an epoch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sightline.records import presence

# A tag on one image in ten thousand would otherwise outweigh all others together.
LARGEST_TAG_WEIGHT = 100.0
# From this ratio of the largest to the smallest class on, the imbalance is worth a word.
WORTH_SAYING = 10.0


def class_weights(targets: NDArray[np.int64] | NDArray[np.bool_], classes: int) -> NDArray[np.float32]:
    """(k,) weights for the loss.

    Of (n,) classes: inverse to their number of images, n / (k count), so that every class has the same weight altogether. Of
    (n, k) tags: images without the tag for each one with it, which is what the loss of its presence is to be multiplied by.
    """
    targets = presence(targets, classes)
    counts = label_counts(targets, classes)
    if targets.ndim == 2:
        return np.clip((len(targets) - counts) / np.maximum(counts, 1), 1 / LARGEST_TAG_WEIGHT, LARGEST_TAG_WEIGHT).astype(np.float32)
    return (len(targets) / (classes * np.maximum(counts, 1))).astype(np.float32)


def sampling_shares(targets: NDArray[np.int64] | NDArray[np.bool_], classes: int) -> NDArray[np.float64]:
    """(n,) chances of each image to be drawn, adding up to 1: inverse to its class's images, or to those of its rarest tag."""
    targets = presence(targets, classes)
    rarity = 1 / np.maximum(label_counts(targets, classes), 1)
    if targets.ndim == 2:
        bare = 1 / max(1, np.count_nonzero(~targets.any(axis=1)))
        chances = np.where(targets.any(axis=1), np.where(targets, rarity, 0).max(axis=1), bare)
    else:
        chances = rarity[targets]
    return chances / chances.sum()


def label_counts(targets: NDArray[np.int64] | NDArray[np.bool_], classes: int) -> NDArray[np.int64]:
    """(k,) images of each class or with each tag."""
    return targets.sum(axis=0) if targets.ndim == 2 else np.bincount(targets, minlength=classes)


def imbalance(targets: NDArray[np.int64] | NDArray[np.bool_], classes: int) -> float:
    """How many times as many images the largest class has as the smallest that has any; 1 where there is none."""
    counts = label_counts(presence(targets, classes), classes)
    counts = counts[counts > 0]
    return float(counts.max() / counts.min()) if len(counts) else 1.0
