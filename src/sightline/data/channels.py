"""Images of any number of channels as pictures: what Pillow does to them, and what is shown of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

GREY = 128


def changed(image: NDArray[np.uint8] | Image.Image, change: Callable[[Image.Image], Image.Image]) -> NDArray[np.uint8]:
    """What a Pillow operation makes of an image, (h, w, c) uint8 or Pillow's: at once of three channels, of others one by one."""
    if isinstance(image, Image.Image):
        return np.asarray(change(image))
    if image.shape[2] == 3:
        return np.asarray(change(Image.fromarray(image)))
    return np.stack([np.asarray(change(Image.fromarray(np.ascontiguousarray(plane)))) for plane in np.moveaxis(image, -1, 0)], axis=-1)


def background(picture: Image.Image) -> int | tuple[int, ...]:
    """Middle grey, as the picture's mode needs it."""
    return GREY if picture.mode == "L" else (GREY,) * len(picture.getbands())


def picture_of(image: NDArray[np.uint8]) -> Image.Image:
    """What is shown of an image (h, w, c) uint8: its first three channels as red, green and blue, or its first as grey."""
    return Image.fromarray(np.ascontiguousarray(image[:, :, :3] if image.shape[2] >= 3 else image[:, :, 0]))
