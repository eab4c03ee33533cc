"""The report's part on what is simpler than the network, and whether it does as well."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sightline.report import amounts
from sightline.tasks.blocks import Bar, Bars, Block, Text

NAMES = {
    "linear": "Linear machine on hand-crafted features",
    "rbf": "Curved (RBF) machine on hand-crafted features",
    "network": "The network",
}
TITLE = "Does it beat simpler methods?"


def baselines_blocks(section: Mapping[str, Any]) -> list[Block]:
    """A bar for each method, and the sentence on whether the network is clearly better."""
    if "methods" not in section:
        return [Text(TITLE, [section["reason"]])] if section else []
    methods = section["methods"]
    tags = "map" in methods[0]
    bars = [Bar(_name(method["name"], tags), method["right"], *method["interval"], note=_note(method)) for method in methods]
    return [
        Text(TITLE, [section["sentence"], *section["reasons"]]),
        Bars("The network and simpler methods", bars, _explained(section, tags)),
    ]


def _name(name: str, tags: bool) -> str:
    return NAMES.get(name, "The same labels for every image" if tags else "Always the commonest class")


def _note(method: Mapping[str, Any]) -> str:
    """On how much a machine was fitted; of tags, the average precision as well."""
    notes = []
    if method.get("map") is not None:
        notes.append(f"mean average precision {amounts.share(method['map'])}")
    if "fitted" in method:
        notes.append(f"learned from {amounts.number_of(method['fitted'], 'image')}")
    return ", ".join(notes)


def _explained(section: Mapping[str, Any], tags: bool) -> str:
    measured = "How much of an image's labels is right, mean over" if tags else "Share of right answers on"
    some = f"{amounts.number_of(section['n'], 'test image')}"
    sample = f", drawn from {amounts.count(section['of'])}" if section["n"] < section["of"] else ""
    crafted = (
        " Hand-crafted features are outlines, textures and colours counted by fixed rules, as was done before networks learned from images."
        if any(method["name"] in ("linear", "rbf") for method in section["methods"])
        else ""
    )
    return f"{measured} {some}{sample}, the same for all; the whisker is the 95% interval.{crafted}"
