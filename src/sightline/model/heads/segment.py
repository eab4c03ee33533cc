"""Segmentation's head: the label of every place of a fine map, made from maps of all strides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.evaluation.segmentation import segmentation_scores
from sightline.model.neck import WIDTH, Neck, Separable
from sightline.model.network import DenseHead, Trainable
from sightline.model.pyramid import Level
from sightline.scenes import IGNORED

# The head reads the maps of a pyramid, not the backbone's embedding.
DENSE = True
STRIDES = (4, 8, 16, 32)
# Of the losses, how much the overlap's counts against the pixels', and those of the coarser maps against that of the finest.
OVERLAP_SHARE, AUXILIARY_SHARE = 0.5, 0.3


class Head(DenseHead):
    """The backbone's maps to ``logits`` (n, classes, rows, columns) at a quarter of the input's sides.

    In training there are also the ``auxiliary`` logits, those of each coarser map, coarsest last.
    """

    def __init__(self, levels: Sequence[Level], classes: int, dropout: float) -> None:
        super().__init__()
        self.classes = classes
        self.neck = Neck(levels, STRIDES, rising=False)
        self.context = nn.Linear(WIDTH, WIDTH)
        self.last = Separable(WIDTH, WIDTH)
        self.dropout = nn.Dropout(dropout)
        self.logits = nn.Conv2d(WIDTH, classes, 1)
        self.auxiliary = nn.ModuleList(nn.Conv2d(WIDTH, classes, 1) for _ in STRIDES[1:])

    def forward(self, maps: Sequence[Tensor], shape: tuple[int, int]) -> dict[str, Tensor | list[Tensor]]:
        """``maps`` are those of an input of ``shape`` (height, width)."""
        finest, *coarser = self.neck(maps, shape)
        # What kind of picture it is says much about what a place can be.
        picture = self.context(coarser[-1].mean((2, 3)))[:, :, None, None]
        outputs: dict[str, Tensor | list[Tensor]] = {"logits": self.logits(self.dropout(self.last(finest + picture)))}
        if self.training:
            outputs["auxiliary"] = [layer(each) for layer, each in zip(self.auxiliary, coarser, strict=True)]
        return outputs


def make_head(levels: Sequence[Level], classes: int, dropout: float) -> Head:
    return Head(levels, classes, dropout)


@dataclass(frozen=True)
class Objective:
    """Cross-entropy over pixels and the Dice loss over classes, which rare ones weigh in as much as common ones do.

    ``class_weights`` (k,) float32 on the network's device say how much a pixel of each class counts; None counts all alike.
    """

    label_smoothing: float
    class_weights: Tensor | None = None

    def step(self, network: Trainable, images: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to differentiate, and its parts to log.

        Images as ``Network`` takes them; targets (n, height, width) uint8, the class of each pixel, or IGNORED.
        """
        outputs = network(images)
        with torch.autocast(images.device.type, enabled=False):
            truth = targets.long()
            logits = outputs["logits"].float()
            pixels = self._pixel_loss(F.interpolate(logits, size=truth.shape[1:], mode="bilinear"), truth)
            # A sixteenth of the pixels says as well how much of a class is told, and takes as much less time.
            overlap = dice_loss(logits, _thinned(truth, logits.shape[2:]))
            loss = pixels + OVERLAP_SHARE * overlap
            for coarse in outputs["auxiliary"]:
                loss = loss + AUXILIARY_SHARE * self._pixel_loss(coarse.float(), _thinned(truth, coarse.shape[2:]))
        return loss, {"pixels": pixels.detach(), "overlap": overlap.detach()}

    def _pixel_loss(self, logits: Tensor, truth: Tensor) -> Tensor:
        """The mean over pixels that are known; nought where none is."""
        each = F.cross_entropy(
            logits, truth, weight=self.class_weights, ignore_index=IGNORED, label_smoothing=self.label_smoothing, reduction="none"
        )
        known = truth != IGNORED
        weights = known.float() if self.class_weights is None else self.class_weights[truth.where(known, 0)] * known
        return each.sum() / weights.sum().clamp(min=1)

    @staticmethod
    def validate(raw: dict[str, NDArray[Any]], targets: NDArray[Any]) -> dict[str, float]:
        """``miou``, ``accuracy``, and as ``loss`` what is missing to a mIoU of 1, which early stopping watches; of what ``tasks.segment``
        keeps."""
        found = segmentation_scores(raw["confusion"].sum(axis=0))
        if math.isnan(found.miou):
            return {"loss": 1.0}
        return {"loss": 1.0 - found.miou, "miou": found.miou, "accuracy": found.accuracy}


def dice_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Mean over the classes in the batch of 1 - 2 |A and B| / (|A| + |B|), A being the true pixels and B the probabilities.

    logits  (n, k, h, w); truth (n, h, w) int64 with IGNORED
    """
    known = (truth != IGNORED)[:, None]
    probabilities = logits.softmax(1) * known
    true = F.one_hot(truth.where(known[:, 0], 0), logits.shape[1]).permute(0, 3, 1, 2) * known
    shared, total = (probabilities * true).sum((0, 2, 3)), (probabilities + true).sum((0, 2, 3))
    there = true.sum((0, 2, 3)) > 0
    each = 1 - 2 * shared / total.clamp(min=1)
    return (each * there).sum() / there.sum().clamp(min=1)


def _thinned(truth: Tensor, size: torch.Size) -> Tensor:
    """The pixel in the middle of each place."""
    return F.interpolate(truth[:, None].float(), size=size, mode="nearest-exact")[:, 0].long()
