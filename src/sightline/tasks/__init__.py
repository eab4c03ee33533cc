"""What each task means, in numpy: raw arrays to predictions, its metrics, what its report shows.

A task is one module here (``Task``) and one with its layers in ``model/heads``; the row below joins them.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from sightline.errors import ModelFileError, UsageError, did_you_mean
from sightline.predictions import Decision, Prediction
from sightline.tasks.blocks import Block

Raw = Mapping[str, NDArray[Any]]


class Task(Protocol):
    """What a task module offers."""

    OUTPUTS: tuple[str, ...]
    """Raw outputs that ``decode`` and ``evaluate`` read."""

    SHAPES: Mapping[str, tuple[int | str, ...]]
    """Of each of them what an image has: numbers, or names of sizes, ``labels`` being how many labels there are."""

    ONE_LABEL: bool
    """Whether each image has exactly one label."""

    SCENES: str | None
    """What lies on the images and moves with their pixels (``scenes.py``), "boxes" or "maps"; None where targets are of whole images."""

    METRIC: str
    """The metric that stands for all: what a variant may lose little of. It has an interval."""

    def compact(self, raw: Raw, targets: NDArray[Any] | None) -> dict[str, NDArray[Any]]:
        """What of a batch's raw outputs is kept of many images; ``decode`` takes the raw outputs, also with what is kept of them,
        everything else what is kept.

        ``targets`` are the batch's; None where they are not known, and then only what needs none can be asked of what is kept.
        """
        ...

    def decide(self, raw: Raw, targets: NDArray[Any], labels: Sequence[str]) -> Decision:
        """Temperature and thresholds, chosen on n calibration images."""
        ...

    def decode(self, raw: Raw, labels: Sequence[str], decision: Decision) -> list[Prediction]:
        """Raw outputs of n images to n predictions."""
        ...

    def truth(self, targets: NDArray[Any], labels: Sequence[str]) -> NDArray[np.bool_]:
        """(n, k) which of k labels each of n images has."""
        ...

    def probabilities(self, raw: Raw, decision: Decision) -> NDArray[np.float64]:
        """(n, k) probability of each label, in [0, 1]."""
        ...

    def confidence(self, raw: Raw, labels: Sequence[str], decision: Decision) -> NDArray[np.float64]:
        """(n,) score of each image's answer in [0, 1]: what ``outcomes`` calls ``score``."""
        ...

    def statements(
        self, raw: Raw, targets: NDArray[Any], labels: Sequence[str], decision: Decision
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
        """(m,) probabilities that are stated of n images, (m,) whether it was so (1.0) or not (0.0), and (m,) of which image, from 0: what
        can be calibrated."""
        ...

    def difference(self, raw: Raw, expected: Raw, decision: Decision) -> float:
        """How far two computations of the same images are apart, in the unit a user sees."""
        ...

    def evaluate(self, raw: Raw, targets: NDArray[Any], labels: Sequence[str], decision: Decision, keys: Sequence[str]) -> dict[str, Any]:
        """The report's ``test`` section: ``n``, ``metrics``, ``intervals`` and the details behind them.

        ``keys`` names the n images; the same names are used for pictures.
        """
        ...

    def outcomes(self, raw: Raw, targets: NDArray[Any], labels: Sequence[str], decision: Decision) -> list[dict[str, Any]]:
        """A row for each of n images: ``truth`` and ``predicted`` as text, ``score`` (of the answer) and ``right``, in [0, 1].

        ``right`` is the image's share of the task's first metric, so that two models can be compared image by image.
        """
        ...

    def verdict(self, test: Mapping[str, Any]) -> dict[str, str]:
        """``{"sentence", "level"}`` of a ``test`` section; level is good, fair or poor."""
        ...

    def blocks(self, test: Mapping[str, Any]) -> list[Block]:
        """What the report draws of a ``test`` section."""
        ...


@dataclass(frozen=True)
class Entry:
    """Where a task's two modules are; the head needs torch and is imported by TRAIN alone."""

    meaning: str
    head: str


TASKS = {
    "classify": Entry("sightline.tasks.classify", "sightline.model.heads.classify"),
    "tag": Entry("sightline.tasks.tag", "sightline.model.heads.tag"),
    "detect": Entry("sightline.tasks.detect", "sightline.model.heads.detect"),
    "segment": Entry("sightline.tasks.segment", "sightline.model.heads.segment"),
}


def known_task(name: str | None) -> str | None:
    """The task as asked for; UsageError where there is none of this name."""
    if name is not None and name not in TASKS:
        raise UsageError(f"--task {name}: there is no such task, only {', '.join(TASKS)}.{did_you_mean(name, TASKS)}")
    return name


def load_task(name: str) -> Task:
    """The module of a task; ModelFileError when this version has no such task."""
    if name not in TASKS:
        raise ModelFileError(f"The model is for the task {name[:100]!r}, which this version of Sightline does not have; upgrade it.")
    return cast(Task, importlib.import_module(TASKS[name].meaning))


def kept(task: Task, raw: Mapping[str, NDArray[Any]], targets: NDArray[Any] | None = None) -> dict[str, NDArray[Any]]:
    """What of a batch's raw outputs is kept of many images: what the task keeps, and the embeddings."""
    embeddings = {"embedding": raw["embedding"]} if "embedding" in raw else {}
    return {**task.compact(raw, targets), **embeddings}
