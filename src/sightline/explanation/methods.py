"""The best way of explaining that a network allows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sightline.explanation.cam import Cam, why_no_cam
from sightline.explanation.occlusion import Occlusion
from sightline.explanation.subject import Floats, Method


def best_method(weight: Floats | None, features: NDArray[np.float32]) -> Method:
    """CAM, which is exact and costs nothing, where there are the head's weights (k, c) and they belong to feature maps (n, c, h, w) of
    any image; occlusion elsewhere."""
    return Occlusion() if weight is None or why_no_cam(weight, features) else Cam(weight)
