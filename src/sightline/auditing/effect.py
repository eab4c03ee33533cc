"""What cleaning changed: two probes on the same embeddings, one fitted on the data as they came, one as a person decided."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.auditing.copies import find_copies
from sightline.auditing.gate import Gated
from sightline.data.split import units_of
from sightline.data.store import Store
from sightline.evaluation.paired import paired_difference
from sightline.records import Dataset
from sightline.tasks import TASKS


def effect_of_decisions(original: Dataset, store: Store, embeddings: NDArray[np.float32], gated: Gated) -> dict[str, Any]:
    """``{"dropped", "relabelled", "before", "after", "difference", "interval", "n"}``; the first two alone where, before, a class has no
    training image.

    The figures are the accuracy, on the cleaned test images, of a probe fitted on the training images as they came, and on those that were
    cleaned; for tags the share of an image's labels that are right.

    original    the data as they came and ``store`` their images, of which ``embeddings`` (n, d) are of the readable ones, in order
    gated       the cleaned data, split

    Dropped images come back into training for the first, but for those that copies or a group tie to validation and test images.
    """
    readable = np.flatnonzero(store.facts.readable)
    place = {str(original.refs[row]): position for position, row in enumerate(readable.tolist())}
    cleaned, came = gated.dataset, original.select(readable)
    where = np.array([place[str(ref)] for ref in cleaned.refs])
    assert came.targets is not None
    assert cleaned.targets is not None
    parts = {name: cleaned.rows_of(name) for name in ("train", "validation", "test")}
    train, validation, test = (where[rows] for rows in parts.values())
    back = _come_back(came, store.select(readable), where, np.concatenate([validation, test]))
    first = np.concatenate([train, back])
    changed = (cleaned.targets != came.targets[where]).reshape(len(where), -1).any(axis=1)
    counts = {"dropped": len(came) - len(cleaned), "relabelled": int(changed.sum())}
    if came.targets.ndim == 1 and not np.isin(np.arange(len(came.labels)), came.targets[first]).all():
        return counts
    before = _answers(came, embeddings, first, came.targets, validation, test)
    targets = came.targets.copy()
    targets[where] = cleaned.targets
    after = _answers(came, embeddings, train, targets, validation, test)
    truth = targets[test]
    right = [(answer == truth).astype(float) if truth.ndim == 1 else (answer == truth).mean(axis=1) for answer in (before, after)]
    found = paired_difference(*right)
    figures = {"before": found.reference, "after": found.other, "difference": found.difference, "interval": list(found.interval)}
    return {**figures, "n": found.n, **counts}


def _come_back(came: Dataset, store: Store, where: NDArray[np.int64], held: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows that were dropped and that the data would have had in training; ``held`` are those of validation and test images."""
    dropped = np.setdiff1d(np.arange(len(came)), where)
    if came.splits is not None:
        dropped = dropped[np.isin(came.splits[dropped], ("train", ""))]
    if not len(dropped):
        return dropped
    units = units_of(came, [(pair.a, pair.b) for pair in find_copies(store)])
    return dropped[~np.isin(units[dropped], units[held])]


def _answers(
    came: Dataset, embeddings: NDArray[np.float32], train: Sequence[int] | NDArray[np.int64], targets: NDArray[Any],
    validation: NDArray[np.int64], test: NDArray[np.int64],
) -> NDArray[Any]:  # fmt: skip
    """What a probe fitted on the training images says of the test images: classes (m,), or (m, k) bool for tags."""
    head = importlib.import_module(TASKS[came.task].head)
    probe = head.fit_probe(embeddings[train], targets[train], embeddings[validation], targets[validation], len(came.labels))
    scores = embeddings[test] @ probe.weight.T + probe.bias
    answers: NDArray[Any] = scores.argmax(axis=1) if targets.ndim == 1 else scores > 0
    return answers
