"""Tagging's head: a linear layer whose outputs are yes-or-no questions, its fit on embeddings and its objective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sightline.evaluation.multilabel import average_precision, mean_average_precision
from sightline.model.heads.linear import DENSE, PROBE_STRENGTHS, Probe, make_head, over_all_heads
from sightline.model.network import Trainable

__all__ = ["DENSE", "Objective", "fit_probe", "make_head"]


def fit_probe(
    train: NDArray[np.float32],
    train_targets: NDArray[np.bool_],
    val: NDArray[np.float32],
    val_targets: NDArray[np.bool_],
    classes: int,
    strengths: Sequence[float] = PROBE_STRENGTHS,
) -> Probe:
    """A logistic regression a label on embeddings (n, features), one strength for all, chosen on validation.

    Targets are (n, classes) bool. What decides is the mean average precision. A label that every training image has, or none,
    gets no weights and its log-odds (with half an image added on both sides) as bias.
    """
    from sklearn.linear_model import LogisticRegression

    best: Probe | None = None
    weight, bias = _constant(train_targets, train.shape[1])
    parted = np.flatnonzero(train_targets.any(axis=0) & ~train_targets.all(axis=0)).tolist()
    # Each strength goes on from the weights of the one before, which saves most of the steps.
    regressions = {label: LogisticRegression(max_iter=2000, warm_start=True) for label in parted}
    for strength in strengths:
        for label, regression in regressions.items():
            regression.set_params(C=strength).fit(train, train_targets[:, label])
            weight[label], bias[label] = regression.coef_[0], regression.intercept_[0]
        reached = mean_average_precision(average_precision(val_targets, val @ weight.T + bias))
        if best is None or reached > best.reached:
            best = Probe(weight.copy(), bias.copy(), strength, reached, "mean average precision")
    assert best is not None
    return best


def _constant(targets: NDArray[np.bool_], features: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The head that tells every image each label's log-odds."""
    positives = targets.sum(axis=0) + 0.5
    return np.zeros((targets.shape[1], features)), np.log(positives / (len(targets) + 1 - positives))


@dataclass(frozen=True)
class Objective:
    """Binary cross-entropy of each label, its mean over images and labels, with label smoothing.

    Smoothing mixes in the share of the batch that has the label, not a half: a half would teach a label on one image in a
    hundred to be on one in twenty. ``class_weights`` (k,) float32 on the network's device say how much an image that has the
    label counts, against 1 for one that has not; None counts both alike.
    """

    label_smoothing: float
    class_weights: Tensor | None = None

    def step(self, network: Trainable, images: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to differentiate, and no figures, as the ranking within a batch says little.

        Images as ``Network`` takes them; targets (n, k) bool, or float32 in [0, 1].
        """
        outputs = network(images)
        truth = targets.to(outputs["logits"].dtype)
        smoothed = torch.lerp(truth, truth.mean(dim=0, keepdim=True), self.label_smoothing)
        loss = over_all_heads(outputs, lambda logits: F.binary_cross_entropy_with_logits(logits, smoothed, pos_weight=self.class_weights))
        return loss, {}

    @staticmethod
    def validate(raw: dict[str, NDArray[np.float32]], targets: NDArray[np.bool_]) -> dict[str, float]:
        """``loss`` (plain binary cross-entropy, what early stopping watches) and ``map``, where any image has a label."""
        truth = targets.astype(bool)
        loss = float(F.binary_cross_entropy_with_logits(torch.from_numpy(raw["logits"]), torch.from_numpy(truth.astype(np.float32))))
        reached = {"map": mean_average_precision(average_precision(truth, raw["logits"]))} if truth.any() else {}
        return {"loss": loss, **reached}
