"""What people measured in images before networks learned to: shape, texture and colour, as one row of numbers an image."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline.data.channels import changed

Floats = NDArray[np.float32]

# Images are scaled to this side first: enough for outlines, and a few milliseconds an image.
SIDE = 64
ORIENTATIONS, CELL, BLOCK = 9, 8, 2
# Neighbours of a pixel and the radii of their circle; uniform patterns have two bins more than neighbours.
NEIGHBOURS, RADII = 8, (1, 2)
# Texture is counted in this many parts of the image in each direction, as a texture has a place.
PARTS = 2
# Bins of hue, saturation and brightness; and of each channel of images that are not red, green and blue.
COLOUR_BINS, CHANNEL_BINS = (8, 3, 3), 16
RGB = 3

KINDS: Mapping[str, str] = MappingProxyType({
    "hog": "shape: histograms of oriented gradients (Dalal and Triggs, 2005)",
    "lbp": "texture: local binary patterns (Ojala et al., 2002)",
    "colour": "colour: a histogram of hue, saturation and brightness",
})  # fmt: skip


def shrunk(images: NDArray[np.uint8], side: int = SIDE) -> NDArray[np.uint8]:
    """(n, h, w, c) uint8 scaled to (n, side, side, c): all that features need, so that no more has to be kept in memory."""
    if images.shape[1:3] == (side, side):
        return images
    return np.stack([changed(image, lambda picture: picture.resize((side, side), Image.Resampling.BILINEAR)) for image in images])


def features_of(images: NDArray[np.uint8]) -> dict[str, Floats]:
    """Each kind's features (n, d) float32 of n images (n, h, w, c) uint8, n at least 1."""
    small = shrunk(images)
    greys = [_grey(image) for image in small]
    found = {
        "hog": [_shape(grey) for grey in greys],
        "lbp": [_texture(grey) for grey in greys],
        "colour": [_colour(image) for image in small],
    }
    return {kind: np.stack(rows).astype(np.float32) for kind, rows in found.items()}


def _grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(h, w) uint8: brightness as the eye sees it of three channels, the mean of any other number."""
    if image.shape[2] == RGB:
        return np.asarray(Image.fromarray(image).convert("L"))
    return np.asarray(image.mean(axis=2).round().astype(np.uint8))


def _shape(grey: NDArray[np.uint8]) -> NDArray[Any]:
    from skimage.feature import hog

    found: NDArray[Any] = hog(grey, ORIENTATIONS, (CELL, CELL), (BLOCK, BLOCK))
    return found


def _texture(grey: NDArray[np.uint8]) -> NDArray[Any]:
    """Square roots of the shares of each pattern, in each part of the image."""
    from skimage.feature import local_binary_pattern

    bins, half, counts = NEIGHBOURS + 2, SIDE // PARTS, []
    for radius in RADII:
        patterns = local_binary_pattern(grey, NEIGHBOURS, radius, "uniform").astype(np.int64)
        parts = patterns.reshape(PARTS, half, PARTS, half).swapaxes(1, 2).reshape(PARTS * PARTS, -1)
        counts += [np.bincount(part, minlength=bins) / part.size for part in parts]
    return np.sqrt(np.concatenate(counts))


def _colour(image: NDArray[np.uint8]) -> NDArray[Any]:
    """Square roots of the shares of each colour; of other channels than red, green and blue, a histogram of each."""
    if image.shape[2] != RGB:
        counts = np.stack(
            [np.bincount(plane.ravel() // (256 // CHANNEL_BINS), minlength=CHANNEL_BINS) for plane in np.moveaxis(image, -1, 0)]
        )
        return np.sqrt(counts.ravel() / image[:, :, 0].size)
    hue, saturation, brightness = np.moveaxis(np.asarray(Image.fromarray(image).convert("HSV")).astype(np.int64), -1, 0)
    hues, saturations, brightnesses = COLOUR_BINS
    place = (hue * hues // 256 * saturations + saturation * saturations // 256) * brightnesses + brightness * brightnesses // 256
    return np.sqrt(np.bincount(place.ravel(), minlength=hues * saturations * brightnesses) / place.size)
