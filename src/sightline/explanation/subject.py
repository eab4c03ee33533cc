"""The model that is explained, whatever computes it, and what a method of explaining it offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sightline.predictions import Classification, Decision, Prediction, Tags
from sightline.records import Infer
from sightline.tasks import Task

Images = NDArray[np.uint8]
Floats = NDArray[np.floating]
# Probabilities as good as 0 and 1: what is nearer is rounding.
NEARLY = 1e-12


@dataclass(frozen=True)
class Subject:
    """A model as explanations see it: images (n, size, size, channels) uint8 in, raw outputs and probabilities out.

    batch  images that ``infer`` is called with at once
    """

    infer: Infer
    task: Task
    labels: Sequence[str]
    decision: Decision
    batch: int = 16

    def raw(self, images: Images) -> dict[str, NDArray[np.float32]]:
        """Raw outputs of n images."""
        found = [self.infer(images[start : start + self.batch]) for start in range(0, len(images), self.batch)]
        return {name: np.concatenate([raw[name] for raw in found]) for name in found[0]}

    def predictions(self, raw: Mapping[str, NDArray[Any]]) -> list[Prediction]:
        return self.task.decode(raw, self.labels, self.decision)

    def probabilities(self, images: Images) -> NDArray[np.float64]:
        """(n, k) probability of each label for each image."""
        return self.task.probabilities(self.raw(images), self.decision)


class Scored(Protocol):
    """What painting over an image and taking it away need to know of it."""

    def probabilities(self, images: Images) -> NDArray[np.float64]:
        """(n, k) of each of k things that may be explained, for each of n images."""
        ...


def scores_of(prediction: Prediction) -> Mapping[str, float]:
    """Every label with its probability."""
    if isinstance(prediction, Tags):
        return prediction.scores
    assert isinstance(prediction, Classification)
    return dict(zip(prediction.labels, prediction.scores, strict=True))


def label_to_explain(prediction: Prediction) -> str:
    """The answer; of several labels the surest, and where none is given the one that came nearest to it."""
    return prediction.labels[0] if prediction.labels else max(scores_of(prediction).items(), key=lambda entry: entry[1])[0]


def log_odds(probabilities: Floats) -> NDArray[np.float64]:
    """The logarithm of p / (1 - p), which still moves where a probability is as good as 0 or 1."""
    within = np.clip(probabilities, NEARLY, 1 - NEARLY)
    return np.log(within) - np.log1p(-within)


class Method(Protocol):
    """A way of saying where in an image the evidence for a label is."""

    @property
    def name(self) -> str:
        """In a reader's words."""
        ...

    @property
    def passes(self) -> int:
        """Images that the model computes for one map."""
        ...

    def evidence(self, subject: Any, images: Images, targets: NDArray[np.int64]) -> NDArray[np.float32]:
        """(n, rows, columns) for n images and the label of each (n,): positive where the image speaks for it, negative where against.

        The ``subject`` is what the method asks: a ``Subject``, or for methods that only look at probabilities anything ``Scored``.
        """
        ...

    def forgetting(self, seed: int) -> Method:
        """The same method for a network whose weights are random: those that the method knows itself are random too."""
        ...
