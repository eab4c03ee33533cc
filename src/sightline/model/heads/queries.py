"""Detection's other head: a set of queries, of which each finds one object or none, so that of no object there are two.

The layers and the loss are RF-DETR's, of the package ``rfdetr``; what they are given and what is made of them are what detection has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from sightline.model import rfdetr
from sightline.model.export import quiet
from sightline.model.heads import detect
from sightline.model.network import DenseHead, Trainable

# The head reads the backbone's map, not its embedding.
DENSE = True
# Behind the last query: all sides of a box that is none, and its scores, far below all that is looked at.
OUTSIDE, NOTHING = -1.0, -10.0
# What we and the package call what queries give.
NAMES = {"boxes": "pred_boxes", "scores": "pred_logits"}
# The parts of the loss that are logged, and what the package calls them.
PARTS = {"score": "loss_ce", "box": "loss_bbox", "overlap": "loss_giou"}


class Head(DenseHead):
    """The backbone's map to ``boxes`` (n, q + 1, 4) in pixels of the input and ``scores`` (n, q + 1, classes), logits, of q queries.

    The last of the boxes is none and lies outside: by it ``tasks/detect.py`` knows a set, from which no doubles are to be taken.
    In training they are (n, layers, groups of q, 4), middle, width and height as shares of the input's sides, and (n, layers,
    groups of q, classes), of the decoder's last layer first, its others, and of the places that it starts from.
    """

    positions: Tensor

    def __init__(self, backbone: rfdetr.RfDetr, classes: int, dropout: float) -> None:
        super().__init__()
        self.inner, position = backbone.taken_decoder()
        self.inner.reinitialize_detection_head(classes)
        self.inner.class_embed = nn.Sequential(nn.Dropout(dropout), self.inner.class_embed)
        places = backbone.side // rfdetr.PATCH
        with torch.no_grad():
            found = position.train()(_nested(torch.zeros(1, backbone.num_features, places, places)), align_dim_orders=False)
        self.register_buffer("positions", found, persistent=False)

    def forward(self, maps: Sequence[Tensor], shape: tuple[int, int]) -> dict[str, Tensor]:
        """``maps`` are those of an input of ``shape`` (height, width): one."""
        features = _nested(maps[0])
        found = self.inner(([features], [self.positions.expand(maps[0].shape[0], -1, -1, -1)], None))
        if self.training:
            layers = [found, *found["aux_outputs"], found["enc_outputs"]]
            return {ours: torch.stack([each[theirs] for each in layers], 1) for ours, theirs in NAMES.items()}
        middle, size = found["pred_boxes"].float().split(2, -1)
        sides = torch.tensor([shape[1], shape[0]], dtype=middle.dtype, device=middle.device)
        boxes = torch.cat([torch.minimum(((middle + half * size) * sides).clamp(min=0), sides) for half in (-0.5, 0.5)], -1)
        last = {"boxes": (boxes, OUTSIDE), "scores": (found["pred_logits"], NOTHING)}
        return {name: torch.cat([each, torch.full_like(each[:, :1], value)], 1) for name, (each, value) in last.items()}


def make_head(backbone: rfdetr.RfDetr, classes: int, dropout: float) -> Head:
    return Head(backbone, classes, dropout)


def _nested(features: Tensor) -> Any:
    """A map of images that all fill their input."""
    from rfdetr.utilities.tensors import NestedTensor

    n, _, rows, columns = features.shape
    return NestedTensor(features, torch.zeros(n, rows, columns, dtype=torch.bool, device=features.device), no_padding=True)


@dataclass(frozen=True)
class Objective:
    """The loss of RF-DETR: each object is given to the query of each group that tells it best, by the Hungarian method, after each layer.

    Regions of which nobody knows what is in them count as ground, as in the package's own training. Neither label smoothing nor class
    weights have a place in it (``rfdetr.check_asked``).
    """

    label_smoothing: float
    class_weights: Tensor | None = None

    def step(self, network: Trainable, images: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """As that of ``heads/detect.py``."""
        outputs = network(images)
        with torch.autocast(images.device.type, enabled=False):
            boxes, scores = outputs["boxes"].float(), outputs["scores"].float()
            last, *others, first = (
                dict(zip(NAMES.values(), each, strict=True)) for each in zip(boxes.unbind(1), scores.unbind(1), strict=True)
            )
            judge, asked = criterion(scores.shape[3]), _asked(targets, images.shape[1:3])
            # Every process has the whole batch. Left to count itself, the package asks the others, who may not be in a step.
            count = sum(len(each["labels"]) for each in asked) * (1 if judge.sum_group_losses else judge.group_detr)
            losses = judge({**last, "aux_outputs": others, "enc_outputs": first}, asked, num_boxes=max(1, count))
            loss = torch.stack([losses[name] * weight for name, weight in judge.weight_dict.items() if name in losses]).sum()
        return loss, {ours: losses[theirs].detach() for ours, theirs in PARTS.items()}

    validate = staticmethod(detect.Objective.validate)


def _asked(targets: Tensor, shape: Sequence[int]) -> list[dict[str, Tensor]]:
    """Of each of n images the objects that are to be found: labels (m,) and boxes (m, 4), middle, width and height as shares."""
    sides = torch.tensor([shape[1], shape[0]], dtype=targets.dtype, device=targets.device)
    found = []
    for rows in targets:
        objects = rows[rows[:, 0] >= 0]
        corners = objects[:, 1:3] / sides, objects[:, 3:5] / sides
        found.append({"labels": objects[:, 0].long(), "boxes": torch.cat([(corners[0] + corners[1]) / 2, corners[1] - corners[0]], 1)})
    return found


class OnHost(nn.Module):
    """The package's matcher on the processor: on a GPU it would need a solver that is in none of its releases' plain installations."""

    def __init__(self, matcher: nn.Module) -> None:
        super().__init__()
        self.matcher = matcher

    def forward(self, outputs: dict[str, Tensor], targets: list[dict[str, Tensor]], **how: Any) -> Any:
        seen = {name: outputs[name].detach().cpu() for name in NAMES.values()}
        return self.matcher(seen, [{name: each.cpu() for name, each in target.items()} for target in targets], **how)


@cache
def criterion(classes: int) -> Any:
    """The package's loss for networks of so many classes; that of the largest, which has the weights of all layers that any has."""
    name = list(rfdetr.SIZES)[-1]
    package, side = rfdetr.library(name), rfdetr.resolution(name)
    assert side is not None
    config = rfdetr.configured(name, side, num_classes=classes - 1)
    with quiet():
        found = package.models.build_criterion_from_config(config, package.config.TrainConfig(dataset_dir=".", output_dir="."))[0]
    found.matcher = OnHost(found.matcher)
    return found
