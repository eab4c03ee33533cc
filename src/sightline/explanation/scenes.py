"""One thing that is said of a scene, as explanations see it: a box of a class, or the area of a class, with a score that painting over
parts of the image changes.

The score of a box is that of the surest box of its class near it, the surer the more the two overlap: Petsiuk et al., "Black-box
explanation of object detectors via saliency maps" (2021). The score of an area is the mean probability of its class there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation.boxes import iou
from sightline.evaluation.enlarging import cells_within
from sightline.evaluation.metrics import softmax
from sightline.evaluation.multilabel import decided
from sightline.explanation.subject import Images, Subject

# Cells a side: objects are smaller than images, and 81 passes take seconds.
CELLS = 8
# Classes of a smaller share of an image are not what it is asked about first.
NOTABLE = 0.01

Raw = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Aim:
    """What is explained of an image, one of the two.

    label  its class
    box    (4,) left, top, right, bottom in pixels of the network's input
    area   (rows, columns) bool over the network's logits
    """

    label: int
    box: NDArray[np.float64] | None = None
    area: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Aimed:
    """A model of which a single thing is asked: its score is the one probability there is, (n, 1)."""

    subject: Subject
    aim: Aim

    def raw(self, images: Images) -> dict[str, NDArray[np.float32]]:
        return self.subject.raw(images)

    def probabilities(self, images: Images) -> NDArray[np.float64]:
        batch = self.subject.batch
        parts = (images[start : start + batch] for start in range(0, len(images), batch))
        return np.concatenate([scores_of(self.subject, self.subject.infer(part), self.aim) for part in parts])[:, None]


def scores_of(subject: Subject, raw: Raw, aim: Aim) -> NDArray[np.float64]:
    """(n,) how sure the model is of what is explained, from its raw outputs on n images."""
    if aim.box is None:
        assert aim.area is not None
        likely = softmax(np.moveaxis(raw["logits"], 1, -1), subject.decision.temperature)[..., aim.label]
        return np.asarray(likely[:, aim.area].mean(axis=1))
    n, a = raw["boxes"].shape[:2]
    overlaps = iou(raw["boxes"].reshape(n * a, 4).astype(np.float64), aim.box[None]).reshape(n, a)
    return np.asarray((decided(raw["scores"][..., aim.label], subject.decision) * overlaps).max(axis=1))


def aim_at(subject: Subject, raw: Raw, label: int | None = None) -> Aim:
    """What to explain of one image, from its raw outputs: its surest box, or the smallest area of a class that is worth speaking of, as
    the largest is often the ground that all else stands on; of a class, where one is named. Where nothing is of that class, what comes
    nearest to it. Of label maps the raw outputs come with their ``frame``, as what pads an image is not spoken of."""
    if subject.task.SCENES == "boxes":
        logits = raw["scores"][0] if label is None else raw["scores"][0][:, label : label + 1]
        place, column = np.unravel_index(int(logits.argmax()), logits.shape)
        return Aim(int(column) if label is None else label, box=raw["boxes"][0, place].astype(np.float64))
    size = raw["logits"].shape[2:]
    shown = cells_within(raw["frame"][0], *size)
    logits = raw["logits"][0][:, *shown]
    classes = logits.argmax(axis=0)
    pixels = np.bincount(classes.ravel(), minlength=len(logits))
    chosen = int(np.where(pixels >= NOTABLE * classes.size, pixels, classes.size + 1).argmin()) if label is None else label
    found, area = classes == chosen, np.zeros(size, bool)
    area[shown] = found if found.any() else logits[chosen] == logits[chosen].max()
    return Aim(chosen, area=area)
