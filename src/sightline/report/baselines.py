"""The report's part on what is simpler than the network, and whether it does as well."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sightline.report import amounts
from sightline.tasks.blocks import Bar, Bars, Block, Text

NAMES = {"linear": "Linear SVM", "rbf": "RBF SVM", "network": "The network"}
TITLE = "Does it beat simpler methods?"


def baselines_blocks(section: Mapping[str, Any]) -> list[Block]:
    """A bar for each method, and the sentence on whether the network is clearly better."""
    if "methods" not in section:
        return [Text(TITLE, [section["reason"]])] if section else []
    bars = [_bar(method, section) for method in section["methods"]]
    return [
        Text(TITLE, [section["sentence"], *section["reasons"]]),
        Bars("The network and simpler methods", bars, _explained(section)),
    ]


def _bar(method: Mapping[str, Any], section: Mapping[str, Any]) -> Bar:
    low, high = method["interval"]
    return Bar(NAMES.get(method["name"], _simplest(section)), method["right"], low, high, _note(method))


def _simplest(section: Mapping[str, Any]) -> str:
    if "label" in section:
        return f"{section['label']!r} everywhere"
    return "Same labels for all" if _tags(section) else "Commonest class"


def _tags(section: Mapping[str, Any]) -> bool:
    return "map" in section["methods"][0]


def _note(method: Mapping[str, Any]) -> str:
    """On how much a machine was fitted; of tags, the average precision as well."""
    notes = []
    if method.get("map") is not None:
        notes.append(f"mean average precision {amounts.share(method['map'])}")
    if "fitted" in method:
        notes.append(f"learned from {amounts.number_of(method['fitted'], 'image')}")
    return ", ".join(notes)


def _explained(section: Mapping[str, Any]) -> str:
    measured = "How much of an image's labels is right, mean over" if _tags(section) else "Share of right answers on"
    if "label" in section:
        measured = "Share of an image's pixels that are right, mean over"
    some = amounts.number_of(section["n"], "test image")
    sample = f" drawn from {amounts.count(section['of'])}" if section["n"] < section["of"] else ""
    crafted = "; an SVM draws a line, or with RBF a curve, between kinds of images by outlines, textures and colours counted by fixed rules"
    machines = any(method["name"] in ("linear", "rbf") for method in section["methods"])
    return f"{measured} the same {some}{sample}, with its 95% interval{crafted if machines else ''}."
