"""A heat map over a photograph, legible on any: the photograph turns grey and dark, heat glows on it, a line rings the hotter half.

The colours grow lighter from cold to hot without exception, so that they keep their order for every kind of colour blindness and in
a black and white print.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sightline.explanation.subject import Floats, Images

# Heat from 0 to 1, with the colour (red, green, blue) at each.
COLOURS = ((0.0, (70, 48, 118)), (0.3, (142, 52, 132)), (0.6, (214, 90, 82)), (0.8, (246, 156, 58)), (1.0, (255, 240, 132)))
# How much of the colour is laid over the grey photograph where there is no heat and where it is greatest.
COOL, HOT = 0.1, 0.8
# Shades of the grey photograph, of 255: the hottest colour is lighter than its white.
BLACK, WHITE = 16, 120
# What the network did not see is darker still.
UNSEEN = 0.45
# Heat at which the ring is drawn, in black on white so that it shows on either.
RING = 0.5


def colours(heat: Floats) -> NDArray[np.float64]:
    """(..., 3) in [0, 255] for heat in [0, 1]."""
    places, anchors = [place for place, _ in COLOURS], np.array([colour for _, colour in COLOURS])
    return np.stack([np.interp(heat, places, anchors[:, channel]) for channel in range(3)], axis=-1)


def overlay(picture: Images, heat: Floats) -> Images:
    """A photograph (h, w, 3) uint8 under heat (h, w) in [0, 1], NaN where the network saw nothing."""
    grey = picture @ np.array([0.299, 0.587, 0.114])
    grey = (BLACK + grey * (WHITE - BLACK) / 255)[:, :, None]
    known = np.nan_to_num(heat)
    strength = (COOL + (HOT - COOL) * known)[:, :, None]
    mixed = np.where(np.isnan(heat)[:, :, None], UNSEEN * grey, (1 - strength) * grey + strength * colours(known))
    return _ringed(mixed.round().astype(np.uint8), known >= RING)


def scale(width: int, height: int) -> Images:
    """The colours from no heat to the greatest as they look over middle grey, (height, width, 3) uint8."""
    heat = np.broadcast_to(np.linspace(0, 1, width), (height, width))
    return overlay(np.full((height, width, 3), 128, np.uint8), heat)


def _ringed(picture: Images, inside: NDArray[np.bool_]) -> Images:
    """A white line just inside the border of an area, and a black one just outside."""
    thick = max(1, min(picture.shape[:2]) // 200)
    grown, shrunk = _spread(inside, thick), ~_spread(~inside, thick)
    picture[inside & ~shrunk] = 255
    picture[grown & ~inside] = 0
    return picture


def _spread(area: NDArray[np.bool_], steps: int) -> NDArray[np.bool_]:
    """The area and what is within so many pixels of it, up, down and to the sides."""
    for _ in range(steps):
        wider = area.copy()
        wider[1:] |= area[:-1]
        wider[:-1] |= area[1:]
        wider[:, 1:] |= area[:, :-1]
        wider[:, :-1] |= area[:, 1:]
        area = wider
    return area
