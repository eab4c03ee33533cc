"""Tagging: each image may have several of k labels, or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation.calibration import fit_temperature
from sightline.evaluation.intervals import bootstrap_intervals
from sightline.evaluation.multilabel import (
    NEUTRAL_THRESHOLD,
    LabelScores,
    Ranking,
    best_threshold,
    calibration_error,
    chance_average_precision,
    expected_overlaps,
    hamming_loss,
    label_scores,
    mean_average_precision,
    overlaps,
    sigmoid,
    subset_accuracy,
)
from sightline.predictions import Decision, Tags
from sightline.tasks.blocks import Bar, Bars, Block, Gallery, Picture, Table, Tile, Tiles

OUTPUTS, SHAPES = ("logits",), {"logits": ("labels",)}
ONE_LABEL, SCENES = False, None
METRIC = "map"
SEPARATOR = "|"
LISTED_ERRORS, WORST_ERRORS = 500, 24
# A report's level follows the lower end of the interval, as a share of the way from guessing to perfect: a mean average precision
# of 0.6 is much for labels on one image in a hundred, and little for labels on every other one.
GOOD, FAIR = 0.75, 0.4
FEW_IMAGES = 50

Raw = Mapping[str, NDArray[Any]]


def decide(raw: Raw, targets: NDArray[Any], labels: Sequence[str]) -> Decision:
    """The temperature that makes the labels' probabilities fit n calibration images best, and for each label the threshold with the
    highest F1 on them; 0.5 for a label that none of them has."""
    has, signed = targets.astype(bool), np.where(targets, -raw["logits"], raw["logits"]).astype(np.float64)
    temperature = fit_temperature(lambda scale: float(np.logaddexp(0.0, signed / scale).mean(axis=1).sum() / len(has)), len(has))
    scores = sigmoid(raw["logits"], temperature)
    return Decision(temperature, {label: best_threshold(has[:, i], scores[:, i]) for i, label in enumerate(labels)})


def compact(raw: Raw, targets: NDArray[Any] | None) -> dict[str, NDArray[Any]]:
    """All of it: it is small."""
    return dict(raw)


def decode(raw: Raw, labels: Sequence[str], decision: Decision) -> list[Tags]:
    """``raw["logits"]`` (n, k) to n predictions; among equal scores the labels keep their order."""
    probabilities, given = _answers(raw, labels, decision)
    order = np.argsort(-probabilities, axis=1, kind="stable").tolist()
    return [
        Tags(tuple(labels[i] for i in best if chosen[i]), {labels[i]: scores[i] for i in best})
        for scores, chosen, best in zip(probabilities.tolist(), given.tolist(), order, strict=True)
    ]


def truth(targets: NDArray[Any], labels: Sequence[str]) -> NDArray[np.bool_]:
    """(n, k) as they are."""
    return targets.astype(bool)


def probabilities(raw: Raw, decision: Decision) -> NDArray[np.float64]:
    """(n, k), each label on its own."""
    return sigmoid(raw["logits"], decision.temperature)


def confidence(raw: Raw, labels: Sequence[str], decision: Decision) -> NDArray[np.float64]:
    """(n,) overlap with the truth that the probabilities promise of the labels given."""
    return expected_overlaps(*_answers(raw, labels, decision))


def statements(
    raw: Raw, targets: NDArray[Any], labels: Sequence[str], decision: Decision
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """(n * k,) probability of each label of each image, whether the image has it, and the image."""
    return probabilities(raw, decision).ravel(), targets.astype(np.float64).ravel(), np.repeat(np.arange(len(targets)), len(labels))


def difference(raw: Raw, expected: Raw, decision: Decision) -> float:
    """The largest absolute difference of a probability."""
    ours, theirs = (sigmoid(outputs["logits"], decision.temperature) for outputs in (raw, expected))
    return float(np.abs(ours - theirs).max(initial=0))


def evaluate(raw: Raw, targets: NDArray[Any], labels: Sequence[str], decision: Decision, keys: Sequence[str]) -> dict[str, Any]:
    """Metrics, intervals, per-label scores and errors of n images; ``targets`` (n, k) bool, n at least 1.

    A label that no image has cannot be scored: its figures are None, and means leave it out. Where that holds of every label,
    ``map`` and the means over labels are not there.
    """
    probabilities, given = _answers(raw, labels, decision)
    truth = targets.astype(bool)
    ranking, scores = Ranking.of(truth, probabilities), label_scores(truth, given)
    precisions = ranking.average_precision(np.ones(len(truth), np.int64))
    chance = chance_average_precision(scores.support, len(truth))
    intervals = _intervals(ranking, len(truth))
    present = scores.support > 0
    metrics = {
        **({"map": mean_average_precision(precisions)} if present.any() else {}),
        **scores.macro(),
        "f1_micro": scores.micro()["f1"],
        "subset_accuracy": subset_accuracy(truth, given),
        "hamming_loss": hamming_loss(truth, given),
        "ece": calibration_error(truth, probabilities),
    }
    return {
        "n": len(truth),
        "metrics": metrics,
        "intervals": {"map": intervals[0].tolist()} if present.any() else {},
        "labels": _labels(labels, decision, scores, precisions, intervals[1:], chance, len(truth)),
        "errors": _errors(probabilities, truth, given, labels, keys),
        "prevalence": float(scores.support[present].mean() / len(truth)) if present.any() else None,
        "chance": float(chance[present].mean()) if present.any() else None,
        "given": {"n": int(scores.given.sum()), "right": int(scores.right.sum()), "true": int(scores.support.sum())},
    }


def outcomes(raw: Raw, targets: NDArray[Any], labels: Sequence[str], decision: Decision) -> list[dict[str, Any]]:
    """True and given labels of n images, joined with ``|``; ``right`` is their Jaccard overlap, 1.0 where both are none.

    ``score`` is the overlap that the probabilities promise, so that it can be held against ``right``.
    """
    probabilities, given = _answers(raw, labels, decision)
    truth = targets.astype(bool)

    return [
        {"truth": SEPARATOR.join(_names(true, labels)), "predicted": SEPARATOR.join(_names(chosen, labels)), "score": score, "right": right}
        for true, chosen, score, right in zip(
            truth, given, expected_overlaps(probabilities, given).tolist(), overlaps(truth, given).tolist(), strict=True
        )
    ]


def _answers(raw: Raw, labels: Sequence[str], decision: Decision) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(n, k) probabilities, and which labels are given."""
    probabilities = sigmoid(raw["logits"], decision.temperature)
    return probabilities, probabilities >= np.array([decision.thresholds.get(label, NEUTRAL_THRESHOLD) for label in labels])


def _names(chosen: NDArray[np.bool_], labels: Sequence[str]) -> list[str]:
    return [label for label, has in zip(labels, chosen.tolist(), strict=True) if has]


def _intervals(ranking: Ranking, n: int) -> NDArray[np.float64]:
    """(1 + k, 2) of the mean average precision and of each label's, over images."""

    def statistic(weights: NDArray[np.int64]) -> NDArray[np.float64]:
        precisions = ranking.average_precision(weights)
        return np.concatenate([[mean_average_precision(precisions)], precisions])

    return np.clip(bootstrap_intervals(statistic, n), 0.0, 1.0)


def _labels(
    labels: Sequence[str],
    decision: Decision,
    scores: LabelScores,
    precisions: NDArray[np.float64],
    intervals: NDArray[np.float64],
    chance: NDArray[np.float64],
    n: int,
) -> list[dict[str, Any]]:
    """An entry a label; ``share`` of the images have it, ``chance`` is the average precision that a random order would have."""
    columns = {"ap": precisions, "chance": chance, "precision": scores.precision, "recall": scores.recall, "f1": scores.f1}
    return [
        {
            "label": label,
            "n": int(support),
            "share": float(support / n),
            "given": int(scores.given[i]),
            **{name: float(column[i]) if support else None for name, column in columns.items()},
            "ap_interval": intervals[i].tolist() if support else None,
            "threshold": float(decision.thresholds.get(label, NEUTRAL_THRESHOLD)),
        }
        for i, (label, support) in enumerate(zip(labels, scores.support, strict=True))
    ]


def _errors(
    probabilities: NDArray[np.float64],
    truth: NDArray[np.bool_],
    given: NDArray[np.bool_],
    labels: Sequence[str],
    keys: Sequence[str],
) -> list[dict[str, Any]]:
    """The most confident wrong decisions of each kind, the surest first: labels ``given`` that are not there, and those ``missed``."""
    errors = []
    for kind, wrong, doubt in (("given", given & ~truth, 1 - probabilities), ("missed", truth & ~given, probabilities)):
        rows, columns = np.nonzero(wrong)
        surest = np.argsort(doubt[rows, columns], kind="stable")[:LISTED_ERRORS]
        errors += [
            {
                "key": keys[row],
                "kind": kind,
                "label": labels[column],
                "score": float(probabilities[row, column]),
                "truth": _names(truth[row], labels),
            }
            for row, column in zip(rows[surest].tolist(), columns[surest].tolist(), strict=True)
        ]
    return errors


def verdict(test: Mapping[str, Any]) -> dict[str, str]:
    """The sentence on top of the report, and its level."""
    n, chance, counts = test["n"], test["chance"], test["given"]
    if chance is None:
        return {"level": "poor", "sentence": f"None of the {n} test images has a label, so nothing can be said of the model."}
    reached, (low, high) = test["metrics"]["map"], test["intervals"]["map"]
    sentence = (
        f"{_given_text(counts, n)} Its mean average precision is {reached:.1%} (95% interval {low:.1%} to {high:.1%}); "
        f"guessing would reach {chance:.1%}, a perfect model 100%."
    )
    few = f" With only {n} test images this is a rough figure." if n < FEW_IMAGES else ""
    if low <= chance:
        return {"level": "poor", "sentence": f"{sentence} That is not clearly better than guessing: do not use it yet.{few}"}
    weakest = min((entry for entry in test["labels"] if entry["n"]), key=lambda entry: entry["ap"])
    if weakest["ap"] < 1 and sum(entry["n"] > 0 for entry in test["labels"]) > 1:
        sentence += f" Its weakest label is {weakest['label']!r} ({weakest['ap']:.1%}, by chance {weakest['chance']:.1%})."
    way = (low - chance) / (1 - chance)
    good = way >= GOOD and n >= FEW_IMAGES  # a bootstrap of few images without an error knows no doubt
    return {"level": "good" if good else "fair" if way >= FAIR else "poor", "sentence": sentence + few}


def _given_text(counts: Mapping[str, int], n: int) -> str:
    if not counts["n"]:
        return f"The model gives no label to any of {n} test images it never saw."
    right, found = counts["right"] / counts["n"], counts["right"] / counts["true"]
    return f"Of the labels the model gives to {n} test images it never saw {right:.0%} are right, and it finds {found:.0%} of those there."


def blocks(test: Mapping[str, Any]) -> list[Block]:
    """Tiles, per-label average precision, thresholds with what they give, and the worst errors as pictures."""
    present = [entry for entry in test["labels"] if entry["n"]]
    return [
        _tiles(test),
        Bars(
            "How well each label is told apart",
            [_bar(entry) for entry in present],
            note="Average precision on the test images: 100% where every image with the label scores above every one without. "
            "The whisker is the 95% interval; chance is what a random order of the images would reach.",
        ),
        Table(
            "Thresholds and scores of each label",
            ["label", "test images", "share", "threshold", "given", "precision", "recall", "F1", "average precision"],
            [_score_row(entry) for entry in test["labels"]],
            note="A label is given from its threshold on, chosen on the validation images for the highest F1.",
        ),
        _gallery(test, "given", "Labels given that are not there"),
        _gallery(test, "missed", "Labels that are there and were missed"),
    ]


def _bar(entry: Mapping[str, Any]) -> Bar:
    low, high = entry["ap_interval"]
    return Bar(entry["label"], entry["ap"], low, high, note=f"by chance {entry['chance']:.0%}")


def _gallery(test: Mapping[str, Any], kind: str, title: str) -> Gallery:
    errors = [error for error in test["errors"] if error["kind"] == kind][:WORST_ERRORS]
    pictures = [
        Picture(error["key"], f"{error['label']} {kind}, at {error['score']:.0%}", f"truth: {', '.join(error['truth']) or 'no label'}")
        for error in errors
    ]
    return Gallery(title, pictures, note="Where the model was surest and wrong. Look for wrong labels here as well.")


def _score_row(entry: Mapping[str, Any]) -> list[str]:
    """A label without test images has no scores, which is not the same as scores of 0."""
    scores = [f"{entry[name]:.3f}" if entry["n"] else "–" for name in ("precision", "recall", "f1", "ap")]
    return [entry["label"], str(entry["n"]), f"{entry['share']:.1%}", f"{entry['threshold']:.3f}", str(entry["given"]), *scores]


def _tiles(test: Mapping[str, Any]) -> Tiles:
    metrics, tiles = test["metrics"], []
    if "map" in metrics:
        low, high = test["intervals"]["map"]
        tiles = [
            Tile("Mean average precision", f"{metrics['map']:.1%}", f"95% interval {low:.1%} to {high:.1%}"),
            Tile("By chance", f"{test['chance']:.1%}", "the same of a random order"),
            Tile("Precision", f"{metrics['precision']:.1%}", "of the labels given, mean over labels"),
            Tile("Recall", f"{metrics['recall']:.1%}", "of the labels there, mean over labels"),
            Tile("F1", f"{metrics['f1']:.1%}", "mean over labels"),
        ]
    tiles += [
        Tile("All labels right", f"{metrics['subset_accuracy']:.1%}", "of the images, none missed and none too many"),
        Tile("Calibration error", f"{metrics['ece']:.1%}", "expected gap between score and truth"),
    ]
    return Tiles("On the untouched test images", tiles)
