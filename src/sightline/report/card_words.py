"""What a card says of each task: what such a model does and cannot do, and which figures it and its classes have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Figures of the test images: their names, what they mean, and what model hubs call them, where they know them.
METRICS: dict[str, tuple[str, str, str | None]] = {
    "accuracy": ("Accuracy", "share of the images whose class is named", "accuracy"),
    "top5": ("Top 5", "share of the images whose class is among the five most probable", None),
    "map": ("Mean average precision", "how well images with a label are put before those without, mean over labels", None),
    "precision": ("Precision", "share of the answers that are right, mean over classes", "precision"),
    "recall": ("Recall", "share of what is there that is found, mean over classes", "recall"),
    "f1": ("F1", "harmonic mean of both, mean over classes", "f1"),
    "f1_micro": ("F1, every answer counted alike", "harmonic mean of both over all answers", None),
    "subset_accuracy": ("All labels right", "share of the images with none missed and none too many", None),
    "hamming_loss": ("Wrong decisions", "share of all decisions on a label of an image", None),
    "ece": ("Calibration error", "mean distance between a stated probability and the share that is right", None),
    "map50": ("mAP50", "the same for boxes that overlap an object by at least half (IoU 0.5)", None),
    "map75": ("mAP75", "the same for overlaps of at least 75%", None),
    "map_small": ("mAP of small objects", "those of less than 32 x 32 pixels", None),
    "map_medium": ("mAP of medium objects", "those of up to 96 x 96 pixels", None),
    "map_large": ("mAP of large objects", "those of more than 96 x 96 pixels", None),
    "count_error": ("Counting error", "objects of a class by which an image's count is wrong, mean over images and classes", None),
    "miou": ("Mean IoU", "shared part of the given and the true area of a class, mean over classes", "mean_iou"),
    "dice": ("Dice", "twice what both areas share, of both together, mean over classes", None),
    "boundary_f1": ("Boundary F1", "how much of the outlines lies where it should, within 0.75% of the diagonal", None),
}
# Where a figure means something else than elsewhere.
OF_TASK: dict[str, dict[str, tuple[str, str, str | None]]] = {
    "detect": {
        "map": ("Mean average precision (mAP)", "how well right boxes are put first, mean over classes and IoU of 0.5 to 0.95", None),
        "precision": ("Precision", "share of the boxes given that are right at an IoU of 0.5, mean over classes", "precision"),
        "recall": ("Recall", "share of the objects that are found at an IoU of 0.5, mean over classes", "recall"),
        "ece": ("Calibration error", "mean distance between a box's probability and the share of such boxes that are right", None),
    },
    "segment": {
        "accuracy": ("Right pixels", "share of the pixels whose class is named", "accuracy"),
        "ece": ("Calibration error", "mean distance between a pixel's probability and the share of such pixels that are right", None),
    },
}  # fmt: skip


@dataclass(frozen=True)
class Words:
    """Sentences hold ``{classes}`` for how many there are.

    hub      what model hubs call the task, and its further tag where they have one
    does     what the model does, after "It"
    use      what images are for it, before "images like the test images"
    beyond   what it cannot do
    right    what it means that an image is right to some share; empty where it is right or wrong
    noun     what it tells apart
    skill    the figure of a class that counts, in words; ``columns`` are it, its interval and others, by their names in ``report.json``
    counted  what of a class was tested
    """

    hub: tuple[str, str]
    does: str
    use: str
    beyond: tuple[str, ...]
    right: str
    noun: str
    skill: str
    columns: Mapping[str, str]
    counted: str

    @property
    def skill_name(self) -> str:
        return next(iter(self.columns))

    @property
    def interval_name(self) -> str:
        return list(self.columns)[1]


WORDS = {
    "classify": Words(
        hub=("image-classification", "image-classification"),
        does="names one of {classes} for an image",
        use="naming the class of",
        beyond=(
            "Images that show none of its {classes}: it can only name one of these",
            "Images that show several of them: it names one",
        ),
        right="",
        noun="class",
        skill="found",
        columns={"recall": "Recall", "recall_interval": "95% interval", "precision": "Precision"},
        counted="test image",
    ),
    "tag": Words(
        hub=("image-classification", "multi-label-image-classification"),
        does="gives an image any of {classes}, or none",
        use="giving labels to",
        beyond=("Anything but its {classes}: what else an image shows is passed over",),
        right="An image is right to the share that the labels given overlap with the true ones.",
        noun="label",
        skill="average precision",
        columns={
            "ap": "Average precision",
            "ap_interval": "95% interval",
            "chance": "By chance",
            "precision": "Precision",
            "recall": "Recall",
        },
        counted="test image",
    ),
    "detect": Words(
        hub=("object-detection", "object-detection"),
        does="puts boxes around the objects of {classes} on an image",
        use="finding objects on",
        beyond=(
            "Anything but objects of its {classes}: what else an image shows is passed over",
            "Telling exactly where an object ends: a box is all that it gives",
        ),
        right="An image is right to the share that is the F1 of its boxes: the harmonic mean of the share of the boxes given that are "
        "right (on an object of their class, at an IoU of 0.5) and the share of the objects that are found.",
        noun="class",
        skill="average precision at an IoU of 0.5",
        columns={"ap50": "AP50", "ap50_interval": "95% interval", "ap": "AP", "precision": "Precision", "recall": "Recall"},
        counted="test object",
    ),
    "segment": Words(
        hub=("image-segmentation", "image-segmentation"),
        does="gives each pixel of an image one of {classes}",
        use="dividing into areas",
        beyond=(
            "What is none of its {classes}: every pixel is given one of these",
            "Telling objects of one class apart that touch each other: it knows areas, not objects",
        ),
        right="An image is right to the share of its pixels that are given their true class.",
        noun="class",
        skill="overlap (IoU)",
        columns={"iou": "IoU", "iou_interval": "95% interval", "dice": "Dice", "recall": "Recall", "boundary_f1": "Boundary F1"},
        counted="test image",
    ),
}


def words_of(report: Mapping[str, Any]) -> Words:
    """Of the report's task."""
    return WORDS[report["task"]]


def metric(report: Mapping[str, Any], name: str) -> tuple[str, str, str | None]:
    """A figure's name, what it means and what model hubs call it; its own name where nothing is known of it."""
    return OF_TASK.get(report["task"], {}).get(name) or METRICS.get(name) or (name, "", None)
