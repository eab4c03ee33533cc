"""The preprocessing contract: from an upright RGB image to the network's input, and back to its pixels.

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

from sightline.errors import ModelFileError

RESAMPLE = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
FITS = ("crop", "pad", "squash")
GREY = 128
MAX_SIZE = 8192
# An image may be decoded at reduced size as long as this many decoded pixels remain for each one of the input.
DECODE_MARGIN = 2


@dataclass(frozen=True)
class Prepare:
    """How an image becomes the network's input.

    size           side of the square input in pixels
    fit            "crop": the middle square, "pad": all of it on grey, "squash": all of it, aspect ratio lost
    crop_fraction  share of the shorter side that "crop" keeps, in (0, 1]
    interpolation  "bilinear" or "bicubic", antialiased when shrinking
    mean, std      of each channel, for inputs scaled to [0, 1]
    channels       3: RGB
    """

    size: int
    fit: str = "crop"
    crop_fraction: float = 1.0
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    channels: int = 3

    @property
    def min_side(self) -> int:
        """The shorter side in pixels that decoding has to leave."""
        return DECODE_MARGIN * self.size

    def __call__(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """The input and the way back.

        image    (h, w, 3) uint8
        returns  (size, size, 3) uint8, and the (2, 3) float64 affine that maps (x, y, 1) in the input
                 to (x, y) in ``image``; pixel centres are at half-integers
        """
        height, width = image.shape[:2]
        source = Image.fromarray(image)
        resample = RESAMPLE[self.interpolation]
        if self.fit == "pad":
            return self._padded(source, resample)
        left, top, right, bottom = 0.0, 0.0, float(width), float(height)
        if self.fit == "crop":
            side = min(width, height) * self.crop_fraction
            left, top = (width - side) / 2, (height - side) / 2
            right, bottom = left + side, top + side
        pixels = source.resize((self.size, self.size), resample, box=(left, top, right, bottom))
        back = np.array([[(right - left) / self.size, 0, left], [0, (bottom - top) / self.size, top]])
        return np.asarray(pixels), back

    def _padded(self, source: Image.Image, resample: Image.Resampling) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        scale = self.size / max(source.size)
        width, height = (max(1, round(side * scale)) for side in source.size)
        left, top = (self.size - width) // 2, (self.size - height) // 2
        canvas = Image.new("RGB", (self.size, self.size), (GREY, GREY, GREY))
        canvas.paste(source.resize((width, height), resample), (left, top))
        x, y = source.width / width, source.height / height
        return np.asarray(canvas), np.array([[x, 0, -left * x], [0, y, -top * y]])

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Prepare:
        """Raises ModelFileError when the contract asks for what this version does not do."""
        try:
            made = cls(**{**fields, "mean": tuple(fields["mean"]), "std": tuple(fields["std"])})
            sound = (
                type(made.size) is int and 1 <= made.size <= MAX_SIZE and made.fit in FITS and made.interpolation in RESAMPLE
                and made.channels == len(made.mean) == len(made.std) == 3 and 0 < made.crop_fraction <= 1
                and all(map(math.isfinite, made.mean)) and all(0 < spread < math.inf for spread in made.std)
            )  # fmt: skip
        except (TypeError, KeyError, OverflowError) as error:
            raise ModelFileError(f"The model's preprocessing is not understood ({error}); upgrade Sightline.") from error
        if not sound:
            raise ModelFileError(f"The model's preprocessing is not understood ({made}); upgrade Sightline.")
        return made
