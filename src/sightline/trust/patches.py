"""Which channels answer to something in particular, and the parts of training images that they answer to most."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sightline.model.network import Network
from sightline.trust.places import Place, maps_at

Images = Callable[[NDArray[np.int64]], NDArray[np.uint8]]
"""Prepared images (m, s, s, channels) uint8 of the rows (m,) asked for."""

BATCH = 16
# Channels drawn of each stage, and patches of each channel, all from different images.
CHANNELS, PATCHES = 3, 6
# Two channels drawn may have this many of the images they answer to most in common.
MOST_SHARED = 1
# On maps at least so wide a unit's answer is averaged with those around it. That leaves out the rim, where channels answer to the edge of
# the image itself, and tells strong answers apart that a limited rectifier (ReLU6) makes equal.
AVERAGED, AROUND = 7, 3
# Only of the channels that answer most strongly, this share, the most selective are drawn: weak ones are hardly used on such images.
STRONG_SHARE = 0.25
# A unit's field is where this share of its squared gradient lies, and at least so many steps of the map wide.
FIELD_SHARE, FEWEST_STEPS = 0.8, 5
FIELD_IMAGES = 4


@dataclass(frozen=True)
class Answers:
    """How strongly each channel of a place answers to each of m images, (m, channels) float32, and at which cell, (m, channels) int64."""

    strongest: NDArray[np.float32]
    cells: NDArray[np.int64]
    columns: int


def answers(network: Network, places: Sequence[Place], images: Images, rows: NDArray[np.int64], device: torch.device) -> list[Answers]:
    """For each place how its channels answer to the images of the rows."""
    found: list[list[tuple[Tensor, Tensor]]] = [[] for _ in places]
    with torch.no_grad():
        for batch in batches(images, rows, device):
            for kept, values in zip(found, maps_at(network, batch, places), strict=True):
                strongest, cells = strongest_of(values)
                kept.append((strongest.float().cpu(), cells.cpu()))
    together = ([torch.cat(part).numpy() for part in zip(*kept, strict=True)] for kept in found)
    return [Answers(strongest, cells, place.columns) for (strongest, cells), place in zip(together, places, strict=True)]


def batches(images: Images, rows: NDArray[np.int64], device: torch.device) -> Iterator[Tensor]:
    for start in range(0, len(rows), BATCH):
        yield torch.from_numpy(images(rows[start : start + BATCH])).to(device).float()


def strongest_of(values: Tensor) -> tuple[Tensor, Tensor]:
    """(n, channels) each channel's strongest answer in maps (n, channels, h, w), and the cell of the map where it is, counted by rows."""
    margin, inner = 0, values
    if values.shape[-1] >= AVERAGED:
        margin = AROUND // 2
        inner = (values[:, :, margin:-margin, margin:-margin] + nn.functional.avg_pool2d(values, AROUND, 1)) / 2
    strongest, cells = inner.flatten(2).max(dim=2)
    rows, columns = cells // inner.shape[3] + margin, cells % inner.shape[3] + margin
    return strongest, rows * values.shape[3] + columns


def selective_channels(strongest: NDArray[np.float32]) -> list[int]:
    """Up to ``CHANNELS`` channels, most selective first, from how strongly they answer to m images, (m, channels).

    They are among those that answer most strongly at all. A channel is the more selective the further its strongest images lie above
    the others, in standard deviations. Channels that answer to mostly the same images are drawn once; those that answer alike to all
    are not drawn.
    """
    known = np.where(np.isfinite(strongest).all(axis=0), strongest, 0.0)
    order = np.argsort(-known, axis=0, kind="stable")[:PATCHES]
    spread = known.std(axis=0)
    best = np.take_along_axis(known, order, axis=0).mean(axis=0)
    candidates = max(2 * CHANNELS, round(STRONG_SHARE * len(best)))
    strong = (best >= np.sort(best)[-min(candidates, len(best))]) & (spread > 1e-6)
    selectivity = np.divide(best - known.mean(axis=0), spread, out=np.zeros_like(best), where=strong)
    chosen: list[int] = []
    for channel in np.argsort(-selectivity, kind="stable").tolist():
        if len(chosen) == CHANNELS or selectivity[channel] <= 0:
            break
        if all(len(np.intersect1d(order[:, channel], order[:, other])) <= MOST_SHARED for other in chosen):
            chosen.append(channel)
    return chosen


def field_of(network: Network, place: Place, images: Tensor) -> int | None:
    """The side in pixels of the part of an image that decides on a unit in the middle of the map: where most of its gradient lies,
    mean over images (n, s, s, channels). None where the network lets no gradient through.

    It is smaller than all a unit can see: Luo et al., "Understanding the effective receptive field" (2016).
    """
    side = images.shape[1]
    inputs = images.clone().requires_grad_()
    (values,) = maps_at(network, inputs, [place])
    row, column = values.shape[2] // 2, values.shape[3] // 2
    if not values.requires_grad:
        return None
    (gradient,) = torch.autograd.grad(values[:, :, row, column].square().sum(), inputs)
    weight = gradient.square().sum(dim=(0, 3)).cpu().double().numpy()
    step = side / values.shape[2]
    middle = (np.array([row, column]) + 0.5) * step
    rows, columns = np.abs(np.arange(side) + 0.5 - middle[0]), np.abs(np.arange(side) + 0.5 - middle[1])
    distance = np.maximum(rows[:, None], columns[None, :]).ravel()
    order = np.argsort(distance, kind="stable")
    reached = weight.ravel()[order].cumsum()
    half = distance[order][int(np.searchsorted(reached, FIELD_SHARE * reached[-1]))] if reached[-1] > 0 else 0.0
    return int(min(side, max(FEWEST_STEPS * step, 2 * half + 1)))


def patch_of(image: NDArray[np.uint8], cell: int, columns: int, field: int) -> NDArray[np.uint8]:
    """The part (field, field, channels) of an image (s, s, channels) around a cell of a map that is ``columns`` wide; never beyond the
    image's rim."""
    side = len(image)
    corner = [round((place + 0.5) * side / columns - field / 2) for place in divmod(cell, columns)]
    top, left = (min(max(0, start), side - field) for start in corner)
    return image[top : top + field, left : left + field]
