"""The report's part on annotations that may be wrong, and their table for a person to go through."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from sightline.report import amounts
from sightline.report.tables import rows_table
from sightline.tasks.blocks import Block, Gallery, Picture, Text

FILE = "suspects.csv"
COLUMNS = ("path", "kind", "label", "box", "suggestion", "present_label", "present_box", "score")


def suspects_blocks(section: Mapping[str, Any]) -> list[Block]:
    """What was found, with pictures of the surest and those that are listed in a table; nothing where nothing was looked for."""
    if not section:
        return []
    items: Sequence[Mapping[str, Any]] = section["items"]
    boxes = any("box" in item for item in items)
    shown = [
        Picture(item["picture"], f"{item['kind']}: {item['label']}, {item['score']:.0%} sure" if boxes else item["key"], _beside(item))
        for item in items
        if "picture" in item
    ]
    n = sum(section["counts"].values())
    listed = "them all" if len(items) == n else f"the surest {len(items)} of {amounts.count(n)}"
    told = f"Look at them in this order and stop where most are right. {FILE} lists {listed}, to be corrected where they were drawn."
    return [
        Text("In short", [section["sentence"], told if items else ""]),
        Gallery(
            "Annotations to look at",
            shown,
            note="Dashed is what is annotated, in full what the network is sure of." if boxes else "The image, its mask and the answer.",
            wide=not boxes,
        ),
        rows_table(
            "All of them" if len(items) == n else f"The surest {len(items)}",
            ("Image", "Kind", "The network says", "Sure by", "Annotated", "Suggestion"),
            [
                (item["key"], item["kind"], item["label"], f"{item['score']:.0%}", item.get("truth", "nothing"), item["suggestion"])
                for item in items
            ],
            folded=True,
        ),
    ]


def _beside(item: Mapping[str, Any]) -> str:
    return f"{item['key']}; annotated: {item.get('truth', 'nothing')}"


def suspects_text(items: Sequence[Mapping[str, Any]]) -> str:
    """``suspects.csv``: a row for each, the surest first; boxes as left, top, right and bottom in pixels, divided by blanks."""
    sink = io.StringIO(newline="")
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(COLUMNS)
    for item in items:
        boxes = (" ".join(f"{side:g}" for side in item.get(name, ())) for name in ("box", "truth_box"))
        box, present = boxes
        writer.writerow([item["key"], item["kind"], item["label"], box, item["suggestion"], item.get("truth", ""), present,
                         f"{item['score']:.4f}"])  # fmt: skip
    return sink.getvalue()
