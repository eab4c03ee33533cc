"""Which images a variant is made with: to measure ranges, to choose what stays in float, and to judge it, each apart from the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.errors import DataError
from sightline.exporting.wanted import Wanted
from sightline.records import NO_TARGET, Dataset, ImageRef

# Enough to see a change of half a point; more would only take longer.
VALIDATION_IMAGES = 500
LEAST = 2


@dataclass(frozen=True)
class Images:
    """n images and their targets in terms of the model's labels."""

    refs: Sequence[ImageRef]
    targets: NDArray[Any]

    def __len__(self) -> int:
        return len(self.refs)


@dataclass(frozen=True)
class Material:
    """``calibration`` and ``validation`` were trained or validated on, ``test`` were not."""

    calibration: Images
    validation: Images
    test: Images


def divided(dataset: Dataset, targets: NDArray[Any], known: NDArray[np.bool_] | None, count: int, seed: int = 0) -> Material:
    """Up to ``count`` images for calibration, some for validation, and all that there are for the test.

    targets  the data's, in terms of the model's labels
    known    (n,) which images the model was trained or validated on, which tells them from test images where none came as such; None
             where that is not asked

    The same data give the same images. Raises DataError where a part would have no images.
    """
    train, validation, test = (_labelled_rows(dataset, targets, known, name) for name in ("train", "validation", "test"))
    rng = np.random.default_rng(seed)
    train = rng.permutation(train)
    if len(train) < LEAST and dataset.splits is None:
        raise DataError(
            f"{dataset.root}: holds none of the images that the model was trained on, which a variant is calibrated with; "
            "give the data that it was made from."
        )
    if len(train) < LEAST or not len(test):
        lacking = "labelled test" if len(train) >= LEAST else "labelled training"
        raise DataError(
            f"{dataset.root}: has no {lacking} images, and a variant needs training images to be made and test images to be judged."
        )
    if not len(validation):  # what the model was trained on still shows where a variant answers otherwise
        half = min(count, len(train) // 2)
        train, validation = train[:half], train[half:]
    chosen = train[:count], rng.permutation(validation)[:VALIDATION_IMAGES], test
    calibration, validating, testing = (Images([dataset.refs[row] for row in rows.tolist()], targets[rows]) for rows in chosen)
    return Material(calibration, validating, testing)


def material_for(
    making: Sequence[Wanted], dataset: Dataset, targets: NDArray[Any], known: NDArray[np.bool_] | None, count: int
) -> Material | Images:
    """``divided`` where anything is in INT8, and else the test images alone: DataError where there are none."""
    if any(one.precision == "int8" for one in making):
        return divided(dataset, targets, known, count)
    test = _labelled_rows(dataset, targets, known, "test")
    if not len(test):
        raise DataError(f"{dataset.root}: has no labelled test images, which a variant is judged on.")
    return Images([dataset.refs[row] for row in test.tolist()], targets[test])


def _labelled_rows(dataset: Dataset, targets: NDArray[Any], known: NDArray[np.bool_] | None, name: str) -> NDArray[np.int64]:
    """The rows of a split that have labels."""
    labelled = targets != NO_TARGET if targets.dtype.kind == "i" else np.ones(len(dataset), bool)
    return np.flatnonzero((_splits(dataset, known) == name) & labelled)


def _splits(dataset: Dataset, known: NDArray[np.bool_] | None) -> NDArray[np.str_]:
    """(n,) "train", "validation" or "test". Where no test images came, the model's own were drawn from training images: they are those of
    them that it has not seen."""
    if dataset.splits is None:
        return np.where(known, "train", "test")
    if known is None or not known.any() or (dataset.splits == "test").any():
        return dataset.splits
    came = np.where(dataset.splits == "", "train", dataset.splits)
    return np.where((came == "train") & ~known, "test", came)
