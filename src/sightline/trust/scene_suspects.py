"""Annotations that may be wrong: where a network is sure of something else on images that it did not learn from.

Boxes: one that it is sure of and that is near no object (missing), on an object of another class (swapped), or that only touches an
object which no other box that is given is on (badly placed). Label maps: images on which it is surest of other classes than theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.data.decode import Limits, decode
from sightline.data.reading import Reading
from sightline.evaluation.box_errors import BACKGROUND, BADLY_PLACED, FOUND, WRONG_CLASS, box_errors
from sightline.evaluation.matching import Found
from sightline.evaluation.metrics import softmax
from sightline.evaluation.multilabel import decided
from sightline.predictions import Decision
from sightline.records import ImageRef
from sightline.report import amounts
from sightline.report.pictures import layered, marked
from sightline.scenes import IGNORED, run_lengths
from sightline.tasks import Raw, Task
from sightline.tasks.blocks import Layer, Mark
from sightline.trust.report_part import ReportPart

PART = "suspects"
# From this probability on the network is sure of a box; from this share of the pixels on, as far as it is sure of them, of a map.
SURE, DISAGREES = 0.5, 0.1
LISTED, PICTURED = 500, 24
KINDS = {BACKGROUND: "missing", WRONG_CLASS: "swapped class", BADLY_PLACED: "badly placed"}
MAP = "mask"


@dataclass(frozen=True)
class Unlearned:
    """n images that the network did not learn from: their names, where they are, targets, and what was kept of the raw outputs."""

    names: Sequence[str]
    refs: Sequence[ImageRef]
    targets: NDArray[Any]
    raw: Raw


def scene_suspects(
    task: Task, images: Unlearned, labels: Sequence[str], decision: Decision, reading: Reading = Reading(), limits: Limits = Limits()
) -> ReportPart:
    """``numbers`` has ``n`` images looked at, ``counts`` by kind of all that was found, the surest of it as ``items``, and a ``sentence``.

    An item has the image's ``key``, a ``kind``, the network's ``label``, its ``score`` and ``box`` (of boxes), what is annotated there
    (``truth``, ``truth_box``), and a ``suggestion``. The first have a ``picture``.
    """
    found = _boxes(images, labels, decision) if task.SCENES == "boxes" else _maps(images, labels, decision)
    counts = {kind: sum(item["kind"] == kind for item in found) for kind in ([MAP] if task.SCENES == "maps" else KINDS.values())}
    items, made = found[:LISTED], {}
    for number, item in enumerate(items[:PICTURED]):
        image = decode(images.refs[item["row"]], reading=reading, limits=limits)
        item["picture"] = f"{PART}/{number}"
        made[item["picture"]] = marked(image, _marks(item)) if task.SCENES == "boxes" else layered(image, _layers(images, item, labels))
    told = [{name: value for name, value in item.items() if name != "row"} for item in items]
    return ReportPart({"n": len(images.names), "counts": counts, "items": told, "sentence": _sentence(counts, len(images.names))}, made)


def _boxes(images: Unlearned, labels: Sequence[str], decision: Decision) -> list[dict[str, Any]]:
    """Sure boxes that contradict the annotations, the surest first; an object that is found all the same is not doubted."""
    raw, targets = images.raw, images.targets.tolist()
    scores = np.where(raw["labels"] >= 0, decided(raw["scores"], decision), 0)
    boxes, thresholds = Found(raw["boxes"], scores, raw["labels"]), np.array([decision.thresholds.get(label, SURE) for label in labels])
    errors = box_errors(boxes, targets, len(labels), np.maximum(SURE, thresholds))
    # A right box that the bundle gives speaks for its object, however unsure the network is of it.
    given = box_errors(boxes, targets, len(labels), thresholds)
    found = set(zip(given.object_image[given.fate == FOUND].tolist(), given.object_index[given.fate == FOUND].tolist(), strict=True))
    sure = scores[errors.image, errors.place]
    items = []
    for place in np.flatnonzero(np.isin(errors.kind, list(KINDS))).tolist():
        row, partner = int(errors.image[place]), int(errors.partner[place])
        if (row, partner) in found:
            continue
        label, kind = labels[errors.label[place]], KINDS[int(errors.kind[place])]
        box = raw["boxes"][row, errors.place[place]].astype(float).round(1).tolist()
        true = targets[row]
        about = {} if partner < 0 else {"truth": labels[true.labels[partner]], "truth_box": true.boxes[partner].round(1).tolist()}
        suggestion = {"missing": f"add {label}", "swapped class": f"relabel {label}"}.get(kind, "move")
        items.append({"row": row, "key": images.names[row], "kind": kind, "label": label, "score": float(sure[place]), "box": box, **about,
                      "suggestion": suggestion})  # fmt: skip
    return sorted(items, key=lambda item: -item["score"])


def _maps(images: Unlearned, labels: Sequence[str], decision: Decision) -> list[dict[str, Any]]:
    """Images by the share of their pixels that have another class than the network is sure of, by as much as it is surer of its own."""
    given = softmax(images.raw["sample"].astype(np.float64), decision.temperature)
    true = images.raw["sample_truth"]
    known = true != IGNORED
    own = np.take_along_axis(given, np.where(known, true, 0)[..., None].astype(np.int64), axis=2)[..., 0]
    doubt = np.where(known, given.max(axis=2) - own, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    items = []
    for row in np.argsort(-doubt, kind="stable").tolist():
        if doubt[row] < DISAGREES:
            break
        confusion = images.raw["confusion"][row].copy()
        total = confusion.sum()
        np.fill_diagonal(confusion, 0)
        annotated, seen = np.unravel_index(int(confusion.argmax()), confusion.shape)
        share = confusion[annotated, seen] / max(1, total)
        suggestion = f"look at the {share:.0%} of the pixels that are {labels[annotated]} and look like {labels[seen]}"
        items.append({"row": row, "key": images.names[row], "kind": MAP, "label": labels[seen], "score": float(doubt[row]),
                      "truth": labels[annotated], "suggestion": suggestion})  # fmt: skip
    return items


def _marks(item: Mapping[str, Any]) -> list[Mark]:
    left, top, right, bottom = item["box"]
    marks = [Mark((left, top, right, bottom), f"{item['label']} {item['score']:.0%}", "wrong")]
    if "truth_box" in item:
        left, top, right, bottom = item["truth_box"]
        marks.append(Mark((left, top, right, bottom), item["truth"], "true"))
    return marks


def _layers(images: Unlearned, item: Mapping[str, Any], labels: Sequence[str]) -> list[Layer]:
    """The mask as it is, and what the network gives."""
    maps = images.raw["small_truth"][item["row"]], images.raw["small"][item["row"]]
    return [Layer(title, len(each), tuple(run_lengths(each)), tuple(labels)) for title, each in zip(("mask", "answer"), maps, strict=True)]


def _sentence(counts: Mapping[str, int], n: int) -> str:
    looked = f"{n} validation and test images, which the network did not learn from"
    if not sum(counts.values()):
        return f"Nothing on {looked}, is annotated otherwise than it is sure of."
    if MAP in counts:
        return f"On {counts[MAP]} of {looked}, it is sure of other classes than those of the mask for a good part of the pixels."
    missing, swapped, moved = (amounts.count(counts[kind]) for kind in KINDS.values())
    return (
        f"On {looked}, it is sure of {amounts.number_of(sum(counts.values()), 'box', 'boxes')} that the annotations contradict: "
        f"{missing} where nothing is annotated, {swapped} of another class than the object there, and {moved} that only touch an object. "
        "Each is a mistake of the network's or of the annotations."
    )
