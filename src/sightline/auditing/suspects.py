"""Labels that look wrong and images that look foreign, by what a pretrained network makes of the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
# Probabilities of its own label below which an image may be called wrong, and that of another label from which it is said to be that.
DOUBTS, SURE = (0.02, 0.01, 0.005, 0.002), 0.8
# More images have to be below than the judge itself expects, so that at least this share of them is wrong: on 10,000 CIFAR-10 images, where
# it was counted, 84% to 97% were.
SHARE_WRONG = 0.4
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


@dataclass(frozen=True)
class _Doubt:
    """Label ``given`` of an image, in which the judge has the trust ``own``; it would say ``better`` (its name) instead, with ``other``."""

    own: float
    item: Item
    better: str = ""
    other: float = 0.0


def suspect_labels(judged: Judged, dataset: Dataset, names: Sequence[str]) -> Finding | None:
    """The finding on labels that the judge doubts, the most doubtful first, by confident learning (Northcutt et al., 2021).

    What to do is only suggested where more labels are doubted than there would be if all were right.
    """
    if dataset.targets is None:
        return None
    doubts = _of_tags(judged, dataset, names) if dataset.targets.ndim == 2 else _of_classes(judged, dataset, names)
    if not doubts:
        return None
    below = most_doubt(*_own_and_others(judged, dataset))
    items = [_suggested(doubt) if doubt.own < below else doubt.item for doubt in doubts]
    sure = sum(doubt.own < below for doubt in doubts)
    found = f"{len(items)} labels look less right than another would, to a network that learned from the other images."
    if sure:
        said = f"Of the first {sure} most are mistakes: right labels would not be doubted that often. Further down, fewer are."
    else:
        said = "Labels that were all right would be doubted as often, so most of these images are only unusual."
    return Finding(
        "suspect-labels",
        WARNING if sure else NOTE,
        "Labels that may be wrong",
        f"{found} {said}",
        "Look at them in this order and stop where most are right. Put 'relabel' with the right label, or 'drop', into decisions.csv.",
        items,
        {"likely": sure},
    )


def most_doubt(own: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """The highest of DOUBTS below which enough labels are wrong, 0 for none.

    own     (n,) the probability of each label that was given
    others  (m,) all probabilities of labels: a judge that is right about itself expects the sum of the small ones to be given
    """
    for level in DOUBTS:
        doubted, expected = np.count_nonzero(own < level), others[others < level].sum()
        if doubted and 1 - expected / doubted >= SHARE_WRONG:
            return level
    return 0.0


def _own_and_others(judged: Judged, dataset: Dataset) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    assert dataset.targets is not None
    chances = judged.probabilities
    if dataset.targets.ndim == 2:
        known = ~np.isnan(chances).any(axis=0)
        has, chance = dataset.targets[:, known], chances[:, known]
        return np.where(has, chance, 1 - chance).ravel(), np.concatenate([chance.ravel(), 1 - chance.ravel()])
    rows = np.flatnonzero(~np.isnan(chances).any(axis=1))
    used = np.unique(dataset.targets[rows])
    return chances[rows, dataset.targets[rows]], chances[np.ix_(rows, used)].ravel()


def _suggested(doubt: _Doubt) -> Item:
    relabel = bool(doubt.better) and doubt.other >= SURE
    return replace(doubt.item, suggestion=RELABEL if relabel else DROP, label=doubt.better if relabel else "")


def _of_classes(judged: Judged, dataset: Dataset, names: Sequence[str]) -> list[_Doubt]:
    assert dataset.targets is not None
    rows = np.flatnonzero(~np.isnan(judged.probabilities).any(axis=1))
    # Classes that nobody was judged by take no part.
    used = np.unique(dataset.targets[rows])
    targets, chances = np.searchsorted(used, dataset.targets[rows]), judged.probabilities[np.ix_(rows, used)]
    doubts = []
    for place in _doubtful(targets, chances):
        given, best = targets[place], int(chances[place].argmax())
        own, other = float(chances[place, given]), float(chances[place, best])
        now, new = dataset.labels[used[given]], dataset.labels[used[best]]
        item = Item((names[rows[place]],), f"labelled {now} ({own:.1%}), looks like {new} ({other:.1%})")
        doubts.append(_Doubt(own, item, new, other))
    return doubts


def _of_tags(judged: Judged, dataset: Dataset, names: Sequence[str]) -> list[_Doubt]:
    """Of labels that are there and should not be, or the other way round; what is right instead is for a person to say."""
    assert dataset.targets is not None
    doubts = []
    for label, name in enumerate(dataset.labels):
        chance = judged.probabilities[:, label]
        if np.isnan(chance).any():
            continue
        has = dataset.targets[:, label].astype(np.int64)
        for row in _doubtful(has, np.stack([1 - chance, chance], axis=1)):
            item = Item((names[row],), f"has {'the' if has[row] else 'no'} label {name}, and looks like it by {chance[row]:.1%}")
            doubts.append(_Doubt(float(chance[row] if has[row] else 1 - chance[row]), item))
    return sorted(doubts, key=lambda doubt: doubt.own)


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
