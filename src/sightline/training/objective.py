"""What is minimised. The loop knows this protocol only; each task's objective is in its head's module."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sightline.model.network import Trainable


class Objective(Protocol):
    """A loss over a batch, and the figures that validation watches."""

    def step(self, network: Trainable, images: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to differentiate and figures to log, of a batch as ``Network`` takes it."""
        ...

    def validate(self, raw: dict[str, NDArray[np.float32]], targets: NDArray[Any]) -> dict[str, float]:
        """Figures of raw outputs over the validation images; ``loss`` decides which epoch is kept."""
        ...
