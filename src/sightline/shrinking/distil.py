"""Learning from a larger model: what it answers on each view of an image is a target beside the image's label.

Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015). Teacher and student see the very same view, as in Beyer
et al., "Knowledge distillation: A good teacher is patient and consistent" (2022).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sightline.bundle import Bundle
from sightline.model.backbone import MODULE
from sightline.model.network import Trainable
from sightline.model.rebuild import network_of
from sightline.records import Infer
from sightline.training.objective import Objective

# Images (n, height, width, channels), float32 in [0, 255], to logits (n, classes).
Teacher = Callable[[Tensor], Tensor]

# Softens the teacher's answers, so that what it takes for the second and third most likely is learned as well.
TEMPERATURE = 4.0
# Of the loss what is the teacher's; the rest is that of the labels.
SHARE = 0.7


@dataclass(frozen=True)
class Distillation:
    """The task's own objective and the distance from a teacher, added in shares.

    plain      the objective of the task's head
    teacher    sees the images as they come
    shape      height and width of what the student sees of them
    one_label  whether each image has one label, so that answers are a distribution; otherwise each label is a question of its own
    """

    plain: Objective
    teacher: Teacher
    shape: tuple[int, int]
    one_label: bool
    temperature: float = TEMPERATURE
    share: float = SHARE

    def step(self, network: Trainable, images: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to differentiate and figures to log; images float32 in [0, 255], targets as the task's objective takes them."""
        outputs = network(resized(images, self.shape))
        # The objective asks a network for outputs, and here they are already.
        loss, figures = self.plain.step(cast(Trainable, lambda _: outputs), images, targets)
        with torch.no_grad():
            told = self.teacher(images)
        apart = self.distance(outputs["logits"], told)
        return torch.lerp(loss.float(), apart, self.share), {**figures, "distillation": apart.detach()}

    def distance(self, logits: Tensor, told: Tensor) -> Tensor:
        """How far softened answers are from the teacher's: the Kullback-Leibler divergence, mean over the images (and labels).

        Times the squared temperature, with which gradients otherwise fall.
        """
        soft, wanted = logits.float() / self.temperature, told.float() / self.temperature
        if self.one_label:
            apart = F.kl_div(F.log_softmax(soft, 1), F.log_softmax(wanted, 1), reduction="batchmean", log_target=True)
        else:
            truth = wanted.sigmoid()
            least = F.binary_cross_entropy_with_logits(wanted, truth)  # what it would be if both said the same
            apart = F.binary_cross_entropy_with_logits(soft, truth) - least
        return apart * self.temperature**2

    def validate(self, raw: dict[str, NDArray[np.float32]], targets: NDArray[Any]) -> dict[str, float]:
        """The task's figures: which epoch is kept is decided by labels, not by the teacher."""
        return self.plain.validate(raw, targets)


def resized(images: Tensor, shape: tuple[int, int]) -> Tensor:
    """Images (n, height, width, channels) float32 with sides of ``shape``, averaged where they shrink, as ``Prepare`` does."""
    if tuple(images.shape[1:3]) == shape:
        return images
    planes = images.permute(0, 3, 1, 2)
    return F.interpolate(planes, shape, mode="bilinear", antialias=True, align_corners=False).permute(0, 2, 3, 1)


def teacher_of(source: Bundle, infer: Infer, device: torch.device) -> Teacher:
    """The bundle's network from its weights, or its graph where only its owner can build the network."""
    if source.manifest.backbone.get("name", "").startswith(MODULE) or not source.has("weights"):
        return graph_teacher(infer, device)
    network = network_of(source).to(device).requires_grad_(False)
    return lambda images: network(images)["logits"]


def graph_teacher(infer: Infer, device: torch.device) -> Teacher:
    """Any ``Infer`` as a teacher, on the images' nearest whole numbers."""

    def told(images: Tensor) -> Tensor:
        pixels = images.round().clamp(0, 255).to(torch.uint8).cpu().numpy()
        return torch.from_numpy(infer(pixels)["logits"]).to(device)

    return told
