"""The figures of a report that a model can be required to reach, and what helps where one falls short."""

from __future__ import annotations

import math
from dataclasses import dataclass

TASKS = ("classify", "tag", "detect", "segment")

_MORE_IMAGES = "label more images of what the report says is confused, or give training a longer --budget"
_MORE_VALIDATION = "give more validation images, on which scores and thresholds are chosen"
_MORE_OF_THE_GROUP = "add training images of the group that the report names as worst"


@dataclass(frozen=True)
class Figure:
    """A figure that can be required: its ``place`` in ``report.json`` and that of its interval, the tasks that have it, its range, and
    what helps where it falls short. It is a share, but for one without a highest value, which counts objects."""

    place: tuple[str, ...]
    advice: str
    interval: tuple[str, ...] = ()
    tasks: tuple[str, ...] = TASKS
    low: float = 0.0
    high: float = 1.0


def _metric(name: str, *tasks: str, advice: str = _MORE_IMAGES) -> Figure:
    return Figure(("test", "metrics", name), advice, ("test", "intervals", name), tasks or TASKS)


FIGURES = {
    "accuracy": _metric("accuracy", "classify", "segment"),
    "top5": _metric("top5", "classify"),
    "map": _metric("map", "tag", "detect"),
    **{name: _metric(name, "detect") for name in ("map50", "map75", "map_small", "map_medium", "map_large")},
    **{name: _metric(name, "segment") for name in ("miou", "dice", "boundary_f1")},
    **{name: _metric(name, "classify", "tag", "detect") for name in ("precision", "recall", "f1")},
    "count_error": Figure(("test", "metrics", "count_error"), _MORE_IMAGES, tasks=("detect",), high=math.inf),
    **{name: _metric(name, "tag") for name in ("f1_micro", "subset_accuracy", "hamming_loss")},
    "ece": _metric("ece", advice=_MORE_VALIDATION),
    "worst_class_recall": Figure(("test", "worst_class_recall"), "add training images of the class that the report names as weakest"),
    "worst_group_recall": Figure(("groups", "worst_group_recall"), _MORE_OF_THE_GROUP, ("groups", "worst_group", "recall_interval")),
    "largest_gap": Figure(("groups", "largest_gap"), _MORE_OF_THE_GROUP, ("groups", "largest_gap_between", "interval")),
    "robust_accuracy": Figure(("robustness", "robust_accuracy"), "train with --robust", ("robustness", "robust_interval")),
    "coverage": Figure(("confidence", "coverage"), _MORE_IMAGES),
    "answered_accuracy": Figure(("confidence", "answered_accuracy"), _MORE_VALIDATION, ("confidence", "answered_interval")),
    "conformal_coverage": Figure(("confidence", "conformal", "coverage"), _MORE_VALIDATION, ("confidence", "conformal", "interval")),
    "baseline_margin": Figure(
        ("baselines", "margin"),
        "start from pretrained --weights, or label more images",
        ("baselines", "margin_interval"),
        ("classify", "tag", "segment"),
        low=-1.0,
    ),
}
