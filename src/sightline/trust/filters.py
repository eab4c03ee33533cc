"""The first layer's filters as a picture: what each looks for in a few pixels."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import nn

# At most so many are drawn, the strongest; each about so many pixels wide. Weaker than this share of the strongest, one sees nothing.
MOST_FILTERS, TILE = 64, 44
UNUSED_SHARE = 0.01
GAP = 4
RGB, GREY = 3, 128


@dataclass(frozen=True)
class Filters:
    """A first layer: its name, and its weights (n, inputs, rows, columns)."""

    module: str
    weights: NDArray[np.float32]


def first_filters(backbone: nn.Module, channels: int) -> Filters | None:
    """The filters of the first convolution that sees the image itself; None where there is none."""
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Conv2d) and module.in_channels == channels and module.groups == 1:
            return Filters(name, module.weight.detach().float().cpu().numpy())
    return None


def filter_pixels(weights: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(n, inputs, rows, columns) to (n, rows, columns, 1 or 3) uint8: no weight is middle grey, the filter's largest weight black or white.

    Other inputs than one, or red, green and blue, are averaged.
    """
    shown = weights if weights.shape[1] in (1, RGB) else weights.mean(axis=1, keepdims=True)
    largest = np.abs(shown).max(axis=(1, 2, 3), keepdims=True)
    scaled = np.divide(shown, largest, out=np.zeros_like(shown), where=largest > 0)
    return np.moveaxis(np.clip(GREY + 127 * scaled, 0, 255).round().astype(np.uint8), 1, -1)


def drawn_filters(weights: NDArray[np.float32]) -> NDArray[np.int64]:
    """The filters that are drawn, strongest first; of weights that are all 0, one."""
    strength = np.abs(weights).max(axis=(1, 2, 3))
    order = np.argsort(-strength, kind="stable")
    return order[: max(1, min(MOST_FILTERS, int((strength > UNUSED_SHARE * strength.max()).sum())))]


def filter_grid(weights: NDArray[np.float32]) -> bytes:
    """A PNG of the strongest filters in use, about twice as wide as high, each weight a square; transparent between them."""
    tiles = filter_pixels(weights[drawn_filters(weights)])
    side = max(1, round(TILE / tiles.shape[1]))
    tiles = np.broadcast_to(tiles, (*tiles.shape[:3], RGB)).repeat(side, axis=1).repeat(side, axis=2)
    n, height, width = tiles.shape[:3]
    columns = math.ceil(math.sqrt(2 * n))
    rows = math.ceil(n / columns)
    canvas = np.zeros((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 4), np.uint8)
    for place, tile in enumerate(tiles):
        top, left = place // columns * (height + GAP), place % columns * (width + GAP)
        canvas[top : top + height, left : left + width] = np.concatenate([tile, np.full((height, width, 1), 255, np.uint8)], axis=2)
    file = io.BytesIO()
    Image.fromarray(canvas).save(file, "PNG", optimize=True)
    return file.getvalue()


def described(filters: Filters) -> dict[str, Any]:
    """The numbers that go with the picture."""
    n, inputs, rows, columns = filters.weights.shape
    strength = np.abs(filters.weights).max(axis=(1, 2, 3))
    return {
        "layer": filters.module, "n": len(drawn_filters(filters.weights)), "of": n, "size": [rows, columns], "channels": inputs,
        "unused": int((strength <= UNUSED_SHARE * strength.max()).sum()),
    }  # fmt: skip
