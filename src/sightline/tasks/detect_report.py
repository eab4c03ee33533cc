"""What a detector's report shows, and the sentence on top of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sightline.tasks.blocks import Bar, Bars, Block, Curves, Gallery, Mark, Picture, Table, Tile, Tiles

# A report's level follows the lower end of mAP50's interval, so that few test images cannot look good.
GOOD, FAIR = 0.75, 0.5
FEW_IMAGES = 50
SHOWN_ERRORS, SHOWN_CURVES = 10, 6
# What each kind of wrong box is called above its pictures.
GALLERIES = {
    "background": "Boxes where nothing is",
    "missed": "Objects that were missed",
    "wrong class": "Objects of another class",
    "badly placed": "Boxes that lie badly",
    "double": "Objects that were given twice",
}
KIND_WORDS = {
    "correct": "right",
    "double": "a second box on an object",
    "wrong class": "on an object of another class",
    "badly placed": "near an object, but not on it",
    "stray": "near an object of another class",
    "background": "where nothing is",
}


def detection_verdict(test: Mapping[str, Any]) -> dict[str, str]:
    """The sentence on top of the report, and its level."""
    n, objects, given = test["n"], test["objects"], sum(test["kinds"].values()) - test["kinds"]["ignored"]
    if not objects:
        return {"level": "poor", "sentence": f"None of the {n} test images has an object, so nothing can be said of the model."}
    few = f" With only {n} test images this is a rough figure." if n < FEW_IMAGES else ""
    found = test["fates"]["found"] / objects
    right = f"{test['kinds']['correct'] / given:.0%} of the boxes it gives are right" if given else "it gives no box at all"
    reached, (low, high) = test["metrics"]["map50"], test["intervals"]["map50"]
    sentence = (
        f"The model finds {found:.0%} of the {objects} objects on {n} test images it never saw, and {right}. "
        f"Its mean average precision is {reached:.1%} for boxes that overlap an object by half (95% interval {low:.1%} to {high:.1%})"
        f" and {test['metrics']['map']:.1%} over all overlaps."
    )
    present = [entry for entry in test["classes"] if entry["n"]]
    weakest = min(present, key=lambda entry: entry["ap50"])
    if len(present) > 1 and weakest["ap50"] < 1:
        sentence += f" Its weakest class is {weakest['label']!r} ({weakest['ap50']:.1%})."
    return {"level": "good" if low >= GOOD and n >= FEW_IMAGES else "fair" if low >= FAIR else "poor", "sentence": sentence + few}


def detection_blocks(test: Mapping[str, Any]) -> list[Block]:
    """Tiles, average precision and curves of each class, kinds of error, counts, and the surest errors as pictures."""
    present = [entry for entry in test["classes"] if entry["n"]]
    largest = sorted(present, key=lambda entry: -entry["n"])[:SHOWN_CURVES]
    return [
        _tiles(test),
        Bars(
            "How well each class is found",
            [_bar(entry) for entry in present],
            note="Average precision of boxes that overlap an object by at least half; the whisker is the 95% interval.",
        ),
        Curves(
            "What is found, and how much of it is right",
            "share of the objects that are found",
            "share of the boxes that are right",
            {entry["label"]: [(recall, precision) for recall, precision in entry["curve"]] for entry in largest},
            note="Each point is a threshold of the score: a lower one finds more objects and gives more wrong boxes.",
        ),
        Table(
            "Thresholds and scores of each class",
            ["class", "objects", "threshold", "given", "precision", "recall", "F1", "AP50", "AP"],
            [_score_row(entry) for entry in test["classes"]],
            note="A box is given from its class's threshold on, chosen on the validation images for the highest F1.",
        ),
        _kinds(test),
        Table(
            "Counting the objects of an image",
            ["class", "objects", "mean error", "too many or too few"],
            [[entry["label"], str(entry["n"]), _number(entry["count_error"]), _signed(entry["count_bias"])] for entry in present],
            note="By how many objects an image's count is wrong, and whether too many (+) or too few (-) are given on average.",
        ),
        *(_gallery(test, kind, title) for kind, title in GALLERIES.items()),
    ]


def _tiles(test: Mapping[str, Any]) -> Tiles:
    metrics, tiles = test["metrics"], []
    if "map" in metrics:
        (low, high), (low50, high50) = test["intervals"]["map"], test["intervals"]["map50"]
        tiles = [
            Tile("mAP", f"{metrics['map']:.1%}", f"95% interval {low:.1%} to {high:.1%}; overlaps of 50 to 95%"),
            Tile("mAP50", f"{metrics['map50']:.1%}", f"95% interval {low50:.1%} to {high50:.1%}; overlaps of 50%"),
            Tile("Precision", f"{metrics['precision']:.1%}", "of the boxes given, mean over classes"),
            Tile("Recall", f"{metrics['recall']:.1%}", "of the objects there, mean over classes"),
        ]
        tiles += [
            Tile(f"mAP of {size} objects", f"{metrics[f'map_{size}']:.1%}", sides)
            for size, sides in (("small", "below 32 x 32 px"), ("medium", "up to 96 x 96 px"), ("large", "above 96 x 96 px"))
            if f"map_{size}" in metrics
        ]
    if "ece" in metrics:
        tiles.append(Tile("Calibration error", f"{metrics['ece']:.1%}", "expected gap between score and truth of a box"))
    return Tiles("On the untouched test images", tiles)


def _bar(entry: Mapping[str, Any]) -> Bar:
    low, high = entry["ap50_interval"]
    return Bar(entry["label"], entry["ap50"], low, high, note=f"{entry['n']} objects")


def _kinds(test: Mapping[str, Any]) -> Bars:
    given = sum(test["kinds"][kind] for kind in KIND_WORDS)
    bars = [Bar(words, test["kinds"][kind] / given, note=f"{test['kinds'][kind]} boxes") for kind, words in KIND_WORDS.items() if given]
    missed = test["fates"]["missed"] / test["objects"] if test["objects"] else 0.0
    note = f"Of {given} boxes given. Besides, {test['fates']['missed']} of {test['objects']} objects ({missed:.0%}) have no box near them."
    return Bars("What the boxes are", bars, note=note)


def _gallery(test: Mapping[str, Any], kind: str, title: str) -> Gallery:
    errors = [error for error in test["errors"] if error["kind"] == kind][:SHOWN_ERRORS]
    note = (
        "The largest objects without a box near them. Look for boxes around nothing here as well."
        if kind == "missed"
        else "Where the model was surest and wrong; dashed is what is true. Look for wrong or missing labels here as well."
    )
    return Gallery(title, [_picture(error) for error in errors], note=note)


def _picture(error: Mapping[str, Any]) -> Picture:
    if error["kind"] == "missed":
        return Picture(error["key"], f"{error['label']} missed", marks=(_mark(error["box"], error["label"], "true"),))
    marks = [_mark(error["box"], error["label"], "wrong")]
    detail = ""
    if "truth" in error:
        marks.append(_mark(error["truth_box"], error["truth"], "true"))
        detail = f"truth: {error['truth']}, overlap {error['overlap']:.0%}"
    return Picture(error["key"], f"{error['label']}, {error['score']:.0%} sure", detail, tuple(marks))


def _mark(box: Sequence[float], words: str, kind: str) -> Mark:
    left, top, right, bottom = box
    return Mark((left, top, right, bottom), words, kind)


def _score_row(entry: Mapping[str, Any]) -> list[str]:
    """A class without test objects has no scores, which is not the same as scores of 0."""
    scores = [f"{entry[name]:.3f}" if entry["n"] else "–" for name in ("precision", "recall", "f1", "ap50", "ap")]
    return [entry["label"], str(entry["n"]), f"{entry['threshold']:.3f}", str(entry["given"]), *scores]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.2f}"
