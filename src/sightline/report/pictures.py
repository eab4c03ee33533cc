"""The small pictures a report carries inside itself."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline.data.channels import picture_of
from sightline.drawing.boxes import Outlined, Pen, draw_boxes
from sightline.drawing.colours import BLUE, VERMILION, WHITE
from sightline.drawing.maps import map_picture
from sightline.tasks.blocks import Layer, Mark

JPEG_QUALITY = 80
SIDE = 224
# Of a picture with marks: its side in pixels, how often the marks' longer side fits into it, the least part of the original it shows,
# and how many times that may be enlarged. It is shown at about half its size, so lines and letters are large.
MARKED_SIDE, CONTEXT, LEAST_PART, MOST_ENLARGED, MARKED_PEN = 288, 2.5, 48, 8, Pen(3, 1, 20)
MARKS = {"given": BLUE, "wrong": VERMILION, "true": WHITE}
# The longer side of each of the pictures beside each other, and the pixels between them.
LAYER_SIDE, GAP, GAP_COLOUR = 320, 4, (128, 128, 128)


def thumbnail(image: NDArray[np.uint8], side: int = SIDE) -> bytes:
    """A JPEG of an upright image, (h, w, channels) uint8, its longer side at most ``side`` pixels; never enlarged.

    Of other channels than red, green and blue, the first three are shown, or the first as grey.

    The file holds pixels only: no EXIF, no profile, no comment, so a report gives away nothing that a camera wrote.
    """
    picture = picture_of(image)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return _jpeg(picture)


def marked(image: NDArray[np.uint8], marks: Sequence[Mark]) -> bytes:
    """A JPEG of the part of an upright image at its full size, (h, w, channels) uint8, that is around the marks, with them."""
    height, width = image.shape[:2]
    left, top, right, bottom = part_around([mark.box for mark in marks], (width, height))
    part = picture_of(image[top:bottom, left:right]).convert("RGB")
    factor = min(MARKED_SIDE / max(part.size), MOST_ENLARGED)
    size = max(1, round(part.width * factor)), max(1, round(part.height * factor))
    shown = part.resize(size, Image.Resampling.LANCZOS if factor < 1 else Image.Resampling.BICUBIC)
    boxes = [
        Outlined(
            tuple(float((place - start) * factor) for place, start in zip(mark.box, (left, top, left, top), strict=True)),  # type: ignore[arg-type]
            mark.words, MARKS[mark.kind], dashed=mark.kind == "true",
        )
        for mark in sorted(marks, key=lambda mark: mark.kind != "true")
    ]  # fmt: skip
    return _jpeg(draw_boxes(shown, boxes, MARKED_PEN))


def part_around(boxes: Sequence[tuple[float, float, float, float]], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the part of an image of this width and height to show of boxes: a square where there is room."""
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    spans = (min(lefts), max(rights)), (min(tops), max(bottoms))
    side = max(LEAST_PART, round(CONTEXT * max(high - low for low, high in spans)))
    starts = [round(min(max(0, (low + high - side) / 2), max(0, length - side))) for (low, high), length in zip(spans, size, strict=True)]
    return starts[0], starts[1], min(size[0], starts[0] + side), min(size[1], starts[1] + side)


def layered(image: NDArray[np.uint8], layers: Sequence[Layer]) -> bytes:
    """A JPEG of an upright image, (h, w, channels) uint8, and, to its right, the layers in colours, each as large."""
    picture = picture_of(image).convert("RGB")
    factor = LAYER_SIDE / max(picture.size)
    size = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
    picture = picture.resize(size, Image.Resampling.LANCZOS if factor < 1 else Image.Resampling.BICUBIC, reducing_gap=3.0)
    whole = Image.new("RGB", (picture.width * (1 + len(layers)) + GAP * len(layers), picture.height), GAP_COLOUR)
    whole.paste(picture)
    for place, layer in enumerate(layers, 1):
        labels, lengths = np.array(layer.runs, np.int64).T
        classes = np.repeat(labels, lengths).astype(np.uint8).reshape(layer.side, layer.side)
        drawn = map_picture(classes, layer.names).resize(picture.size, Image.Resampling.NEAREST)
        whole.paste(drawn, (place * (picture.width + GAP), 0))
    return _jpeg(whole)


def _jpeg(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return file.getvalue()
