"""Boxes with words on a picture, legible whatever is behind them: each line has a contrasting border, the words a plate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sightline.drawing.colours import Colour, contrasting
from sightline.drawing.lettering import Font, font_for, printable

# Pixels that lines and letters have at least, and as shares of the picture's longer side.
LEAST_LINE, LEAST_TEXT = 2, 12
LINE, TEXT, SMALL_TEXT = 1 / 320, 1 / 36, 1 / 80
# Letters are no higher than this share of a usual box, unless they would be too small.
TEXT_OF_BOX = 0.4
# Words of which more is hidden by those of surer boxes are left out.
HIDDEN = 0.5

Rectangle = tuple[int, int, int, int]


@dataclass(frozen=True)
class Outlined:
    """A box to be drawn, (left, top, right, bottom) in pixels of the picture, with words, which may be none."""

    box: tuple[float, float, float, float]
    words: str
    colour: Colour
    dashed: bool = False


@dataclass(frozen=True)
class Pen:
    """Pixels: the width of lines, of the border on both sides of them, and the height of letters."""

    line: int
    border: int
    text: int

    @classmethod
    def for_picture(cls, size: tuple[int, int], boxes: Sequence[Outlined] = ()) -> Pen:
        """What suits a picture of this width and height and the boxes on it."""
        longer = max(size)
        sides = [min(right - left, bottom - top) for left, top, right, bottom in (outlined.box for outlined in boxes)]
        text = min(longer * TEXT, max(longer * SMALL_TEXT, TEXT_OF_BOX * float(np.median(sides)))) if sides else longer * TEXT
        line = max(LEAST_LINE, round(longer * LINE))
        return cls(line, max(1, line // 3), max(LEAST_TEXT, round(text)))


def draw_boxes(picture: Image.Image, boxes: Sequence[Outlined], pen: Pen | None = None) -> Image.Image:
    """A copy of an RGB picture with the boxes, of which the first lie on top and get the best places for their words."""
    pen = pen or Pen.for_picture(picture.size, boxes)
    drawn = picture.copy()
    canvas = ImageDraw.Draw(drawn)
    for outlined in reversed(boxes):
        _outline(canvas, outlined, picture.size, pen)
    written = [outlined for outlined in boxes if outlined.words]
    for plate in _plates(written, picture.size, pen):
        plate.draw(canvas)
    return drawn


def _outline(canvas: ImageDraw.ImageDraw, outlined: Outlined, size: tuple[int, int], pen: Pen) -> None:
    strokes = list(_strokes(_inside(outlined.box, size, 2 * pen.line), pen, outlined.dashed))
    for grown, colour in ((pen.border, contrasting(outlined.colour)), (0, outlined.colour)):
        for left, top, right, bottom in strokes:
            canvas.rectangle((left - grown, top - grown, right - 1 + grown, bottom - 1 + grown), fill=colour)


def _inside(box: tuple[float, float, float, float], size: tuple[int, int], least: int) -> Rectangle:
    """Whole pixels of a box within the picture, its sides at least so long where there is room for that."""
    sides = []
    for low, high, length in ((box[0], box[2], size[0]), (box[1], box[3], size[1])):
        first, last = min(max(math.floor(low), 0), length - 1), min(max(math.ceil(high), 1), length)
        missing = max(0, min(least, length) - (last - first))
        first = min(max(0, first - missing // 2), max(0, length - max(last - first, least)))
        sides.append((first, max(last, min(length, first + least))))
    (left, right), (top, bottom) = sides
    return left, top, right, bottom


def _strokes(box: Rectangle, pen: Pen, dashed: bool) -> Iterator[Rectangle]:
    """The rectangles that make up a box's four lines, which lie inside it."""
    left, top, right, bottom = box
    dash = 5 * pen.line
    for start, end, lying in ((left, right, True), (top, bottom, False)):
        pieces = range(start, end, 2 * dash) if dashed and end - start > 2 * dash else (start,)
        for first in pieces:
            last = min(end, first + dash) if len(pieces) > 1 else end
            if lying:
                yield from ((first, top, last, top + pen.line), (first, bottom - pen.line, last, bottom))
            else:
                yield from ((left, first, left + pen.line, last), (right - pen.line, first, right, last))


@dataclass(frozen=True)
class _Plate:
    """Words on a filled ground at a place."""

    words: str
    font: Font
    colour: Colour
    place: Rectangle
    border: int

    def draw(self, canvas: ImageDraw.ImageDraw) -> None:
        (left, top, right, bottom), ink = self.place, contrasting(self.colour)
        canvas.rectangle((left, top, right - 1, bottom - 1), fill=self.colour, outline=ink, width=self.border)
        canvas.text(((left + right) / 2, (top + bottom) / 2), self.words, ink, self.font, anchor="mm")


def _plates(boxes: Sequence[Outlined], size: tuple[int, int], pen: Pen) -> Iterator[_Plate]:
    taken = np.zeros((len(boxes), 4), np.int64)
    count = 0
    for outlined in boxes:
        font = font_for(outlined.words, pen.text)
        padding, height = max(2, pen.text // 3) + pen.border, min(size[1], round(1.35 * pen.text) + 2 * pen.border)
        words = _fitted(printable(outlined.words, font), font, size[0] - 2 * padding)
        width = min(size[0], math.ceil(font.getlength(words)) + 2 * padding)
        places = _places(_inside(outlined.box, size, 2 * pen.line), width, height, size)
        hidden = _hidden(places, taken[:count])
        best = int(np.argmin(hidden))
        if hidden[best] <= HIDDEN * width * height:
            taken[count] = places[best]
            count += 1
            yield _Plate(words, font, outlined.colour, places[best], pen.border)


def _places(box: Rectangle, width: int, height: int, size: tuple[int, int]) -> list[Rectangle]:
    """Where the words of a box may stand within the picture, the best place first: above it, below it, in its corners, beside it."""
    left, top, right, bottom = box
    across, downs = (left, right - width), (top - height, bottom, top, bottom - height)
    corners = [*((x, y) for y in downs for x in across), (right, top), (left - width, top)]
    within = [(x, y) for x, y in corners if 0 <= x <= size[0] - width and 0 <= y <= size[1] - height]
    moved = [(min(max(x, 0), size[0] - width), min(max(y, 0), size[1] - height)) for x, y in corners]
    return [(x, y, x + width, y + height) for x, y in dict.fromkeys(within + moved)]


def _hidden(places: Sequence[Rectangle], taken: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pixels that each place shares with those that are taken, (p, 4)."""
    ours = np.array(places)[:, None]
    sides = np.minimum(ours[..., 2:], taken[:, 2:]) - np.maximum(ours[..., :2], taken[:, :2])
    return np.asarray(np.prod(np.maximum(sides, 0), axis=2).sum(axis=1))


def _fitted(words: str, font: Font, width: int) -> str:
    """The words, cut short where they are wider than so many pixels."""
    if font.getlength(words) <= width:
        return words
    lengths = [length for length in range(len(words)) if font.getlength(f"{words[:length]}...") <= width]
    return f"{words[: lengths[-1]]}..." if lengths else ""
