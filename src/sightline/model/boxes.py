"""How much boxes overlap, in torch: what a detector learns from. Boxes are (left, top, right, bottom)."""

from __future__ import annotations

import torch
from torch import Tensor

# Keeps boxes without an area from dividing by nought.
SMALLEST = 1e-7


def iou(boxes: Tensor, others: Tensor) -> Tensor:
    """(...) in [0, 1]: intersection over union of boxes (..., 4), one by one; leading dimensions are broadcast."""
    intersection, union = _shared(boxes, others)
    return intersection / union


def generalized_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """(...) in [-1, 1]: IoU less the share of the enclosing box that is in neither (Rezatofighi et al., 2019).

    Boxes that do not touch have one too, so that they learn where to go.
    """
    intersection, union = _shared(boxes, others)
    enclosing = _area(torch.minimum(boxes[..., :2], others[..., :2]), torch.maximum(boxes[..., 2:], others[..., 2:])) + SMALLEST
    return intersection / union - (enclosing - union) / enclosing


def _shared(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """The areas of what both boxes cover, and of what any of them does."""
    intersection = _area(torch.maximum(boxes[..., :2], others[..., :2]), torch.minimum(boxes[..., 2:], others[..., 2:]))
    union = _area(boxes[..., :2], boxes[..., 2:]) + _area(others[..., :2], others[..., 2:]) - intersection
    return intersection, union + SMALLEST


def _area(corner: Tensor, opposite: Tensor) -> Tensor:
    """Of the boxes between two corners; nought where the second is not below and to the right of the first."""
    return (opposite - corner).clamp(min=0).prod(-1)
