"""The preprocessing contract: how an image file is read, and from its upright pixels to the network's input, and back to its pixels.

There is one implementation, in Pillow and numpy. Evaluation, the runtime and the server all call it, and it is
written into the bundle. Normalisation (``mean``, ``std``) is applied inside the ONNX graph, whose input is uint8.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
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
# An image may be decoded at reduced size as long as this many decoded pixels remain for each one of the input.
DECODE_MARGIN = 2


@dataclass(frozen=True)
class Prepare:
    """How an image becomes the network's input.

    size           side of the square input in pixels, or width of one that is not square
    fit            "crop": the middle square, "pad": all of it on grey, "squash": all of it, aspect ratio lost
    crop_fraction  share of the shorter side that "crop" keeps, in (0, 1]
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
        resample, (rows, columns) = RESAMPLE[self.interpolation], self.shape
        if self.fit == "pad":
            return self._padded(image, width, height, resample)
        left, top, right, bottom = 0.0, 0.0, float(width), float(height)
        if self.fit == "crop":
            scale = min(width / columns, height / rows) * self.crop_fraction
            left, top = (width - scale * columns) / 2, (height - scale * rows) / 2
            right, bottom = left + scale * columns, top + scale * rows
        pixels = changed(image, lambda source: source.resize((columns, rows), resample, box=(left, top, right, bottom)))
        back = np.array([[(right - left) / columns, 0, left], [0, (bottom - top) / rows, top]])
        return pixels, back

    def _padded(
        self, image: NDArray[np.uint8] | Image.Image, width: int, height: int, resample: Image.Resampling
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        rows, columns = self.shape
        scale = min(columns / width, rows / height)
        inner_width, inner_height = (max(1, round(side * scale)) for side in (width, height))
        left, top = (columns - inner_width) // 2, (rows - inner_height) // 2

        def on_grey(source: Image.Image) -> Image.Image:
            canvas = Image.new(source.mode, (columns, rows), background(source))
            canvas.paste(source.resize((inner_width, inner_height), resample), (left, top))
            return canvas

        x, y = width / inner_width, height / inner_height
        return changed(image, on_grey), np.array([[x, 0, -left * x], [0, y, -top * y]])

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
                and made.interpolation in RESAMPLE
                and made.channels == len(made.mean) == len(made.std) == reading.channels and 0 < made.crop_fraction <= 1
                and all(map(math.isfinite, made.mean)) and all(0 < spread < math.inf for spread in made.std)
            )  # fmt: skip
        except (TypeError, KeyError, OverflowError) as error:
            raise ModelFileError(f"The model's preprocessing is not understood ({error}); upgrade Sightline.") from error
        if not sound:
            raise ModelFileError(f"The model's preprocessing is not understood ({made}); upgrade Sightline.")
        return made
