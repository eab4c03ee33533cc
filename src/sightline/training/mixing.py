"""Two images in one: mixup and cutmix, on batches that are otherwise ready."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sightline.config import AugmentConfig


@dataclass(frozen=True)
class Mixing:
    """How each image of a batch is mixed with the one that stands as far from the batch's end as it does from its start.

    share  of the image itself, in [0, 1]
    box    (top, bottom, left, right) as shares of the sides: what is taken from the other one; None to blend all of it
    """

    share: float
    box: tuple[float, float, float, float] | None = None


def sample_mixing(rng: np.random.Generator, config: AugmentConfig) -> Mixing | None:
    """Mixup (Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018), cutmix (Yun et al., "CutMix", 2019), or None.

    Where both are asked for, each batch has one of them.
    """
    wanted = {name: alpha for name, alpha in (("mixup", config.mixup), ("cutmix", config.cutmix)) if alpha > 0}
    if not wanted:
        return None
    name = list(wanted)[rng.integers(len(wanted))]
    share = float(rng.beta(wanted[name], wanted[name]))
    if name == "mixup":
        return Mixing(share)
    side = (1 - share) ** 0.5
    (y, x), half = rng.uniform(size=2), side / 2
    box = tuple(float(np.clip(edge, 0, 1)) for edge in (y - half, y + half, x - half, x + half))
    return Mixing(share, box)  # type: ignore[arg-type]


def mix(images: Tensor, targets: Tensor, mixing: Mixing) -> tuple[Tensor, Tensor]:
    """Images (n, h, w, c) float32 and soft targets (n, k) float32, each mixed with its partner."""
    partners = images.flip(0)
    if mixing.box is None:
        share, mixed = mixing.share, mixing.share * images + (1 - mixing.share) * partners
    else:
        height, width = images.shape[1:3]
        top, bottom = (round(edge * height) for edge in mixing.box[:2])
        left, right = (round(edge * width) for edge in mixing.box[2:])
        mixed = images.clone()
        mixed[:, top:bottom, left:right] = partners[:, top:bottom, left:right]
        share = 1 - (bottom - top) * (right - left) / (height * width)
    return mixed, share * targets + (1 - share) * targets.flip(0)


def soft(targets: Tensor, classes: int) -> Tensor:
    """Targets (n,) int64 or (n, k) bool as (n, k) float32."""
    return F.one_hot(targets, classes).float() if targets.ndim == 1 else targets.to(torch.float32)
