"""Labels that look wrong and images that look foreign, by what a pretrained network makes of the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.auditing.finding import DROP, NOTE, RELABEL, WARNING, Finding, Item
from sightline.auditing.telling import folds_of
from sightline.data.findings import some
from sightline.data.split import units_of
from sightline.records import Dataset

# Of the embedding's directions, those in which the images differ most; and the judge's inverse regularisation, in images: scikit-learn's C
# is this divided by their number. On 300 to 10,000 CIFAR-10 images with 5% wrong labels 8 put these first best; with more, the judge is so
# sure of itself that it doubts right labels too.
DIRECTIONS, STRENGTH = 256, 8.0
# Below so many different images of a class, nothing is said of its labels.
FEWEST = 6
# What is tried for how much surer or less sure than the judge one should be, and for the share of labels that are wrong.
SHARPER = tuple(np.geomspace(0.5, 4, 16))
# By how much a share has to raise the log-likelihood over none: by chance one in a thousand does (half of chi-squared's quantile).
GAIN = 5.4
SHARES = (0.0, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3)
# Chances of being wrong, and of being another label, from which that is suggested.
LIKELY, SURE = 0.5, 0.8
# Share of a label's images that the judge has to name rightly, for what it says against that label to count. What it cannot see, such as a
# crack of a few pixels, looks to it as a mistake does.
SEES = 0.5
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
    single = dataset.targets.ndim == 1
    folds = folds_of(dataset.targets[:, None] == np.arange(k) if single else dataset.targets, units, seed)
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
            fitted = LogisticRegression(C=STRENGTH / np.count_nonzero(~own), max_iter=300, tol=1e-3).fit(vectors[~own], targets[~own])
            found[np.ix_(own, fitted.classes_)] = fitted.predict_proba(vectors[own])
    return found


def chance_wrong(probabilities: NDArray[np.float64], given: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n,) how likely each of the labels ``given`` is wrong, by probabilities (n, k) of a judge that had not seen them.

    What was given is taken for a mixture: of what the judge says, sharpened, and of some share of labels drawn from all others. Sharpness
    and share are those under which the given labels are likeliest; the share is 0 where the judge explains them about as well alone. On
    CIFAR-10 images with none, 2% and 5% wrong labels the chances add up to 0, 188 and 518 of 10,000.
    """
    n, k = probabilities.shape
    logs = np.log(probabilities + 1e-12)
    best = alone = -np.inf
    chances = np.zeros(n)
    for sharper in SHARPER:
        scores = np.exp(sharper * (logs - logs.max(axis=1, keepdims=True)))
        right = scores[np.arange(n), given] / scores.sum(axis=1)
        for share in SHARES:
            by_mistake = share * (1 - right) / (k - 1)
            whole = (1 - share) * right + by_mistake
            likelihood = float(np.log(whole + 1e-12).sum())
            alone = max(alone, likelihood) if share == 0 else alone
            if likelihood > best:
                best, chances = likelihood, by_mistake / (whole + 1e-12)
    return chances if best - alone >= GAIN else np.zeros(n)


@dataclass(frozen=True)
class _Doubt:
    """Of one label: the chance that it is wrong, and what would be suggested then."""

    chance: float
    item: Item


def suspect_labels(judged: Judged, dataset: Dataset, names: Sequence[str]) -> Finding | None:
    """The finding on labels that the judge doubts, the most doubtful first.

    Listed is what confident learning finds (Northcutt et al., 2021) and whatever is more likely wrong than right; only for the latter
    something is suggested.
    """
    if dataset.targets is None:
        return None
    unseen = unseen_labels(judged, dataset)
    of_task = _of_tags if dataset.targets.ndim == 2 else _of_classes
    doubts = sorted(of_task(judged, dataset, names, unseen), key=lambda doubt: -doubt.chance)
    if not doubts:
        return None
    likely = [doubt.chance for doubt in doubts if doubt.chance > LIKELY]
    found = f"{len(doubts)} labels look less right than another would, to a network that learned from the other images."
    if likely:
        said = f"Of the first {len(likely)} about {round(sum(likely))} are mistakes, by an estimate; further down, fewer are."
    else:
        said = "Labels that are all right would be doubted as often, so most of these images are only unusual."
    return Finding(
        "suspect-labels",
        WARNING if likely else NOTE,
        "Labels that may be wrong",
        f"{found} {said}{_of_unseen([dataset.labels[label] for label in sorted(unseen)])}",
        "Look at them in this order and stop where most are right. Put 'relabel' with the right label, or 'drop', into decisions.csv.",
        [doubt.item for doubt in doubts],
        {"likely": len(likely), "mistakes_expected_among_likely": sum(likely)},
    )


def unseen_labels(judged: Judged, dataset: Dataset) -> set[int]:
    """The labels of which the judge names less than SEES of the images rightly."""
    assert dataset.targets is not None
    chances, unseen = judged.probabilities, set()
    for label in range(len(dataset.labels)):
        has = dataset.targets[:, label] if dataset.targets.ndim == 2 else dataset.targets == label
        own = chances[has & ~np.isnan(chances[:, label])]
        named = own[:, label] > 0.5 if dataset.targets.ndim == 2 else np.nan_to_num(own, nan=-1).argmax(axis=1) == label
        if len(own) and named.mean() < SEES:
            unseen.add(label)
    return unseen


def _of_unseen(labels: Sequence[str]) -> str:
    if not labels:
        return ""
    few, them = some(map(repr, labels), len(labels)), "it" if len(labels) == 1 else "them"
    return f" The network does not tell {few} well enough to judge by, and nothing is suggested against {them}."


def _of_classes(judged: Judged, dataset: Dataset, names: Sequence[str], unseen: set[int]) -> list[_Doubt]:
    assert dataset.targets is not None
    rows = np.flatnonzero(~np.isnan(judged.probabilities).any(axis=1))
    # Classes that nobody was judged by take no part.
    used = np.unique(dataset.targets[rows])
    if len(used) < 2:
        return []
    given, probabilities = np.searchsorted(used, dataset.targets[rows]), judged.probabilities[np.ix_(rows, used)]
    wrong = np.where(np.isin(used[given], list(unseen)), 0.0, chance_wrong(probabilities, given))
    doubts = []
    for place in _doubtful(given, probabilities, wrong):
        best = int(probabilities[place].argmax())
        own, other = float(probabilities[place, given[place]]), float(probabilities[place, best])
        now, new = dataset.labels[used[given[place]]], dataset.labels[used[best]]
        verb = "" if wrong[place] <= LIKELY else RELABEL if other >= SURE else DROP
        said = f"labelled {now} ({own:.1%}), looks like {new} ({other:.1%})"
        doubts.append(_Doubt(float(wrong[place]), Item((names[rows[place]],), said, verb, new if verb == RELABEL else "")))
    return doubts


def _of_tags(judged: Judged, dataset: Dataset, names: Sequence[str], unseen: set[int]) -> list[_Doubt]:
    """Of labels that are there and should not be, or the other way round; which are right instead is for a person to say."""
    assert dataset.targets is not None
    known = np.flatnonzero(~np.isnan(judged.probabilities).any(axis=0))
    if not len(known):
        return []
    has, chance = dataset.targets[:, known].astype(np.int64), judged.probabilities[:, known]
    both = np.stack([1 - chance, chance], axis=2)
    wrong = np.where(np.isin(known, list(unseen)), 0.0, chance_wrong(both.reshape(-1, 2), has.ravel()).reshape(has.shape))
    doubts = []
    for place, label in enumerate(known):
        for row in _doubtful(has[:, place], both[:, place], wrong[:, place]):
            said = f"has {'the' if has[row, place] else 'no'} label {dataset.labels[label]}, and looks like it by {chance[row, place]:.1%}"
            doubts.append(_Doubt(float(wrong[row, place]), Item((names[row],), said)))
    return doubts


def _doubtful(given: NDArray[np.int64], probabilities: NDArray[np.float64], wrong: NDArray[np.float64]) -> list[int]:
    """The places of labels to look at, the most likely wrong first, of equal ones that which the judge trusts least."""
    if len(np.unique(given)) < 2:
        return []
    from cleanlab.filter import find_label_issues

    listed = find_label_issues(given, probabilities, filter_by="both", n_jobs=1) | (wrong > LIKELY)
    places = np.flatnonzero(listed)
    own = probabilities[places, given[places]]
    order: list[int] = places[np.lexsort((own, -wrong[places]))].tolist()
    return order


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
