"""Segmentation: each pixel of an image has one of k classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.data.masks import read_map
from sightline.evaluation.boundaries import COUNTS, boundary_counts, boundary_summary
from sightline.evaluation.calibration import calibration_gap, fit_temperature
from sightline.evaluation.enlarging import cells_within, classes_of, logits_at
from sightline.evaluation.metrics import softmax
from sightline.evaluation.segmentation import overlap_intervals, pixel_confusion, segmentation_scores
from sightline.predictions import Decision
from sightline.records import presence
from sightline.scenes import IGNORED, Segmentation, joined, run_lengths
from sightline.tasks.blocks import Block
from sightline.tasks.segment_report import segmentation_blocks, segmentation_verdict

OUTPUTS, SHAPES = ("logits",), {"logits": ("labels", "rows", "columns")}
ONE_LABEL = False
SCENES = "maps"
METRIC = "miou"
# Pixels of each image whose logits are kept, and the side of the small map that is kept for pictures.
SAMPLED, SMALL = 256, 96
WORST_IMAGES = 12

Raw = Mapping[str, NDArray[Any]]


def compact(raw: Raw, targets: NDArray[Any] | None) -> dict[str, NDArray[Any]]:
    """Of n images with ``logits`` (n, k, h, w) over the input and their ``frame``: ``confusion`` (n, k, k) and ``boundary`` (n, k, 4)
    pixels of the original, ``sample`` (n, 256, k) float16 logits at random pixels and ``sample_truth`` (n, 256) uint8, ``small`` and
    ``small_truth`` (n, 96, 96) uint8 maps. Without targets the counts are 0 and the truth is ``IGNORED``."""
    n, k = raw["logits"].shape[:2]
    kept: dict[str, NDArray[Any]] = {
        "confusion": np.zeros((n, k, k), np.int64), "boundary": np.zeros((n, k, len(COUNTS)), np.int64),
        "sample": np.zeros((n, SAMPLED, k), np.float16), "sample_truth": np.full((n, SAMPLED), IGNORED, np.uint8),
        "small": np.zeros((n, SMALL, SMALL), np.uint8), "small_truth": np.full((n, SMALL, SMALL), IGNORED, np.uint8),
    }  # fmt: skip
    for row, (logits, frame) in enumerate(zip(raw["logits"], raw["frame"], strict=True)):
        width, height = frame[6:8].astype(int).tolist()
        x, y = (np.random.default_rng(axis).random(SAMPLED) * side for axis, side in enumerate((width, height)))
        kept["sample"][row] = logits_at(logits, frame, x, y).clip(-6e4, 6e4)
        columns, rows = (((np.arange(SMALL) + 0.5) * side / SMALL).astype(int) for side in (width, height))
        across, down = (places.ravel() + 0.5 for places in np.meshgrid(columns, rows))
        kept["small"][row] = logits_at(logits, frame, across, down).argmax(axis=1).reshape(SMALL, SMALL)
        if targets is not None:
            true, given = read_map(targets[row]), classes_of(logits, frame)
            kept["confusion"][row], kept["boundary"][row] = pixel_confusion(true, given, k), boundary_counts(true, given, k)
            kept["sample_truth"][row], kept["small_truth"][row] = true[y.astype(int), x.astype(int)], true[rows[:, None], columns]
    return kept


def decide(raw: Raw, targets: NDArray[Any], labels: Sequence[str]) -> Decision:
    """The temperature that makes the classes' probabilities fit pixels of n calibration images best."""
    known = raw["sample_truth"] != IGNORED
    logits, true = raw["sample"][known].astype(np.float64), raw["sample_truth"][known]

    def loss(temperature: float) -> float:
        return float(-np.log(np.maximum(softmax(logits, temperature)[np.arange(len(true)), true], 1e-12)).mean()) if len(true) else 0.0

    return Decision(temperature=fit_temperature(loss, len(targets)))


def decode(raw: Raw, labels: Sequence[str], decision: Decision) -> list[Segmentation]:
    """``logits`` (n, k, h, w) over the input, with their ``frame``, to n predictions at the originals' size."""
    found = []
    for logits, frame in zip(raw["logits"], raw["frame"], strict=True):
        classes = classes_of(logits, frame)
        pixels = np.bincount(classes.ravel(), minlength=len(labels))
        rows, columns = cells_within(frame, *logits.shape[1:])
        shown = logits[:, rows, columns]
        scores, coarse = softmax(np.moveaxis(shown, 0, -1), decision.temperature), shown.argmax(axis=0)
        order = [label for label in np.argsort(-pixels, kind="stable").tolist() if pixels[label]]
        sure = {label: scores[..., label][coarse == label] for label in order}
        # A class may be the surest between two cells and of none.
        means = {labels[label]: float(each.mean() if each.size else scores[..., label].max()) for label, each in sure.items()}
        found.append(Segmentation(classes, tuple(labels), means))
    return found


def truth(targets: NDArray[Any], labels: Sequence[str]) -> NDArray[np.bool_]:
    """(n, k) which classes each image shows."""
    return np.asarray(presence(targets, len(labels)), bool)


def probabilities(raw: Raw, decision: Decision) -> NDArray[np.float64]:
    """(n, k) the highest probability of each class at any of the pixels kept."""
    return np.asarray(softmax(raw["sample"], decision.temperature).max(axis=1))


def confidence(raw: Raw, labels: Sequence[str], decision: Decision) -> NDArray[np.float64]:
    """(n,) mean probability of the most probable class: the share of right pixels that the model promises."""
    return np.asarray(softmax(raw["sample"], decision.temperature).max(axis=2).mean(axis=1))


def statements(
    raw: Raw, targets: NDArray[Any], labels: Sequence[str], decision: Decision
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """(m,) probability of the most probable class of the pixels kept, whether it is the true one, and the image."""
    known = raw["sample_truth"] != IGNORED
    scores = softmax(raw["sample"][known], decision.temperature)
    return scores.max(axis=1), (scores.argmax(axis=1) == raw["sample_truth"][known]).astype(np.float64), np.nonzero(known)[0]


def difference(raw: Raw, expected: Raw, decision: Decision) -> float:
    """The largest absolute difference of a probability."""
    ours, theirs = (softmax(np.moveaxis(outputs["logits"], 1, -1), decision.temperature) for outputs in (raw, expected))
    return float(np.abs(ours - theirs).max(initial=0))


def evaluate(raw: Raw, targets: NDArray[Any], labels: Sequence[str], decision: Decision, keys: Sequence[str]) -> dict[str, Any]:
    """Metrics, intervals, figures of each class and the worst images of n; ``targets`` (n,) of ``LabelMap``, n at least 1.

    A class that is neither there nor given has no overlap: it is None, and means leave it out.
    """
    figures, intervals = segmentation_scores(raw["confusion"].sum(axis=0)), overlap_intervals(raw["confusion"])
    outlines = boundary_summary(raw["boundary"])
    scores, right, _ = statements(raw, targets, labels, decision)
    metrics = {"miou": figures.miou, "dice": figures.mdice, "accuracy": figures.accuracy, "boundary_f1": float(outlines[0]),
               "ece": calibration_gap(scores, right) if len(scores) else None}  # fmt: skip
    columns = {"share": figures.pixels / max(1, figures.pixels.sum()), "iou": figures.iou, "dice": figures.dice, "recall": figures.recall,
               "boundary_f1": outlines[1:]}  # fmt: skip
    usual = int(figures.pixels.argmax())
    return {
        "n": len(targets),
        "metrics": {name: float(value) for name, value in metrics.items() if value is not None and np.isfinite(value)},
        "intervals": {name: both.tolist() for name, both in zip(("miou", "accuracy"), intervals, strict=False) if not np.isnan(both).any()},
        "classes": [
            {"label": label, "n": int((raw["confusion"][:, i].sum(axis=1) > 0).sum()),
             **{name: _number(column[i]) for name, column in columns.items()},
             "iou_interval": None if np.isnan(intervals[2 + i]).any() else intervals[2 + i].tolist()}
            for i, label in enumerate(labels)
        ],
        "confusion": raw["confusion"].sum(axis=0).tolist(),
        "majority": {"label": labels[usual], "share": float(figures.pixels[usual] / max(1, figures.pixels.sum()))},
        "worst": _worst(raw, keys),
    }  # fmt: skip


def outcomes(raw: Raw, targets: NDArray[Any], labels: Sequence[str], decision: Decision) -> list[dict[str, Any]]:
    """True and given classes of n images, joined with ``|``; ``right`` is the share of the pixels that are, ``score`` what is promised."""
    given = raw["confusion"].sum(axis=1) > 0
    return [
        {"truth": joined(true, labels), "predicted": joined(answer, labels), "score": float(score), "right": float(right)}
        for true, answer, score, right in zip(truth(targets, labels), given, confidence(raw, labels, decision), _right(raw), strict=True)
    ]


def verdict(test: Mapping[str, Any]) -> dict[str, str]:
    """The sentence on top of the report, and its level."""
    return segmentation_verdict(test)


def blocks(test: Mapping[str, Any]) -> list[Block]:
    """Tiles, overlap of each class, confusion, and the worst images beside their truth."""
    return segmentation_blocks(test)


def _right(kept: Raw) -> NDArray[np.float64]:
    """(n,) share of each image's pixels that are right; 1 where none counts."""
    pixels = kept["confusion"].sum(axis=(1, 2))
    return np.where(pixels > 0, np.trace(kept["confusion"], axis1=1, axis2=2) / np.maximum(pixels, 1), 1.0)


def _worst(kept: Raw, keys: Sequence[str]) -> list[dict[str, Any]]:
    """The images with the fewest right pixels, with small maps of what is given and what is true, row by row as (class, length) runs."""
    right = _right(kept)
    order = np.argsort(right, kind="stable")[:WORST_IMAGES].tolist()
    return [{"key": keys[row], "right": float(right[row]), "side": SMALL, "given": _runs(kept["small"][row]),
             "true": _runs(kept["small_truth"][row])} for row in order if right[row] < 1]  # fmt: skip


def _runs(classes: NDArray[np.uint8]) -> list[list[int]]:
    """As JSON has them."""
    return [list(run) for run in run_lengths(classes)]


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
