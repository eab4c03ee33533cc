"""Classification metrics as pure functions of numpy arrays, tested against scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]


def softmax(logits: Floats, temperature: float = 1.0) -> NDArray[np.float64]:
    """(n, k) logits to (n, k) probabilities, in float64; ``temperature`` above 1 makes them less sure."""
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(axis=-1, keepdims=True)
    weights = np.exp(scaled)
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def confusion_matrix(targets: Ints, predicted: Ints, classes: int) -> NDArray[np.int64]:
    """(k, k) int64 counts, rows the truth, columns the prediction; both inputs (n,) indices below ``classes``."""
    flat = np.bincount(targets * classes + predicted, minlength=classes * classes)
    return flat.reshape(classes, classes).astype(np.int64)


def accuracy(confusion: NDArray[np.int64]) -> float:
    """Share of right predictions, in [0, 1]."""
    return float(np.trace(confusion) / confusion.sum())


def top_k_accuracy(targets: Ints, probabilities: Floats, k: int) -> float:
    """Share of images whose truth is among the k most probable classes; ties go to the lower index."""
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return float((best == targets[:, None]).any(axis=1).mean())


@dataclass(frozen=True)
class ClassScores:
    """Per-class precision, recall and F1 in [0, 1], (k,) float64, and ``support``, (k,) int64 images of each class.

    A ratio without cases (no image predicted, or none true) is 0, as in scikit-learn's ``zero_division=0``.
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    support: NDArray[np.int64]

    def macro(self) -> dict[str, float]:
        """Means over the classes that have test images, so that a class absent from the split does not count as failed."""
        present = self.support > 0
        columns = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        return {name: float(column[present].mean()) for name, column in columns.items()}


def class_scores(confusion: NDArray[np.int64]) -> ClassScores:
    """Scores of each class from a (k, k) confusion matrix with the truth in rows."""
    right = np.diag(confusion).astype(np.float64)
    support, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    precision = ratio(right, predicted)
    recall = ratio(right, support)
    return ClassScores(precision, recall, ratio(2 * precision * recall, precision + recall), support)


def ratio(part: NDArray[np.number], whole: NDArray[np.number]) -> NDArray[np.float64]:
    """Part by whole, element by element in float64; 0 where the whole is 0."""
    found = np.zeros(np.shape(part), np.float64)
    np.divide(part, whole, out=found, where=whole > 0)
    return found


def expected_calibration_error(targets: Ints, probabilities: Floats, bins: int = 15) -> float:
    """ECE over equal-width bins of the top probability (Guo et al., "On Calibration of Modern Neural Networks", 2017)."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == targets
    which = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(which, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(targets))
