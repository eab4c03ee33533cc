"""When a model may answer, whatever its task: thresholds chosen on calibration images, and what they say of a prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation.fading import spread_below
from sightline.evaluation.promises import answering, familiar_from, naming
from sightline.predictions import Caution, Decision
from sightline.tasks import Raw, Task

Floats = NDArray[np.float64]

# Shares of right answers that may be promised; the first that half of the images keep is, unless another is asked for.
PROMISES = (0.99, 0.98, 0.95, 0.9, 0.8)
# With this probability an image's true labels are among the candidates, and this share of like images is called unfamiliar.
NAMED, FALSE_ALARMS = 0.9, 0.01
FOLDS = 5


@dataclass(frozen=True)
class Answers:
    """Of n calibration images: the ``score`` of the answer, how ``right`` it is, and the score of the least probable true label
    (``lowest``; 1 for an image that has none), all in [0, 1]."""

    score: Floats
    right: Floats
    lowest: Floats

    @classmethod
    def of(cls, task: Task, raw: Raw, targets: NDArray[Any], labels: Sequence[str], decision: Decision) -> Answers:
        right = np.array([outcome["right"] for outcome in task.outcomes(raw, targets, labels, decision)])
        lowest = np.where(task.truth(targets, labels), task.probabilities(raw, decision), 1.0).min(axis=1, initial=1.0)
        return cls(task.confidence(raw, labels, decision), right, lowest)

    @classmethod
    def cross_fitted(cls, task: Task, raw: Raw, targets: NDArray[Any], labels: Sequence[str]) -> Answers:
        """As they are by temperatures and thresholds chosen on other calibration images, so that no image flatters its own figures."""
        n = len(targets)
        if n == 1:
            return cls.of(task, raw, targets, labels, Decision())
        fold = np.random.default_rng(0).permutation(n) % FOLDS
        columns = np.empty((3, n))
        for place in np.unique(fold):
            inside = fold == place
            decision = task.decide(_rows(raw, ~inside), targets[~inside], labels)
            found = cls.of(task, _rows(raw, inside), targets[inside], labels, decision)
            columns[:, inside] = found.score, found.right, found.lowest
        return cls(*columns)


def calibrated(task: Task, raw: Raw, targets: NDArray[Any], labels: Sequence[str], promise: float | None = None) -> Decision:
    """Everything that a bundle's answers depend on, chosen on n calibration images, n at least 1.

    raw, targets  the images' raw outputs and targets, as the task takes them, with their "similarity" (n,) to the nearest training
                  images where there are any to compare with
    promise       the share of right answers that is to be kept; by default the first of ``PROMISES`` that can be
    """
    answers = Answers.cross_fitted(task, raw, targets, labels)
    decision = replace(task.decide(raw, targets, labels), name_from=naming(answers.lowest, NAMED))
    if decision.name_from is not None:
        decision = replace(decision, named=NAMED)
    if "similarity" in raw:
        decision = replace(decision, familiar_from=familiar_from(raw["similarity"], FALSE_ALARMS))
        if task.ONE_LABEL:
            decision = replace(decision, fades_over=spread_below(raw["similarity"]))
    for share in PROMISES if promise is None else (promise,):
        if (kept := answering(answers.score, answers.right, share)) is not None:
            return replace(decision, promise=share, answer_from=kept.threshold)
    return decision


def candidates(task: Task, raw: Raw, labels: Sequence[str], decision: Decision) -> NDArray[np.bool_]:
    """(n, k) which labels are named: those probable enough, and always the most probable one where each image has one label."""
    assert decision.name_from is not None
    probabilities = task.probabilities(raw, decision)
    named = probabilities >= decision.name_from
    if task.ONE_LABEL:
        named[np.arange(len(named)), probabilities.argmax(axis=1)] = True
    return named


def is_unfamiliar(raw: Raw, decision: Decision) -> NDArray[np.bool_]:
    """(n,) which images are unlike the training images; none where that is not known."""
    if "similarity" not in raw or decision.familiar_from is None:
        return np.zeros(len(next(iter(raw.values()))), bool)
    return np.asarray(raw["similarity"] < decision.familiar_from)


def is_unsure(score: Floats, decision: Decision) -> NDArray[np.bool_]:
    """(n,) which answers keep no promise; none where nothing is promised."""
    return np.zeros(len(score), bool) if decision.answer_from is None else score < decision.answer_from


def cautions(task: Task, raw: Raw, labels: Sequence[str], decision: Decision) -> list[Caution | None]:
    """What to know of n predictions, from what is kept of their raw outputs; None for all by a bundle that promises nothing."""
    n = len(next(iter(raw.values())))
    if decision.answer_from is None and decision.name_from is None and decision.familiar_from is None:
        return [None] * n
    unfamiliar = is_unfamiliar(raw, decision)
    abstained = unfamiliar | is_unsure(task.confidence(raw, labels, decision), decision)
    if decision.name_from is None:
        return [Caution(*flags, None) for flags in zip(abstained.tolist(), unfamiliar.tolist(), strict=True)]
    named, order = candidates(task, raw, labels, decision), np.argsort(-task.probabilities(raw, decision), axis=1, kind="stable")
    return [
        Caution(doubt, strange, tuple(labels[label] for label in best if chosen[label]))
        for doubt, strange, chosen, best in zip(abstained.tolist(), unfamiliar.tolist(), named.tolist(), order.tolist(), strict=True)
    ]


def _rows(raw: Raw, keep: NDArray[np.bool_]) -> Raw:
    return {name: values[keep] for name, values in raw.items()}
