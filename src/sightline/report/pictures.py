"""The small pictures a report carries inside itself."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

JPEG_QUALITY = 80


def thumbnail(image: NDArray[np.uint8], side: int = 224) -> bytes:
    """A JPEG of an upright RGB image, (h, w, 3) uint8, its longer side at most ``side`` pixels; never enlarged.

    The file holds pixels only: no EXIF, no profile, no comment, so a report gives away nothing that a camera wrote.
    """
    picture = Image.fromarray(np.ascontiguousarray(image))
    picture.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return file.getvalue()
