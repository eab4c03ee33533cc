"""What rare classes get so that they count: a weight in the loss, or more turns in an epoch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.records import presence

# A tag on one image in ten thousand, or a class of one pixel in a million, would otherwise outweigh all others together.
LARGEST_WEIGHT = 100.0
# From this ratio of the largest to the smallest class on, the imbalance is worth a word.
WORTH_SAYING = 10.0


def class_weights(targets: NDArray[Any], classes: int) -> NDArray[np.float32]:
    """(k,) weights for the loss.

    Of (n,) classes: inverse to their number of images, n / (k count), so that every class has the same weight altogether. Of objects
    and label maps the same by the number of objects or pixels, which is what their losses are of; 1 for a class without any. Of
    (n, k) tags: images without the tag for each one with it, which is what the loss of its presence is to be multiplied by.
    """
    counts = label_counts(targets, classes)
    if targets.ndim == 2:
        return np.clip((len(targets) - counts) / np.maximum(counts, 1), 1 / LARGEST_WEIGHT, LARGEST_WEIGHT).astype(np.float32)
    even = counts.sum() / (classes * np.maximum(counts, 1))
    return (np.where(counts, np.minimum(even, LARGEST_WEIGHT), 1) if targets.dtype == object else even).astype(np.float32)


def sampling_shares(targets: NDArray[Any], classes: int) -> NDArray[np.float64]:
    """(n,) chances of each image to be drawn, adding up to 1: inverse to its class's images, or to those of its rarest tag."""
    targets = presence(targets, classes)
    rarity = 1 / np.maximum(label_counts(targets, classes), 1)
    if targets.ndim == 2:
        bare = 1 / max(1, np.count_nonzero(~targets.any(axis=1)))
        chances = np.where(targets.any(axis=1), np.where(targets, rarity, 0).max(axis=1), bare)
    else:
        chances = rarity[targets]
    return chances / chances.sum()


def label_counts(targets: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """(k,) images of each class or with each tag, or its objects or pixels where things lie on the images."""
    if targets.dtype == object:
        return np.sum([target.counts(classes) for target in targets], axis=0, dtype=np.int64)
    return targets.sum(axis=0) if targets.ndim == 2 else np.bincount(targets, minlength=classes)


def imbalance(targets: NDArray[Any], classes: int) -> float:
    """How many times as many images, objects or pixels the largest class has as the smallest that has any; 1 where there is none."""
    counts = label_counts(targets, classes)
    counts = counts[counts > 0]
    return float(counts.max() / counts.min()) if len(counts) else 1.0
