"""All parts of the trial, in order, each with its share of the time."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sightline import console
from sightline.auditing.gate import Gated
from sightline.config import TrainSettings
from sightline.data.calibration import validation_parts
from sightline.data.decode import Limits, decode_picture, size_of
from sightline.data.store import Store
from sightline.explanation.methods import best_method
from sightline.model.gradcam import grad_cam
from sightline.model.network import Network, torch_infer
from sightline.model.shuffled import shuffled
from sightline.records import Dataset, presence
from sightline.scenes import frame_of
from sightline.tasks import Task, load_task
from sightline.tasks.measures import measure_of
from sightline.training.batches import frames_of, plain_batches
from sightline.trust.attributes import attributes_of
from sightline.trust.baselines import baselines
from sightline.trust.conditions import stratified
from sightline.trust.confidence import confidence
from sightline.trust.examples import Examples
from sightline.trust.explanations import explanations
from sightline.trust.features import shrunk
from sightline.trust.groups import groups
from sightline.trust.judged import FEATURES, LINEAR_IMAGES, TEST_BATCH, Judged, linear_head_of, only
from sightline.trust.learned import learned
from sightline.trust.report_part import ReportPart
from sightline.trust.robustness import Before, robustness
from sightline.trust.scene_baselines import scene_baselines
from sightline.trust.scene_explanations import scene_explanations
from sightline.trust.scene_suspects import Unlearned, scene_suspects

# Test images that the parts share: as they were prepared from the original files.
MOST_IMAGES = 200
# Those on which a network with random weights learns its statistics.
SHUFFLED_ON = 32


@dataclass(frozen=True)
class Trial:
    """What is tried: the draft as it was judged and the network behind it, on the data it was made from; ``weights_before`` are those from
    before it learned from harder images, where it did."""

    judged: Judged
    network: Network
    gated: Gated
    settings: TrainSettings
    weights_before: Mapping[str, torch.Tensor] | None = None

    @property
    def dataset(self) -> Dataset:
        return self.gated.dataset

    @property
    def store(self) -> Store:
        return self.gated.store

    @property
    def task(self) -> Task:
        return load_task(self.dataset.task)

    @property
    def seed(self) -> int:
        return self.settings.run.seed

    @cached_property
    def head(self) -> dict[str, NDArray[np.float32]]:
        """What class activation maps need, where the network allows them."""
        if self.task.SCENES:
            return {}
        return linear_head_of(self.judged, self.network, self.images)

    @cached_property
    def test(self) -> NDArray[np.int64]:
        """Rows of the test images."""
        return self.dataset.rows_of("test")

    @property
    def targets(self) -> NDArray[Any]:
        """Of the test images."""
        assert self.dataset.targets is not None
        return self.dataset.targets[self.test]

    @property
    def shown(self) -> NDArray[Any]:
        """Targets of the test images as far as whole images have any: of objects and label maps, which labels each image shows."""
        return presence(self.targets, len(self.dataset.labels))

    @cached_property
    def sample(self) -> NDArray[np.int64]:
        """Places among the test images of those that the parts look at more closely, of all labels alike, in random order."""
        return stratified(self.shown, self.seed)[:MOST_IMAGES]

    @cached_property
    def laid(self) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """The sample's images as the network takes them, (n, height, width, channels), from the original files, and their frames."""
        return self.prepared(self.sample)

    @property
    def images(self) -> NDArray[np.uint8]:
        return self.laid[0]

    def prepared(self, places: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """Test images as the network takes them, and (n, 10) how each lies on its original."""
        prepare, data = self.judged.model.prepare, self.settings.data
        limits, images, frames = Limits(data.max_pixels, data.max_bytes), [], []
        order = np.argsort(places, kind="stable")  # windows of one picture together, which is then decoded once
        for row in self.test[places[order]].tolist():
            picture, size = decode_picture(self.dataset.refs[row], min_side=prepare.min_side, limits=limits, reading=prepare.reading)
            pixels, affine = prepare(picture)
            images.append(pixels)
            frames.append(frame_of(affine, prepare.shape, size_of(picture), size))
        back = np.argsort(order).tolist()
        return np.stack([images[place] for place in back]), np.stack([frames[place] for place in back])


def carry_out(trial: Trial, seconds: float) -> dict[str, ReportPart]:
    """Each part of the report by the part's name, without a trial the first alone; ``seconds`` is what all of them together may take."""
    found = {"confidence": confidence_of(trial)}
    if not trial.settings.trial.trial:
        return found
    parts = SCENE_PARTS if trial.task.SCENES else PARTS
    return found | {name: part(trial, share * seconds) for name, (part, share) in console.track(parts.items(), len(parts), "On trial")}


def confidence_of(trial: Trial) -> ReportPart:
    judged = trial.judged
    return confidence(
        trial.task, judged.raw, trial.targets, trial.dataset.labels, judged.decision, judged.calibration,
        own_images=judged.own_images, asked=trial.settings.trial.promise,
    )  # fmt: skip


def groups_of(trial: Trial, _seconds: float) -> ReportPart:
    """It takes no time worth sharing out."""
    names = [trial.gated.names[row] for row in trial.test.tolist()]
    outcomes = trial.task.outcomes(trial.judged.raw, trial.targets, trial.dataset.labels, trial.judged.decision)
    attributes = attributes_of(trial.dataset, trial.store.facts, trial.test)
    related = None if trial.dataset.groups is None else trial.dataset.groups[trial.test].tolist()
    how: dict[str, Any] = {"related": related, "measure": measure_of(trial.task), "seed": trial.seed}
    return groups(attributes, outcomes, trial.shown, trial.dataset.labels, names, **how)


def robustness_of(trial: Trial, seconds: float) -> ReportPart:
    judged, infer = trial.judged, trial.judged.infer
    images, frames = trial.laid
    about = images, trial.targets[trial.sample], trial.dataset.labels, trial.task, judged.decision, trial.seed, seconds
    found = robustness(infer, *about, before=_before(trial), frames=frames)
    return replace(found, numbers={**found.numbers, "of": len(trial.test)})


def _before(trial: Trial) -> Before | None:
    """The network as it was before it learned from harder images, with thresholds of its own."""
    if trial.weights_before is None:
        return None
    network = copy.deepcopy(trial.network).cpu()
    network.load_state_dict(trial.weights_before)
    infer, rows = torch_infer(network, torch.device("cpu"), trial.task.OUTPUTS), validation_parts(trial.dataset)[1][:MOST_IMAGES]
    assert trial.dataset.targets is not None
    store, prepare, targets = trial.store.select(rows), trial.judged.model.prepare, trial.dataset.targets[rows]
    frames, found, start = frames_of(store, prepare), [], 0
    for batch in plain_batches(store, prepare, TEST_BATCH):
        part = slice(start, start := start + len(batch))
        found.append(trial.task.compact({**infer(batch), "frame": frames[part]}, targets[part]))
    raw = {name: np.concatenate([each[name] for each in found]) for name in found[0]}
    return Before(infer, trial.task.decide(raw, targets, trial.dataset.labels))


def baselines_of(trial: Trial, seconds: float) -> ReportPart:
    if trial.task.SCENES:
        assert trial.dataset.targets is not None
        judged, learned_from = trial.judged, trial.dataset.targets[trial.dataset.rows_of("train")]
        return scene_baselines(trial.task, judged.raw, trial.targets, learned_from, trial.dataset.labels, judged.decision)

    def stored(split: str) -> Examples:
        rows = trial.dataset.rows_of(split)
        assert trial.dataset.targets is not None
        return Examples.of_store(trial.store.select(rows), trial.judged.model.prepare, trial.dataset.targets[rows])

    test = Examples(lambda places: shrunk(trial.prepared(places)[0]), trial.targets)
    return baselines(
        stored("train"), stored("validation"), test, trial.judged.raw["logits"], trial.judged.decision, trial.dataset.labels, trial.task,
        seconds=seconds, seed=trial.seed,
    )  # fmt: skip


def suspects_of(trial: Trial, _seconds: float) -> ReportPart:
    """Of the validation and test images, which nothing was learned from; it takes no time worth sharing out."""
    judged, data = trial.judged, trial.settings.data
    rows = np.concatenate([judged.calibrating, trial.test])
    raw = {name: np.concatenate([values, judged.raw[name]]) for name, values in judged.calibration_raw.items()}
    assert trial.dataset.targets is not None
    refs, names = ([column[row] for row in rows.tolist()] for column in (trial.dataset.refs, trial.gated.names))
    images, limits = Unlearned(names, refs, trial.dataset.targets[rows], raw), Limits(data.max_pixels, data.max_bytes)
    return scene_suspects(trial.task, images, trial.dataset.labels, judged.decision, judged.model.prepare.reading, limits)


def scene_explanations_of(trial: Trial, seconds: float) -> ReportPart:
    judged, (images, frames) = trial.judged, trial.laid
    twin = torch_infer(shuffled(trial.network, images[:SHUFFLED_ON], trial.seed), torch.device("cpu"), trial.task.OUTPUTS)
    about = images, frames, trial.targets[trial.sample], trial.dataset.labels, trial.task, judged.decision
    return scene_explanations(only(judged.model.infer, trial.task.OUTPUTS), twin, *about, seconds=seconds, seed=trial.seed)


def explanations_of(trial: Trial, seconds: float) -> ReportPart:
    judged, images = trial.judged, trial.images
    features = judged.model.infer(images[:LINEAR_IMAGES])[FEATURES]
    method = best_method(trial.head.get("head_weight"), features)
    twin = torch_infer(shuffled(trial.network, images[:SHUFFLED_ON], trial.seed), torch.device("cpu"), (*trial.task.OUTPUTS, FEATURES))
    return explanations(
        judged.model.infer, twin, images, trial.targets[trial.sample], trial.dataset.labels, trial.task, judged.decision, method=method,
        seconds=seconds, known=judged.known, grad_cam=partial(grad_cam, trial.network), seed=trial.seed,
    )  # fmt: skip


def learned_of(trial: Trial, seconds: float) -> ReportPart:
    rows = trial.dataset.rows_of("train")
    store, prepare = trial.store.select(rows), trial.judged.model.prepare

    def images(places: NDArray[np.int64]) -> NDArray[np.uint8]:
        return np.stack([prepare(store[place])[0] for place in places.tolist()])

    names, device = [trial.gated.names[row] for row in rows.tolist()], trial.network.scale.device
    return learned(trial.network, images, names, device, seconds=seconds, seed=trial.seed)


# Each part by its name in the report, with its share of the time.
PARTS: dict[str, tuple[Callable[[Trial, float], ReportPart], float]] = {
    "groups": (groups_of, 0.0),
    "robustness": (robustness_of, 0.4),
    "baselines": (baselines_of, 0.12),
    "explanations": (explanations_of, 0.22),
    "learned": (learned_of, 0.26),
}
# The same where targets lie on the images.
SCENE_PARTS: dict[str, tuple[Callable[[Trial, float], ReportPart], float]] = {
    "groups": (groups_of, 0.0),
    "robustness": (robustness_of, 0.5),
    "baselines": (baselines_of, 0.0),
    "explanations": (scene_explanations_of, 0.5),
    "suspects": (suspects_of, 0.0),
}
