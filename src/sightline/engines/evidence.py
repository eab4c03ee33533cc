"""What two computations of a bundle's graph are compared on: the task's own measure, and the images that the bundle carries."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.bundle import Bundle
from sightline.data.decode import decode
from sightline.data.prepare import Prepare
from sightline.errors import ModelFileError
from sightline.tasks import load_task

Raw = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Evidence:
    """How to tell whether another computation of the same graph will do.

    difference  (raw, expected) -> how far apart they are, in the unit a user sees
    answers     raw outputs -> what is answered for each image, whatever the scores
    images      () -> prepared images (n, height, width, channels) uint8 like those that the graph is made for; SightlineError,
                with the reason, where there are none
    digest      changes with everything above
    """

    difference: Callable[[Raw, Raw], float]
    answers: Callable[[Raw], list[frozenset[str]]]
    images: Callable[[], NDArray[np.uint8]]
    digest: str


def evidence_of(bundle: Bundle) -> Evidence:
    """The evidence that a bundle brings along; its images are only read when they are asked for, while it is open."""
    manifest = bundle.manifest
    task, decision = load_task(manifest.task), manifest.decision
    replay = [member.sha256 for member in manifest.members if member.role == "replay"]
    facts = [manifest.task, manifest.labels, manifest.prepare, decision.temperature, dict(decision.thresholds), replay]
    return Evidence(
        difference=lambda raw, expected: task.difference(raw, expected, decision),
        answers=lambda raw: [prediction.answer for prediction in task.decode(raw, manifest.labels, decision)],
        images=lambda: _photographs(bundle),
        digest=hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest(),
    )


def replay_arrays(bundle: Bundle) -> tuple[list[bytes], dict[str, NDArray[Any]]]:
    """The files of the images that a bundle carries, and all arrays of its replay; ModelFileError when there is none or it is not whole."""
    if not bundle.has("replay"):
        raise ModelFileError(f"{bundle.path}: carries no images to verify it with; train it again with this version of Sightline.")
    arrays = bundle.arrays("replay")
    try:
        lengths, images = arrays["lengths"], arrays["images"]
        if lengths.ndim != 1 or not len(lengths) or (lengths < 0).any() or lengths.sum() != len(images):
            raise ValueError("its lengths do not fit")
        return [part.tobytes() for part in np.split(images, np.cumsum(lengths)[:-1])], arrays
    except (KeyError, ValueError) as error:
        raise ModelFileError(f"{bundle.path}: its replay is not whole ({error}); copy or train it again.") from error


def _photographs(bundle: Bundle) -> NDArray[np.uint8]:
    """Those of the images carried that are the user's own: on rendered ones any two answers are as good."""
    files, arrays = replay_arrays(bundle)
    if bool(arrays.get("rendered", np.True_)):
        raise ModelFileError(f"{bundle.path}: carries no photographs to check its answers on.")
    prepare = Prepare.from_json(bundle.manifest.prepare)
    return np.stack([prepare(decode(file, min_side=prepare.min_side, reading=prepare.reading))[0] for file in files])
