"""What a segmenter's report shows, and the sentence on top of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sightline.tasks.blocks import Bar, Bars, Block, Gallery, Layer, Matrix, Picture, Table, Tile, Tiles

# A report's level follows the lower end of the mean overlap's interval, so that few test images cannot look good.
GOOD, FAIR = 0.7, 0.45
FEW_IMAGES = 30


def segmentation_verdict(test: Mapping[str, Any]) -> dict[str, str]:
    """The sentence on top of the report, and its level."""
    n = test["n"]
    if "miou" not in test["metrics"] or "miou" not in test["intervals"]:
        return {"level": "poor", "sentence": f"No pixel of the {n} test images has a class, so nothing can be said of the model."}
    right, reached, (low, high) = test["metrics"]["accuracy"], test["metrics"]["miou"], test["intervals"]["miou"]
    few = f" With only {n} test images this is a rough figure." if n < FEW_IMAGES else ""
    majority = test["majority"]
    sentence = (
        f"The model names the right class for {right:.1%} of the pixels of {n} test images it never saw. Its areas overlap the true ones "
        f"by {reached:.1%} on average over classes (mean IoU, 95% interval {low:.1%} to {high:.1%})."
    )
    if right <= majority["share"]:
        sentence += f" That is no better than calling everything {majority['label']!r}, which is right for {majority['share']:.1%}"
        return {"level": "poor", "sentence": f"{sentence}: do not use it yet.{few}"}
    weakest = min((entry for entry in test["classes"] if entry["share"]), key=lambda entry: entry["iou"])
    if weakest["iou"] < 1:
        sentence += f" Its weakest class is {weakest['label']!r}, with {weakest['iou']:.1%}."
    return {"level": "good" if low >= GOOD and n >= FEW_IMAGES else "fair" if low >= FAIR else "poor", "sentence": sentence + few}


def segmentation_blocks(test: Mapping[str, Any]) -> list[Block]:
    """Tiles, overlap of each class, confusion, and the worst images beside their truth."""
    scored = [entry for entry in test["classes"] if entry["iou"] is not None]
    return [
        _tiles(test),
        Bars(
            "How well each class's area is found",
            [_bar(entry) for entry in scored],
            note="Intersection over union of what is given and what is true, on all test images together; the whisker is the 95% interval.",
        ),
        Matrix(
            "What is taken for what",
            [entry["label"] for entry in test["classes"]],
            [of_a_thousand(row) for row in test["confusion"]],
            note="Of 1,000 pixels of each class (rows), how many the model gives to which class (columns).",
        ),
        Gallery(
            "The worst images",
            [_picture(entry, [named["label"] for named in test["classes"]]) for entry in test["worst"]],
            note="Those with the fewest right pixels: the image, then the truth, then the answer. Look for wrong masks here as well.",
        ),
        Table(
            "Scores of each class",
            ["class", "test images", "share of the pixels", "IoU", "Dice", "recall", "boundary F1"],
            [_score_row(entry) for entry in test["classes"]],
            folded=True,
        ),
    ]


def _tiles(test: Mapping[str, Any]) -> Tiles:
    metrics = test["metrics"]
    tiles = []
    if "miou" in test["intervals"]:
        low, high = test["intervals"]["miou"]
        tiles = [
            Tile("Mean IoU", f"{metrics['miou']:.1%}", f"95% interval {low:.1%} to {high:.1%}"),
            Tile("Dice", f"{metrics['dice']:.1%}", "mean over classes"),
            Tile("Right pixels", f"{metrics['accuracy']:.1%}", f"the commonest class alone: {test['majority']['share']:.1%}"),
        ]
    if "boundary_f1" in metrics:
        tiles.append(Tile("Boundary F1", f"{metrics['boundary_f1']:.1%}", "outlines within 0.75% of the diagonal"))
    if "ece" in metrics:
        tiles.append(Tile("Calibration error", f"{metrics['ece']:.1%}", "expected gap between score and truth of a pixel"))
    return Tiles("On the untouched test images", tiles)


def _bar(entry: Mapping[str, Any]) -> Bar:
    low, high = entry["iou_interval"] or (None, None)
    return Bar(entry["label"], entry["iou"], low, high, note=f"{entry['share']:.1%} of the pixels")


def of_a_thousand(counts: Sequence[int]) -> list[int]:
    """The counts as shares that are whole numbers and add up to 1,000; all 0 where there is nothing to share."""
    total = max(1, sum(counts))
    shares = [1000 * count // total for count in counts]
    by_remainder = sorted(range(len(counts)), key=lambda place: -(1000 * counts[place] % total))
    for place in by_remainder[: 1000 * sum(counts) // total - sum(shares)]:
        shares[place] += 1
    return shares


def _picture(entry: Mapping[str, Any], names: Sequence[str]) -> Picture:
    layers = (
        Layer(title, entry["side"], tuple((label, length) for label, length in entry[which]), tuple(names))
        for title, which in (("truth", "true"), ("answer", "given"))
    )
    return Picture(entry["key"], f"{entry['right']:.0%} of the pixels right", entry["key"], layers=tuple(layers))


def _score_row(entry: Mapping[str, Any]) -> list[str]:
    """A class without test pixels has no scores, which is not the same as scores of 0."""
    scores = [f"{entry[name]:.3f}" if entry[name] is not None else "–" for name in ("iou", "dice", "recall", "boundary_f1")]
    return [entry["label"], str(entry["n"]), f"{entry['share']:.1%}", *scores]
