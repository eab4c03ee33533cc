"""The data that a bundle is measured on: read for its task, which of their images, and their targets in the bundle's terms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline import console
from sightline.config import ReadConfig
from sightline.data.layouts import layout_of
from sightline.data.limits import Limits
from sightline.data.readers import FOLDER_TASK, read_dataset
from sightline.data.remote import local
from sightline.errors import DataError, TaskError, did_you_mean
from sightline.records import SPLITS, Dataset


def read_for(model: Path, task: str, data: str | Path, reading: ReadConfig, limits: Limits) -> Dataset:
    """The data at a path or URL, for a bundle of this task; DataError where they are of another, and what ``read_dataset`` raises."""
    try:
        return read_dataset(local(data), reading, task, limits)[0]
    except TaskError as error:
        raise DataError(f"{model} is for {error.task}, and {error.reason}") from error


def targets_for(labels: Sequence[str], dataset: Dataset, path: Path) -> NDArray[Any]:
    """The data's targets in terms of the model's ``labels``; DataError naming every class the model does not know."""
    unknown = [label for label in dataset.labels if label not in labels]
    if unknown:
        hints = "".join(did_you_mean(label, labels) for label in unknown[:1])
        if dataset.task == FOLDER_TASK and (layout := layout_of(dataset.root, None)) is not None:
            hints += f" The folder holds {layout.kind.name}, which are for {layout.task}."
        raise DataError(f"{dataset.root}: {path} does not know the class {', '.join(map(repr, unknown))}.{hints}")
    return dataset.targets_among(labels)


def rows_for(dataset: Dataset, split: str | None, is_seen: Callable[[int], bool] | None) -> tuple[NDArray[np.int64], str]:
    """The rows to evaluate and what they are called; ``is_seen`` tells which were trained on, where the model knows that."""
    everything = np.arange(len(dataset))
    if split == "all":
        return everything, "all"
    if dataset.splits is not None:
        rows = dataset.rows_of(split or "test")
        if not len(rows):
            found = ", ".join(name for name in SPLITS if len(dataset.rows_of(name)))
            raise DataError(f"{dataset.root}: has no {split or 'test'} images, only {found}; choose with --split.")
        return rows, split or "test"
    if split in ("train", "validation"):
        raise DataError(f"{dataset.root}: did not come split, so there are no {split} images to choose; use --split all.")
    if is_seen is None:
        return everything, "all"
    rows = np.array([row for row in everything if not is_seen(row)], np.int64)
    if not len(rows):
        raise DataError(f"{dataset.root}: the model was trained on all of these images; give it new ones, or --split all.")
    console.say(f"The data did not come split: evaluating the {len(rows)} of {len(dataset)} images not used in training.")
    return rows, "test"
