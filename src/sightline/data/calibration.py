"""Which validation images stop training and which calibrate the trained network."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from sightline.records import Dataset

Rows = NDArray[np.int64]

# With fewer validation images, two halves would serve neither purpose: both take all, and calibration is cross-fitted.
FEWEST_TO_DIVIDE = 500


def validation_parts(dataset: Dataset) -> tuple[Rows, Rows]:
    """Rows that early stopping looks at, and rows that calibration is made on; the same ones where there are few.

    Halves by the hash of each image's group, or of its content: they do not depend on order, and no group or copy lies in both.
    """
    rows = dataset.rows_of("validation")
    if len(rows) < FEWEST_TO_DIVIDE:
        return rows, rows
    odd = np.array([_is_odd(dataset, row) for row in rows.tolist()])
    stopping, calibrating = rows[~odd], rows[odd]
    if min(len(stopping), len(calibrating)) < FEWEST_TO_DIVIDE // 4:  # one group holds nearly all
        return rows, rows
    return stopping, calibrating


def _is_odd(dataset: Dataset, row: int) -> bool:
    sample = dataset[row]
    return bool(hashlib.sha256((sample.group or sample.content_id or str(sample.ref)).encode(errors="surrogateescape")).digest()[0] & 1)
