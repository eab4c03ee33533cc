"""Light and weather laid over an image: night, glare, rain, fog and snow.

Each function takes an image (h, w, c) uint8, a strength from 1 to 5 and random numbers, and gives a new image of the same shape. What
is drawn at random (where the light stands, where drops fall) does not depend on the strength, so that the same random numbers give one
scene in five strengths. Sizes are shares of the image's shorter side. Colours need three channels; others are changed all alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]

# What is drawn (drops, flakes) is drawn larger and then averaged down to the image, so that edges are smooth.
DRAWN_SIDE, FINEST = 448, 8
HAZE, SNOWFALL = (206, 209, 213), (236, 239, 245)
MOST_DROPS, MOST_FLAKES = 420, 300


def night(image: Pixels, strength: int, rng: np.random.Generator) -> Pixels:
    """Little light: dark, its shadows darkest, a little blue, with the noise of a sensor at high gain."""
    light = (0.86, 0.63, 0.47, 0.35, 0.26)[strength - 1]
    gamma = (1.03, 1.1, 1.18, 1.26, 1.35)[strength - 1]
    read = (1.0, 2.0, 3.5, 5.0, 6.5)[strength - 1]
    levels = (255 * light * (np.arange(256) / 255) ** gamma).astype(np.float32)
    spread = np.sqrt(read**2 + 0.06 * read * levels)
    return bytes_of(levels[image] * coloured(image, (0.93, 0.98, 1.1)) + spread[image] * rng.standard_normal(image.shape, np.float32))


def glare(image: Pixels, strength: int, rng: np.random.Generator) -> Pixels:
    """A lamp or the sun in the picture: a white spot, its halo, ghosts of the lens, and a veil over everything."""
    height, width = image.shape[:2]
    x, y = rng.uniform(0.1, 0.9), rng.uniform(0.05, 0.6)
    core = (0.015, 0.03, 0.06, 0.09, 0.13)[strength - 1]
    halo = (0.1, 0.25, 0.45, 0.7, 0.95)[strength - 1]
    veil = (0.02, 0.05, 0.1, 0.16, 0.24)[strength - 1]
    distance = _distance(height, width, x, y)
    light = 2 * np.exp(-((distance / core) ** 2)) + halo / (1 + (distance / 0.16) ** 2) + veil
    for along, radius in ((1.35, 0.05), (1.75, 0.09)):  # on the line from the light through the image's centre
        ghost = _distance(height, width, x + along * (0.5 - x), y + along * (0.5 - y))
        light += 0.25 * halo * np.clip((radius - ghost) / 0.01, 0, 1)
    return bytes_of(image + 255 * light[..., None] * coloured(image, (1.0, 0.96, 0.87)))


def rain(image: Pixels, strength: int, rng: np.random.Generator) -> Pixels:
    """Streaks of falling drops, slanted by the wind, over a duller and darker scene."""
    drops = round(MOST_DROPS * (0.1, 0.25, 0.45, 0.7, 1.0)[strength - 1])
    dull = (0.05, 0.11, 0.18, 0.26, 0.34)[strength - 1]
    slant = math.tan(math.radians(rng.uniform(-20, 20)))
    places = rng.random((MOST_DROPS, 4))

    def fall(draw: ImageDraw.ImageDraw, fine: int, width: int, height: int) -> None:
        side = min(width, height)
        for across, down, near, glint in places[:drops].tolist():
            length = side * (0.05 + 0.11 * near)
            x, y = across * 1.4 * width - 0.2 * width, down * (height + length) - length
            thick = round(max(0.3 * fine, side * (0.003 + 0.005 * near)))
            draw.line((x, y, x + slant * length, y + length), fill=round(70 + 110 * glint), width=thick)

    duller = laid_over(image * (1 - 0.5 * dull), dull, coloured(image, (124, 128, 134)))
    return bytes_of(laid_over(duller, _drawn(image, fall), coloured(image, (222, 226, 232))))


def fog(image: Pixels, strength: int, rng: np.random.Generator) -> Pixels:
    """A pale veil in drifting patches, thicker towards the top, where scenes are farther away."""
    density = (0.15, 0.4, 0.75, 1.25, 2.0)[strength - 1]
    height, width = image.shape[:2]
    depth = 0.4 + 0.6 * np.linspace(1, 0, height, dtype=np.float32)[:, None]
    depth = depth + 0.7 * (smooth_noise(rng, height, width) - 0.5)
    return bytes_of(laid_over(image, 1 - np.exp(-density * np.clip(depth, 0.1, None)), coloured(image, HAZE)))


def snow(image: Pixels, strength: int, rng: np.random.Generator) -> Pixels:
    """Falling flakes, near ones large and soft, over a scene that turns pale."""
    flakes = round(MOST_FLAKES * (0.12, 0.28, 0.48, 0.72, 1.0)[strength - 1])
    pale = (0.05, 0.12, 0.2, 0.29, 0.38)[strength - 1]
    wind = rng.uniform(-0.6, 0.6)
    places = rng.random((MOST_FLAKES, 4))

    def fall(draw: ImageDraw.ImageDraw, fine: int, width: int, height: int) -> None:
        side = min(width, height)
        for across, down, near, bright in places[:flakes].tolist():
            radius = side * (0.004 + 0.016 * near**3)
            x, y = across * width, down * height
            drift = wind * radius
            shape = (x - radius - abs(drift), y - radius, x + radius + abs(drift), y + radius)
            draw.ellipse(shape, fill=round(165 + 80 * bright))

    paler = laid_over(image, pale, coloured(image, SNOWFALL))
    return bytes_of(laid_over(paler, _drawn(image, fall), coloured(image, (250, 251, 255))))


def bytes_of(values: NDArray[np.floating]) -> Pixels:
    """Values of any range as an image's, rounded and clipped to [0, 255]."""
    clipped: Pixels = np.clip(values + 0.5, 0, 255).astype(np.uint8)
    return clipped


def laid_over(image: Pixels | Floats, share: float | Floats, light: Floats) -> Floats:
    """An image (h, w, c) of which ``share``, a number or (h, w), is hidden behind light of a colour (c,)."""
    hidden = np.asarray(share, np.float32)
    hidden = hidden[..., None] if hidden.ndim else hidden
    mixed: Floats = image + hidden * (light - image.astype(np.float32))
    return mixed


def coloured(image: Pixels, colour: tuple[float, float, float]) -> Floats:
    """(c,) what red, green and blue get of something; of other channels than these three each gets the mean."""
    rgb = np.array(colour, np.float32)
    return rgb if image.shape[2] == 3 else np.full(image.shape[2], rgb.mean(), np.float32)


def smooth_noise(rng: np.random.Generator, height: int, width: int) -> Floats:
    """(h, w) cloudy noise in [0, 1] with a mean near a half: three grids of random numbers, each finer and fainter."""
    total = np.zeros((height, width), np.float32)
    for cells, weight in ((3, 0.55), (6, 0.3), (12, 0.15)):
        grid = Image.fromarray(rng.random((cells, cells), np.float32))
        total += weight * np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC))
    return np.clip(total, 0, 1)


def _distance(height: int, width: int, x: float, y: float) -> Floats:
    """(h, w) distances of the pixels from a point (shares of width and height), in shares of the shorter side."""
    side = min(height, width)
    down, across = (np.arange(height, dtype=np.float32) + 0.5) / side, (np.arange(width, dtype=np.float32) + 0.5) / side
    return np.hypot(down[:, None] - np.float32(y * height / side), across - np.float32(x * width / side))


def _drawn(image: Pixels, draw: Callable[[ImageDraw.ImageDraw, int, int, int], None]) -> Floats:
    """(h, w) opacity in [0, 1] of what ``draw`` draws; it is told how many pixels a side of its canvas make one of the image, and
    the canvas's width and height."""
    height, width = image.shape[:2]
    fine = max(2, min(FINEST, DRAWN_SIDE // min(height, width)))
    canvas = Image.new("L", (width * fine, height * fine))
    draw(ImageDraw.Draw(canvas), fine, *canvas.size)
    return np.asarray(canvas.reduce(fine), np.float32) / np.float32(255)
