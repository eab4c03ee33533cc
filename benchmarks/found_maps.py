"""What a bundle finds in the test images of a data set of masks, beside the masks."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from sightline.evaluation.segmentation import pixel_confusion
from sightline.runtime import Model
from sightline.scenes import IGNORED, Segmentation

VOID = "void"


def names_of(data: Path) -> list[str]:
    """The classes that are judged, in the order of the masks' numbers."""
    return [name for name in json.loads((data / "classes.json").read_text()) if name != VOID]


def pairs(model: Model, data: Path, names: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """True and found (h, w) classes of each test image by name, numbered as in ``names``, void IGNORED; SystemExit for one it refuses."""
    files = sorted((data / "test" / "images").iterdir())
    place = np.array([names.index(label) for label in model.labels])
    for file, found in zip(files, model.stream(files), strict=True):
        if not isinstance(found, Segmentation):
            sys.exit(f"{file}: {found}")
        with Image.open(data / "test" / "masks" / f"{file.stem}.png") as mask:
            classes = np.array(mask)
        yield np.where(classes < len(names), classes, IGNORED), place[found.classes]


def confusions(model: Model, data: Path, names: Sequence[str]) -> np.ndarray:
    """(n, k, k) int64 of the test images."""
    return np.stack([pixel_confusion(truth, found, len(names)) for truth, found in pairs(model, data, names)])
