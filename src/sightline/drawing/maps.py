"""Label maps in colours: laid over a picture with their outlines, on their own, and a legend of the colours."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sightline.drawing.boxes import LEAST_LINE, LEAST_TEXT, LINE
from sightline.drawing.colours import Colour, colour_of
from sightline.drawing.lettering import font_for, printable
from sightline.scenes import IGNORED, is_background

# How much of a class's colour lies over the picture.
TINT = 0.45
PAPER, INK, NOTHING = (252, 252, 251), (23, 27, 31), (128, 128, 128)
TEXT = 1 / 50
# Pixels that are worked on at once, so that a large picture takes little memory beside itself.
PIXELS_AT_ONCE = 1 << 21


def table_of(names: Sequence[str]) -> NDArray[np.uint8]:
    """(256, 3) uint8, the colour of each class, white for the background; grey for what counts for nothing."""
    table = np.full((IGNORED + 1, 3), NOTHING, np.uint8)
    for index, name in enumerate(names):
        table[index] = PAPER if is_background(name) else colour_of(index)
    return table


def draw_map(picture: Image.Image, classes: NDArray[np.uint8], names: Sequence[str]) -> Image.Image:
    """A copy of an RGB picture under the colours of a label map of the same size, with the outlines of its areas."""
    table, line = table_of(names), max(LEAST_LINE, round(max(picture.size) * LINE))
    left_out = np.array([is_background(name) for name in names] + [True] * (IGNORED + 1 - len(names)))
    drawn = picture.copy()
    height, width = classes.shape
    step = max(1, PIXELS_AT_ONCE // width)
    for start in range(0, height, step):
        stop = min(height, start + step)
        first, last = max(0, start - line), min(height, stop + line)
        outlines = _outlines(classes[first:last], line)[start - first : stop - first]
        part = classes[start:stop]
        share = np.where(left_out[part], 0.0, np.where(outlines, 1.0, TINT)).astype(np.float32)[..., None]
        below = np.asarray(picture.crop((0, start, width, stop)), np.float32)
        drawn.paste(Image.fromarray((below + (table[part] - below) * share).round().astype(np.uint8)), (0, start))
    return drawn


def _outlines(classes: NDArray[np.uint8], line: int) -> NDArray[np.bool_]:
    """(h, w) the pixels within ``line`` pixels of another class, along rows or columns."""
    found = np.zeros(classes.shape, bool)
    across, down = classes[:, 1:] != classes[:, :-1], classes[1:] != classes[:-1]
    for far in range(line):
        found[:, far + 1 :] |= across[:, : across.shape[1] - far]
        found[:, : across.shape[1] - far] |= across[:, far:]
        found[far + 1 :] |= down[: len(down) - far]
        found[: len(down) - far] |= down[far:]
    return found


def map_picture(classes: NDArray[np.uint8], names: Sequence[str]) -> Image.Image:
    """A label map in its colours alone."""
    return Image.fromarray(table_of(names)[classes])


def with_legend(picture: Image.Image, entries: Sequence[tuple[str, Colour]]) -> Image.Image:
    """The picture above names with their colours, in as many rows as they need; as it is where there are none."""
    if not entries:
        return picture
    text = max(LEAST_TEXT, round(max(picture.size) * TEXT))
    row, swatch, gap = round(1.7 * text), text, text
    places, x, y = [], gap, gap // 2
    for name, _ in entries:
        width = swatch + text // 2 + math.ceil(font_for(name, text).getlength(name)) + gap
        if x > gap and x + width > picture.width:
            x, y = gap, y + row
        places.append((x, y))
        x += width
    whole = Image.new("RGB", (picture.width, picture.height + y + row + gap // 2), PAPER)
    whole.paste(picture)
    pen = ImageDraw.Draw(whole)
    for (name, colour), (left, top) in zip(entries, places, strict=True):
        middle, font = picture.height + top + row // 2, font_for(name, text)
        pen.rectangle((left, middle - swatch // 2, left + swatch - 1, middle - swatch // 2 + swatch - 1), colour, INK)
        pen.text((left + swatch + text // 2, middle), printable(name, font), INK, font, anchor="lm")
    return whole
