"""Classification: each image has exactly one of k classes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.evaluate.intervals import wilson_interval
from sightline.evaluate.metrics import (
    accuracy,
    class_scores,
    confusion_matrix,
    expected_calibration_error,
    softmax,
    top_k_accuracy,
)
from sightline.records import Classification
from sightline.tasks.blocks import Bar, Bars, Block, Gallery, Matrix, Picture, Table, Tile, Tiles

OUTPUTS = ("logits",)
TOP = 5
CONFUSED_PAIRS, PICTURES_A_PAIR, WORST_ERRORS = 8, 4, 24
# A report's level follows the lower end of the accuracy's interval, so that few test images cannot look good.
GOOD, FAIR = 0.85, 0.6
FEW_IMAGES = 50

Raw = Mapping[str, NDArray[Any]]


def decode(raw: Raw, labels: Sequence[str], temperature: float) -> list[Classification]:
    """``raw["logits"]`` (n, k) to n predictions with all classes, most probable first; ties keep the labels' order."""
    probabilities = softmax(raw["logits"], temperature)
    order = np.argsort(-probabilities, axis=1, kind="stable")
    return [
        Classification(tuple(labels[i] for i in best), tuple(row[best].tolist())) for row, best in zip(probabilities, order, strict=True)
    ]


def difference(raw: Raw, expected: Raw, temperature: float) -> float:
    """The largest absolute difference of a probability."""
    return float(np.abs(softmax(raw["logits"], temperature) - softmax(expected["logits"], temperature)).max(initial=0))


def evaluate(raw: Raw, targets: NDArray[Any], labels: Sequence[str], temperature: float, keys: Sequence[str]) -> dict[str, Any]:
    """Metrics, intervals, per-class scores, confusion and errors of n images; ``targets`` (n,) int64."""
    probabilities = softmax(raw["logits"], temperature)
    predicted = probabilities.argmax(axis=1)
    confusion = confusion_matrix(targets, predicted, len(labels))
    scores = class_scores(confusion)
    right = int(np.trace(confusion))
    metrics = {
        "accuracy": accuracy(confusion),
        **({"top5": top_k_accuracy(targets, probabilities, TOP)} if len(labels) > TOP else {}),
        **scores.macro(),
        "ece": expected_calibration_error(targets, probabilities),
    }
    errors = [
        {"key": keys[i], "truth": labels[targets[i]], "predicted": labels[predicted[i]],
         "score": float(probabilities[i, predicted[i]]), "truth_score": float(probabilities[i, targets[i]])}
        for i in np.flatnonzero(predicted != targets)
    ]  # fmt: skip
    errors.sort(key=lambda error: -error["score"])
    return {
        "n": len(targets),
        "metrics": metrics,
        "intervals": {"accuracy": list(wilson_interval(right, len(targets)))},
        "classes": [
            {"label": label, "n": int(scores.support[i]), "precision": float(scores.precision[i]), "recall": float(scores.recall[i]),
             "f1": float(scores.f1[i]), "recall_interval": list(wilson_interval(int(confusion[i, i]), int(scores.support[i])))}
            for i, label in enumerate(labels)
        ],  # fmt: skip
        "confusion": confusion.tolist(),
        "most_confused": _most_confused(confusion, labels, errors),
        "errors": errors,
        "majority": {"label": labels[int(scores.support.argmax())], "share": float(scores.support.max() / len(targets))},
    }


def _most_confused(confusion: NDArray[np.int64], labels: Sequence[str], errors: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    pictures = defaultdict(list)
    for error in errors:
        pictures[error["truth"], error["predicted"]].append(error["key"])
    pairs = sorted(pictures.items(), key=lambda pair: -len(pair[1]))[:CONFUSED_PAIRS]
    support = dict(zip(labels, confusion.sum(axis=1).tolist(), strict=True))
    return [
        {"truth": truth, "predicted": predicted, "n": len(found), "share": len(found) / support[truth], "pictures": found[:PICTURES_A_PAIR]}
        for (truth, predicted), found in pairs
    ]


def verdict(test: Mapping[str, Any]) -> dict[str, str]:
    """The sentence on top of the report, and its level."""
    share, (low, high), majority = test["metrics"]["accuracy"], test["intervals"]["accuracy"], test["majority"]
    sentence = (
        f"The model names the right class for {share:.1%} of {test['n']} test images it never saw "
        f"(95% interval {low:.1%} to {high:.1%})."
    )
    if low <= majority["share"]:
        return {"level": "poor", "sentence": f"{sentence} That is not clearly better than always answering "
                f"{majority['label']!r}, which is right for {majority['share']:.1%}: do not use it yet."}  # fmt: skip
    weakest = min((entry for entry in test["classes"] if entry["n"]), key=lambda entry: entry["recall"])
    if weakest["recall"] < 1:
        sentence += f" Its weakest class is {weakest['label']!r}, which it finds {_times(weakest)}."
    if test["n"] < FEW_IMAGES:
        sentence += f" With only {test['n']} test images this is a rough figure."
    return {"level": "good" if low >= GOOD else "fair" if low >= FAIR else "poor", "sentence": sentence}


def _times(entry: Mapping[str, Any]) -> str:
    return f"{round(entry['recall'] * entry['n'])} times out of {entry['n']}"


def blocks(test: Mapping[str, Any]) -> list[Block]:
    """Tiles, per-class recall, confusion, most confused pairs and the worst errors as pictures."""
    return [
        _tiles(test),
        Bars(
            "How often each class is found",
            [Bar(entry["label"], entry["recall"], *entry["recall_interval"], note=_times(entry)) for entry in test["classes"] if entry["n"]],
            note="Recall on the test images; the whisker is the 95% interval.",
        ),
        Matrix("What is taken for what", [entry["label"] for entry in test["classes"]], test["confusion"],
               note="Test images by their true class (rows) and the model's answer (columns)."),  # fmt: skip
        Gallery("Most confused pairs", [
            Picture(key, f"{pair['truth']} taken for {pair['predicted']}", f"{pair['n']} times, {pair['share']:.0%} of {pair['truth']}")
            for pair in test["most_confused"] for key in pair["pictures"][:2]
        ]),
        Gallery("Most confident errors", [
            Picture(error["key"], f"{error['predicted']}, {error['score']:.0%} sure", f"truth: {error['truth']}, given {error['truth_score']:.0%}")
            for error in test["errors"][:WORST_ERRORS]
        ], note="Where the model was surest and wrong. Look for wrong labels here as well."),
        Table("Scores of each class", ["class", "test images", "precision", "recall", "F1"], [
            [entry["label"], str(entry["n"]), *(f"{entry[name]:.3f}" for name in ("precision", "recall", "f1"))] for entry in test["classes"]
        ], folded=True),
    ]  # fmt: skip


def _tiles(test: Mapping[str, Any]) -> Tiles:
    metrics, (low, high) = test["metrics"], test["intervals"]["accuracy"]
    tiles = [Tile("Accuracy", f"{metrics['accuracy']:.1%}", f"95% interval {low:.1%} to {high:.1%}")]
    if "top5" in metrics:
        tiles.append(Tile("Top 5", f"{metrics['top5']:.1%}", "truth among the five best answers"))
    tiles += [
        Tile("Precision", f"{metrics['precision']:.1%}", "mean over classes"),
        Tile("Recall", f"{metrics['recall']:.1%}", "mean over classes"),
        Tile("F1", f"{metrics['f1']:.1%}", "mean over classes"),
        Tile("Calibration error", f"{metrics['ece']:.1%}", "expected gap between score and truth"),
    ]
    return Tiles("On the untouched test images", tiles)
