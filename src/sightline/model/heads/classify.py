"""Classification's layers, its fit on embeddings and its objective."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.model.network import Network

# The weight of each auxiliary head's loss, as in GoogLeNet's paper.
AUXILIARY_SHARE = 0.3
# Inverse strengths of regularisation that the probe tries; on 500 clothing photographs 0.03 to 0.3 are alike.
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
    """A fitted head: what it reached on validation, and the strength that was chosen there."""

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    strength: float
    accuracy: float


def fit_probe(
    train: NDArray[np.float32], train_targets: NDArray[np.int64], val: NDArray[np.float32], val_targets: NDArray[np.int64], classes: int
) -> Probe:
    """Logistic regression on embeddings (n, features), its strength chosen on validation.

    Raises ValueError when a class has no training image: the gate lets no such data through, and a row for it could not be fitted.
    """
    from sklearn.linear_model import LogisticRegression

    absent = np.setdiff1d(np.arange(classes), train_targets)
    if len(absent):
        raise ValueError(f"no training image has the class {', '.join(map(str, absent))}")
    best: Probe | None = None
    for strength in PROBE_STRENGTHS:
        fitted = LogisticRegression(C=strength, max_iter=2000).fit(train, train_targets)
        accuracy = float(fitted.score(val, val_targets))
        if best is None or accuracy > best.accuracy:
            weight, bias = fitted.coef_, fitted.intercept_
            if classes == 2:  # scikit-learn keeps one row for two classes; its score is the difference of ours
                weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
            best = Probe(weight, bias, strength, accuracy)
    assert best is not None
    return best


@dataclass(frozen=True)
class Objective:
    """Cross-entropy with label smoothing (Szegedy et al., "Rethinking the Inception Architecture", 2016).

    ``class_weights`` (classes,) float32 multiplies the loss of each class's images; None for equal weights.
    """

    label_smoothing: float
    class_weights: Tensor | None = None

    def step(self, network: Network, images: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to differentiate, and figures to log.

        Images as ``Network`` takes them, targets (n,) int64, or (n, classes) float32 where images were mixed.
        """
        outputs = network(images)
        logits = outputs["logits"]
        loss = self._loss(logits, targets)
        for opinion in outputs.get("auxiliary", ()):
            loss = loss + AUXILIARY_SHARE * self._loss(opinion, targets)
        truth = targets.argmax(dim=1) if targets.ndim == 2 else targets
        return loss, {"accuracy": (logits.detach().argmax(dim=1) == truth).float().mean()}

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


def make_head(features: int, classes: int, dropout: float) -> Head:
    return Head(features, classes, dropout)
