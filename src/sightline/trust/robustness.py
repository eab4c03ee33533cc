"""How much a model loses in harder conditions: night, fog, blur, noise and so on, on a sample of the test images."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation.corruptions import CORRUPTIONS
from sightline.evaluation.intervals import bootstrap_intervals, wilson_interval
from sightline.evaluation.paired import tango_interval
from sightline.predictions import Decision
from sightline.records import Infer
from sightline.tasks import Task
from sightline.tasks.measures import measure_in, measure_of
from sightline.trust.condition_pictures import pictures
from sightline.trust.conditions import FEWEST, FRAME, Answers, Judge, Sample, answers, chosen_sample
from sightline.trust.report_part import ReportPart

LEVEL = 0.95
NAMED = 3
# Below this many images a report says that its figures are rough.
ROUGH = 50
# The ends of an interval corrected for eleven conditions lie far out, where only many resamples fall.
RESAMPLES = 2000


@dataclass(frozen=True)
class Before:
    """An earlier state of the network, with a decision chosen for it on the validation images."""

    infer: Infer
    decision: Decision


def robustness(
    infer: Infer,
    images: NDArray[np.uint8],
    targets: NDArray[Any],
    labels: Sequence[str],
    task: Task,
    decision: Decision,
    seed: int = 0,
    seconds: float = 20.0,
    before: Before | None = None,
    frames: NDArray[np.float64] | None = None,
) -> ReportPart:
    """What harder conditions cost, on as many of the test images as there is time for.

    images   (n, h, w, c) uint8, prepared; with their targets as the task has them
    frames   (n, 10) how each lies on its original; of a task whose targets lie on the images
    seconds  allowance; what an image takes is measured first, and 16 to 200 images are then chosen to fit
    before   of ``train --robust``: the network as it stood before it learned from harder images, which is tried on the same images

    ``numbers`` give, for every condition and strength, the mean of ``right`` and the interval of its difference to the same images
    as they are; their mean over all conditions, ``robust_accuracy``; the ``weakest`` conditions; and the ``pictures`` that show them.
    With ``before`` there is ``hardening``, what learning from harder images cost and won. Where nothing can be said there is a
    ``reason`` instead. The same seed and sample give the same numbers.
    """
    started = time.monotonic()
    judge = Judge(task, labels, decision)
    if reason := _why_not(len(images), judge):
        return ReportPart({"of": len(images), "reason": reason})
    laid = np.zeros((len(images), FRAME)) if frames is None else frames
    everything = Sample(np.arange(len(images)), images, targets, laid, (), seed)
    sample = chosen_sample([infer, *([before.infer] if before else [])], everything, judge, seconds)
    if sample is None:
        reason = f"Not measured: {FEWEST} images in every condition take longer than the {seconds:.0f} seconds there were."
        return ReportPart({"of": len(images), "reason": reason})
    found = answers(infer, sample, judge)
    if not found.clean_right.any():
        reason = f"The model is right on none of {len(sample)} test images as they are, so that harder conditions have nothing to take."
        return ReportPart({"of": len(images), "n": len(sample), "reason": reason})
    numbers = {"n": len(sample), "of": len(images), "strengths": list(sample.strengths), "level": LEVEL,
               "measure": measure_of(task), "left_out": [name for name in CORRUPTIONS if name not in judge.conditions],
               **_figures(found, sample)}  # fmt: skip
    numbers["sentence"] = sentence(numbers)
    if before is not None:
        numbers["hardening"] = hardening(answers(before.infer, sample, replace(judge, decision=before.decision)), found, seed)
    listed, made = pictures(found, sample, [entry["name"] for entry in numbers["weakest"]], judge)
    return ReportPart({**numbers, **listed, "seconds": round(time.monotonic() - started, 1)}, made)


def _why_not(n: int, judge: Judge) -> str | None:
    """Why nothing can be measured, or None."""
    if n < FEWEST:
        return f"Not measured: with {n} test image{'s' * (n != 1)} a loss cannot be told from chance; it takes {FEWEST} or more."
    if len(judge.labels) < 2 and not judge.task.SCENES:
        return "Not measured: with one label only, every answer is right whatever an image shows."
    return None


def _figures(found: Answers, sample: Sample) -> dict[str, Any]:
    clean, right = found.clean_right, found.right
    means = right.mean(axis=2)
    clear = _clear(means - clean[:, None])
    conditions = [
        {
            "name": name,
            "family": corruption.family,
            "words": corruption.words,
            "source": corruption.source,
            "right": float(means[:, place].mean()),
            "loss": float(clean.mean() - means[:, place].mean()),
            "clear": bool(clear[place]),
            "strengths": _by_strength(clean, right[:, place], sample),
        }
        for place, (name, corruption) in enumerate((name, CORRUPTIONS[name]) for name in found.conditions)
    ]
    overall = means.mean(axis=1)
    return {
        "clean": {"right": float(clean.mean()), "interval": mean_interval(clean, sample.seed)},
        "robust_accuracy": float(overall.mean()),
        "robust_interval": mean_interval(overall, sample.seed),
        "conditions": conditions,
        "weakest": _weakest(conditions, float(clean.mean())),
    }


def _by_strength(clean: NDArray[np.float64], right: NDArray[np.float64], sample: Sample) -> list[dict[str, Any]]:
    """An entry for each strength of a condition, ``right`` (n, strengths)."""
    differences = right - clean[:, None]
    return [
        {"strength": strength, "right": float(right[:, column].mean()), "difference": float(differences[:, column].mean()),
         "interval": list(difference_interval(differences[:, column], sample.seed)),
         "lost": int((differences[:, column] < 0).sum()), "gained": int((differences[:, column] > 0).sum())}
        for column, strength in enumerate(sample.strengths)
    ]  # fmt: skip


def _weakest(conditions: Sequence[Mapping[str, Any]], clean: float) -> list[dict[str, Any]]:
    """The conditions that clearly cost most, with their figures at the middle strength."""
    costly = sorted((entry for entry in conditions if entry["clear"]), key=lambda entry: -entry["loss"])[:NAMED]
    middle = [entry["strengths"][len(entry["strengths"]) // 2] for entry in costly]
    return [
        {"name": entry["name"], "strength": at["strength"], "right": at["right"], "clean": clean, "loss": -at["difference"],
         "interval": at["interval"]}
        for entry, at in zip(costly, middle, strict=True)
    ]  # fmt: skip


def _clear(differences: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which conditions cost more than chance explains, ``differences`` (n, conditions) being their means over strengths.

    Intervals are widened for the number of conditions (Bonferroni), as the worst of many looks bad by chance alone.
    """
    level = 1 - (1 - LEVEL) / differences.shape[1]
    intervals = bootstrap_intervals(_means_of(differences), len(differences), resamples=RESAMPLES, level=level)
    clear: NDArray[np.bool_] = intervals[:, 1] < 0
    return clear


def _means_of(values: NDArray[np.float64]) -> Any:
    """The statistic for a bootstrap of the means of columns (n, m)."""
    return lambda counted: counted @ values / counted.sum()


def difference_interval(differences: NDArray[np.float64], seed: int = 0) -> tuple[float, float]:
    """Interval of the mean of (n,) paired differences in [-1, 1]: Tango's where each is -1, 0 or 1, otherwise a bootstrap."""
    if np.isin(differences, (-1, 0, 1)).all():
        return tango_interval(int((differences > 0).sum()), int((differences < 0).sum()), len(differences), LEVEL)
    low, high = bootstrap_intervals(_means_of(differences[:, None]), len(differences), seed=seed, level=LEVEL)[0].tolist()
    return max(-1.0, low), min(1.0, high)


def mean_interval(values: NDArray[np.float64], seed: int = 0) -> list[float]:
    """Interval of the mean of (n,) values in [0, 1]: Wilson's where each is 0 or 1 or all are the same, otherwise a bootstrap.

    Of equal values a bootstrap would know no doubt; Wilson's interval for a share of their size is wide enough for any values.
    """
    if np.isin(values, (0, 1)).all() or (values == values[0]).all():
        return list(wilson_interval(round(float(values.sum())), len(values), LEVEL))
    low, high = bootstrap_intervals(_means_of(values[:, None]), len(values), seed=seed, level=LEVEL)[0].tolist()
    return [max(0.0, low), min(1.0, high)]


def hardening(before: Answers, after: Answers, seed: int = 0) -> dict[str, Any]:
    """What changed from one state of a network to the next on the same images: as they are, in each condition (mean over strengths)
    and in all of them, with intervals of the differences, and in words."""
    means = [found.right.mean(axis=2) for found in (before, after)]
    clean = _changed(before.clean_right, after.clean_right, seed)
    harder = _changed(means[0].mean(axis=1), means[1].mean(axis=1), seed)
    conditions = [{"name": name, **_changed(means[0][:, place], means[1][:, place], seed)} for place, name in enumerate(after.conditions)]
    words = (
        f"Learning from harder images {_change_in_words(harder)} in harder conditions and {_change_in_words(clean)} on the images as they "
        f"are: the network as it stood before that stage and the one that is shipped, on the same {len(after.clean)} test images."
    )
    return {"clean": clean, "harder": harder, "conditions": conditions, "sentence": words}


def _changed(before: NDArray[np.float64], after: NDArray[np.float64], seed: int) -> dict[str, Any]:
    difference = after - before
    return {"before": float(before.mean()), "after": float(after.mean()), "difference": float(difference.mean()),
            "interval": list(difference_interval(difference, seed))}  # fmt: skip


def _change_in_words(change: Mapping[str, Any]) -> str:
    """``won 8.3 points (+5.1 to +12.0)``, or what may be chance named as such."""
    points, (low, high) = 100 * change["difference"], (100 * end for end in change["interval"])
    what = "changed nothing" if not points else f"{'won' if points > 0 else 'cost'} {abs(points):.1f} points"
    chance = ", which may be chance" if low <= 0 <= high else ""
    return f"{what} ({low:+.1f} to {high:+.1f}{chance})"


def sentence(numbers: Mapping[str, Any]) -> str:
    """What came out, in words for a report's reader."""
    n, clean, weakest = numbers["n"], numbers["clean"]["right"], numbers["weakest"]
    says = measure_in(numbers).says
    overall = f"ver all conditions and strengths {says.format(numbers['robust_accuracy'])}"
    rough = f" With {n} images these are rough figures." if n < ROUGH else ""
    if not weakest:
        return (
            f"None of {len(numbers['conditions'])} harder conditions makes it clearly worse, as far as a sample of {n} test images can "
            f"tell: o{overall}, against {clean:.0%} on the images as they are.{rough}"
        )
    worst, *others = weakest
    named = " and ".join(f"{entry['name']} ({entry['right']:.0%})" for entry in others)
    following = f" Next come{'s' * (len(others) == 1)} {named}." if others else ""
    return (
        f"Weakest in {worst['name']}: at strength {worst['strength']} of 5 {says.format(worst['right'])}, against {clean:.0%} on the "
        f"images as they are (sample of {n} test images).{following} O{overall}.{rough}"
    )
