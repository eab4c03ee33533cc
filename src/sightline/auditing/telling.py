"""How well columns of numbers tell the labels: by trees that never saw the images they answer for, and whether that is half of what
the images themselves tell, or more."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation.multilabel import Ranking, chance_average_precision

Floats = NDArray[np.float64]

FOLDS, TREES = 5, 50
# Images that a leaf has at least, and leaves that a tree has at most on average: what few images have in common is chance.
SMALLEST_LEAF, LEAVES = 3, 1000
# Facts that tell more than this share of what the images tell are a shortcut, if they are at least so far from chance to certainty.
SHARE, LEAST = 0.5, 0.1
RESAMPLES = 200
# Chance of an alarm for a label that is told less than that; and of any alarm in a data set whose facts tell nothing.
RISK = 0.05


def folds_of(truth: NDArray[np.bool_], units: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """(n,) folds from 0, so that no unit is in two of them and each label, (n, k) ``truth``, is in all where it has the units."""
    _, first, which = np.unique(units, return_index=True, return_inverse=True)
    random = np.random.default_rng(seed).random(len(first))
    order = np.lexsort((random, truth[first].argmax(axis=1)))
    fold = np.empty(len(first), np.int64)
    fold[order] = np.arange(len(first)) % FOLDS
    return fold[which]


def told_by(columns: Floats, truth: NDArray[np.bool_], single: bool, folds: NDArray[np.int64], seed: int) -> Floats:
    """(n, k) scores of each label for rows of ``columns`` (n, c), by extremely randomised trees (Geurts et al., 2006) grown on other folds.

    ``truth`` (n, k); ``single`` where each row has one label exactly. Unknown values, NaN, are told to the trees as such.
    """
    if not columns.shape[1]:
        return np.broadcast_to(truth.mean(axis=0), truth.shape)
    filled, scores = _filled(columns), np.zeros(truth.shape)
    for fold in np.unique(folds):
        test = folds == fold
        scores[test] = _forest(filled[~test], truth[~test], filled[test], single, seed)
    return scores


def _filled(columns: Floats) -> Floats:
    unknown = np.isnan(columns)
    some = unknown.any(axis=0)
    return np.concatenate([np.where(unknown, np.nanmedian(columns, axis=0), columns), unknown[:, some]], axis=1)


def _forest(seen: Floats, truth: NDArray[np.bool_], unseen: Floats, single: bool, seed: int) -> Floats:
    from sklearn.ensemble import ExtraTreesClassifier

    leaf = max(SMALLEST_LEAF, len(seen) // LEAVES)
    # One thread, as several would add up the trees in another order each time.
    forest = ExtraTreesClassifier(TREES, min_samples_leaf=leaf, max_features=0.5, random_state=seed, n_jobs=1)
    scores = np.zeros((len(unseen), truth.shape[1]))
    if single:
        forest.fit(seen, truth.argmax(axis=1))
        scores[:, forest.classes_] = forest.predict_proba(unseen)
        return scores
    mixed = np.flatnonzero(truth.any(axis=0) & ~truth.all(axis=0))
    if len(mixed):
        forest.fit(seen, truth[:, mixed] if len(mixed) > 1 else truth[:, mixed[0]])
        answers = forest.predict_proba(unseen)
        scores[:, mixed] = np.stack([answer[:, 1] for answer in (answers if len(mixed) > 1 else [answers])], axis=1)
    scores[:, truth.all(axis=0)] = 1
    return scores


@dataclass(frozen=True)
class Strength:
    """How well something tells the labels.

    overall  balanced accuracy, or of tags mean average precision, in [0, 1]; ``alarm`` where it is too much
    labels   (k,) average precision of each label against the rest; ``alarms`` (k,) bool
    """

    overall: float
    labels: Floats
    alarm: bool
    alarms: NDArray[np.bool_]

    @property
    def values(self) -> Floats:
        """(1 + k,) all of it."""
        return np.r_[self.overall, self.labels]

    @property
    def any_alarm(self) -> bool:
        return self.alarm or bool(self.alarms.any())


@dataclass(frozen=True)
class _Answers:
    """Scores of some labels, ready to be valued for many weightings of the rows.

    ``right`` (n,) says whether the label that stands out most is the row's own; it is None for tags.
    """

    truth: NDArray[np.bool_]
    right: NDArray[np.bool_] | None
    ranking: Ranking

    @classmethod
    def of(cls, scores: Floats, truth: NDArray[np.bool_], single: bool, labels: NDArray[np.bool_]) -> _Answers:
        # By how much it is more than usual: rare labels are answers too, whether or not the scores were balanced for that.
        best = (scores / np.maximum(scores.mean(axis=0), 1e-9)).argmax(axis=1)
        right = truth[np.arange(len(truth)), best] if single else None
        return cls(truth, right, Ranking.of(truth[:, labels], scores[:, labels]))

    def values(self, weights: NDArray[np.int64]) -> Floats:
        """(1 + labels,): balanced accuracy, or for tags the mean of the following, and average precision of each label."""
        labels = self.ranking.average_precision(weights)
        if self.right is None:
            return np.r_[np.nan if np.isnan(labels).all() else np.nanmean(labels), labels]
        of_label = weights @ self.truth
        return np.r_[((weights * self.right) @ self.truth)[of_label > 0] @ (1 / of_label[of_label > 0]) / np.sum(of_label > 0), labels]


@dataclass(frozen=True)
class Judge:
    """Holds scores by facts against scores by the images.

    truth   (n, k) bool, each label with at least one row; ``single`` where each row has one label exactly
    images  (n, k) scores of the labels by what the images show; None where unknown: certainty then stands for them
    units   (n,) int: rows that are one case, such as copies or a patient's images
    """

    truth: NDArray[np.bool_]
    single: bool
    images: Floats | None
    units: NDArray[np.int64]
    seed: int

    @cached_property
    def chance(self) -> Floats:
        """(1 + k,) what guessing gives: overall, and for each label."""
        labels = chance_average_precision(self.truth.sum(axis=0), len(self.truth))
        return np.r_[1 / self.truth.shape[1] if self.single else labels.mean(), labels]

    @cached_property
    def by_images(self) -> Floats:
        """(1 + k,) what the images give, or certainty."""
        return np.ones(len(self.chance)) if self.images is None else self._values(self.images)

    def excess(self, told: Floats) -> Floats:
        """(1 + k,) by how much ``told`` lies above chance and SHARE of what the images tell."""
        return _excess(told, self.by_images, self.chance)

    def strength(self, scores: Floats) -> Strength:
        """Of (n, k) scores by facts."""
        told = self._values(scores)
        over, excess = told - self.chance, self.excess(told)
        alarms = (excess > 0) & (over >= LEAST * (1 - self.chance))
        if alarms.any():
            spread, spread_of_excess = (np.nanstd(drawn, axis=0) for drawn in self._resampled(scores, alarms))
            # Bonferroni: of many labels that facts do not tell, one soon seems to be told.
            certain, likely = (NormalDist().inv_cdf(1 - risk) for risk in (RISK / len(told), RISK))
            alarms[alarms] = (over[alarms] > certain * spread) & (excess[alarms] > likely * spread_of_excess)
        return Strength(float(told[0]), told[1:], bool(alarms[0]), alarms[1:])

    def _values(self, scores: Floats) -> Floats:
        every = np.ones(self.truth.shape[1], bool)
        return _Answers.of(scores, self.truth, self.single, every).values(np.ones(len(self.truth), np.int64))

    def _resampled(self, scores: Floats, wanted: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """(resamples, wanted) of what is told, and of the excess, the units drawn anew each time; NaN where a label was not drawn."""
        # The overall figure of tags is made of all labels.
        labels = np.ones_like(wanted[1:]) if wanted[0] and not self.single else wanted[1:]
        kept = np.r_[True, labels]
        answers, images = (
            None if given is None else _Answers.of(given, self.truth, self.single, labels) for given in (scores, self.images)
        )
        assert answers is not None
        _, unit = np.unique(self.units, return_inverse=True)
        rng, count = np.random.default_rng(self.seed), int(unit.max()) + 1
        told, excess = [], []
        for _ in range(RESAMPLES):
            weights = np.bincount(rng.integers(0, count, count), minlength=count)[unit]
            told.append(answers.values(weights))
            by_images = images.values(weights) if images else self.by_images[kept]
            excess.append(_excess(told[-1], by_images, self.chance[kept]))
        return np.stack(told)[:, wanted[kept]], np.stack(excess)[:, wanted[kept]]


def _excess(told: Floats, by_images: Floats, chance: Floats) -> Floats:
    return told - chance - SHARE * np.maximum(by_images - chance, 0)
