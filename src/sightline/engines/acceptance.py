"""What two computations of a bundle's graph are compared on: the task's own measure, and the images that the bundle carries."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.bundle import Bundle
from sightline.data.decode import decode
from sightline.data.prepare import Prepare
from sightline.errors import ModelFileError
from sightline.manifest import Manifest
from sightline.scenes import frame_of
from sightline.tasks import load_task

Raw = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Acceptance:
    """How to tell whether another computation of the same graph will do.

    difference  (raw, expected) -> how far apart they are, in the unit a user sees
    answers     raw outputs -> what is answered for each image, whatever the scores
    photographs () -> prepared images (n, height, width, channels) uint8 like those that the graph is made for, and the raw
                outputs recorded for them in fp32; SightlineError, with the reason, where there are none
    digest      changes with everything above
    """

    difference: Callable[[Raw, Raw], float]
    answers: Callable[[Raw], list[frozenset[str]]]
    photographs: Callable[[], tuple[NDArray[np.uint8], Raw]]
    digest: str


@dataclass(frozen=True)
class Replay:
    """Images that a bundle carries: their files' bytes, the raw outputs recorded for them, and whether they may be stand-ins."""

    files: list[bytes]
    expected: Raw
    rendered: bool


def acceptance_of(bundle: Bundle) -> Acceptance:
    """By what a bundle says that a computation of its graph will do; its images are only read when they are asked for, while it is open."""
    manifest = bundle.manifest
    task, decision = load_task(manifest.task), manifest.decision
    replay = [member.sha256 for member in manifest.members if member.role == "replay"]
    facts = [manifest.task, manifest.labels, manifest.prepare, decision.temperature, dict(decision.thresholds), replay]
    return Acceptance(
        difference=lambda raw, expected: task.difference(raw, expected, decision),
        answers=lambda raw: [prediction.answer for prediction in task.decode(_framed(raw, manifest), manifest.labels, decision)],
        photographs=lambda: _photographs(bundle, task.OUTPUTS),
        digest=hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest(),
    )


def shapes_of(bundle: Bundle, familiar: NDArray[np.floating] | None) -> dict[str, tuple[int | str, ...]]:
    """What the outputs of a bundle's graph must be, for its labels and the embeddings (m, d) beside which its own are held.

    Raises ModelFileError for a bundle without labels.
    """
    if not (count := len(bundle.manifest.labels)):
        raise ModelFileError(f"{bundle.path}: names no labels, so that it has nothing to say; make the bundle again.")
    shapes = load_task(bundle.manifest.task).SHAPES.items()
    of_labels = {name: tuple(count if size == "labels" else size for size in shape) for name, shape in shapes}
    return {**of_labels, "embedding": ("values",) if familiar is None else (familiar.shape[1],)}


def _framed(raw: Raw, manifest: Manifest) -> Raw:
    """With frames of images that are as the network takes them: where something lies is no matter of what is answered."""
    height, width = Prepare.from_json(manifest.prepare).shape
    frame = frame_of(np.eye(2, 3), (height, width), (width, height), (width, height))
    return {**raw, "frame": np.tile(frame, (len(next(iter(raw.values()))), 1))}


def replay_of(bundle: Bundle, outputs: Sequence[str]) -> Replay:
    """The images that a bundle carries, with their ``outputs``; ModelFileError when there are none or they are not whole."""
    if not bundle.has("replay"):
        raise ModelFileError(f"{bundle.path}: carries no images to verify it with; train it again with this version of Sightline.")
    arrays = bundle.arrays("replay")
    try:
        lengths, expected, images = arrays["lengths"], {name: arrays[f"raw_{name}"] for name in outputs}, arrays["images"]
        if lengths.dtype.kind not in "iu" or lengths.ndim != 1 or images.dtype != np.uint8 or images.ndim != 1:
            raise ValueError("its images and their lengths are of another kind")
        ends = list(accumulate(lengths.tolist()))  # in numbers of any size, which do not overflow
        if not ends or min(lengths) < 0 or ends[-1] != len(images):
            raise ValueError("its lengths do not fit")
        if any(values.shape[:1] != lengths.shape or values.dtype != np.float32 for values in expected.values()):
            raise ValueError("its outputs are not those of its images")
        files = [part.tobytes() for part in np.split(images, ends[:-1])]
    except (KeyError, ValueError) as error:
        raise ModelFileError(f"{bundle.path}: its replay is not whole ({error}); copy or train it again.") from error
    return Replay(files, expected, rendered=not np.array_equal(arrays.get("rendered", True), False))


def _photographs(bundle: Bundle, outputs: Sequence[str]) -> tuple[NDArray[np.uint8], Raw]:
    """Those of the images carried that are the user's own: on rendered ones any two answers are as good."""
    replay = replay_of(bundle, outputs)
    if replay.rendered:
        raise ModelFileError(f"{bundle.path}: carries no photographs to check its answers on.")
    prepare = Prepare.from_json(bundle.manifest.prepare)
    images = [prepare(decode(file, min_side=prepare.min_side, reading=prepare.reading))[0] for file in replay.files]
    return np.stack(images), replay.expected
