"""Labels that look wrong and images that look foreign, by what a pretrained network makes of the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.auditing.finding import DROP, NOTE, RELABEL, WARNING, Finding, Item
from sightline.data.split import folds_of, units_of
from sightline.records import Dataset

# Of the embedding's directions, those in which the images differ most; and the strength of the judge's regularisation on them.
# On 10,000 CIFAR-10 images with 5% wrong labels, 128 to 256 and 0.001 to 0.01 are alike.
DIRECTIONS, STRENGTH = 256, 0.003
FOLDS = 5
# Below so many different images of a class, nothing is said of its labels.
FEWEST = 6
# Probability of its own label below which an image is said to be wrong, and above which of another that it is that: of 10,000 CIFAR-10
# images with 5% wrong labels, 79% of those below were wrong.
WRONG, SURE = 0.02, 0.8
# An image is foreign when its distance to its neighbours is so many times the usual spread above the usual one, on a logarithmic scale.
FOREIGN, NEIGHBOURS = 5.0, 5
# The images that distances are taken to, drawn at random where there are more.
MOST_COMPARED = 20_000
AT_ONCE = 1024


@dataclass(frozen=True)
class Judged:
    """``vectors`` (n, d) float32, the embeddings in fewer directions; ``probabilities`` (n, k) of each label by a judge that had not
    seen the image or its copies, NaN where there is none: unlabelled, or of a class with too few images."""

    vectors: NDArray[np.float32]
    probabilities: NDArray[np.float64]


def judge(embeddings: NDArray[np.float32], dataset: Dataset, links: Sequence[tuple[int, int]], seed: int) -> Judged:
    """What logistic regression on embeddings (n, d) says of each image, fitted without it; copies (``links``) and groups stay together."""
    vectors = reduced(embeddings)
    n, k = len(dataset), len(dataset.labels)
    probabilities = np.full((n, k), np.nan)
    if dataset.targets is None or k == 0:
        return Judged(vectors, probabilities)
    units = units_of(dataset, links)
    folds = folds_of(dataset, units, FOLDS, seed)
    if dataset.targets.ndim == 2:
        for label in range(k):
            has = dataset.targets[:, label]
            if min(len(np.unique(units[has])), len(np.unique(units[~has]))) >= FEWEST:
                probabilities[:, label] = _without_own_fold(vectors, has.astype(int), folds, 2)[:, 1]
        return Judged(vectors, probabilities)
    enough = [len(np.unique(units[dataset.targets == label])) >= FEWEST for label in range(k)]
    rows = np.flatnonzero(np.isin(dataset.targets, np.flatnonzero(enough)))
    if sum(enough) >= 2:
        probabilities[rows] = _without_own_fold(vectors[rows], dataset.targets[rows], folds[rows], k)
    return Judged(vectors, probabilities)


def reduced(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """The embeddings' principal components, DIRECTIONS at most, in units of the embeddings' standard deviation."""
    centred = (embeddings - embeddings.mean(axis=0)) / (embeddings.std() or 1)
    if min(centred.shape) <= DIRECTIONS:
        return centred.astype(np.float32)
    _, directions = np.linalg.eigh(centred.T @ centred)
    components: NDArray[np.float32] = centred @ directions[:, -DIRECTIONS:]
    return components


def _without_own_fold(vectors: NDArray[np.float32], targets: NDArray[Any], folds: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    found = np.zeros((len(targets), k))
    with threadpool_limits(1):  # steps are too short for several
        for fold in np.unique(folds):
            own = folds == fold
            if len(np.unique(targets[~own])) < 2:
                continue
            fitted = LogisticRegression(C=STRENGTH, max_iter=300, tol=1e-3).fit(vectors[~own], targets[~own])
            found[np.ix_(own, fitted.classes_)] = fitted.predict_proba(vectors[own])
    return found


def suspect_labels(judged: Judged, dataset: Dataset, names: Sequence[str]) -> Finding | None:
    """The finding on labels that the judge doubts, the most doubtful first, by confident learning (Northcutt et al., 2021)."""
    if dataset.targets is None:
        return None
    items = _of_tags(judged, dataset, names) if dataset.targets.ndim == 2 else _of_classes(judged, dataset, names)
    if not items:
        return None
    sure = sum(bool(item.suggestion) for item in items)
    return Finding(
        "suspect-labels",
        WARNING,
        "Labels that may be wrong",
        f"{len(items)} images look less like their label than like another, to a network that learned from the other images. "
        f"Of the first {sure} most are mistakes; the further down, the more often the image is only unusual.",
        "Look at them in this order and stop where most are right. Put 'relabel' with the right label, or 'drop', into decisions.csv.",
        items,
        {"likely": sure},
    )


def _of_classes(judged: Judged, dataset: Dataset, names: Sequence[str]) -> list[Item]:
    assert dataset.targets is not None
    rows = np.flatnonzero(~np.isnan(judged.probabilities).any(axis=1))
    # Classes that nobody was judged by take no part.
    used = np.unique(dataset.targets[rows])
    targets, chances = np.searchsorted(used, dataset.targets[rows]), judged.probabilities[np.ix_(rows, used)]
    items = []
    for place in _doubtful(targets, chances):
        row, given, best = rows[place], targets[place], int(chances[place].argmax())
        own, other = chances[place, given], chances[place, best]
        now, new = dataset.labels[used[given]], dataset.labels[used[best]]
        verb = "" if own >= WRONG else RELABEL if other >= SURE else DROP
        detail = f"labelled {now} ({own:.1%}), looks like {new} ({other:.1%})"
        items.append(Item((names[row],), detail, verb, new if verb == RELABEL else ""))
    return items


def _of_tags(judged: Judged, dataset: Dataset, names: Sequence[str]) -> list[Item]:
    assert dataset.targets is not None
    found = []
    for label, name in enumerate(dataset.labels):
        chance = judged.probabilities[:, label]
        if np.isnan(chance).any():
            continue
        has = dataset.targets[:, label].astype(np.int64)
        for row in _doubtful(has, np.stack([1 - chance, chance], axis=1)):
            right = chance[row] if has[row] else 1 - chance[row]
            said = (
                f"has the label {name}, and looks so by {chance[row]:.1%}"
                if has[row]
                else f"has no label {name}, and looks so by {chance[row]:.1%}"
            )
            found.append((right, Item((names[row],), said)))
    return [item for _, item in sorted(found, key=lambda entry: entry[0])]


def _doubtful(targets: NDArray[np.int64], chances: NDArray[np.float64]) -> list[int]:
    """The places that confident learning finds, the least certain of its own label first."""
    if len(np.unique(targets)) < 2:
        return []
    from cleanlab.filter import find_label_issues

    found: list[int] = find_label_issues(targets, chances, filter_by="both", return_indices_ranked_by="self_confidence", n_jobs=1).tolist()
    return found


def foreign_images(judged: Judged, names: Sequence[str], links: Sequence[tuple[int, int]], seed: int) -> Finding | None:
    """The finding on images that are unlike all others."""
    distance = neighbour_distances(judged.vectors, links, seed)
    if len(distance) <= 2 * NEIGHBOURS:
        return None
    scale = np.log(distance + 1e-6)
    middle = np.median(scale)
    # The upper half alone: copies make the lower one long.
    spread = np.median(scale[scale >= middle] - middle) / 0.6745 or 1.0
    strange = (scale - middle) / spread
    rows = [row for row in np.argsort(-strange).tolist() if strange[row] > FOREIGN]
    if not rows:
        return None
    items = [
        Item((names[row],), f"{distance[row] / np.median(distance):.1f} times as far from its nearest neighbours as usual") for row in rows
    ]
    return Finding(
        "foreign",
        NOTE,
        "Images unlike all others",
        f"{len(rows)} images are far from every other one, in the eyes of a network: from elsewhere, of something else, or rare cases.",
        "Drop what does not belong; of rare cases that do belong, add more.",
        items,
    )


def neighbour_distances(vectors: NDArray[np.float32], links: Sequence[tuple[int, int]], seed: int) -> NDArray[np.float64]:
    """(n,) the mean distance of each to its nearest others, among at most MOST_COMPARED, copies left out."""
    n = len(vectors)
    others = np.arange(n) if n <= MOST_COMPARED else np.sort(np.random.default_rng(seed).choice(n, MOST_COMPARED, replace=False))
    bunch = np.arange(n)
    for a, b in links:  # in order of their rows, so that a copy gets the number of its first
        bunch[b] = bunch[a]
    squares = (vectors**2).sum(axis=1)
    found = np.empty(n)
    for start in range(0, n, AT_ONCE):
        rows = slice(start, start + AT_ONCE)
        apart = squares[rows, None] + squares[others] - 2 * vectors[rows] @ vectors[others].T
        apart[bunch[rows, None] == bunch[others]] = np.inf
        count = min(NEIGHBOURS, len(others) - 1)
        if count < 1:
            return np.zeros(n)
        nearest = np.partition(apart, count - 1, axis=1)[:, :count]
        found[rows] = np.sqrt(np.where(np.isfinite(nearest), nearest, 0).clip(0)).mean(axis=1)
    return found
