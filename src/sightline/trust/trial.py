"""All parts of the trial, in order, each with its share of the time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.auditing.gate import Gated
from sightline.config import TrainSettings
from sightline.data.decode import Limits, decode
from sightline.data.store import Store
from sightline.model.network import Network
from sightline.records import Dataset
from sightline.tasks import Task, load_task
from sightline.trust.confidence import confidence
from sightline.trust.evidence import Evidence
from sightline.trust.judged import Judged

# Test images that the parts share: as they were prepared from the original files.
MOST_IMAGES = 200


@dataclass(frozen=True)
class Trial:
    """What is tried: the draft as it was judged and the network behind it, on the data it was made from."""

    judged: Judged
    network: Network
    gated: Gated
    settings: TrainSettings

    @property
    def dataset(self) -> Dataset:
        return self.gated.dataset

    @property
    def store(self) -> Store:
        return self.gated.store

    @property
    def task(self) -> Task:
        return load_task(self.dataset.task)

    @cached_property
    def test(self) -> NDArray[np.int64]:
        """Rows of the test images."""
        return self.dataset.rows_of("test")

    @property
    def targets(self) -> NDArray[Any]:
        """Of the test images."""
        assert self.dataset.targets is not None
        return self.dataset.targets[self.test]

    @cached_property
    def sample(self) -> NDArray[np.int64]:
        """Places among the test images of those that the parts look at more closely, in random order."""
        return np.random.default_rng(self.settings.run.seed).permutation(len(self.test))[:MOST_IMAGES]

    @cached_property
    def images(self) -> NDArray[np.uint8]:
        """The sample's images as the network takes them, (n, size, size, channels), from the original files."""
        return self.prepared(self.sample)

    def prepared(self, places: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Test images as the network takes them."""
        prepare, data = self.judged.model.prepare, self.settings.data
        limits = Limits(data.max_pixels, data.max_bytes)
        refs = [self.dataset.refs[row] for row in self.test[places].tolist()]
        return np.stack([prepare(decode(ref, min_side=prepare.min_side, limits=limits, reading=prepare.reading))[0] for ref in refs])


def confidence_of(trial: Trial) -> Evidence:
    judged = trial.judged
    return confidence(
        trial.task, judged.raw, trial.targets, trial.dataset.labels, judged.decision, judged.similarities, judged.calibration,
        own_images=judged.own_images, asked=trial.settings.trial.promise,
    )  # fmt: skip


def carry_out(trial: Trial, seconds: float) -> dict[str, Evidence]:
    """The evidence of each part by the part's name; ``seconds`` is what all of them together may take, 0 for the first alone."""
    return {"confidence": confidence_of(trial)}
