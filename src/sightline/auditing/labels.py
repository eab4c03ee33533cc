"""What the audit says of labels: names that may be one, classes too small or too rare, labels that a split or a group gives away."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from sightline.auditing.finding import NOTE, PROBLEM, WARNING, Finding
from sightline.auditing.lookalike_names import lookalikes
from sightline.config import DataConfig
from sightline.data.findings import NAMED, shown, some
from sightline.evaluation.intervals import wilson_interval
from sightline.records import NO_TARGET, Dataset

# A class can be judged when the 95% interval around a recall of so much is no wider than so much: 90% is then 80 to 95%, say.
RECALL, WIDEST = 0.9, 0.2
# From this ratio of the largest to the smallest label on, the small ones suffer.
IMBALANCED = 10.0


def label_findings(dataset: Dataset) -> list[Finding]:
    """Findings on the labels of a data set to classify or to tag, problems first; [] where it has no labels.

    They hold no items, as they are about labels and not about images; ``figures`` name all labels that a sentence is about.
    """
    if dataset.targets is None or not dataset.labels:
        return []
    counts = _Counts.of(dataset)
    found = [
        _unlearned(counts), _in_one_group(dataset, counts), _alike(counts), _unjudged(counts), _too_small(counts), _imbalance(counts),
        _unlabelled(dataset),
    ]  # fmt: skip
    return [finding for finding in found if finding is not None]


@dataclass(frozen=True)
class _Counts:
    """(k,) images of each label, altogether and by split; without a split, or one without a test part, ``test`` is not known."""

    labels: tuple[str, ...]
    images: NDArray[np.int64]
    train: NDArray[np.int64]
    test: NDArray[np.int64] | None

    @classmethod
    def of(cls, dataset: Dataset) -> _Counts:
        rows, labels = dataset.labelled()
        splits = np.full(len(dataset), "train") if dataset.splits is None else np.where(dataset.splits == "", "train", dataset.splits)

        def images(part: NDArray[np.bool_]) -> NDArray[np.int64]:
            return np.bincount(labels[part[rows]], minlength=len(dataset.labels))

        test = images(splits == "test") if (splits == "test").any() else None
        return cls(dataset.labels, images(np.full(len(dataset), True)), images(splits == "train"), test)

    def named(self, chosen: NDArray[np.bool_], counts: NDArray[np.int64]) -> dict[str, int]:
        """Label -> its number, the smallest number first."""
        places = np.flatnonzero(chosen)
        return {self.labels[place]: int(counts[place]) for place in places[np.argsort(counts[places], kind="stable")]}


@cache
def images_to_judge() -> int:
    """Test images that a label needs for an interval of a useful width; see RECALL and WIDEST."""

    def width(n: int) -> float:
        low, high = wilson_interval(round(RECALL * n), n)
        return high - low

    # Rounding makes the width jump from n to n + 1; at multiples of ten it shrinks steadily.
    return next(n for n in range(10, 10_000, 10) if width(n) <= WIDEST)


def _unlearned(counts: _Counts) -> Finding | None:
    """Labels that are there, but not in training."""
    found = counts.named((counts.images > 0) & (counts.train == 0), counts.images)
    if not found:
        return None
    return Finding(
        kind="labels-not-in-training",
        level=PROBLEM,
        title="Labels without training images",
        sentence=f"{_labels(found, 'has', 'have')} no image in training ({_named(found)}): what is never shown cannot be learned, "
        "and every such image will be called something else.",
        advice="Move some of their images into training, or take the split away and let one be drawn.",
        figures={"labels": found},
    )


def _unjudged(counts: _Counts) -> Finding | None:
    """Labels that are there, but not in a test part that came with the data."""
    if counts.test is None:
        return None
    found = counts.named((counts.train > 0) & (counts.test == 0), counts.images)
    if not found:
        return None
    return Finding(
        kind="labels-not-in-test",
        level=WARNING,
        title="Labels without test images",
        sentence=f"{_labels(found, 'has', 'have')} no image in the test part ({_named(found)}): "
        f"nothing can be said of how well {'it is' if len(found) == 1 else 'they are'} recognised.",
        advice=f"Add test images of them that show other things than those in training; about {images_to_judge()} are enough for each.",
        figures={"labels": found, "needed": images_to_judge()},
    )


def _too_small(counts: _Counts) -> Finding | None:
    """Labels with some test images, but too few for a useful figure; what a test part will have is reckoned where none came."""
    share = DataConfig().test_fraction
    test = np.round(counts.images * share).astype(np.int64) if counts.test is None else counts.test
    judged = counts.images > 0 if counts.test is None else test > 0
    found = counts.named(judged & (test < images_to_judge()), test)
    if not found:
        return None
    drawn = counts.test is None
    rarest, fewest = next(iter(found.items()))
    low, _ = wilson_interval(fewest, fewest)
    unsure = f": even if all {fewest} of {shown(rarest)} are recognised, the true share may be as low as {low:.0%}" if fewest else ""
    altogether = f", or {math.ceil(images_to_judge() / share)} altogether where {share:.0%} of the images are drawn for the test"
    return Finding(
        kind="labels-too-small-to-judge",
        level=WARNING,
        title="Labels too small to judge",
        sentence=f"{_labels(found, 'has', 'have', len(counts.labels))} fewer than {images_to_judge()} test images"
        f"{f' when {share:.0%} of the images are drawn for the test' if drawn else ''} ({_named(found)}), "
        f"so what is said of each may be far from the truth{unsure}. Figures over all labels together are surer.",
        advice="Read their figures together with the intervals. For a figure that is right to about ten points, a label needs "
        f"{images_to_judge()} test images{altogether if drawn else ''}.",
        figures={"test_images": found, "needed": images_to_judge()},
    )


def _imbalance(counts: _Counts) -> Finding | None:
    some_images = counts.images[counts.images > 0]
    if not len(some_images) or some_images.max() <= IMBALANCED * some_images.min():
        return None
    large, small = int(np.argmax(counts.images)), int(np.argmin(np.where(counts.images > 0, counts.images, some_images.max())))
    ratio = float(counts.images[large] / counts.images[small])
    found = counts.named((counts.images > 0) & (counts.images * IMBALANCED < some_images.max()), counts.images)
    return Finding(
        kind="imbalance",
        level=WARNING,
        title="Some labels are much rarer than others",
        sentence=f"{shown(counts.labels[large])} has {counts.images[large]} images and {shown(counts.labels[small])} has "
        f"{counts.images[small]}, {ratio:.0f} times fewer. A model gets far by never saying what is rare, and its accuracy "
        "will hardly show it.",
        advice="Train with --balance weights or --balance sampling, look at the figures of each label rather than at the accuracy, "
        "and collect more images of what is rare.",
        figures={"ratio": ratio, "rare": found},
    )


def _alike(counts: _Counts) -> Finding | None:
    """Names that may be one; a reader of tables has refused those that differ only in case or blanks, one of folders has not."""
    pairs = lookalikes(counts.labels)
    if not pairs:
        return None
    labels, images = counts.labels, counts.images.tolist()
    first = [f"{shown(labels[a])} ({images[a]} images) and {shown(labels[b])} ({images[b]}) {how}" for a, b, how in pairs]
    more = f"; and {len(pairs) - NAMED} more pairs" if len(pairs) > NAMED else ""
    return Finding(
        kind="lookalike-labels",
        level=WARNING,
        title="Label names that may be one",
        sentence=f"{'; '.join(first[:NAMED])}{more}. If they mean the same, the model is asked to tell apart what is not different.",
        advice="If they mean the same, give them one name: rename the folder, or mend the label column. If not, nothing needs doing.",
        figures={
            "pairs": [{"a": labels[a], "a_images": images[a], "b": labels[b], "b_images": images[b], "how": how} for a, b, how in pairs]
        },
    )


def _in_one_group(dataset: Dataset, counts: _Counts) -> Finding | None:
    """Labels of several images that all are of one group, where there are others."""
    if dataset.groups is None:
        return None
    names, group = np.unique(dataset.groups, return_inverse=True)
    if np.count_nonzero(names != "") < 2:
        return None
    rows, labels = dataset.labelled()
    lowest, highest = np.full(len(dataset.labels), len(names)), np.full(len(dataset.labels), -1)
    np.minimum.at(lowest, labels, group[rows])
    np.maximum.at(highest, labels, group[rows])
    single = (lowest == highest) & (counts.images > 1) & (names[highest] != "")
    found = counts.named(single, counts.images)
    if not found:
        return None
    groups = {counts.labels[place]: str(names[highest[place]]) for place in np.flatnonzero(single)}
    return Finding(
        kind="labels-in-one-group",
        level=PROBLEM,
        title="Labels from a single group",
        sentence=f"{_labels(found, 'comes', 'come')} from one group only ({_named(found)}). The model may learn the group (the patient, "
        "the field, the camera) instead of the label, and as a group stays in one split, it cannot be both learned and judged.",
        advice="Add images of these labels from other groups, or leave the labels out.",
        figures={"labels": found, "groups": groups},
    )


def _unlabelled(dataset: Dataset) -> Finding | None:
    assert dataset.targets is not None
    tags = dataset.targets.ndim == 2
    bare = int(np.count_nonzero(~dataset.targets.any(axis=1) if tags else dataset.targets == NO_TARGET))
    if not bare:
        return None
    means = ("is taken", "are taken") if tags else ("is not used", "are not used")
    rest = " to show nothing of what the labels name" if tags else " for training or judging"
    return Finding(
        kind="unlabelled",
        level=NOTE,
        title="Images without a label",
        sentence=f"{bare} of {len(dataset)} images {'has' if bare == 1 else 'have'} no label and {means[bare > 1]}{rest}.",
        advice="If labels were forgotten, add them." if tags else "Label them if you can: more examples make a better model.",
        figures={"images": bare},
    )


def _labels(found: Mapping[str, int], one: str, several: str, among: int = 0) -> str:
    of = f" of {among}" if among else ""
    return f"{len(found)}{of} label{'s' * (max(len(found), among) != 1)} {one if len(found) == 1 else several}"


def _named(found: Mapping[str, int]) -> str:
    return some([f"{shown(label)}: {count}" for label, count in found.items()], len(found))
