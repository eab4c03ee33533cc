"""Scenes of which it is known what is on them, and networks that go by colour: one that puts boxes around red and blue, and one that
gives each pixel its class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from conftest import render_scene
from sightline.records import column_of
from sightline.scenes import LabelMap, Objects, frame_of

SIDE, LABELS, AREAS = 64, ("red", "blue"), ("ground", "red", "blue")
# How sure the networks are, in logits.
SURE = 5.0


def scenes(numbers: Sequence[int]) -> tuple[NDArray[np.uint8], NDArray[np.object_], NDArray[np.float64]]:
    """Images (n, 64, 64, 3), the ``Objects`` on them, and frames of images that are prepared as they are."""
    pictures = [render_scene(number) for number in numbers]
    objects = [Objects.of([box for _, box in found], [label for label, _ in found]) for _, found in pictures]
    return np.stack([np.asarray(picture) for picture, _ in pictures]), column_of(objects), frames(len(pictures))


def frames(n: int) -> NDArray[np.float64]:
    return np.tile(frame_of(np.eye(2, 3), (SIDE, SIDE), (SIDE, SIDE), (SIDE, SIDE)), (n, 1))


def maps_of(objects: NDArray[np.object_]) -> NDArray[np.object_]:
    """The same as label maps of ground, red and blue."""
    return column_of([_map(found) for found in objects])


def _map(found: Objects) -> LabelMap:
    corners = [(box[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2),) for box in found.boxes]
    raised = Objects.of(found.boxes, found.labels + 1, outlines=corners)
    covered = np.bincount(raised.labels, raised.areas, minlength=len(AREAS)).astype(np.int64)
    covered[0] = SIDE * SIDE - covered.sum()
    return LabelMap(raised, {0: 0, 1: 1, 2: 2}, covered, (SIDE, SIDE))


def by_colour(batch: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """A detector that looks for one box of each colour in each quarter, and is the surer the more of the box has that colour."""
    boxes, scores = np.zeros((len(batch), 8, 4), np.float32), np.full((len(batch), 8, 2), -SURE, np.float32)
    half = batch.shape[1] // 2
    for row, image in enumerate(batch.astype(int)):
        for place in range(8):
            label, top, left = place // 4, place % 4 // 2 * half, place % 2 * half
            part = image[top : top + half, left : left + half]
            inside = np.argwhere((part[..., 2 * label] > 150) & (part[..., 2 - 2 * label] < 110))
            if len(inside):
                (y0, x0), (y1, x1) = inside.min(axis=0), inside.max(axis=0) + 1
                boxes[row, place] = left + x0, top + y0, left + x1, top + y1
                scores[row, place, label] = SURE * (2 * len(inside) / ((y1 - y0) * (x1 - x0)) - 1)
    return {"boxes": boxes, "scores": scores, **_rest(batch)}


def by_pixel(batch: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """A segmenter that takes each pixel's colour for its class."""
    red, blue = ((batch[..., channel].astype(np.float32) - 100) / 20 for channel in (0, 2))
    return {"logits": np.stack([np.zeros_like(red), red, blue], axis=1).clip(-SURE, SURE), **_rest(batch)}


def _rest(batch: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    means = batch.reshape(len(batch), -1, batch.shape[-1]).mean(axis=1).astype(np.float32)
    return {"embedding": means, "features": means[:, :, None, None] * np.ones((1, 1, 4, 4), np.float32)}
