"""Classification's head: a linear layer, its fit on embeddings and its objective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sightline.model.heads.linear import DENSE, PROBE_STRENGTHS, Probe, make_head, over_all_heads
from sightline.model.network import Trainable

__all__ = ["DENSE", "PROBE_STRENGTHS", "Objective", "fit_probe", "make_head"]


def fit_probe(
    train: NDArray[np.float32],
    train_targets: NDArray[np.int64],
    val: NDArray[np.float32],
    val_targets: NDArray[np.int64],
    classes: int,
    strengths: Sequence[float] = PROBE_STRENGTHS,
) -> Probe:
    """Logistic regression on embeddings (n, features), its strength chosen on validation.

    Raises ValueError when a class has no training image: the gate lets no such data through, and a row for it could not be fitted.
    """
    from sklearn.linear_model import LogisticRegression

    absent = np.setdiff1d(np.arange(classes), train_targets)
    if len(absent):
        raise ValueError(f"no training image has the class {', '.join(map(str, absent))}")
    best: Probe | None = None
    # Each strength goes on from the weights of the one before, which saves most of the steps.
    fitted = LogisticRegression(max_iter=2000, warm_start=True)
    for strength in strengths:
        fitted.set_params(C=strength).fit(train, train_targets)
        accuracy = float(fitted.score(val, val_targets))
        if best is None or accuracy > best.reached:
            weight, bias = fitted.coef_.copy(), fitted.intercept_.copy()
            if classes == 2:  # scikit-learn keeps one row for two classes; its score is the difference of ours
                weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
            best = Probe(weight, bias, strength, accuracy, "accuracy")
    assert best is not None
    return best


@dataclass(frozen=True)
class Objective:
    """Cross-entropy with label smoothing (Szegedy et al., "Rethinking the Inception Architecture", 2016).

    ``class_weights`` (k,) float32 on the network's device say how much an image of each class counts; None counts all alike.
    """

    label_smoothing: float
    class_weights: Tensor | None = None

    def step(self, network: Trainable, images: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to differentiate, and figures to log.

        Images as ``Network`` takes them; targets (n,) int64, or (n, k) float32 with the share of each class in each image.
        """
        outputs = network(images)
        loss = over_all_heads(outputs, lambda logits: self._loss(logits, targets))
        truth = targets if targets.ndim == 1 else targets.argmax(dim=1)
        return loss, {"accuracy": (outputs["logits"].detach().argmax(dim=1) == truth).float().mean()}

    def _loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(logits, targets, weight=self.class_weights, label_smoothing=self.label_smoothing)

    @staticmethod
    def validate(raw: dict[str, NDArray[np.float32]], targets: NDArray[np.int64]) -> dict[str, float]:
        """``loss`` (plain cross-entropy, what early stopping watches) and ``accuracy`` of raw outputs."""
        logits = torch.from_numpy(raw["logits"])
        truth = torch.from_numpy(targets)
        return {
            "loss": float(F.cross_entropy(logits, truth)),
            "accuracy": float((logits.argmax(dim=1) == truth).float().mean()),
        }
