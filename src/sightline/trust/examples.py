"""Images for what is fitted on hand-crafted features: samples that a time allowance is enough for, and the features themselves."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.data.prepare import Prepare
from sightline.data.store import Store
from sightline.trust.features import KINDS, features_of, shrunk

Floats = NDArray[np.float64]

# At most so many images of each part are used, fewer where the time allowance asks for it.
MOST = {"train": 5000, "validation": 1000, "test": 2000}
# Images whose features are timed first, and how many are computed at once.
TIMED, BATCH = 8, 64
# Principal components that features are reduced to.
COMPONENTS = 192


@dataclass(frozen=True)
class Examples:
    """A part of the data: ``images`` gives prepared images (m, s, s, c) uint8 of the rows (m,) asked for, and ``targets`` has a row for
    each of n images: (n,) int64 or (n, k) bool. Images are scaled down to ``features.SIDE``, so ``shrunk`` ones may be given."""

    images: Callable[[NDArray[np.int64]], NDArray[np.uint8]]
    targets: NDArray[Any]

    def __len__(self) -> int:
        return len(self.targets)

    @classmethod
    def of_store(cls, store: Store, prepare: Prepare, targets: NDArray[Any]) -> Examples:
        """Of stored images, prepared as evaluation would; ``targets`` has a row for each of them."""
        return cls(lambda rows: shrunk(np.stack([prepare(store[row])[0] for row in rows.tolist()])), targets)


@dataclass(frozen=True)
class Material:
    """Features (n, d) and targets of the samples; training rows stand in an order in which every beginning is a fair sample."""

    train: Floats
    train_targets: NDArray[Any]
    validation: Floats
    validation_targets: NDArray[Any]
    test: Floats


def sample_sizes(parts: Mapping[str, Examples], seconds: float) -> dict[str, int]:
    """How many images of each part have their features computed in ``seconds``, the same share of each; by the names in ``MOST``."""
    wanted = {name: min(len(part), MOST[name]) for name, part in parts.items()}
    some = np.arange(min(len(parts["train"]), TIMED))
    features_of(parts["train"].images(some[:1]))  # what is imported by the first call is not counted
    started = time.perf_counter()
    features_of(parts["train"].images(some))
    each = (time.perf_counter() - started) / len(some)
    share = min(1.0, seconds / (each * sum(wanted.values())))
    return {name: int(share * size) for name, size in wanted.items()}


def fair_order(targets: NDArray[Any], seed: int) -> NDArray[np.int64]:
    """(n,) rows in an order of which every beginning holds the classes in about the shares they have, and first of all one of each.

    Of tags, (n, k) bool, the order is random.
    """
    mixed = np.random.default_rng(seed).permutation(len(targets))
    if targets.ndim > 1:
        return mixed
    place = np.empty(len(targets))
    for label in np.unique(targets):
        rows = mixed[targets[mixed] == label]
        place[rows] = np.arange(len(rows)) / len(rows)
    return mixed[np.argsort(place[mixed], kind="stable")]


def material_of(parts: Mapping[str, Examples], rows: Mapping[str, NDArray[np.int64]], seed: int) -> Material:
    """The features of the rows of "train", "validation" and "test".

    They are scaled by the training images, each kind to the same weight, and reduced to their principal components.
    """
    from sklearn.decomposition import PCA

    found = {name: _features(parts[name], chosen) for name, chosen in rows.items()}
    scales = [(kind, values.mean(axis=0), np.maximum(values.std(axis=0), 1e-6)) for kind, values in found["train"].items()]

    def side_by_side(values: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        return np.concatenate([(values[kind] - mean) / spread / np.sqrt(len(mean)) for kind, mean, spread in scales], axis=1)

    train = side_by_side(found["train"])
    components = max(1, min(COMPONENTS, len(train) - 1, train.shape[1]))
    reduction = PCA(components, svd_solver="randomized", random_state=seed).fit(train)
    unit = max(float(reduction.transform(train).std()), 1e-9)

    def reduced(name: str) -> Floats:
        wide = side_by_side(found[name])
        return (reduction.transform(wide) if len(wide) else np.empty((0, components))).astype(np.float64) / unit

    train_targets, validation_targets = (parts[name].targets[rows[name]] for name in ("train", "validation"))
    return Material(reduced("train"), train_targets, reduced("validation"), validation_targets, reduced("test"))


def _features(part: Examples, rows: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
    if not len(rows):
        return {kind: np.empty((0, 1), np.float32) for kind in KINDS}
    batches = [features_of(part.images(rows[start : start + BATCH])) for start in range(0, len(rows), BATCH)]
    return {kind: np.concatenate([batch[kind] for batch in batches]) for kind in KINDS}
