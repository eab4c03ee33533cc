"""What a camera and a file do to an image: motion blur, defocus, noise, JPEG, low resolution and rotation.

The functions are as those of ``weather``: the same random numbers give one case in five strengths.
"""

from __future__ import annotations

import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline.data.channels import changed
from sightline.evaluation.weather import Floats, Pixels, bytes_of

# Noise, compression and lost pixels are as stated for this side; smaller pictures have less to lose, by this power of their side.
FULL_SIDE, POWER = 224, 0.6
# Fourier transforms are fast for sides that are multiples of this.
FAST_SIDE = 24


def motion_blur(image: Pixels, strength: int, rng: np.random.Generator) -> Pixels:
    """The camera moved in a straight line, in any direction, while it took the picture."""
    length = min(image.shape[:2]) * (0.02, 0.04, 0.065, 0.095, 0.13)[strength - 1]
    return convolved(image, line_kernel(length, rng.uniform(0, math.pi)))


def defocus(image: Pixels, strength: int, rng: np.random.Generator) -> Pixels:
    """Out of focus: every point becomes a disc."""
    return convolved(image, disc_kernel(min(image.shape[:2]) * (0.007, 0.013, 0.02, 0.029, 0.04)[strength - 1]))


def noise(image: Pixels, strength: int, rng: np.random.Generator) -> Pixels:
    """Noise of a sensor: that of the light, larger where it is bright, and that of the electronics, the same everywhere."""
    read = 255 * (0.03, 0.06, 0.1, 0.15, 0.22)[strength - 1] * fineness(image)
    spread = read * np.sqrt(0.5 + np.arange(256, dtype=np.float32) / 255)
    return bytes_of(image + spread[image] * rng.standard_normal(image.shape, np.float32))


def jpeg(image: Pixels, strength: int, rng: np.random.Generator) -> Pixels:
    """Saved as a JPEG file of low quality."""
    # The steps that brightness and colours are rounded to, in percent of the standard's; quality 50 is 100% by definition.
    steps = (130, 230, 360, 550, 830)[strength - 1] * fineness(image)
    quality = round(5000 / steps if steps > 100 else 100 - steps / 2)

    def saved(picture: Image.Image) -> Image.Image:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return changed(image, saved)


def low_resolution(image: Pixels, strength: int, rng: np.random.Generator) -> Pixels:
    """Taken with few pixels and enlarged."""
    factor = 1 + (0.6, 1.3, 2.4, 4.0, 6.5)[strength - 1] * fineness(image)
    height, width = image.shape[:2]
    small = max(1, round(width / factor)), max(1, round(height / factor))

    def coarse(picture: Image.Image) -> Image.Image:
        return picture.resize(small, Image.Resampling.BOX).resize((width, height), Image.Resampling.BILINEAR)

    return changed(image, coarse)


def rotation(image: Pixels, strength: int, rng: np.random.Generator) -> Pixels:
    """Turned about its centre, to the left or to the right; what comes into view at the corners is the image mirrored at its border."""
    degrees = (4, 9, 16, 27, 42)[strength - 1] * rng.uniform(0.8, 1.0) * rng.choice((-1, 1))
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    height, width = image.shape[:2]
    # How far corners reach over the border, and a pixel for the interpolation.
    over_x = math.ceil(max(0, width * cos + height * abs(sin) - width) / 2) + 2
    over_y = math.ceil(max(0, height * cos + width * abs(sin) - height) / 2) + 2
    wide = np.pad(image, ((over_y, over_y), (over_x, over_x), (0, 0)), "symmetric")
    centre_x, centre_y = width / 2, height / 2
    way = (cos, -sin, centre_x + over_x - cos * centre_x + sin * centre_y, sin, cos, centre_y + over_y - sin * centre_x - cos * centre_y)
    return changed(wide, lambda picture: picture.transform((width, height), Image.Transform.AFFINE, way, Image.Resampling.BILINEAR))


def fineness(image: Pixels) -> float:
    """How much of a strength an image of this size can take and still be recognised, in (0, 1]."""
    return float(min(1.0, min(image.shape[:2]) / FULL_SIDE) ** POWER)


def line_kernel(length: float, angle: float) -> Floats:
    """(2r + 1, 2r + 1) weights of a line through the centre, as wide as a pixel; ``length`` in pixels, ``angle`` in radians."""
    down, across = _offsets(length / 2 + 1)
    along = np.clip(across * math.cos(angle) + down * math.sin(angle), -length / 2, length / 2)
    distance = np.hypot(across - along * math.cos(angle), down - along * math.sin(angle))
    return _weights(1 - distance)


def disc_kernel(radius: float) -> Floats:
    """(2r + 1, 2r + 1) weights of a disc, ``radius`` in pixels from the middle of a pixel; its edge is smooth over one pixel."""
    return _weights(radius + 1 - np.hypot(*_offsets(radius + 1)))


def _offsets(reach: float) -> tuple[Floats, Floats]:
    steps = np.arange(-math.ceil(reach), math.ceil(reach) + 1, dtype=np.float32)
    return steps[:, None], steps[None, :]


def _weights(inside: NDArray[np.floating]) -> Floats:
    clipped = np.clip(inside, 0, 1)
    weights: Floats = (clipped / clipped.sum()).astype(np.float32)
    return weights


def convolved(image: Pixels, kernel: Floats) -> Pixels:
    """An image (h, w, c) blurred by a kernel (2r + 1, 2r + 1) with sum 1; beyond its border the image is mirrored."""
    (height, width), reach = image.shape[:2], len(kernel) // 2
    wide = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), "symmetric").astype(np.float32)
    # What wraps around only reaches the first rows and columns, which are cut off.
    shape = [-(-side // FAST_SIDE) * FAST_SIDE for side in wide.shape[:2]]
    spectrum = np.fft.rfft2(wide, shape, axes=(0, 1)) * np.fft.rfft2(kernel, shape)[..., None]
    return bytes_of(np.fft.irfft2(spectrum, shape, axes=(0, 1))[2 * reach : 2 * reach + height, 2 * reach : 2 * reach + width])
