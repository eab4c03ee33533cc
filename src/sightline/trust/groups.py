"""Does the model serve some images worse than others? Every attribute, every pair of them, and the groups in which most goes wrong.

A gap is said to be real only where chance explains it in less than 5% of cases after correction for all that was looked at: of 100 models
that serve all groups alike, at most five are said not to. That holds for the gaps in what is right, in recall and in pairs together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation.slices import (
    FEWEST_RELATED,
    SMALLEST,
    Grouping,
    grouping,
    why_left_out,
)
from sightline.trust.answered import Answered
from sightline.trust.group_analysis import Analysis
from sightline.trust.report_part import ReportPart


def groups(
    attributes: Mapping[str, Sequence[str]],
    outcomes: Sequence[Mapping[str, Any]],
    targets: NDArray[Any],
    labels: Sequence[str],
    names: Sequence[str],
    *,
    related: Sequence[str] | None = None,
    measure: str | None = None,
    seed: int = 0,
) -> ReportPart:
    """Numbers on the groups of n test images; no pictures.

    ``attributes`` has (n,) texts by name, "" where nothing is known; ``outcomes`` are the task's, a row an image; ``targets`` are (n,)
    int64 or (n, k) bool; ``names`` are the images'; ``measure`` is what the outcomes' ``right`` is, by its name in
    ``tasks/measures.py``. ``related`` are the data set's groups of the images, "" for none: images of one, such as a patient, may be right
    or wrong together, and count for less. A group of fewer than 20 images, or of fewer than 10 patients, is named and not judged.

    ``worst_group_recall`` is the smallest share, over all judged groups of all attributes that are compared, of the true labels of a
    group's images that the model names: to classify, that is the group's accuracy. ``largest_gap`` is the largest difference, over all
    attributes, between the shares right of two judged groups. Both are None where nothing could be judged, and ``reason`` says why.
    """
    relations = _relations([] if related is None else related)
    judged = Answered.of(outcomes, targets, labels, names, relations if _tell_enough(relations) else None)
    made = [grouping(name, column, judged.related_for(name)) for name, column in attributes.items()]
    left_out = {one.name: why_left_out(one, len(judged)) for one in made}
    compared = [one.among(judged.right, judged.related_for(one.name)) for one in made if not left_out[one.name]]
    numbers: dict[str, Any] = {
        "n": len(judged),
        "several": targets.ndim == 2,
        "measure": measure or ("overlap" if targets.ndim == 2 else "right"),
        "smallest": SMALLEST,
        "related": {"n": len(np.unique(relations)), "counted": judged.related is not None} if len(relations) else None,
        "left_out": [{"attribute": name, "reason": reason} for name, reason in left_out.items() if reason],
        "worst_group_recall": None,
        "largest_gap": None,
        "attributes": [],
        "pairs": {"looked_at": 0, "not_looked_at": 0, "found": []},
        "slices": [],
    }
    if not compared:
        numbers["reason"] = _nothing(made, judged)
        return ReportPart(numbers)
    return ReportPart({**numbers, **Analysis.of(judged, compared, labels, seed).numbers()})


def _relations(related: Sequence[str]) -> NDArray[np.int64]:
    """Indices, equal for images of one group; an image of none has its own. Empty where no two images are related."""
    places: dict[str, int] = {}
    codes = [places.setdefault(value.strip() or f" {row}", len(places)) for row, value in enumerate(related)]
    return np.array(codes if len(places) < len(codes) else [], np.int64)


def _tell_enough(relations: NDArray[np.int64]) -> bool:
    """Whether there are enough groups of related images for two of an attribute to be judged."""
    return len(np.unique(relations)) >= 2 * FEWEST_RELATED


def _nothing(made: Sequence[Grouping], judged: Answered) -> str:
    if not made:
        return "Nothing is known of the images that could part them into groups."
    if len(judged) < 2 * SMALLEST:
        return f"With {len(judged)} test images no two groups of {SMALLEST} can be compared."
    patients = "" if judged.related is None else f" from {FEWEST_RELATED} groups of related ones"
    return f"No attribute has two groups of at least {SMALLEST} test images{patients}."
