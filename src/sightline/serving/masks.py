"""A label map as a page shows it: a small PNG to lay over the picture, and the colours of its classes."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from sightline.drawing.maps import BACKGROUND, table_of
from sightline.scenes import IGNORED, Segmentation

# Pixels of the longer side; a page shows no more, and a photograph's full size would be slow to send.
LARGEST = 1024


def mask_of(found: Segmentation, largest: int = LARGEST) -> dict[str, Any]:
    """``{"mask": a PNG as data URL, "colours": {label: "#rrggbb"}}``: of the image's size or at most ``largest`` pixels, its palette the
    classes by index, see-through where there is background or nothing that counts; ``colours`` has the classes that are there, but
    for the background."""
    height, width = found.classes.shape
    shrunk = max(1.0, max(height, width) / largest)
    rows, columns = (
        np.floor((np.arange(max(1, round(side / shrunk))) + 0.5) * shrunk).astype(int).clip(0, side - 1) for side in (height, width)
    )
    table = table_of(found.names)
    picture = Image.fromarray(np.ascontiguousarray(found.classes[rows][:, columns]))
    picture.putpalette(table.tobytes())
    clear = [0 if name.lower() == BACKGROUND else 255 for name in found.names]
    file = io.BytesIO()
    picture.save(file, "PNG", transparency=bytes(clear + [0] * (IGNORED + 1 - len(clear))))
    shown = {label: f"#{bytes(table[found.names.index(label)]).hex()}" for label in found.labels if label.lower() != BACKGROUND}
    return {"mask": f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}", "colours": shown}
