"""The report's part on what the network learned: its first filters, and what its channels answer to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sightline.report import amounts
from sightline.tasks.blocks import Block, Gallery, Picture, Text

# What is usually found there; the pictures show what was found here.
STAGES = {
    "early": ("Early in the network", "Channels this early usually answer to edges, spots, colours and fine textures."),
    "middle": ("In the middle of the network", "Channels halfway up usually answer to patterns and to parts of things."),
    "late": ("Late in the network", "Channels this late usually answer to large parts and whole things."),
}
RGB = 3


def learned_blocks(section: Mapping[str, Any]) -> list[Block]:
    """A gallery of the filters, and one for each stage."""
    if not section:
        return []
    return [
        Text("How to read this", [*_introduction(section), *section["reasons"]]),
        *_filters(section["filters"]),
        *(_stage(stage, section) for stage in section["stages"]),
    ]


def _introduction(section: Mapping[str, Any]) -> list[str]:
    if not section["stages"]:
        return []
    sampled = amounts.number_of(section["images"], "training image")
    some = f"{sampled} drawn from {amounts.count(section['of'])}" if section["images"] < section["of"] else f"all {sampled}"
    return [
        "A network passes an image through many layers. Each layer has channels, and each channel answers more or less strongly to each "
        f"part of the image. For a few channels, these pictures show what they answer to most, among {some}: of the channels that "
        "answer strongly, those that answer to a few images far more than to the others.",
        "They show what was measured and explain no single decision. If channels answer to backgrounds, lettering or marks of the camera "
        "rather than to the things themselves, look at the data again.",
    ]


def _filters(filters: Mapping[str, Any] | None) -> list[Block]:
    if filters is None:
        return []
    rows, columns = filters["size"]
    unused = f" {amounts.count(filters['unused'])} more see nothing." if filters["unused"] else ""
    left_out = filters["of"] - filters["n"] - filters["unused"]
    weaker = f" {amounts.count(left_out)} weaker ones are not shown." if left_out > 0 else ""
    averaged = (
        f" The images have {filters['channels']} channels, of which the mean is drawn in grey."
        if filters["channels"] not in (1, RGB)
        else ""
    )
    note = (
        f"The first layer compares each spot of {rows} × {columns} pixels with these patterns: grey is where a filter does not care, bright "
        f"and dark, or complementary colours, is what it weighs against each other.{unused}{weaker}{averaged}"
    )
    return [Gallery("The first layer's filters", [Picture(filters["picture"], amounts.number_of(filters["n"], "filter"))], note, wide=True)]


def _stage(stage: Mapping[str, Any], section: Mapping[str, Any]) -> Gallery:
    title, usual = STAGES[stage["stage"]]
    made = any(entry["excited"] is not None for entry in stage["drawn"])
    share = stage["field"] / section["side"]
    seen = (
        f"{stage['field']} of {section['side']} pixels wide, which is about what such a channel sees at once"
        if share < 1 else "whole images, as such a channel sees all of it at once"
    )  # fmt: skip
    pictures = (
        " On the left of each is an image made by the computer, step by step, to excite the channel as much as it could." if made else ""
    )
    note = (
        f"{usual}{pictures} The small pictures are the parts of six training images that excite it most, {seen}. "
        f"{len(stage['drawn'])} of {amounts.count(stage['channels'])} channels are shown."
    )
    return Gallery(title, [_picture(entry) for entry in stage["drawn"]], note, wide=True)


def _picture(entry: Mapping[str, Any]) -> Picture:
    return Picture(entry["picture"], f"Channel {entry['channel']}", _compared(entry["strongest"], entry["excited"], entry["typical"]))


def _compared(strongest: Sequence[float], excited: float | None, typical: float) -> str:
    """How much more it answers than usual."""
    best = strongest[0]
    parts = [f"strongest answer {amounts.decimal(best, 1)}, of half the images below {amounts.decimal(typical, 1)}"]
    if excited is not None:
        parts.append(f"to the made image {amounts.decimal(excited, 1)}")
    else:
        parts.append("no image that excites it was made")
    return "; ".join(parts)
