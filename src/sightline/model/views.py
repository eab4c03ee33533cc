"""Test-time augmentation inside the network: evaluation sees an image in several views and takes the mean of what they say.

It is part of the network, so that the exported graph and the runtime cannot differ in it. What is averaged is the embedding, in which
the heads of whole images are linear: their logits are the mean of the views' logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ONE, MIRROR, SHIFTS = "one", "mirror", "shifts"
VIEWS = (ONE, MIRROR, SHIFTS)
COUNTS = {ONE: 1, MIRROR: 2, SHIFTS: 6}
# Pixels that an image is shifted by.
SHIFT = 1
MAP = 4


def seen(backbone: Callable[[Tensor], tuple[Tensor, ...]], images: Tensor, views: str) -> tuple[Tensor, Tensor]:
    """Embedding and feature map of images (n, c, h, w), the mean over their ``views``; all go through the backbone in one batch.

    The map of a mirrored image is mirrored back before it is averaged, so that a place in it is a place in the image. That of a
    transformer, (n, positions, channels), is the plain view's.
    """
    shown = images if views == MIRROR else torch.cat([images, *_shifted(images)])
    embedding, features, *_ = backbone(torch.cat([shown, shown.flip(3)]))
    n, count = images.shape[0], COUNTS[views]
    if features.ndim != MAP:
        return embedding.unflatten(0, (count, n)).mean(0), features[:n]
    half = features.shape[0] // 2
    upright = torch.cat([features[:half], features[half:].flip(3)]).unflatten(0, (count, n)).mean(0)
    if getattr(backbone, "averages", False):  # the same, and Grad-CAM's gradient finds its way to the map
        return upright.mean((2, 3)), upright
    return embedding.unflatten(0, (count, n)).mean(0), upright


def _shifted(images: Tensor) -> tuple[Tensor, Tensor]:
    """The images up and to the left, and down and to the right; what comes in at the edge is mirrored."""
    height, width = images.shape[2:]
    wide = F.pad(images, (SHIFT,) * 4, mode="reflect")
    return wide[:, :, 2 * SHIFT :, 2 * SHIFT :], wide[:, :, :height, :width]


@contextmanager
def one_view(network: nn.Module) -> Iterator[None]:
    """Within it the network sees an image once: in training, what it says of the validation images is quicker to know that way."""
    backbone = network.get_submodule("backbone")
    asked = getattr(backbone, "views", ONE)
    backbone.views = ONE  # type: ignore[assignment]
    try:
        yield
    finally:
        backbone.views = asked
