"""What the scores are worth, on the untouched test images: calibration, abstention, candidates, unfamiliar images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation.calibration import calibration_gap, gap_by_chance, reliability, risk_coverage
from sightline.evaluation.intervals import wilson_interval
from sightline.evaluation.promises import answering
from sightline.predictions import Decision
from sightline.tasks import Raw, Task
from sightline.tasks.confidence import FALSE_ALARMS, NAMED, PROMISES, Answers, candidates, is_unfamiliar, is_unsure
from sightline.tasks.measures import measure_of
from sightline.trust.report_part import ReportPart

Floats = NDArray[np.float64]
# Probabilities that are stated, whether it was so, and of which image.
Stated = tuple[Floats, Floats, NDArray[np.int64]]


def confidence(
    task: Task,
    raw: Raw,
    targets: NDArray[Any],
    labels: Sequence[str],
    decision: Decision,
    calibration: Answers,
    *,
    own_images: bool,
    asked: float | None = None,
) -> ReportPart:
    """The report's ``confidence`` section, from n test images that nothing was chosen on.

    raw, targets   the test images' raw outputs and targets, with their "similarity" (n,) to the nearest training images where it is known
    calibration    the answers on the calibration images that ``decision`` was chosen on
    own_images     whether these took no part in early stopping
    asked          the promise that was asked for, if one was
    """
    answers = Answers.of(task, raw, targets, labels, decision)
    uncalibrated = replace(decision, temperature=1.0, offset=None)
    before, after = (task.statements(raw, targets, labels, which) for which in (uncalibrated, decision))
    return ReportPart({
        "n": len(targets), "measure": measure_of(task), "n_calibration": len(calibration.score), "own_images": own_images,
        "temperature": decision.temperature,
        **_calibration(before, after),
        "risk_coverage": [list(point) for point in risk_coverage(answers.score, answers.right)],
        **_answered(answers, raw, decision),
        "promises": [_promised(calibration, answers, promise) for promise in PROMISES],
        "asked": asked,
        "conformal": _named(task, raw, targets, labels, decision),
        "familiar": _familiar(raw, decision, len(calibration.score)),
    })  # fmt: skip


def _calibration(before: Stated, after: Stated) -> dict[str, Any]:
    """How far what is stated is from what is so, before and after calibration; None where nothing is stated, such as by a detector that
    gives no box."""
    gap_before, gap = (calibration_gap(scores, right) if len(scores) else None for scores, right, _ in (before, after))
    scores, right, _ = after
    by_chance = gap_by_chance(*after) if len(scores) else None
    return {"ece_before": gap_before, "ece": gap, "ece_by_chance": by_chance, "stated": len(scores),
            "reliability": [asdict(found) for found in reliability(scores, right)] if len(scores) else []}  # fmt: skip


def _answered(answers: Answers, raw: Raw, decision: Decision) -> dict[str, Any]:
    """What the bundle does as it is shipped: how many of the images it answers, and how many of those answers are right."""
    answered = ~is_unsure(answers.score, decision) & ~is_unfamiliar(raw, decision)
    return {"promise": decision.promise, "answer_from": decision.answer_from, **_shares(answers, answered)}


def _promised(calibration: Answers, test: Answers, promise: float) -> dict[str, Any]:
    """One promise: whether the calibration images can carry it, and how it was kept on the test images."""
    kept = answering(calibration.score, calibration.right, promise)
    if kept is None:
        return {"promise": promise, "answer_from": None}
    return {"promise": promise, "answer_from": kept.threshold, **_shares(test, test.score >= kept.threshold)}


def _shares(answers: Answers, answered: NDArray[np.bool_]) -> dict[str, Any]:
    n = int(answered.sum())
    if not n:
        return {"coverage": 0.0, "n_answered": 0, "answered_accuracy": None, "answered_interval": None}
    right = float(answers.right[answered].mean())
    return {"coverage": n / len(answered), "n_answered": n, "answered_accuracy": right,
            "answered_interval": list(wilson_interval(round(right * n), n))}  # fmt: skip


def _named(task: Task, raw: Raw, targets: NDArray[Any], labels: Sequence[str], decision: Decision) -> dict[str, Any]:
    """How often all true labels are among the candidates, and how many candidates there are."""
    if decision.name_from is None:
        return {"level": NAMED, "reason": "There are too few calibration images to name candidates with a promise; nine are enough."}
    named, truth = candidates(task, raw, labels, decision), task.truth(targets, labels)
    covered, sizes = (named | ~truth).all(axis=1), named.sum(axis=1)
    return {"level": NAMED, "name_from": decision.name_from, "coverage": float(covered.mean()),
            "interval": list(wilson_interval(int(covered.sum()), len(covered))), "mean_size": float(sizes.mean()),
            "sizes": np.bincount(sizes, minlength=len(labels) + 1).tolist()}  # fmt: skip


def _familiar(raw: Raw, decision: Decision, n_calibration: int) -> dict[str, Any]:
    """The share of test images that are called unlike the training images, which they are not."""
    if decision.familiar_from is None or "similarity" not in raw:
        return {"reason": "No embeddings of training images were kept to compare with."}
    unfamiliar, expected = is_unfamiliar(raw, decision), max(FALSE_ALARMS, 1 / (n_calibration + 1))
    return {"from": decision.familiar_from, "fades": decision.fades_over is not None, "expected": expected,
            "called_unfamiliar": float(unfamiliar.mean()),
            "interval": list(wilson_interval(int(unfamiliar.sum()), len(unfamiliar)))}  # fmt: skip
