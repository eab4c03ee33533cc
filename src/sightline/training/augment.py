"""Random changes to training images: one affine resampling for all geometry, then colour on the batch.

Parameters are sampled apart from their use, so that whatever lies on an image (boxes, masks) can follow its pixels.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sightline.config import AugmentConfig
from sightline.data.channels import background, changed
from sightline.data.prepare import Prepare
from sightline.evaluation.corruptions import CORRUPTIONS

ASPECT_RANGE = (3 / 4, 4 / 3)
ERASED_AREA, ERASED_ASPECT = (0.02, 0.33), (0.3, 3.3)
LUMA = (0.299, 0.587, 0.114)
# Sets the random numbers of alternating flips apart.
MIRRORED = 4
# What is hardly recognisable any more teaches little: of the five strengths, the first three.
HARDEST = 3


def mirrored_in(epoch: int, rows: NDArray[np.int64], seed: int) -> NDArray[np.bool_]:
    """(n,) which of the images in these rows are mirrored in an epoch where they alternate: half of them in one, the others in the next.

    So two epochs show every image both ways, where chance would show a quarter of them the same way twice (Jordan, 2024). Which half is
    a matter of (seed, row) alone, by the last bit of SplitMix64 (Steele et al., "Fast splittable pseudorandom number generators", 2014).
    """
    mixed = rows.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.random.default_rng([seed, MIRRORED]).integers(
        2**63, dtype=np.uint64
    )
    for right, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(right))) * np.uint64(factor)
    return ((mixed ^ (mixed >> np.uint64(31))) & np.uint64(1)).astype(bool) ^ bool(epoch % 2)


def shifted(rng: np.random.Generator, image: NDArray[np.uint8], most: int) -> NDArray[np.uint8]:
    """The image (h, w, c) moved by up to ``most`` pixels each way; what comes in at the edge is mirrored."""
    height, width = image.shape[:2]
    down, right = rng.integers(0, 2 * most + 1, 2).tolist()
    wide = np.pad(image, ((most, most), (most, most), (0, 0)), "reflect")
    return wide[down : down + height, right : right + width]


def sample_affine(
    rng: np.random.Generator, height: int, width: int, prepare: Prepare, config: AugmentConfig, turn: bool | None = None
) -> NDArray[np.float64]:
    """A (2, 3) affine from (x, y, 1) in the network's input to (x, y) in an image of this size: crop, scale, rotate, flip.

    ``turn`` says whether an image that may be mirrored is; None to leave that to chance.
    """
    centre_x, centre_y, crop_width, crop_height = _sample_crop(rng, height, width, prepare, config)
    angle = math.radians(rng.uniform(-config.rotate, config.rotate)) if config.rotate else 0.0
    mirror = -1 if config.flip and (rng.random() < 0.5 if turn is None else turn) else 1
    rows, columns = prepare.shape
    scale_x, scale_y = mirror * crop_width / columns, crop_height / rows
    cos, sin = math.cos(angle), math.sin(angle)
    linear = np.array([[cos * scale_x, -sin * scale_y], [sin * scale_x, cos * scale_y]])
    offset = np.array([centre_x, centre_y]) - linear @ np.array([columns / 2, rows / 2])
    return np.column_stack([linear, offset])


def _sample_crop(
    rng: np.random.Generator, height: int, width: int, prepare: Prepare, config: AugmentConfig
) -> tuple[float, float, float, float]:
    """Centre and size of the part of the image that is seen, in its pixels."""
    if config.crop_scale >= 1:  # what evaluation sees
        side = min(width, height) * prepare.crop_fraction if prepare.fit == "crop" else max(width, height)
        seen = (width, height) if prepare.fit == "squash" else (side, side)
        return width / 2, height / 2, *seen
    share = rng.uniform(config.crop_scale, 1.0)
    aspect = math.exp(rng.uniform(*map(math.log, ASPECT_RANGE)))
    if prepare.fit == "crop":
        side_x = side_y = math.sqrt(width * height)
        frame_width, frame_height = float(width), float(height)
    else:
        frame_width, frame_height = (width, height) if prepare.fit == "squash" else (max(width, height),) * 2
        side_x, side_y = frame_width, frame_height
    crop_width = min(frame_width, side_x * math.sqrt(share * aspect))
    crop_height = min(frame_height, side_y * math.sqrt(share / aspect))
    slack_x, slack_y = (frame_width - crop_width) / 2, (frame_height - crop_height) / 2
    return width / 2 + rng.uniform(-slack_x, slack_x), height / 2 + rng.uniform(-slack_y, slack_y), crop_width, crop_height


def warp(image: NDArray[np.uint8], affine: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """The image (h, w, c) uint8 as the (height, width, c) uint8 input of that ``shape`` that ``affine`` describes; outside is grey."""
    # Where several pixels fall on one, it is drawn in parts that are then averaged: evaluation's resampling averages as well.
    across, down = (max(1, round(math.hypot(*column))) for column in affine[:, :2].T)
    fine = affine / (across, down, 1)
    large, way = (shape[1] * across, shape[0] * down), tuple(fine.ravel())

    def view(picture: Image.Image) -> Image.Image:
        fill = background(picture)
        return picture.transform(large, Image.Transform.AFFINE, way, Image.Resampling.BILINEAR, fillcolor=fill).reduce((across, down))

    return changed(image, view)


def erase(rng: np.random.Generator, image: NDArray[np.uint8], share: float) -> None:
    """Paint a rectangle of the image over with noise, in ``share`` of the calls (Zhong et al., "Random Erasing", 2020)."""
    if rng.random() >= share:
        return
    height, width = image.shape[:2]
    area, aspect = rng.uniform(*ERASED_AREA), math.exp(rng.uniform(*map(math.log, ERASED_ASPECT)))
    tall = min(height, max(1, round(height * math.sqrt(area * aspect))))
    wide = min(width, max(1, round(width * math.sqrt(area / aspect))))
    top, left = rng.integers(height - tall + 1), rng.integers(width - wide + 1)
    image[top : top + tall, left : left + wide] = rng.integers(0, 256, (tall, wide, image.shape[2]), np.uint8)


def harden(rng: np.random.Generator, image: NDArray[np.uint8], *, turn: bool) -> NDArray[np.uint8]:
    """The image (h, w, c) uint8 in a condition and a strength drawn at random, of which being turned is one if it may ``turn``."""
    names = [name for name in CORRUPTIONS if name != "rotation" or turn]
    corruption, strength = CORRUPTIONS[names[rng.integers(len(names))]], int(rng.integers(1, HARDEST + 1))
    return corruption(image, strength, rng)


def sample_colour(rng: np.random.Generator, config: AugmentConfig) -> NDArray[np.float32]:
    """(3,) factors of brightness, contrast and saturation; 1 changes nothing."""
    return rng.uniform(1 - config.colour, 1 + config.colour, 3).astype(np.float32)


def recolour(images: Tensor, factors: Tensor) -> Tensor:
    """Images (n, h, w, c) with values in [0, 255] to float32 ones with their ``factors`` (n, 3) applied, clipped to the same range.

    Saturation is a matter of red, green and blue: other numbers of channels have none.
    """
    brightness, contrast, saturation = factors[:, :, None, None, None].unbind(1)
    bright = images.float() * brightness
    mean = bright.mean(dim=(1, 2, 3), keepdim=True)
    contrasted = mean + (bright - mean) * contrast
    if images.shape[3] != 3:
        return contrasted.clamp(0, 255)
    grey = contrasted @ torch.tensor(LUMA, device=images.device)[:, None]
    return (grey + (contrasted - grey) * saturation).clamp(0, 255)
