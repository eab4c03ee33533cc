"""The small pictures a report carries inside itself."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline.data.channels import picture_of

JPEG_QUALITY = 80


def thumbnail(image: NDArray[np.uint8], side: int = 224) -> bytes:
    """A JPEG of an upright image, (h, w, channels) uint8, its longer side at most ``side`` pixels; never enlarged.

    Of other channels than red, green and blue, the first three are shown, or the first as grey.

    The file holds pixels only: no EXIF, no profile, no comment, so a report gives away nothing that a camera wrote.
    """
    picture = picture_of(image)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return file.getvalue()
