"""Training images that a bundle keeps something of: embeddings to hold others against, and small pictures."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sightline.data.prepare import Prepare
from sightline.data.store import Store
from sightline.evaluation.promises import unit
from sightline.records import Dataset, Infer, presence
from sightline.reference import Known
from sightline.report.pictures import thumbnail

MOST, FEWEST = 2000, 32
BATCH = 16
THUMB_SIDE = 64


def known_images(
    infer: Infer, prepare: Prepare, dataset: Dataset, store: Store, names: Sequence[str], seconds: float, *, pictures: bool, seed: int = 0
) -> Known:
    """Up to 2,000 training images, as many as ``infer``, which gives ``embedding``, takes in about so many seconds.

    store     has the data set's images, row for row; ``names`` their names
    pictures  whether small copies are kept as well
    """
    rows = dataset.rows_of("train")
    rows = rows[np.random.default_rng(seed).permutation(len(rows))[:MOST]]
    started, found = time.monotonic(), []
    for start in range(0, len(rows), BATCH):
        if start >= FEWEST and time.monotonic() - started > seconds:
            break
        images = np.stack([prepare(store[row])[0] for row in rows[start : start + BATCH].tolist()])
        found.append(infer(images)["embedding"])
    embeddings: NDArray[np.float32] = np.concatenate(found)
    rows = rows[: len(embeddings)]
    thumbs = [thumbnail(store[row], THUMB_SIDE) for row in rows.tolist()] if pictures else []
    targets = presence(dataset.targets, len(dataset.labels))
    kept = unit(embeddings).astype(np.float16)  # as a bundle has them, so that similarities are the same there
    return Known(kept, targets[rows], [names[row] for row in rows.tolist()], thumbs)
