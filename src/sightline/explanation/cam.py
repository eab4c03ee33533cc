"""Class activation maps: Zhou et al., "Learning deep features for discriminative localization" (2016)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sightline.explanation.subject import Floats, Images, Subject

# A map of fewer cells a side says hardly more than "here".
FEWEST_CELLS = 3


def cam(features: Floats, weight: Floats) -> NDArray[np.float32]:
    """(h, w) evidence for a label, from the last feature map (c, h, w) and the label's weights in a linear head (c,).

    Where logits are the head applied to the map's average, the mean of this is the label's logit without its bias: the
    evidence of each place is exact, not an approximation. It is h * w times Grad-CAM's map before that is cut at nought.
    """
    return np.einsum("c,chw->hw", weight, features).astype(np.float32)


@dataclass(frozen=True)
class Cam:
    """``weight`` (k, c) of a linear head that sees the average of the last feature map; one pass an image."""

    weight: Floats
    name: str = "CAM"
    passes: int = 1

    def evidence(self, subject: Subject, images: Images, targets: NDArray[np.int64]) -> NDArray[np.float32]:
        features = subject.raw(images)["features"]
        return np.stack([cam(maps, self.weight[target]) for maps, target in zip(features, targets.tolist(), strict=True)])

    def forgetting(self, seed: int) -> Cam:
        """With the same weights, each at a random place."""
        return replace(self, weight=np.random.default_rng(seed).permutation(self.weight.ravel()).reshape(self.weight.shape))


def why_no_cam(weight: Floats | None, features: NDArray[np.float32]) -> str | None:
    """Why a model's CAM cannot be had, from its head's weights and the feature maps (n, c, h, w) of an image; None where it can."""
    if weight is None:
        return "its head is not known to be linear after average pooling"
    if features.ndim != 4 or features.shape[1] != weight.shape[1]:
        return "its last feature map is not what its head averages"
    if min(features.shape[2:]) < FEWEST_CELLS:
        return f"its last feature map has only {features.shape[2]} x {features.shape[3]} cells"
    return None
