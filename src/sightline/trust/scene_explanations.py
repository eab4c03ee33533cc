"""Can the heat maps of boxes and areas be trusted? The tests of ``explanations.py`` on an image's surest box or smallest area of note."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation.boxes import iou
from sightline.explanation.occlusion import Occlusion
from sightline.explanation.scenes import CELLS, Aim, Aimed, aim_at, scores_of
from sightline.explanation.subject import Images, Subject
from sightline.explanation.tested import LEAST_SCORE, delete_and_insert, random_maps, rank_correlation
from sightline.predictions import Decision
from sightline.records import Infer, presence
from sightline.scenes import laid_back
from sightline.tasks import Task
from sightline.trust.explanations import LOOKED, PART, PLANNED, SHOWN, Result, affordable, figures, heat_picture, verdict
from sightline.trust.report_part import ReportPart

ON = 0.5


def scene_explanations(
    infer: Infer, random_infer: Infer, images: Images, frames: NDArray[np.float64], targets: NDArray[Any], labels: Sequence[str],
    task: Task, decision: Decision, *, seconds: float, seed: int = 0,
) -> ReportPart:  # fmt: skip
    """How heat maps by occlusion do on test images, as many as fit into about so many seconds; as ``explanations`` has it.

    infer   gives the task's outputs, ``random_infer`` those of the same network with random weights
    images  prepared test images (n, height, width, channels) uint8, with their frames (n, 10) and targets
    """
    started = time.monotonic()
    subject, other = (Subject(network, task, labels, decision) for network in (infer, random_infer))
    trial = _Trial(subject, other, Occlusion(CELLS), images, frames, seed)
    chosen: list[tuple[int, Aim, float]] = []
    results: list[Result] = []
    count = maps = 1
    for row in np.random.default_rng(seed).permutation(len(images))[:LOOKED].tolist():
        aim, score = trial.aim(row)
        if score < LEAST_SCORE:
            continue
        if not chosen:  # the first is timed against one random map, and then tested against as many as the others
            begun = time.monotonic()
            trial.one(row, aim, 1)
            count, maps = affordable(seconds * PLANNED - (time.monotonic() - started), time.monotonic() - begun, len(images))
        results.append(trial.one(row, aim, maps))
        chosen.append((row, aim, score))
        if len(chosen) >= count or time.monotonic() - started > seconds:
            break
    if not chosen:
        return ReportPart(
            {"method": trial.method.name, "trusted": None, "reason": "On no test image is anything given that could be explained."}
        )
    numbers = {"method": trial.method.name, "random_maps": maps, **figures([result for result in results if result.sound])}
    examples, pictures = [], {}
    for number, ((row, aim, score), result) in enumerate(list(zip(chosen, results, strict=True))[: 2 * SHOWN]):
        key = f"{PART}/scene-{number}"
        pictures[key] = heat_picture(images[row], result.evidence, None if aim.box is None else aim.box.tolist())
        present = presence(targets[row : row + 1], len(labels))[0]
        truth = ", ".join(label for label, there in zip(labels, present.tolist(), strict=True) if there)
        examples.append({"key": key, "right": _is_right(aim, frames[row], targets[row]), "truth": truth, "label": labels[aim.label],
                         "score": score, "nearest": []})  # fmt: skip
    return ReportPart({**numbers, **verdict(numbers), "examples": examples}, pictures)


class _Trial:
    """A network and its twin that has learned nothing, on some images."""

    def __init__(self, subject: Subject, other: Subject, method: Occlusion, images: Images, frames: NDArray[np.float64], seed: int) -> None:
        self.subject, self.other, self.method, self.images, self.frames, self.seed = subject, other, method, images, frames, seed

    def aim(self, row: int) -> tuple[Aim, float]:
        """What is explained of an image, and how sure it is; 0 where the outputs are no finite numbers."""
        raw = {**self.subject.raw(self.images[row : row + 1]), "frame": self.frames[row : row + 1]}
        if not all(np.isfinite(values).all() for values in raw.values()):
            return Aim(0), 0.0
        aim = aim_at(self.subject, raw)
        return aim, float(scores_of(self.subject, raw, aim)[0])

    def one(self, row: int, aim: Aim, maps: int) -> Result:
        """An image's map, tested against so many random ones, and how like it is to that of the twin."""
        image, first = self.images[row], np.zeros(1, np.int64)
        aimed = Aimed(self.subject, aim)
        evidence = self.method.evidence(aimed, image[None], first)[0]
        random = random_maps(maps, evidence.shape, [self.seed, row])
        found = delete_and_insert(lambda images: aimed.probabilities(images)[:, 0], image, evidence, random)
        forgotten = self.method.evidence(Aimed(self.other, aim), image[None], first)[0]
        return Result(evidence, found, abs(rank_correlation(evidence, forgotten)))


def _is_right(aim: Aim, frame: NDArray[np.float64], target: Any) -> bool:
    """Whether the box is on an object of its class, or the image shows the area's class at all."""
    if aim.box is None:
        return aim.label in target.present
    box = laid_back(aim.box[None, None], frame[None])[0]
    return bool((iou(box, target.boxes[target.labels == aim.label]) >= ON).any())
