"""The preprocessing contract: how an image file is read, and from its upright pixels to the network's input, and back to its pixels.

There is one implementation, in Pillow and numpy. Evaluation, the runtime and the server all call it, and it is
written into the bundle. Normalisation (``mean``, ``std``) is applied inside the ONNX graph, whose input is uint8.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline.data.channels import GREY as GREY
from sightline.data.channels import background, changed
from sightline.data.reading import Reading
from sightline.errors import ModelFileError

RESAMPLE = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
FITS = ("crop", "pad", "squash")
MAX_SIZE = 8192
# Of one input: a batch of such images still fits into the memory of a small machine.
MAX_VALUES = 4 * 4096 * 4096
LEAST_CROP = 0.01
# An image may be decoded at reduced size as long as this many decoded pixels remain for each one of the input.
DECODE_MARGIN = 2


@dataclass(frozen=True)
class Prepare:
    """How an image becomes the network's input.

    size           side of the square input in pixels, or width of one that is not square
    fit            "crop": the middle square, "pad": all of it on grey, "squash": all of it, aspect ratio lost
    crop_fraction  share of the shorter side that "crop" keeps, in [0.01, 1]
    interpolation  "bilinear" or "bicubic", antialiased when shrinking
    mean, std      of each channel, for inputs scaled to [0, 1]
    channels       3: RGB, unless bands say otherwise
    window, bands  how files are read, as in ``Reading``
    height         of an input that is not square; None for ``size``
    """

    size: int
    fit: str = "crop"
    crop_fraction: float = 1.0
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    channels: int = 3
    window: tuple[float, float] | None = None
    bands: tuple[int, ...] | None = None
    height: int | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the input."""
        return self.height or self.size, self.size

    @property
    def reading(self) -> Reading:
        return Reading(self.window, self.bands)

    def of_pixels(self) -> Prepare:
        """The same for pixels that were read already, when bands and levels were chosen."""
        return replace(self, window=None, bands=None if self.channels == 3 else tuple(range(1, self.channels + 1)))

    @property
    def min_side(self) -> int:
        """The shorter side in pixels that decoding has to leave."""
        return DECODE_MARGIN * max(self.shape)

    def __call__(self, image: NDArray[np.uint8] | Image.Image) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """The input and the way back.

        image    (h, w, channels) uint8, or a Pillow image in mode RGB
        returns  (height, width, channels) uint8, and the (2, 3) float64 affine that maps (x, y, 1) in the input
                 to (x, y) in ``image``; pixel centres are at half-integers
        """
        width, height = image.size if isinstance(image, Image.Image) else image.shape[1::-1]
        (rows, columns), resample, back = self.shape, RESAMPLE[self.interpolation], self.way_back(width, height)
        if self.fit == "pad":
            return changed(image, lambda source: self._on_grey(source, resample)), back
        (across, _, left), (_, down, top) = back.tolist()
        # Rounding may lead a hair beyond the picture, which Pillow refuses.
        box = max(0.0, left), max(0.0, top), min(width, left + across * columns), min(height, top + down * rows)
        return changed(image, lambda source: source.resize((columns, rows), resample, box=box)), back

    def way_back(self, width: int, height: int) -> NDArray[np.float64]:
        """The affine of ``__call__`` for an image of this size."""
        rows, columns = self.shape
        if self.fit == "pad":
            left, top, inner_width, inner_height = self._placed(width, height)
            across, down = width / inner_width, height / inner_height
            return np.array([[across, 0, -left * across], [0, down, -top * down]])
        across, down = width / columns, height / rows
        if self.fit == "crop":
            across = down = min(across, down) * self.crop_fraction
        return np.array([[across, 0, (width - across * columns) / 2], [0, down, (height - down * rows) / 2]])

    def _placed(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Left, top, width and height of an image of this size within a padded input."""
        rows, columns = self.shape
        scale = min(columns / width, rows / height)
        inner_width, inner_height = (max(1, round(side * scale)) for side in (width, height))
        return (columns - inner_width) // 2, (rows - inner_height) // 2, inner_width, inner_height

    def _on_grey(self, source: Image.Image, resample: Image.Resampling) -> Image.Image:
        rows, columns = self.shape
        left, top, width, height = self._placed(*source.size)
        canvas = Image.new(source.mode, (columns, rows), background(source))
        canvas.paste(source.resize((width, height), resample), (left, top))
        return canvas

    def to_json(self) -> dict[str, Any]:
        """Plain values; a way of reading and a height are only among them where stated, so that earlier versions read the others."""
        stated = {name: value for name, value in {**self.reading.to_json(), "height": self.height}.items() if value is not None}
        fields = {name: value for name, value in asdict(self).items() if name not in ("window", "bands", "height")}
        return {**fields, "mean": list(self.mean), "std": list(self.std), **stated}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Prepare:
        """Raises ModelFileError when the contract asks for what this version does not do."""
        try:
            mean, std, reading = tuple(fields["mean"]), tuple(fields["std"]), Reading.from_json(fields)
            made = cls(**{**fields, "mean": mean, "std": std, "window": reading.window, "bands": reading.bands})
            sound = (
                all(type(side) is int and 1 <= side <= MAX_SIZE for side in made.shape) and made.fit in FITS
                and made.interpolation in RESAMPLE and math.prod(made.shape) * len(made.mean) <= MAX_VALUES
                and type(made.channels) is int and made.channels == len(made.mean) == len(made.std) == reading.channels
                and LEAST_CROP <= made.crop_fraction <= 1
                and all(map(math.isfinite, made.mean)) and all(0 < spread < math.inf for spread in made.std)
            )  # fmt: skip
        except (TypeError, KeyError, OverflowError) as error:
            raise _not_understood(error) from error
        if not sound:
            raise _not_understood(made)
        return made


def _not_understood(what: object) -> ModelFileError:
    told = " ".join(str(what).split())[:200]
    return ModelFileError(f"The model's preprocessing is not understood ({told}); upgrade Sightline.")
