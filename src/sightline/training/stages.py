"""Which stages a fine-tuning has, and how long each is expected to take."""

from __future__ import annotations

from dataclasses import dataclass

from sightline.processor import memory_bytes
from sightline.training.budget import spoken
from sightline.training.plan import Plan

# Views of each image that are kept, one as evaluation sees it, and epochs over them: the most, and what little time may reduce them to.
UPPER_SIZES = ((7, 12), (6, 11), (5, 10), (4, 9), (4, 8), (3, 8), (3, 7), (3, 6), (2, 6), (2, 5), (2, 4), (2, 3), (1, 4))
UNCUT = "this network cannot be cut below its upper layers, or what is there takes too much memory"
# Learning from all layers for less than this is not worth its start.
LEAST_EPOCHS = 2
# A step takes the time of a forward pass, a backward pass of twice that, and the optimiser's; making a view more than one.
STEP, CHANGED = 3.3, 1.3
# Kept activations may take this share of the memory, and so many bytes at most.
MEMORY_SHARE, MOST_BYTES = 0.15, 6e9


@dataclass(frozen=True)
class Stage:
    """Some epochs of some layers.

    layers   "head": none but the probe's, "upper": those above a cut, "all"
    views    of each image that are kept, in the upper stage
    seconds  that it is expected to take
    """

    layers: str
    epochs: int = 0
    views: int = 0
    seconds: float = 0.0

    def affordable(self, left: float) -> int:
        """As many of the epochs as ``left`` seconds are expected to suffice for; of the upper layers all, as their views are half of it."""
        if self.layers != "all" or not self.seconds:
            return self.epochs
        return int(min(self.epochs, max(0.0, left) * self.epochs / self.seconds + 1e-6))


@dataclass(frozen=True)
class Workload:
    """What decides how long stages take: numbers of images, and seconds an image in a forward pass.

    lower, upper  below and above the cut; without a cut all is above
    bytes_of_view of all images' activations at the cut; None where there is no cut
    """

    n_train: int
    n_validation: int
    lower: float
    upper: float
    bytes_of_view: int | None

    def upper_seconds(self, views: int, epochs: int) -> float:
        """The first view is there already: the probe was fitted on it."""
        return self.n_train * self.lower * CHANGED * (views - 1) + epochs * self.upper * (STEP * self.n_train + self.n_validation)

    @property
    def epoch_of_all(self) -> float:
        return (self.lower + self.upper) * (STEP * self.n_train + self.n_validation)


def plan_stages(layers: str, plan: Plan, work: Workload, left: float) -> tuple[tuple[Stage, ...], str]:
    """The stages for what is ``left`` of the time in seconds (infinite without a budget), and a sentence on them.

    ``layers`` is what may learn: "auto", "head", "upper" or "all".
    """
    stages: list[Stage] = []
    if layers in ("auto", "upper"):
        stages += _upper(work, left)
        left -= sum(stage.seconds for stage in stages)
    if layers in ("auto", "all"):
        epochs = int(min(plan.epochs, max(0.0, left) / max(work.epoch_of_all, 1e-9)))
        if epochs >= min(LEAST_EPOCHS, plan.epochs):
            stages.append(Stage("all", epochs, seconds=epochs * work.epoch_of_all))
    if stages:
        paying = ", the next one only if validation gained by the one before" if len(stages) > 1 else ""
        whole = f" There is no stage for the upper layers alone: {UNCUT}." if layers == "auto" and work.bytes_of_view is None else ""
        return tuple(stages), f"Then {', then '.join(map(_said, stages))}{paying}.{whole}"
    if layers == "head":
        why = "as asked"
    elif layers == "upper" and work.bytes_of_view is None:
        why = UNCUT
    else:
        why = "there is no time for more"
    return (Stage("head"),), f"The probe is the model: {why}."


def _upper(work: Workload, left: float) -> list[Stage]:
    """The stage above the cut in the largest of its sizes that there is time and memory for; none where there is none."""
    if work.bytes_of_view is None:
        return []
    memory = most_kept_bytes()
    for views, epochs in UPPER_SIZES:
        seconds = work.upper_seconds(views, epochs)
        if seconds <= left and views * work.bytes_of_view <= memory:
            return [Stage("upper", epochs, views, seconds)]
    return []


def most_kept_bytes() -> float:
    """How much memory kept activations may take."""
    return min(MOST_BYTES, MEMORY_SHARE * memory_bytes())


def _said(stage: Stage) -> str:
    time = f"about {spoken(stage.seconds)}"
    if stage.layers == "upper":
        views = f"{stage.views} view{'s' * (stage.views > 1)} of each image"
        return f"the upper layers learn for {stage.epochs} epochs from kept activations of {views} ({time})"
    return f"all layers learn for up to {stage.epochs} epochs ({time})"
