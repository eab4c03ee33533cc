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
    bars = [_bar(method, tags) for method in methods]
    return [
        Text(TITLE, [section["sentence"], *section["reasons"]]),
        Bars("The network and simpler methods", bars, _explained(section, tags)),
    ]


def _bar(method: Mapping[str, Any], tags: bool) -> Bar:
    low, high = method["interval"]
    return Bar(_name(method["name"], tags), method["right"], low, high, _note(method))


def _name(name: str, tags: bool) -> str:
    return NAMES.get(name, "Same labels for all" if tags else "Commonest class")


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
    some = amounts.number_of(section["n"], "test image")
    sample = f" drawn from {amounts.count(section['of'])}" if section["n"] < section["of"] else ""
    crafted = "; an SVM draws a line, or with RBF a curve, between kinds of images by outlines, textures and colours counted by fixed rules"
    machines = any(method["name"] in ("linear", "rbf") for method in section["methods"])
    return f"{measured} the same {some}{sample}, with its 95% interval{crafted if machines else ''}."
