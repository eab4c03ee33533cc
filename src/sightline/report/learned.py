"""The report's part on what the network learned: its first filters, and what its channels answer to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sightline.report import amounts
from sightline.tasks.blocks import Block, Gallery, Picture, Text

# What is usually found there; the pictures show what was found here.
STAGES = {
    "early": ("Early in the network", "Channels this early usually answer to edges, spots, colours and fine textures"),
    "middle": ("In the middle of the network", "Channels halfway up usually answer to patterns and to parts of things"),
    "late": ("Late in the network", "Channels this late usually answer to large parts and whole things"),
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
    made = any(entry["excited"] is not None for stage in section["stages"] for entry in stage["drawn"])
    left = (
        " On the left of each picture is an image that the computer made, step by step, to excite the channel as much as it could." * made
    )
    return [
        "A network passes an image through many layers. Each layer has channels, and each channel answers more or less strongly to each "
        f"part of the image. Of a few channels these pictures show the parts, among {some}, that they answer to most.{left} The channels "
        "were chosen by a rule: those that answer strongly, and to a few images far more than to the others.",
        "The pictures explain no single decision. But where channels answer to backgrounds, lettering or marks of the camera rather than "
        "to the things themselves, the network can see those, and may rely on them: look at the data again.",
    ]


def _filters(filters: Mapping[str, Any] | None) -> list[Block]:
    if filters is None:
        return []
    rows, columns = filters["size"]
    mean = f", drawn as the mean over the image's {filters['channels']} channels" if filters["channels"] not in (1, RGB) else ""
    note = (
        f"Each square is a pattern of {rows} × {columns} pixels that the first layer looks for everywhere: grey where it does not care, "
        f"bright against dark, or one colour against another, where it does{mean}."
    )
    left_out = filters["of"] - filters["n"] - filters["unused"]
    weaker = f"{amounts.count(left_out)} weaker ones are not shown" if left_out > 0 else ""
    unused = f"{amounts.count(filters['unused'])} more see nothing" if filters["unused"] else ""
    picture = Picture(filters["picture"], amounts.number_of(filters["n"], "filter"), "; ".join(filter(None, [weaker, unused])))
    return [Gallery("The first layer's filters", [picture], note, wide=True)]


def _stage(stage: Mapping[str, Any], section: Mapping[str, Any]) -> Gallery:
    title, usual = STAGES[stage["stage"]]
    seen = (
        f"a small picture is {stage['field']} of the image's {section['side']} pixels wide, about what such a channel sees at once"
        if stage["field"] < section["side"]
        else "a small picture is a whole image, as such a channel sees all of it at once"
    )
    note = f"{usual}; {seen}, and {len(stage['drawn'])} of {amounts.count(stage['channels'])} channels are shown."
    return Gallery(title, [_picture(entry) for entry in stage["drawn"]], note, wide=True)


def _picture(entry: Mapping[str, Any]) -> Picture:
    made = (
        ", no image that excites it was made" if entry["excited"] is None else f", {amounts.decimal(entry['excited'], 1)} to the made one"
    )
    first, typical = (amounts.decimal(value, 1) for value in (entry["strongest"][0], entry["typical"]))
    detail = f"Answers {first} to the first image, {typical} to a typical one{made}"
    return Picture(entry["picture"], f"Channel {entry['channel']}", detail)
