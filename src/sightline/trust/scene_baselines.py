"""What is simpler than a network that says where things are: of label maps the commonest class everywhere; of boxes nothing is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation.paired import bootstrap_interval, paired_difference
from sightline.predictions import Decision
from sightline.tasks import Raw, Task
from sightline.tasks.measures import measure_of
from sightline.trust.report_part import ReportPart

RESAMPLES = 1000
NOTHING_SIMPLER = (
    "Not compared: features of whole images, counted by fixed rules, do not tell where objects are, and no simple rule puts boxes around "
    "them."
)


def scene_baselines(
    task: Task, raw: Raw, targets: NDArray[Any], learned_from: NDArray[Any], labels: Sequence[str], decision: Decision
) -> ReportPart:
    """The network against the class that most training pixels have, given to every pixel; as ``baselines`` has it.

    raw, targets  what was kept of the n test images, and their label maps or objects
    learned_from  those of the training images
    """
    if task.SCENES != "maps":
        return ReportPart({"reason": NOTHING_SIMPLER})
    pixels = raw["confusion"].sum(axis=2)
    counted = pixels.sum(axis=1) > 0
    if not counted.any():
        return ReportPart({"reason": "Not compared: no pixel of the test images has a class."})
    covered = np.sum([np.pad(each.pixels, (0, len(labels) - len(each.pixels))) for each in learned_from], axis=0)
    usual = int(covered.argmax())
    network = np.array([row["right"] for row in task.outcomes(raw, targets, labels, decision)])[counted]
    majority = (pixels[:, usual] / np.maximum(pixels.sum(axis=1), 1))[counted]
    found = paired_difference(majority, network)
    numbers = {
        "n": len(network), "of": len(targets), "measure": measure_of(task), "label": labels[usual],
        "methods": [
            {"name": "majority", **_figures(majority), "behind": {"difference": found.difference, "interval": list(found.interval),
                                                                 "p": found.p}},
            {"name": "network", **_figures(network)},
        ],
        "beaten": found.interval[0] > 0, "reasons": [],
    }  # fmt: skip
    return ReportPart({**numbers, "sentence": _sentence(labels[usual], majority, network, found.interval)})


def _figures(right: NDArray[np.float64]) -> dict[str, Any]:
    return {"right": float(right.mean()), "interval": list(bootstrap_interval(right, resamples=RESAMPLES))}


def _sentence(label: str, majority: NDArray[np.float64], network: NDArray[np.float64], interval: tuple[float, float]) -> str:
    """What the comparison comes to; most pixels are easy, and the easiest answer is the same everywhere."""
    low, high = interval
    against = (
        f"it names the class of {network.mean():.1%} of an image's pixels, against {majority.mean():.1%}, a difference of "
        f"{100 * (network.mean() - majority.mean()):.1f} points (95% interval {100 * low:.1f} to {100 * high:.1f}) on "
        f"{len(network)} test images"
    )
    if low > 0:
        return f"The network clearly beats calling every pixel {label!r}, the commonest class in training: {against}."
    if high < 0:
        return f"The network is worse than calling every pixel {label!r}: {against}. Do not use it as it is."
    return f"The network does not clearly beat calling every pixel {label!r}: {against}. That may be chance."
