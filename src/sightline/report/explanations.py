"""The report's part on heat maps: can they be trusted, how they fared in their tests, and what they look like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sightline.explanation.words import METHODS
from sightline.report import amounts
from sightline.tasks.blocks import Block, Curves, Gallery, Picture, Text, Tile, Tiles


def explanations_blocks(section: Mapping[str, Any]) -> list[Block]:
    """The verdict, tiles with the tests, the curves behind them, and a gallery of right and wrong answers."""
    if not section:
        return []
    sentence = section.get("sentence", section.get("reason", ""))
    blocks: list[Block] = [Text("Can the heat maps be trusted?", [sentence, METHODS[section["method"]]])]
    if section.get("n"):
        blocks += [_tiles(section), *_curves(section)]
    return [*blocks, *(_gallery(section.get("examples", ()), right) for right in (True, False))]


def _tiles(section: Mapping[str, Any]) -> Tiles:
    n, tiles = section["n"], []
    for name, title, what in (("deletion", "Taken away", "falls further"), ("insertion", "Put back", "rises further")):
        found = section[name]
        low, high = found["interval"]
        note = f"images on which the score {what} than with random maps; by {found['gain']:.2f} on average ({low:.2f} to {high:.2f})"
        tiles.append(Tile(title, f"{found['wins']} of {n}", note))
    tiles.append(
        Tile(
            "Likeness with random weights",
            f"{section['likeness']:.2f}",
            f"rank correlation; 1 is the same map, above {section['likeness_bound']:g} they fail",
        )
    )
    if "grad_cam_difference" in section:
        difference = amounts.significant(section["grad_cam_difference"])
        tiles.append(Tile("Shipped and trained agree", difference, "largest difference from Grad-CAM, as a share"))
    maps = amounts.number_of(section["random_maps"], "random map")
    note = (
        f"{section['method']} on {amounts.number_of(n, 'test image')}, each against {maps}: a map that shows what matters makes the score "
        "fall fast when its hottest parts are taken away, rise fast when they are put back, and change when the network's weights do."
    )
    return Tiles("How the heat maps did in their tests", tiles, note)


def _curves(section: Mapping[str, Any]) -> list[Curves]:
    notes = {
        "deletion": ("Taking the hottest parts away", "share of the pixels taken away", "The faster the score falls, the better the map."),
        "insertion": ("Putting the hottest parts back", "share of the pixels put back", "The faster the score rises, the better the map."),
    }
    return [
        Curves(
            title, x_name, "mean score of the answer",
            {"heat map": _points(section[name]["curve"]), "random map": _points(section[name]["random_curve"])}, note=note,
        )
        for name, (title, x_name, note) in notes.items()
    ]  # fmt: skip


def _points(curve: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    return [(x, y) for x, y in curve]


def _gallery(examples: Sequence[Mapping[str, Any]], right: bool) -> Gallery:
    title = "Heat maps of right answers" if right else "Heat maps of wrong answers"
    note = (
        "Light parts speak for the answer more than the image does on average; the ring is at half of the most. Left: what the network saw."
    )
    chosen = [example for example in examples if example["right"] == right]
    return Gallery(title, [_picture(example) for example in chosen], note, wide=True)


def _picture(example: Mapping[str, Any]) -> Picture:
    caption = f"{example['label']}, {example['score']:.0%}" + ("" if example["right"] else f"; truth: {example['truth'] or 'no label'}")
    near = " | ".join(labels or "no label" for labels in example["nearest"])
    return Picture(example["key"], caption, f"nearest training images: {near}" if near else "")
