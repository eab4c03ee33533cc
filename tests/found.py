"""A detector and a segmenter that make no mistake: what is bright in a colour is of that colour's class."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label, regionprops

from sightline.data.prepare import Prepare
from sightline.manifest import Manifest
from sightline.records import Infer
from sightline.runtime import Model

KINDS = ("red", "green", "blue")
BRIGHT, MOST = 160, 32
Images = NDArray[np.uint8]


def regions(pixels: Images) -> list[tuple[int, tuple[float, float, float, float]]]:
    """The class and the box of each connected bright region, (h, w, 3)."""
    return [
        (channel, (float(region.bbox[1]), float(region.bbox[0]), float(region.bbox[3]), float(region.bbox[2])))
        for channel in range(3)
        for region in regionprops(label(pixels[:, :, channel] > BRIGHT))
    ]


def dense_boxes(images: Images) -> dict[str, NDArray[Any]]:
    """Boxes around bright regions, as the dense outputs of a detector."""
    boxes, scores = np.zeros((len(images), MOST, 4), np.float32), np.full((len(images), MOST, 3), -9.0, np.float32)
    for row, image in enumerate(images):
        for place, (channel, box) in enumerate(regions(image)[:MOST]):
            boxes[row, place], scores[row, place, channel] = box, 4.0
    return {"boxes": boxes, "scores": scores}


def colour_logits(images: Images) -> dict[str, NDArray[Any]]:
    """Logits at half the input's size: how bright each colour is."""
    return {"logits": np.moveaxis(images[:, ::2, ::2].astype(np.float32) / 16, 3, 1)}


def model_of(task: str, infer: Infer, size: int = 64, **prepare: Any) -> Model:
    """A model for a task over a function."""
    nothing: dict[str, Any] = {"config": {}, "versions": {}, "licences": {}, "backbone": {}}
    thresholds = dict.fromkeys(KINDS, 0.5)
    contract = Prepare(size, "pad", **prepare).to_json()
    return Model(Manifest(task, KINDS, contract, thresholds, 1.0, seed=0, fingerprint="", created="", **nothing), infer, threads=1)


def scattered(seed: int, width: int, height: int, *, largest: int, count: int) -> tuple[Images, set[tuple[Any, ...]]]:
    """A dark picture with up to so many rectangles of three colours that do not touch: pixels, and (label, left, top, right, bottom)."""
    rng = np.random.default_rng(seed)
    pixels, said = np.zeros((height, width, 3), np.uint8), set()
    for _ in range(count):
        wide, high = rng.integers(4, largest, 2).tolist()
        left, top = int(rng.integers(0, width - wide)), int(rng.integers(0, height - high))
        if not pixels[max(0, top - 2) : top + high + 2, max(0, left - 2) : left + wide + 2].any():
            channel = int(rng.integers(3))
            pixels[top : top + high, left : left + wide, channel] = 255
            said.add((KINDS[channel], float(left), float(top), float(left + wide), float(top + high)))
    return pixels, said
