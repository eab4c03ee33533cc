"""Detection: each image has any number of objects, each with a box and one of k classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation.box_errors import (
    BACKGROUND,
    BADLY_PLACED,
    CORRECT,
    DOUBLE,
    FATES,
    FOUND,
    KINDS,
    MISSED,
    STRAY,
    WRONG_CLASS,
    BoxErrors,
    box_errors,
)
from sightline.evaluation.boxes import is_set, sets_apart, suppress
from sightline.evaluation.calibration import calibration_gap, fit_scale
from sightline.evaluation.counting import count_objects
from sightline.evaluation.detection import DetectionScores, detection_scores, precision_intervals
from sightline.evaluation.matching import ALL_SIZES, Found, Matches, match
from sightline.evaluation.metrics import ratio
from sightline.evaluation.multilabel import NEUTRAL_THRESHOLD, decided, sigmoid
from sightline.evaluation.precision_recall import best_thresholds, precision_recall
from sightline.evaluation.precision_recall import statements as stated
from sightline.predictions import Decision
from sightline.records import presence
from sightline.scenes import Detections, Objects, joined, laid_back
from sightline.tasks.blocks import Block
from sightline.tasks.detect_report import detection_blocks, detection_verdict

OUTPUTS, SHAPES = ("boxes", "scores"), {"boxes": ("places", 4), "scores": ("places", "labels")}
ONE_LABEL = False
SCENES = "boxes"
METRIC = "map"
# A box with a probability below this is never told of; of an image's others the surest so many are looked at and so many are kept.
FAINTEST, LOOKED_AT, KEPT = 0.005, 1000, 300
# Two boxes of a class that overlap by more are one object.
DOUBLES = 0.6
# From this probability on a box is something said, which may be right or wrong.
STATED = 0.1
LISTED_ERRORS, CURVE_POINTS = 100, 40
TIGHT = np.array([0.5])

Raw = Mapping[str, NDArray[Any]]


def compact(raw: Raw, targets: NDArray[Any] | None) -> dict[str, NDArray[Any]]:
    """The boxes that are left of each of n images, of one object one: ``boxes`` (n, 300, 4) float32 in pixels of the original,
    ``scores`` (n, 300) float32 logits, ``labels`` (n, 300) int64, the surest first, with the label -1 where there is none; and ``peaks``
    (n, k) float32, the logit of each class's surest, -inf where there is none."""
    n, laid = len(raw["boxes"]), np.zeros((len(raw["boxes"]), KEPT, 4))
    scores, labels = np.full((n, KEPT), -np.inf, np.float32), np.full((n, KEPT), -1)
    peaks = np.full((n, raw["scores"].shape[2]), -np.inf, np.float32)
    for row in range(n):
        boxes, logits, classes = _left(raw["boxes"][row], raw["scores"][row])
        laid[row, : len(boxes)], scores[row, : len(boxes)], labels[row, : len(boxes)] = boxes, logits, classes
        np.maximum.at(peaks[row], classes, logits)
    return {"boxes": laid_back(laid, raw["frame"]).astype(np.float32), "scores": scores, "labels": labels, "peaks": peaks}


def _left(boxes: NDArray[Any], scores: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]:
    """Boxes, logits and classes of one image's places (a, 4) and (a, k), without the faint and without doubles.

    Where the network answers with a set, none is a double.
    """
    place, label = np.nonzero(scores > np.log(FAINTEST / (1 - FAINTEST)))
    logits = scores[place, label]
    if len(logits) > LOOKED_AT:
        surest = np.argpartition(-logits, LOOKED_AT)[:LOOKED_AT]
        place, label, logits = place[surest], label[surest], logits[surest]
    kept = suppress(boxes[place], logits, label, np.inf if is_set(boxes) else DOUBLES, KEPT)
    return boxes[place[kept]], logits[kept], label[kept]


def decide(raw: Raw, targets: NDArray[Any], labels: Sequence[str]) -> Decision:
    """Temperature and offset that make scores the probability of a right box, at an IoU of 0.5, and the threshold with the highest F1 of
    each class, on n calibration images."""
    matches = _matched(raw, targets, labels)
    scores, right = stated(matches)
    temperature, offset = fit_scale(scores, right)
    given = best_thresholds(_matched({**raw, "scores": sigmoid(raw["scores"] + offset * temperature, temperature)}, targets, labels), 0.5)
    return Decision(temperature, dict(zip(labels, given.tolist(), strict=True)), offset=offset)


def decode(raw: Raw, labels: Sequence[str], decision: Decision) -> list[Detections]:
    """Dense ``boxes`` (n, a, 4) in pixels of the input and ``scores`` (n, a, k) logits, with their ``frame``, or what ``compact`` kept of
    them, to n predictions."""
    kept = raw if "peaks" in raw else compact(raw, None)
    scores, given = _given(kept, labels, decision)
    return [
        Detections(
            tuple(labels[label] for label in kept["labels"][row, places].tolist()),
            tuple(scores[row, places].tolist()),
            tuple(map(tuple, kept["boxes"][row, places].astype(float).round(2).tolist())),
        )
        for row, places in enumerate(map(np.flatnonzero, given))
    ]


def truth(targets: NDArray[Any], labels: Sequence[str]) -> NDArray[np.bool_]:
    """(n, k) which classes each image shows."""
    return np.asarray(presence(targets, len(labels)), bool)


def probabilities(raw: Raw, decision: Decision) -> NDArray[np.float64]:
    """(n, k) probability of each image's surest box of each class, 0 where there is none."""
    return decided(raw["peaks"], decision)


def confidence(raw: Raw, labels: Sequence[str], decision: Decision) -> NDArray[np.float64]:
    """(n,) the F1 that the probabilities promise of the boxes given; where none is given, the probability that there is no object."""
    scores, given = _given(raw, labels, decision)
    expected, promised = scores.sum(axis=1), np.where(given, scores, 0).sum(axis=1)
    return np.asarray(np.where(given.any(axis=1), 2 * promised / np.maximum(given.sum(axis=1) + expected, 1), np.exp(-expected)))


def statements(
    raw: Raw, targets: NDArray[Any], labels: Sequence[str], decision: Decision
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """(m,) probability of each box that is not all too faint, whether it is on an object of its class, at an IoU of 0.5, and the image."""
    matches = _matched({**raw, "scores": _probabilities(raw, decision)}, targets, labels)
    scores, right = stated(matches)
    said = scores >= STATED
    return scores[said], right[said].astype(np.float64), matches.image[~matches.ignored[0, 0]][said]


def difference(raw: Raw, expected: Raw, decision: Decision) -> float:
    """The largest difference of a probability, or of a side of a box that is not faint as a share of its longer side.

    What is where in a set follows from scores that may be all but equal, so that of sets the order counts for nothing.
    """
    ours, theirs = (decided(outputs["scores"], decision) for outputs in (raw, expected))
    boxes, others = raw["boxes"].astype(np.float64), expected["boxes"].astype(np.float64)
    if is_set(others):
        return sets_apart((boxes, ours), (others, theirs), STATED)
    longer = np.maximum((others[..., 2:] - others[..., :2]).max(axis=-1), 1.0)
    moved = np.where(theirs.max(axis=-1) >= STATED, np.abs(boxes - others).max(axis=-1) / longer, 0.0)
    return float(np.max([np.abs(ours - theirs).max(initial=0), moved.max(initial=0)]))


def evaluate(raw: Raw, targets: NDArray[Any], labels: Sequence[str], decision: Decision, keys: Sequence[str]) -> dict[str, Any]:
    """Metrics, intervals, figures of each class, kinds of error and errors of n images; ``targets`` (n,) of ``Objects``, n at least 1.

    A class without an object has no average precision: it is None, and means leave it out.
    """
    scores, k = _probabilities(raw, decision), len(labels)
    thresholds = _thresholds(labels, decision)
    found = Found(raw["boxes"], scores, raw["labels"])
    true: list[Objects] = targets.tolist()
    matches = match(found, true, k)
    figures, intervals = detection_scores(matches), precision_intervals(matches)
    errors, counts = box_errors(found, true, k, thresholds), count_objects(found, true, k, thresholds)
    kinds, fates = errors.kinds(), errors.fates()
    right, given, there = kinds[:, CORRECT], kinds.sum(axis=1) - kinds[:, KINDS.index("ignored")], fates.sum(axis=1)
    statistics = {"precision": ratio(right, given), "recall": ratio(fates[:, FOUND], there), "f1": ratio(2 * right, given + there)}
    shown = there > 0
    metrics = {
        **_named(figures),
        **({name: float(values[shown].mean()) for name, values in statistics.items()} if shown.any() else {}),
        "ece": _gap(*statements(raw, targets, labels, decision)[:2]),
        "count_error": float(np.nanmean(counts.absolute())) if counts.known.any() else None,
    }
    columns = {
        **{name: values.tolist() for name, values in statistics.items()}, "ap": figures.ap.tolist(), "ap50": figures.ap50.tolist(),
        "ap50_interval": intervals[2 + k :].tolist(), "given": given.tolist(), "right": right.tolist(), "missed": fates[:, MISSED].tolist(),
        "threshold": thresholds.tolist(), "count_error": counts.absolute().tolist(), "count_bias": counts.signed().tolist(),
        "kinds": [dict(zip(KINDS, row, strict=True)) for row in kinds.tolist()],
        "curve": [_curve(matches, label) for label in range(k)],
    }  # fmt: skip
    return dict(_finite({
        "n": len(targets),
        "objects": int(there.sum()),
        "metrics": {name: value for name, value in metrics.items() if value is not None and np.isfinite(value)},
        "intervals": {"map": intervals[0].tolist(), "map50": intervals[1].tolist()} if shown.any() else {},
        "classes": [{"label": label, "n": int(there[i]), **{name: column[i] for name, column in columns.items()}}
                    for i, label in enumerate(labels)],
        "kinds": dict(zip(KINDS, kinds.sum(axis=0).tolist(), strict=True)),
        "fates": dict(zip(FATES, fates.sum(axis=0).tolist(), strict=True)),
        "errors": _errors(errors, found, true, labels, keys),
    }))  # fmt: skip


def outcomes(raw: Raw, targets: NDArray[Any], labels: Sequence[str], decision: Decision) -> list[dict[str, Any]]:
    """True and given classes of n images, joined with ``|``; ``right`` is the F1 of the boxes given, 1.0 where none is there or given.

    ``score`` is the F1 that the probabilities promise, so that it can be held against ``right``.
    """
    _, given = _given(raw, labels, decision)
    matches = _matched({**raw, "labels": np.where(given, raw["labels"], -1)}, targets, labels)
    counted = ~matches.ignored[0, 0]
    right, said = (np.bincount(matches.image[which], minlength=len(targets)) for which in (matches.hit[0, 0], counted))
    there = matches.objects[0].sum(axis=1)
    f1 = np.where(said + there > 0, ratio(2 * right, said + there), 1.0)
    shown, named = truth(targets, labels), np.zeros((len(targets), len(labels)), bool)
    rows, places = np.nonzero(given)
    named[rows, raw["labels"][rows, places]] = True
    return [
        {"truth": joined(true, labels), "predicted": joined(answer, labels), "score": float(score), "right": float(share)}
        for true, answer, score, share in zip(shown, named, confidence(raw, labels, decision), f1, strict=True)
    ]


def verdict(test: Mapping[str, Any]) -> dict[str, str]:
    """The sentence on top of the report, and its level."""
    return detection_verdict(test)


def blocks(test: Mapping[str, Any]) -> list[Block]:
    """Tiles, average precision and curves of each class, kinds of error, counts, and the surest errors as pictures."""
    return detection_blocks(test)


def _probabilities(kept: Raw, decision: Decision) -> NDArray[np.float64]:
    """(n, m) of boxes, 0 where there is none."""
    return np.where(kept["labels"] >= 0, decided(kept["scores"], decision), 0.0)


def _thresholds(labels: Sequence[str], decision: Decision) -> NDArray[np.float64]:
    return np.array([decision.thresholds.get(label, NEUTRAL_THRESHOLD) for label in labels])


def _given(kept: Raw, labels: Sequence[str], decision: Decision) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(n, m) probabilities of boxes, and which of them are given."""
    scores = _probabilities(kept, decision)
    return scores, (kept["labels"] >= 0) & (scores >= _thresholds(labels, decision)[kept["labels"]])


def _matched(kept: Raw, targets: NDArray[Any], labels: Sequence[str]) -> Matches:
    """At an IoU of 0.5, whatever the objects' size."""
    found = Found(kept["boxes"], kept["scores"], kept["labels"])
    return match(found, targets.tolist(), len(labels), limit=KEPT, ious=TIGHT, sizes=ALL_SIZES)


def _named(figures: DetectionScores) -> dict[str, float]:
    by_size = {f"map_{size}": value for size, value in figures.map_by_size.items()}
    return {"map": figures.map, "map50": figures.map50, "map75": figures.map75, **by_size}


def _gap(scores: NDArray[np.float64], right: NDArray[np.float64]) -> float | None:
    return calibration_gap(scores, right) if len(scores) else None


def _curve(matches: Matches, label: int) -> list[list[float]]:
    """Some (recall, precision) points of a class, from the surest boxes on."""
    curve = precision_recall(matches, label)
    if not curve.objects or not len(curve.given):
        return []
    shown = np.unique(np.linspace(0, len(curve.given) - 1, CURVE_POINTS).round().astype(int))
    return list(np.column_stack([curve.recall[shown], curve.precision[shown]]).tolist())


def _errors(
    errors: BoxErrors, found: Found, targets: Sequence[Objects], labels: Sequence[str], keys: Sequence[str]
) -> list[dict[str, Any]]:
    """The surest wrong boxes of each kind, and missed objects, the largest first, with all that is true of them."""
    listed = []
    scores = found.scores[errors.image, errors.place]
    for kind in (BACKGROUND, WRONG_CLASS, BADLY_PLACED, DOUBLE, STRAY):
        places = np.flatnonzero(errors.kind == kind)
        for i in places[np.argsort(-scores[places], kind="stable")][:LISTED_ERRORS].tolist():
            image, partner = int(errors.image[i]), int(errors.partner[i])
            true = targets[image]
            about = {} if partner < 0 else {"truth": labels[true.labels[partner]], "truth_box": true.boxes[partner].tolist()}
            box = found.boxes[image, errors.place[i]].astype(float).tolist()
            listed.append({"key": keys[image], "kind": KINDS[kind], "label": labels[errors.label[i]], "score": float(scores[i]), "box": box,
                           "overlap": float(errors.overlap[i]), **about})  # fmt: skip
    missed = np.flatnonzero(errors.fate == MISSED)
    sizes = np.array([targets[errors.object_image[i]].areas[errors.object_index[i]] for i in missed.tolist()])
    for i in missed[np.argsort(-sizes, kind="stable")][:LISTED_ERRORS].tolist():
        image, index = int(errors.object_image[i]), int(errors.object_index[i])
        listed.append({"key": keys[image], "kind": "missed", "label": labels[errors.object_label[i]],
                       "box": targets[image].boxes[index].tolist()})  # fmt: skip
    return listed


def _finite(value: Any) -> Any:
    """The same with None for what is no number, as of a class without an object."""
    if isinstance(value, dict):
        return {name: _finite(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
