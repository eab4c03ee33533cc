"""How right an answer on one image is, in a reader's words: what ``right`` of ``Task.outcomes`` means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sightline.tasks import Task


@dataclass(frozen=True)
class Measure:
    """Words for the share of an image that is right.

    name      as the heading of a column
    meaning   what is averaged over images
    says      of a model, with a place for the share
    promised  what is promised of the answers that a model gives, and measured of them
    stated    what has a score of its own that can be calibrated, after "a" and "one", and what it is when it is right
    whole     whether an image is either right or wrong
    """

    name: str
    meaning: str
    says: str
    promised: str
    stated: tuple[str, str]
    whole: bool = False

    @property
    def axis(self) -> str:
        return f"{self.name[0].lower() if self.name[1:2].islower() else self.name[0]}{self.name[1:]}, in %"


MEASURES = {
    "right": Measure(
        "Right", "share of the images that were answered rightly", "it is right {:.0%} of the time", "share of right answers",
        ("answer", "right"), whole=True,
    ),
    "overlap": Measure(
        "Overlap", "overlap of the labels given with the true ones", "the labels it gives overlap with the true ones by {:.0%}",
        "mean overlap of the labels given with the true ones", ("label", "there"),
    ),
    "boxes": Measure(
        "F1 of boxes", "F1 of the boxes given on an image, right at an IoU of 0.5", "the F1 of the boxes it gives on an image is {:.0%}",
        "mean F1 of the boxes on an image", ("box", "on an object of its class (IoU 0.5)"),
    ),
    "pixels": Measure(
        "Right pixels", "share of an image's pixels that are right", "it names the class of {:.0%} of an image's pixels",
        "mean share of an image's pixels that are right", ("pixel", "of the class it is given"),
    ),
}  # fmt: skip


# Those of tasks whose targets lie on the images.
SCENES = ("boxes", "pixels")


def measure_of(task: Task) -> str:
    """The name in ``MEASURES`` of what a task's ``right`` is."""
    return {"boxes": "boxes", "maps": "pixels"}.get(task.SCENES or "", "right" if task.ONE_LABEL else "overlap")


def measure_in(section: Mapping[str, Any]) -> Measure:
    """That of a section of ``report.json``; of those of older versions, which did not name it, that of single labels."""
    return MEASURES[section.get("measure", "right")]
