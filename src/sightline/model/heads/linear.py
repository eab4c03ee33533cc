"""The linear head that classification and tagging share, and its fit on embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

# The head reads the backbone's embedding, not the maps of a pyramid.
DENSE = False
# The weight of each auxiliary head's loss, as in GoogLeNet's paper.
AUXILIARY_SHARE = 0.3
# Inverse strengths of regularisation that a probe tries; on 500 clothing photographs 0.03 to 0.3 are alike.
PROBE_STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


class Head(nn.Module):
    """Dropout and one linear layer: embedding (n, features) to ``{"logits": (n, classes)}``."""

    def __init__(self, features: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(features, classes)

    def forward(self, embedding: Tensor) -> dict[str, Tensor]:
        return {"logits": self.linear(self.dropout(embedding))}

    def set_linear(self, weight: NDArray[np.float64], bias: NDArray[np.float64]) -> None:
        with torch.no_grad():
            self.linear.weight.copy_(torch.from_numpy(weight))
            self.linear.bias.copy_(torch.from_numpy(bias))


@dataclass(frozen=True)
class Probe:
    """A fitted head, the strength that was chosen on validation, and what it reached there.

    weight, bias  (classes, features) and (classes,) float64
    reached       its figure on validation, in [0, 1], and ``measure`` its name
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    strength: float
    reached: float
    measure: str


def over_all_heads(outputs: Mapping[str, Tensor], loss_of: Callable[[Tensor], Tensor]) -> Tensor:
    """The loss of the logits and, as far as the network has them, that of its auxiliary heads' logits."""
    loss = loss_of(outputs["logits"])
    for opinion in outputs.get("auxiliary", ()):
        loss = loss + AUXILIARY_SHARE * loss_of(opinion)
    return loss


def make_head(features: int, classes: int, dropout: float) -> Head:
    return Head(features, classes, dropout)
