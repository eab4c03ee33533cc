"""Detection's head: at every place of the maps, how far it is to the four sides of an object, and how well each label fits it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.evaluation.detection import average_precision
from sightline.evaluation.matching import ALL_SIZES, Found, match
from sightline.model.assignment import CROWD, Assigned, assign
from sightline.model.boxes import generalized_iou
from sightline.model.neck import WIDTH, Neck, Separable
from sightline.model.network import DenseHead, Trainable
from sightline.model.pyramid import Level

# The head reads the maps of a pyramid, not the backbone's embedding.
DENSE = True
STRIDES = (8, 16, 32)
DEPTH = 2
# What the score of a place is before anything is learned: about the share of places that have an object.
PRIOR = 0.01
# Logarithm of the distances in strides before anything is learned, and the largest that they can be.
FIRST_DISTANCE, LARGEST_DISTANCE = 1.0, 5.0
# Of the losses, the boxes' counts as many times as the scores'.
BOX_SHARE = 2.0
# Of places without an object: their share in the loss, and how much more those count that are taken for one.
EMPTY_SHARE, EMPTY_POWER = 0.75, 2.0


class Tower(nn.Module):
    """Layers before a prediction: their convolutions are the same for all maps, their normalisation is each map's own."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Separable(WIDTH, WIDTH, versions=maps) for _ in range(DEPTH))

    def forward(self, features: Tensor, number: int) -> Tensor:
        for layer in self.layers:
            features = layer(features, number)
        return features


class Head(DenseHead):
    """The backbone's maps to ``boxes`` (n, a, 4) in pixels of the input and ``scores`` (n, a, classes), logits, at a places.

    In evaluation boxes are cut at the sides of the input. In training they are not, and there are ``centres`` and ``strides`` (a, 2).
    """

    def __init__(self, levels: Sequence[Level], classes: int, dropout: float) -> None:
        super().__init__()
        self.classes = classes
        self.neck = Neck(levels, STRIDES, rising=True)
        self.score_tower, self.box_tower = Tower(len(STRIDES)), Tower(len(STRIDES))
        self.dropout = nn.Dropout(dropout)
        self.score, self.distance = nn.Conv2d(WIDTH, classes, 1), nn.Conv2d(WIDTH, 4, 1)
        nn.init.normal_(self.score.weight, std=0.01)
        nn.init.constant_(self.score.bias, -math.log((1 - PRIOR) / PRIOR))
        nn.init.normal_(self.distance.weight, std=0.01)
        nn.init.constant_(self.distance.bias, FIRST_DISTANCE)

    def forward(self, maps: Sequence[Tensor], shape: tuple[int, int]) -> dict[str, Tensor]:
        """``maps`` are those of an input of ``shape`` (height, width)."""
        levels = self.neck(maps, shape)
        scores = _all_places([self.score(self.dropout(self.score_tower(each, number))) for number, each in enumerate(levels)])
        distances = _all_places([self.distance(self.box_tower(each, number)) for number, each in enumerate(levels)])
        centres, strides = _places([each.shape[2:] for each in levels], shape, scores.device)
        # Not in bfloat16, in which there is no difference between pixels 300 and 301.
        reach = distances.float().clamp(max=LARGEST_DISTANCE).exp().unflatten(2, (2, 2)) * strides[:, None]
        boxes = torch.cat([centres - reach[:, :, 0], centres + reach[:, :, 1]], 2)
        if self.training:
            return {"boxes": boxes, "scores": scores, "centres": centres, "strides": strides}
        sides = torch.tensor([shape[1], shape[0], shape[1], shape[0]], dtype=boxes.dtype, device=boxes.device)
        return {"boxes": torch.minimum(boxes.clamp(min=0), sides), "scores": scores}


def _all_places(maps: Sequence[Tensor]) -> Tensor:
    """Maps (n, c, h, w) as one (n, a, c)."""
    return torch.cat([each.flatten(2) for each in maps], 2).transpose(1, 2)


def _places(sizes: Sequence[Sequence[int]], shape: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Centres (a, 2) of all places, x and y in pixels of the input, and how far (a, 2) they are apart."""
    centres, strides = [], []
    for rows, columns in sizes:
        apart = torch.tensor([shape[1] / columns, shape[0] / rows], device=device)
        y, x = torch.meshgrid(torch.arange(rows, device=device), torch.arange(columns, device=device), indexing="ij")
        centres.append((torch.stack([x, y], -1).flatten(0, 1) + 0.5) * apart)
        strides.append(apart.expand(rows * columns, 2))
    return torch.cat(centres), torch.cat(strides)


def make_head(levels: Sequence[Level], classes: int, dropout: float) -> Head:
    return Head(levels, classes, dropout)


@dataclass(frozen=True)
class Objective:
    """Varifocal loss of the scores (Zhang et al., 2021) and generalised IoU of the boxes, over task-aligned places.

    Both are divided by the sum of the scores that are to be given, so that a picture's many objects count alike. Label smoothing takes
    its share off those scores. ``class_weights`` (k,) float32 on the network's device say how much an object of each class counts.
    """

    label_smoothing: float
    class_weights: Tensor | None = None

    def step(self, network: Trainable, images: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to differentiate, and its parts to log.

        Images as ``Network`` takes them; targets (n, m, 5) float32: label, left, top, right, bottom in pixels of the input, with
        PADDING and CROWD (``model/assignment.py``) in the label's place.
        """
        outputs = network(images)
        with torch.autocast(images.device.type, enabled=False):
            boxes, scores = outputs["boxes"].float(), outputs["scores"].float()
            assigned = assign(boxes, scores, outputs["centres"], outputs["strides"], targets)
            learned = assigned.label >= 0
            total = assigned.quality.sum().clamp(min=1)
            score = self._score_loss(scores, assigned, learned) / total
            box = self._box_loss(boxes, assigned, learned) / total
        return score + BOX_SHARE * box, {"score": score.detach(), "box": box.detach()}

    def _score_loss(self, scores: Tensor, assigned: Assigned, learned: Tensor) -> Tensor:
        wanted = torch.zeros_like(scores)
        wanted[learned] = F.one_hot(assigned.label[learned], scores.shape[2]) * assigned.quality[learned, None]
        importance = torch.where(wanted > 0, wanted, EMPTY_SHARE * scores.detach().sigmoid() ** EMPTY_POWER)
        if self.class_weights is not None:
            importance = importance * torch.where(wanted > 0, self.class_weights, 1)
        importance = importance * (assigned.label != CROWD)[..., None]
        return (F.binary_cross_entropy_with_logits(scores, wanted * (1 - self.label_smoothing), reduction="none") * importance).sum()

    def _box_loss(self, boxes: Tensor, assigned: Assigned, learned: Tensor) -> Tensor:
        importance = assigned.quality[learned]
        if self.class_weights is not None:
            importance = importance * self.class_weights[assigned.label[learned]]
        return ((1 - generalized_iou(boxes[learned], assigned.boxes[learned])) * importance).sum()

    @staticmethod
    def validate(raw: dict[str, NDArray[Any]], targets: NDArray[Any]) -> dict[str, float]:
        """``map``, ``map50``, and as ``loss`` what is missing to a mAP of 1, which early stopping watches; of what the task keeps."""
        found = Found(raw["boxes"], raw["scores"], raw["labels"])
        reached = average_precision(match(found, targets.tolist(), raw["peaks"].shape[1], sizes=ALL_SIZES))[0]
        present = reached[~np.isnan(reached).any(axis=1)]
        if not len(present):
            return {"loss": 1.0}
        return {"loss": 1.0 - float(present.mean()), "map": float(present.mean()), "map50": float(present[:, 0].mean())}
