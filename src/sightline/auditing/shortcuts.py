"""Shortcuts: can the label be told from facts alone, such as size, brightness or compression? Then the network may learn the camera instead
of the tumour.

Trees that see nothing but the facts answer for images they were not grown on, and are held against what the images themselves tell.
What is counted as a fact, and what as content, stands in fact_columns.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.auditing.fact_columns import HIDDEN, VISIBLE, FactGroup, fact_groups
from sightline.auditing.finding import NOTE, PROBLEM, WARNING, Finding, Item
from sightline.auditing.shortcut_words import LEARNED, REMEDIES, WORDS, Typical, listed
from sightline.auditing.telling import Judge, Strength, folds_of, told_by
from sightline.data.store import Facts

# Labels with fewer images are not judged; of more images or labels than these, some are drawn, or the commonest taken.
FEWEST, MOST_IMAGES, MOST_LABELS = 10, 10_000, 200
# Labels whose images are shown, and images of each.
SHOWN_LABELS, SHOWN_IMAGES = 3, 4

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Shortcuts:
    """How well facts tell the labels that were judged.

    n         images that were judged
    single    whether each has one label, or any number
    together  all facts that leave their mark on the pixels
    groups    each group of facts alone, of those that differ between images
    images    by (1 + k,) what the images give, overall and for each label; None where that is unknown
    chance    (1 + k,) what guessing gives
    causes    the groups that alone are a shortcut, or where none is, that have the largest part in it; strongest first
    apart     of file name and capture time, what tells more than half of what the images do
    items     images of the labels that are told
    """

    n: int
    labels: tuple[str, ...]
    single: bool
    together: Strength
    groups: Mapping[str, Strength]
    images: NDArray[np.float64] | None
    chance: NDArray[np.float64]
    causes: tuple[str, ...]
    apart: tuple[str, ...]
    items: tuple[Item, ...] = ()

    @property
    def alarm(self) -> bool:
        return self.together.any_alarm

    @property
    def told(self) -> tuple[str, ...]:
        """The labels that facts tell too well, most so first."""
        order = np.argsort(-(self.together.labels - self.chance[1:]), kind="stable")
        return tuple(self.labels[label] for label in order if self.together.alarms[label])

    def finding(self) -> Finding:
        """What to say of it."""
        figures = self.figures()
        if self.alarm:
            learned = listed([LEARNED[group] for group in self.causes], "or")
            means = f"The network may learn {learned} instead of what the images show, and then fails on images that were taken otherwise."
            sentence = " ".join(filter(None, [self._of_labels(), self._overall(self.causes), means, self._of_apart()]))
            advice = " ".join(REMEDIES[group] for group in self.causes)
            return Finding("shortcuts", PROBLEM, "The label can be told without a look at what the images show", sentence,
                           f"{advice} Then test on images from elsewhere.", self.items, figures)  # fmt: skip
        sentence = " ".join(filter(None, [self._overall(tuple(group for group in VISIBLE if group in self.groups)), self._of_apart()]))
        if self.apart:
            return Finding("shortcuts", WARNING, "Images of different labels were collected apart", sentence,
                           "Check that light, background and camera were the same for all labels, or test on images from elsewhere.",
                           figures=figures)  # fmt: skip
        return Finding("shortcuts", NOTE, "No shortcut was found", sentence, "There is nothing to do.", figures=figures)

    def figures(self) -> dict[str, Any]:
        """Of all facts together, of each group and of the images, in numbers."""

        def numbers(strength: Strength) -> dict[str, Any]:
            told = {label: round(float(value), 4) for label, value in zip(self.labels, strength.labels, strict=True)}
            return {"overall": round(strength.overall, 4), "labels": told, "alarm": strength.any_alarm}

        def plain(values: NDArray[np.float64]) -> dict[str, Any]:
            told = {label: round(float(value), 4) for label, value in zip(self.labels, values[1:], strict=True)}
            return {"overall": round(float(values[0]), 4), "labels": told}

        return {
            "n": self.n, "overall": "balanced accuracy" if self.single else "mean average precision", "of_labels": "average precision",
            "alarm": self.alarm, "told": list(self.told), "causes": list(self.causes), "apart": list(self.apart),
            "chance": plain(self.chance), "images": None if self.images is None else plain(self.images),
            "facts": numbers(self.together), "groups": {group: numbers(strength) for group, strength in self.groups.items()},
        }  # fmt: skip

    def _overall(self, groups: Sequence[str]) -> str:
        if not groups:
            return "All images are alike in size, camera, brightness, border and compression, so that none of these tells a label."
        strength = self.together if len(groups) > 1 else self.groups[groups[0]]
        measure = "the label is told in {:.0%} of cases" if self.single else "labels are found with a mean average precision of {:.0%}"
        facts = listed([WORDS[group] for group in groups])
        return f"From {facts} alone {measure.format(strength.overall)}, {self._against(0)}."

    def _of_labels(self) -> str:
        facts = listed([WORDS[group] for group in self.causes], "or")
        found = []
        for name in self.told[:SHOWN_LABELS]:
            label = self.labels.index(name)
            found.append(f"{name!r} with an average precision of {self.together.labels[label]:.0%} ({self._against(label + 1)})")
        more = f", and {len(self.told) - SHOWN_LABELS} more" if len(self.told) > SHOWN_LABELS else ""
        return f"By {facts} alone one finds {listed(found)}{more}." if found else ""

    def _against(self, place: int) -> str:
        images = "what the images themselves give is not known, and certainty was taken for it" if self.images is None else \
                 f"{self.images[place]:.0%} by the images themselves"  # fmt: skip
        return f"{self.chance[place]:.0%} by chance; {images}"

    def _of_apart(self) -> str:
        if not self.apart:
            return ""
        facts = listed([WORDS[group] for group in self.apart])
        return (
            f"{facts.capitalize()} also {'tell' if len(self.apart) > 1 else 'tells'} the label: no network sees that, but images of "
            "different labels seem to have been collected apart, and may differ in light, background or camera."
        )


def find_shortcuts(
    facts: Facts,
    names: Sequence[str],
    targets: NDArray[Any],
    labels: Sequence[str],
    images: NDArray[np.floating] | None,
    units: NDArray[np.int64],
    seed: int,
) -> Shortcuts | None:
    """What facts about n images tell about their labels; None where there is too little to judge by.

    targets  (n,) int64, -1 for unlabelled, or (n, k) bool
    images   (n, k) scores of each label by what the images show, from models that did not see the image, NaN where there are none;
             None where nothing is known
    units    (n,) int: images with the same number stay in one fold, as copies do or images of one patient
    """
    single = targets.ndim == 1
    images = None if images is None or not np.isfinite(images).any() else images
    truth = targets if not single else targets[:, None] == np.arange(len(labels))
    rows, judged = _judged(facts.readable, truth, images, units, single)
    if len(judged) < (2 if single else 1):
        return None
    rows = _drawn(rows, truth[:, judged], seed)
    truth, units = truth[np.ix_(rows, judged)], units[rows]
    by_images = None if images is None else images[np.ix_(rows, judged)].astype(np.float64)
    groups = fact_groups(facts.select(rows), [names[row] for row in rows], labels)
    judge, folds = Judge(truth, single, by_images, units, seed), folds_of(truth, units, seed)
    visible = [groups[group].values for group in VISIBLE if group in groups]
    scores = told_by(np.concatenate([np.empty((len(rows), 0)), *visible], axis=1), truth, single, folds, seed)
    together = judge.strength(scores)
    alone = {group: judge.strength(told_by(found.values, truth, single, folds, seed)) for group, found in groups.items()}
    found = Shortcuts(
        n=len(rows),
        labels=tuple(labels[label] for label in judged),
        single=single,
        together=together,
        groups=alone,
        images=None if images is None else judge.by_images,
        chance=judge.chance,
        causes=_causes(judge, together, alone),
        apart=tuple(group for group in HIDDEN if group in alone and alone[group].any_alarm),
    )
    return replace(found, items=tuple(_items([names[row] for row in rows], truth, scores, found, groups)))


def _judged(
    readable: Bools, truth: Bools, images: NDArray[np.floating] | None, units: NDArray[np.int64], single: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and labels that there is enough of to be judged; a label of which ``images`` tell nothing takes no part, and hinders none."""
    usable, known = readable & (truth.any(axis=1) if single else True), np.ones(truth.shape[1], bool)
    if images is not None:
        known = np.isfinite(images).any(axis=0)
        usable &= np.isfinite(images[:, known]).all(axis=1)
    positives, total = truth[usable].sum(axis=0), np.count_nonzero(usable)
    cases = np.array([len(np.unique(units[usable & has])) for has in truth.T])
    enough = known & (positives >= FEWEST) & (cases > 1) & (total - positives >= (1 if single else FEWEST))
    judged = np.sort(np.argsort(-np.where(enough, positives, 0), kind="stable")[: min(MOST_LABELS, np.count_nonzero(enough))])
    return np.flatnonzero(usable & (truth[:, judged].any(axis=1) if single else True)), judged


def _drawn(rows: NDArray[np.int64], truth: Bools, seed: int) -> NDArray[np.int64]:
    """The rows, or so many of them: half of those at random, half in equal parts for each label."""
    if len(rows) <= MOST_IMAGES:
        return rows
    mixed = np.random.default_rng(seed).permutation(rows)
    of_labels = [mixed[truth[mixed, label]][: MOST_IMAGES // 2 // truth.shape[1]] for label in range(truth.shape[1])]
    return np.unique(np.concatenate([mixed[: MOST_IMAGES // 2], *of_labels]))


def _causes(judge: Judge, together: Strength, alone: Mapping[str, Strength]) -> tuple[str, ...]:
    """Groups that alone are a shortcut where all together are; if there is none, the two that come nearest to it."""
    if not together.any_alarm:
        return ()
    found = np.r_[together.alarm, together.alarms]
    nearest = {group: float(judge.excess(strength.values)[found].max()) for group, strength in alone.items() if group in VISIBLE}
    order = sorted(nearest, key=lambda group: -nearest[group])
    return tuple(group for group in order if alone[group].any_alarm) or tuple(order[:2])


def _items(
    names: Sequence[str], truth: Bools, scores: NDArray[np.float64], found: Shortcuts, groups: Mapping[str, FactGroup]
) -> list[Item]:
    """Of the labels that are told, the images that are told best, each with the fact that tells it."""
    items: list[Item] = []
    best_told = (found.labels[int((found.together.labels - found.chance[1:]).argmax())],) if found.alarm else ()
    for name in (found.told or best_told)[:SHOWN_LABELS]:
        label = found.labels.index(name)
        cause = max(found.causes, key=lambda group: float(found.groups[group].labels[label]))
        typical = Typical(groups[cause], truth[:, label])
        of_label = np.flatnonzero(truth[:, label])
        best = of_label[np.argsort(-scores[of_label, label], kind="stable")[:SHOWN_IMAGES]]
        items += [Item((names[row],), f"{name}: {typical.of(row)}") for row in best]
    return items
