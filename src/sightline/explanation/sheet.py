"""One explained image as a picture: the original beside its heat map, what is shown in words, the scale, the nearest training images."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from sightline.data.channels import picture_of
from sightline.data.decode import Limits, decode
from sightline.drawing.lettering import font_for, printable, shortened, wrapped
from sightline.errors import ImageError, ModelFileError
from sightline.explanation.grid import laid_back
from sightline.explanation.heat import overlay, scale
from sightline.explanation.nearest import Neighbour
from sightline.explanation.subject import Floats, Images

# Pixels: the longer side of each of the two pictures, the least width of the sheet, gaps, thumbnails, the scale, text.
SIDE, LEAST_WIDTH, GAP, THUMB, SCALE, TEXT, TITLE = 448, 560, 16, 96, (180, 14), 15, 22
# Of a training image's small picture, pixels and bytes.
MOST_OF_THUMB = 1 << 20
PAPER, INK, SOFT, WARNING = (252, 252, 251), (23, 27, 31), (89, 98, 106), (176, 40, 31)


@dataclass(frozen=True)
class Line:
    """A line of the caption, wrapped where it is too long."""

    text: str
    colour: tuple[int, int, int] = SOFT
    size: int = TEXT


@dataclass(frozen=True)
class Laid:
    """Heat (rows, columns) in [0, 1] and where it lies: ``back`` and ``shape`` as in ``grid.laid_back``; of an object that is explained
    its ``box`` (left, top, right, bottom) in pixels of the image, which is drawn."""

    heat: Floats
    back: Floats
    shape: tuple[int, int]
    box: tuple[float, float, float, float] | None = None


def pair(image: Images, laid: Laid, side: int = SIDE) -> Image.Image:
    """The image (h, w, channels) beside its heat map, each with its longer side at ``side`` pixels."""
    picture = picture_of(image).convert("RGB")
    factor = side / max(picture.size)
    width, height = (max(1, round(length * factor)) for length in picture.size)
    shown = picture.resize((width, height), Image.Resampling.LANCZOS if factor < 1 else Image.Resampling.BICUBIC)
    heat = laid_back(laid.heat, laid.back, laid.shape, width, height, factor)
    both = Image.new("RGB", (2 * width + GAP, height), PAPER)
    both.paste(shown, (0, 0))
    both.paste(Image.fromarray(overlay(np.asarray(shown), heat)), (width + GAP, 0))
    for left in (0, width + GAP) if laid.box else ():
        _frame(both, [side * factor for side in laid.box or ()], left)
    return both


def _frame(picture: Image.Image, box: Sequence[float], left: int) -> None:
    """Draw a box, in pixels of a picture that begins so far from the left, white between dark lines: legible on anything."""
    corners = [box[0] + left, box[1], max(box[2] - 1, box[0]) + left, max(box[3] - 1, box[1])]
    pen = ImageDraw.Draw(picture)
    for grown, colour in ((1, INK), (-1, INK), (0, (255, 255, 255))):
        pen.rectangle([corners[0] - grown, corners[1] - grown, max(corners[2] + grown, corners[0] - grown),
                       max(corners[3] + grown, corners[1] - grown)], outline=colour)  # fmt: skip


def sheet(image: Images, laid: Laid, lines: Sequence[Line], neighbours: Sequence[Neighbour]) -> bytes:
    """A PNG of everything."""
    pictures = pair(image, laid)
    width = max(pictures.width, LEAST_WIDTH)
    parts = [pictures, _scale(), *(_text(line, width) for line in lines)]
    if neighbours:
        parts += [_text(Line("Nearest training images", INK), width), _thumbs(neighbours, width)]
    total = Image.new("RGB", (width + 2 * GAP, sum(part.height for part in parts) + GAP * (len(parts) + 1)), PAPER)
    top = GAP
    for part in parts:
        total.paste(part, (GAP, top))
        top += part.height + GAP
    file = io.BytesIO()
    total.save(file, "PNG", optimize=True)
    return file.getvalue()


def _scale() -> Image.Image:
    """The colours between the words for their ends."""
    before, after = "average or less", "most evidence; the ring is at half of it"
    font = font_for(before + after, TEXT)
    left, right = (math.ceil(font.getlength(text)) for text in (before, after))
    drawn = Image.new("RGB", (left + right + SCALE[0] + 2 * GAP, TEXT + 6), PAPER)
    pen = ImageDraw.Draw(drawn)
    pen.text((0, 0), before, SOFT, font)
    drawn.paste(Image.fromarray(scale(*SCALE)), (left + GAP // 2, 3))
    pen.text((left + SCALE[0] + GAP, 0), after, SOFT, font)
    return drawn


def _text(line: Line, width: int) -> Image.Image:
    text = shortened(line.text)
    font = font_for(text, line.size)
    rows = wrapped(printable(text, font), font, width)
    drawn = Image.new("RGB", (width, len(rows) * (line.size + 6)), PAPER)
    pen = ImageDraw.Draw(drawn)
    for number, row in enumerate(rows):
        pen.text((0, number * (line.size + 6)), row, line.colour, font)
    return drawn


def _thumbs(neighbours: Sequence[Neighbour], width: int) -> Image.Image:
    """As many as fit side by side, each with its labels and likeness below; only these where the bundle holds no images."""
    shown = neighbours[: max(1, (width + GAP) // (THUMB + GAP))]
    high = THUMB if any(neighbour.thumb for neighbour in shown) else 0
    row, font = Image.new("RGB", (width, high + 2 * (TEXT + 4)), PAPER), font_for("", TEXT - 2)
    pen = ImageDraw.Draw(row)
    for number, neighbour in enumerate(shown):
        left = number * (THUMB + GAP)
        if neighbour.thumb:
            small = _picture(neighbour)
            factor = THUMB / max(small.size)
            small = small.resize((max(1, round(small.width * factor)), max(1, round(small.height * factor))), Image.Resampling.BICUBIC)
            row.paste(small, (left, high - small.height))
        labels = shortened(", ".join(neighbour.labels)) or "no label"
        own = font_for(labels, TEXT - 2)
        pen.text((left, high + 3), wrapped(printable(labels, own), own, THUMB)[0], INK, own)
        pen.text((left, high + TEXT + 4), f"{neighbour.similarity:.2f} alike", SOFT, font)
    return row


def _picture(neighbour: Neighbour) -> Image.Image:
    try:
        return Image.fromarray(decode(neighbour.thumb, name=neighbour.name, min_side=THUMB, limits=Limits(MOST_OF_THUMB, MOST_OF_THUMB)))
    except ImageError as error:
        text = f"A picture in the bundle's reference cannot be read ({error.reason}); copy or train it again."
        raise ModelFileError(text) from error
