"""Would more images help? A probe fitted on parts of the training images answers in seconds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.model.heads.linear import Probe

# Shares of the training images, each drawn so many times.
SHARES, DRAWS = (0.25, 0.5), 3
# Fewer say nothing about how a probe gains by more.
FEWEST_IMAGES = 40


@dataclass(frozen=True)
class LearningCurve:
    """What the probe reaches on validation with so many training images: (images, mean figure), and what that means."""

    measure: str
    points: tuple[tuple[int, float], ...]
    sentence: str


def learning_curve(
    head_module: ModuleType,
    embeddings: list[NDArray[np.float32]],
    targets: tuple[NDArray[Any], NDArray[Any]],
    classes: int,
    probe: Probe,
    seed: int,
) -> LearningCurve | None:
    """The curve of a fitted ``probe``; None for too few images.

    embeddings, targets  of the training and of the validation images
    """
    n = len(targets[0])
    if n < FEWEST_IMAGES:
        return None
    points = []
    for share in SHARES:
        rng, reached = np.random.default_rng([seed, round(1000 * share)]), []
        for _ in range(DRAWS):
            rows = _some(targets[0], round(share * n), rng)
            part = head_module.fit_probe(embeddings[0][rows], targets[0][rows], embeddings[1], targets[1], classes, (probe.strength,))
            reached.append(part.reached)
        points.append((round(share * n), float(np.mean(reached))))
    points.append((n, probe.reached))
    return LearningCurve(probe.measure, tuple(points), _meaning(probe, points, len(targets[1])))


def _some(targets: NDArray[Any], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Random rows, at least ``count``, among them one of each class or tag."""
    order = rng.permutation(len(targets))
    shown = targets[order]
    firsts = np.unique(shown, return_index=True)[1] if targets.ndim == 1 else shown[:, shown.any(axis=0)].argmax(axis=0)
    needed = np.unique(firsts)
    rest = np.setdiff1d(np.arange(len(order)), needed)
    return order[np.concatenate([needed, np.sort(rest)[: max(0, count - len(needed))]])]


def _meaning(probe: Probe, points: list[tuple[int, float]], n_validation: int) -> str:
    (half, before), (n, now) = points[-2:]
    chance = math.sqrt(max(now * (1 - now), 0.25 / n_validation) / n_validation)
    change = f"From {half} training images to all {n} the probe's {probe.measure} on validation went from {before:.3f} to {now:.3f}"
    if now - before > chance:
        return f"{change}: more images would probably help."
    return f"{change}, which chance could do with {n_validation} validation images: more images like these may not help much."
