"""Classification: each image has exactly one of k classes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation.calibration import fit_temperature
from sightline.evaluation.fading import fading
from sightline.evaluation.intervals import wilson_interval
from sightline.evaluation.metrics import (
    ClassScores,
    accuracy,
    class_scores,
    confusion_matrix,
    expected_calibration_error,
    softmax,
    top_k_accuracy,
)
from sightline.predictions import Classification, Decision
from sightline.tasks.blocks import Bar, Bars, Block, Gallery, Matrix, Picture, Table, Tile, Tiles

OUTPUTS, SHAPES = ("logits",), {"logits": ("labels",)}
ONE_LABEL, SCENES = True, None
METRIC = "accuracy"
TOP = 5
CONFUSED_PAIRS, PICTURES_A_PAIR, SHOWN_A_PAIR, WORST_ERRORS = 8, 4, 2, 24
# A report's level follows the lower end of the accuracy's interval, so that few test images cannot look good.
GOOD, FAIR = 0.85, 0.6
FEW_IMAGES = 50

Raw = Mapping[str, NDArray[Any]]


def decide(raw: Raw, targets: NDArray[Any], labels: Sequence[str]) -> Decision:
    """The temperature that makes the classes' probabilities fit n calibration images best."""
    rows = np.arange(len(targets))

    def loss(temperature: float) -> float:
        scaled = raw["logits"].astype(np.float64) / temperature
        scaled -= scaled.max(axis=1, keepdims=True)
        return float((np.log(np.exp(scaled).sum(axis=1)) - scaled[rows, targets]).mean())

    return Decision(temperature=fit_temperature(loss, len(targets)))


def compact(raw: Raw, targets: NDArray[Any] | None) -> dict[str, NDArray[Any]]:
    """All of it: it is small."""
    return dict(raw)


def decode(raw: Raw, labels: Sequence[str], decision: Decision) -> list[Classification]:
    """``raw["logits"]`` (n, k) to n predictions with all classes, most probable first; ties keep the labels' order."""
    scores = probabilities(raw, decision)
    order = np.argsort(-scores, axis=1, kind="stable")
    return [Classification(tuple(labels[i] for i in best), tuple(row[best].tolist())) for row, best in zip(scores, order, strict=True)]


def truth(targets: NDArray[Any], labels: Sequence[str]) -> NDArray[np.bool_]:
    """(n,) indices of classes as (n, k) yes or no."""
    return np.asarray(targets[:, None] == np.arange(len(labels)))


def probabilities(raw: Raw, decision: Decision) -> NDArray[np.float64]:
    """(n, k), each row adding up to 1; of an unfamiliar image nearer to equal shares the less it is like the training images."""
    logits = raw["logits"]
    if "similarity" in raw and decision.familiar_from is not None and decision.fades_over is not None:
        logits = logits * fading(raw["similarity"], decision.familiar_from, decision.fades_over)[:, None]
    return softmax(logits, decision.temperature)


def confidence(raw: Raw, labels: Sequence[str], decision: Decision) -> NDArray[np.float64]:
    """(n,) probability of the most probable class."""
    return np.asarray(probabilities(raw, decision).max(axis=1))


def statements(
    raw: Raw, targets: NDArray[Any], labels: Sequence[str], decision: Decision
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """(n,) probability of each image's most probable class, whether it is the true one, and the image."""
    scores = probabilities(raw, decision)
    return scores.max(axis=1), (scores.argmax(axis=1) == targets).astype(np.float64), np.arange(len(targets))


def difference(raw: Raw, expected: Raw, decision: Decision) -> float:
    """The largest absolute difference of a probability."""
    return float(np.abs(probabilities(raw, decision) - probabilities(expected, decision)).max(initial=0))


def evaluate(raw: Raw, targets: NDArray[Any], labels: Sequence[str], decision: Decision, keys: Sequence[str]) -> dict[str, Any]:
    """Metrics, intervals, per-class scores, confusion and errors of n images; ``targets`` (n,) int64, n at least 1."""
    found = probabilities(raw, decision)
    confusion = confusion_matrix(targets, found.argmax(axis=1), len(labels))
    scores = class_scores(confusion)
    metrics = {
        "accuracy": accuracy(confusion),
        **({"top5": top_k_accuracy(targets, found, TOP)} if len(labels) > TOP else {}),
        **scores.macro(),
        "ece": expected_calibration_error(targets, found),
    }
    errors = _errors(found, targets, labels, keys)
    return {
        "n": len(targets),
        "metrics": metrics,
        "intervals": {"accuracy": list(wilson_interval(int(np.trace(confusion)), len(targets)))},
        "classes": _classes(confusion, scores, labels),
        "confusion": confusion.tolist(),
        "most_confused": _most_confused(confusion, labels, errors),
        "errors": errors,
        "majority": {"label": labels[int(scores.support.argmax())], "share": float(scores.support.max() / len(targets))},
    }


def outcomes(raw: Raw, targets: NDArray[Any], labels: Sequence[str], decision: Decision) -> list[dict[str, Any]]:
    """Truth, answer, its probability and whether it is right (1.0 or 0.0) of n images."""
    found = probabilities(raw, decision)
    return [
        {"truth": labels[truth], "predicted": labels[answer], "score": float(row[answer]), "right": float(truth == answer)}
        for row, truth, answer in zip(found, targets.tolist(), found.argmax(axis=1).tolist(), strict=True)
    ]


def _classes(confusion: NDArray[np.int64], scores: ClassScores, labels: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "label": label,
            "n": int(scores.support[i]),
            "precision": float(scores.precision[i]),
            "recall": float(scores.recall[i]),
            "f1": float(scores.f1[i]),
            "recall_interval": list(wilson_interval(int(confusion[i, i]), int(scores.support[i]))),
        }
        for i, label in enumerate(labels)
    ]


def _errors(probabilities: NDArray[np.float64], targets: NDArray[Any], labels: Sequence[str], keys: Sequence[str]) -> list[dict[str, Any]]:
    """The wrongly named images, the most confident first."""
    predicted = probabilities.argmax(axis=1)
    errors = [
        {
            "key": keys[i],
            "truth": labels[targets[i]],
            "predicted": labels[predicted[i]],
            "score": float(probabilities[i, predicted[i]]),
            "truth_score": float(probabilities[i, targets[i]]),
        }
        for i in np.flatnonzero(predicted != targets).tolist()
    ]
    return sorted(errors, key=lambda error: -error["score"])


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
        f"The model names the right class for {share:.1%} of {test['n']} test images it never saw (95% interval {low:.1%} to {high:.1%})."
    )
    few = f" With only {test['n']} test images this is a rough figure." if test["n"] < FEW_IMAGES else ""
    if low <= majority["share"]:
        sentence += f" That is not clearly better than always answering {majority['label']!r}, which is right for {majority['share']:.1%}"
        return {"level": "poor", "sentence": f"{sentence}: do not use it yet.{few}"}
    weakest = min((entry for entry in test["classes"] if entry["n"]), key=lambda entry: entry["recall"])
    if weakest["recall"] < 1:
        sentence += f" Its weakest class is {weakest['label']!r}, which it finds {_times(weakest)}."
    return {"level": "good" if low >= GOOD else "fair" if low >= FAIR else "poor", "sentence": sentence + few}


def _times(entry: Mapping[str, Any]) -> str:
    return f"{round(entry['recall'] * entry['n'])} times out of {entry['n']}"


def blocks(test: Mapping[str, Any]) -> list[Block]:
    """Tiles, per-class recall, confusion, most confused pairs and the worst errors as pictures."""
    return [
        _tiles(test),
        Bars(
            "How often each class is found",
            [_recall_bar(entry) for entry in test["classes"] if entry["n"]],
            note="Recall on the test images; the whisker is the 95% interval.",
        ),
        Matrix(
            "What is taken for what",
            [entry["label"] for entry in test["classes"]],
            test["confusion"],
            note="Test images by their true class (rows) and the model's answer (columns).",
        ),
        Gallery("Most confused pairs", [picture for pair in test["most_confused"] for picture in _pair_pictures(pair)]),
        Gallery(
            "Most confident errors",
            [_error_picture(error) for error in test["errors"][:WORST_ERRORS]],
            note="Where the model was surest and wrong. Look for wrong labels here as well.",
        ),
        Table(
            "Scores of each class",
            ["class", "test images", "precision", "recall", "F1"],
            [_score_row(entry) for entry in test["classes"]],
            folded=True,
        ),
    ]


def _recall_bar(entry: Mapping[str, Any]) -> Bar:
    low, high = entry["recall_interval"]
    return Bar(entry["label"], entry["recall"], low, high, note=_times(entry))


def _pair_pictures(pair: Mapping[str, Any]) -> list[Picture]:
    caption, times = f"{pair['truth']} taken for {pair['predicted']}", "once" if pair["n"] == 1 else f"{pair['n']} times"
    return [Picture(key, caption, f"{times}, {pair['share']:.0%} of {pair['truth']}") for key in pair["pictures"][:SHOWN_A_PAIR]]


def _error_picture(error: Mapping[str, Any]) -> Picture:
    return Picture(
        error["key"], f"{error['predicted']}, {error['score']:.0%} sure", f"truth: {error['truth']}, given {error['truth_score']:.0%}"
    )


def _score_row(entry: Mapping[str, Any]) -> list[str]:
    """A class without test images has no scores, which is not the same as scores of 0."""
    scores = [f"{entry[name]:.3f}" if entry["n"] else "–" for name in ("precision", "recall", "f1")]
    return [entry["label"], str(entry["n"]), *scores]


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
