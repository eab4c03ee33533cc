"""What a model found on an image, drawn on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline.data.channels import picture_of
from sightline.drawing.boxes import Outlined, draw_boxes
from sightline.drawing.colours import colour_of
from sightline.drawing.maps import draw_map, with_legend
from sightline.scenes import Detections, Segmentation, is_background

# A smaller picture is enlarged, or there would be no room for words.
LEAST_SIDE = 480


def draw_prediction(pixels: NDArray[np.uint8], found: Any, labels: Sequence[str]) -> Image.Image:
    """The image (h, w, channels) uint8 with the boxes or the label map found on it; ``labels`` are all that the model has.

    A small image is drawn at a multiple of its size. Raises TypeError for predictions that have no place on the image.
    """
    picture = picture_of(pixels).convert("RGB")
    factor = max(1, -(-LEAST_SIDE // max(picture.size)))
    if factor > 1:
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.BICUBIC)
    if isinstance(found, Detections):
        return draw_boxes(picture, _outlined(found, factor, labels))
    if isinstance(found, Segmentation):
        classes = found.classes if factor == 1 else found.classes.repeat(factor, axis=0).repeat(factor, axis=1)
        entries = [(label, colour_of(labels.index(label))) for label in found.labels if not is_background(label)]
        return with_legend(draw_map(picture, classes, labels), entries)
    raise TypeError(f"{type(found).__name__} has no place on the image")


def _outlined(found: Detections, factor: int, labels: Sequence[str]) -> list[Outlined]:
    return [
        Outlined((left * factor, top * factor, right * factor, bottom * factor), f"{label} {score:.0%}", colour_of(labels.index(label)))
        for label, score, (left, top, right, bottom) in zip(found.labels, found.scores, found.boxes, strict=True)
    ]
