"""A bundle's draft before its judges: how it will answer, chosen on calibration images, and what it does on every test image."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sightline import console
from sightline.auditing.gate import Gated
from sightline.bundle import Bundle
from sightline.config import TrainSettings
from sightline.data.calibration import validation_parts
from sightline.data.decode import Limits, read_bytes, read_size
from sightline.data.formats import format_of
from sightline.data.reading import Reading
from sightline.errors import ImageError, RequirementNotMet
from sightline.evaluation.promises import on_grid, similarity
from sightline.model.export import count_parameters
from sightline.model.network import Network, torch_infer
from sightline.predictions import Decision
from sightline.records import Dataset, Infer, presence
from sightline.reference import DRIFT_FACTS, Known, linear_head
from sightline.replay import MAX_IMAGES, choose_images, file_of_window, record, rendered_images
from sightline.runtime import Model, raw_outputs
from sightline.tasks import kept, load_task
from sightline.tasks.confidence import Answers, calibrated
from sightline.trust.known import known_images

Raw = dict[str, NDArray[Any]]

TEST_BATCH = 16
# A graph is released only if every probability is this close to the network's. fp32 engines agree to about 1e-6.
TOLERANCE = 1e-4
EMBEDDING, FEATURES = "embedding", "features"
# Images on which a head is found to be linear, and calibration images and numbers that are kept for drift, at most.
LINEAR_IMAGES, DRIFT_IMAGES, DRIFT_NUMBERS = 8, 500, 1_000_000


@dataclass(frozen=True)
class Judged:
    """What the bundle's draft did.

    model         the draft, opened; its ``infer`` gives the task's outputs, ``embedding`` and ``features``
    decision      how its outputs become answers, chosen on the ``calibration`` images
    raw           what was kept of its raw outputs on the test images, with ``embedding`` and the ``similarity`` to the training images
                  that are ``known``
    own_images    whether the calibration images took no part in early stopping
    drift         arrays for ``reference.npz``
    calibrating   rows of the calibration images, and ``calibration_raw``, what was kept of their raw outputs
    replay        the images it will replay
    export        figures on the export
    """

    model: Model
    decision: Decision
    calibration: Answers
    own_images: bool
    raw: Raw
    known: Known
    drift: dict[str, NDArray[Any]]
    replay: bytes
    export: dict[str, Any]
    calibrating: NDArray[np.int64]
    calibration_raw: Raw

    @property
    def infer(self) -> Infer:
        """The draft's outputs that its answers are made of, so with ``similarity`` where they fade."""
        if self.decision.fades_over is None:
            return only(self.model.infer, self.model.task.OUTPUTS)
        some, familiar = only(self.model.infer, (*self.model.task.OUTPUTS, EMBEDDING)), on_grid(self.known.embeddings)

        def infer(batch: NDArray[np.uint8]) -> Raw:
            raw = some(batch)
            return {**raw, "similarity": similarity(raw[EMBEDDING], familiar)}

        return infer


def judge(draft: Path, network: Network, gated: Gated, settings: TrainSettings, seconds: float) -> Judged:
    """The draft against the network it was made from, on every test image; RequirementNotMet when they differ.

    ``seconds`` may be spent on training images to hold others against.
    """
    limits, dataset, task = Limits(settings.data.max_pixels, settings.data.max_bytes), gated.dataset, load_task(gated.dataset.task)
    with Bundle.open(draft) as opened:
        # What every installation has, whatever is faster here: a bundle is judged by the reference.
        model = Model.of(opened, engine="onnxruntime", precision="fp32", outputs=(EMBEDDING, FEATURES))
        export: dict[str, Any] = {"graph_bytes": len(opened.read("graph")), "engine": model.engine}
    stopping, calibrating = validation_parts(dataset)
    chosen_on, test = dataset.select(calibrating), dataset.of_split("test")
    assert chosen_on.targets is not None
    started = time.monotonic()
    raw = _outputs(model.infer, model, chosen_on, limits, "Calibrating")
    export["images_per_second"] = round(len(calibrating) / (time.monotonic() - started), 2)
    pictures = settings.run.embed_images != "none"
    known = known_images(model.infer, model.prepare, dataset, gated.store, gated.names, seconds, pictures=pictures)
    familiar = on_grid(known.embeddings)
    raw["similarity"] = similarity(raw[EMBEDDING], familiar)
    decision = calibrated(task, raw, chosen_on.targets, dataset.labels, settings.trial.promise)
    shipped, difference = _tested(model, network, test, limits, decision)
    shipped["similarity"] = similarity(shipped[EMBEDDING], familiar)
    export |= {"max_difference": difference, "tolerance": TOLERANCE, "parameters": count_parameters(network)}
    answers = Answers.cross_fitted(task, raw, chosen_on.targets, dataset.labels)
    drift = _drift(gated, calibrating, known, raw, task.probabilities(raw, decision))
    return Judged(
        model, decision, answers, stopping is not calibrating, shipped, known, drift,
        _replay(model, test, limits, pictures=pictures), export, calibrating, raw,
    )  # fmt: skip


def _tested(model: Model, network: Network, test: Dataset, limits: Limits, decision: Decision) -> tuple[Raw, float]:
    """The draft's raw outputs on the test images, with embeddings, and how far they are from the network's; RequirementNotMet when far."""
    original = torch_infer(copy.deepcopy(network).cpu(), torch.device("cpu"), model.task.OUTPUTS)
    differences = []

    def both(batch: NDArray[np.uint8]) -> Raw:
        """The draft's outputs, after a look at how far they are from the network's."""
        shipped = model.infer(batch)
        differences.append(model.task.difference(shipped, original(batch), decision))
        return shipped

    raw = _outputs(both, model, test, limits, "Testing the bundle")
    difference = float(np.max(differences))  # NaN stays NaN
    check_agreement(difference)
    return raw, difference


def linear_head_of(judged: Judged, network: Network, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """The head's weights for class activation maps, where the network's answers are a linear function of its averaged features."""
    found, linear = judged.model.infer(images[:LINEAR_IMAGES]), network.head.linear
    assert isinstance(linear, torch.nn.Linear)
    weight, bias = (tensor.detach().cpu().numpy() for tensor in (linear.weight, linear.bias))
    return linear_head(weight, bias, found["logits"], found[FEATURES])


def check_agreement(difference: float, tolerance: float = TOLERANCE) -> None:
    """Refuse an export that predicts something else; RequirementNotMet."""
    if not difference <= tolerance:
        raise RequirementNotMet(
            f"The exported graph was refused: its predictions differ from the trained network's by up to {difference:.2g}, more than the "
            f"tolerance of {tolerance:g}. The training is kept: upgrade torch and onnxruntime, then run again with --resume."
        )


def only(infer: Infer, outputs: Sequence[str]) -> Infer:
    """Some of the outputs: a feature map of every test image would not fit into memory."""

    def some(batch: NDArray[np.uint8]) -> Raw:
        found = infer(batch)
        return {name: found[name] for name in outputs}

    return some


def _outputs(infer: Infer, model: Model, dataset: Dataset, limits: Limits, what: str) -> Raw:
    """What is kept of the raw outputs of labelled images, from their original files, and their embeddings."""
    assert dataset.targets is not None
    found = []
    batches = raw_outputs(only(infer, (*model.task.OUTPUTS, EMBEDDING)), model.prepare, dataset.refs, batch_size=TEST_BATCH, limits=limits)
    for batch in console.track(batches, -(-len(dataset) // TEST_BATCH), what):
        if batch.errors:
            raise batch.errors[0][1]
        found.append(kept(model.task, batch.raw, dataset.targets[batch.positions]))
    return {name: np.concatenate([raw[name] for raw in found]) for name in found[0]}


def _drift(
    gated: Gated, calibrating: NDArray[np.int64], known: Known, raw: Raw, probabilities: NDArray[np.float64]
) -> dict[str, NDArray[Any]]:  # fmt: skip
    """Facts of the known training images, and the answers to calibration images, which new images' will be held against."""
    rows_of = {name: row for row, name in enumerate(gated.names)}
    rows, facts = np.array([rows_of[name] for name in known.names]), gated.store.facts
    most = max(1, min(DRIFT_IMAGES, DRIFT_NUMBERS // probabilities.shape[1]))
    targets = presence(gated.dataset.targets, len(gated.dataset.labels))
    return {
        **{f"fact_{name}": getattr(facts, name)[rows].astype(np.float32) for name in DRIFT_FACTS},
        "fact_side": np.array(gated.store.side),
        "calibration_probabilities": probabilities[:most].astype(np.float16),
        "calibration_targets": targets[calibrating][:most],
        "calibration_embeddings": raw[EMBEDDING][:most].astype(np.float16),
        "calibration_similarities": raw["similarity"][:most].astype(np.float32),
    }


def _replay(model: Model, test: Dataset, limits: Limits, *, pictures: bool) -> bytes:
    """The images that the bundle will replay: the user's, or stand-ins."""
    photographs = _replay_files(test, model.prepare.reading, limits) if pictures else []
    replayed = choose_images(photographs or rendered_images(bands=max(model.prepare.reading.bands or (3,))))
    return record(model, replayed, rendered=not photographs)


def _replay_files(test: Dataset, reading: Reading, limits: Limits) -> list[bytes]:
    """The user's files that a bundle may carry, and the windows of files. A DICOM file is none of them: it says who the patient is; nor is
    one that is larger than images may be where nobody asks for more, as there it could not be replayed."""
    refs = [test.refs[place] for place in np.unique(np.linspace(0, len(test) - 1, MAX_IMAGES).astype(int))]
    files = ((ref, read_bytes(ref, limits)) for ref in refs)
    carried = (data if ref.window is None else file_of_window(ref, reading, limits) for ref, data in files if format_of(data) != "DICOM")
    return [data for data in carried if _is_read_anywhere(data)]


def _is_read_anywhere(data: bytes) -> bool:
    """Whether a file is within the limits that hold unless others are asked for."""
    try:
        read_size(data)
    except ImageError:
        return False
    return True
