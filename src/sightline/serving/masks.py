"""A label map as a page shows it: a small PNG to lay over the picture, and the colours of its classes."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline.drawing.maps import table_of
from sightline.scenes import IGNORED, Segmentation, is_background

# Pixels of the longer side; a page shows no more, and a photograph's full size would be slow to send.
LARGEST = 1024


def mask_of(found: Segmentation, largest: int = LARGEST) -> dict[str, Any]:
    """``{"mask": a PNG as data URL, "colours": {label: "#rrggbb"}}``: of the image's size or at most ``largest`` pixels, its palette the
    classes by index, see-through where there is background or nothing that counts; ``colours`` has the classes that are there, but
    for the background."""
    shrunk = max(1.0, max(found.classes.shape) / largest)
    rows, columns = (_places(side, shrunk) for side in found.classes.shape)
    table = table_of(found.names)
    picture = Image.fromarray(np.ascontiguousarray(found.classes[rows][:, columns]))
    picture.putpalette(table.tobytes())
    clear = [0 if is_background(name) else 255 for name in found.names]
    file = io.BytesIO()
    picture.save(file, "PNG", transparency=bytes(clear + [0] * (IGNORED + 1 - len(clear))))
    shown = {label: f"#{bytes(table[found.names.index(label)]).hex()}" for label in found.labels if not is_background(label)}
    return {"mask": f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}", "colours": shown}


def _places(side: int, shrunk: float) -> NDArray[np.int64]:
    """Which pixels of a side stay when it is made so many times as short: those in the middles of the new ones."""
    middles = (np.arange(max(1, round(side / shrunk))) + 0.5) * shrunk
    return np.minimum(middles.astype(np.int64), side - 1)
