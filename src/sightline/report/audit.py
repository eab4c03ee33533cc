"""The report's part on what the audit found in the data, and what a person's decisions changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sightline.report import amounts
from sightline.report.tables import rows_table
from sightline.tasks.blocks import Block, Table, Text, Tile, Tiles

LEVELS = {"problem": "Problem", "warning": "To look at", "note": "Good to know"}
# Their images stand in the section on the data.
LISTED_ELSEWHERE = ("copies-across-splits", "copies-with-different-labels", "groups-across-splits")


def audit_blocks(audit: Mapping[str, Any]) -> list[Block]:
    """Findings with their sentences, the images of those that are about a few, and the effect of decisions."""
    findings: Sequence[Mapping[str, Any]] = audit["findings"]
    rows = [(entry["title"], LEVELS[entry["level"]], f"{entry['sentence']} {entry['advice']}") for entry in findings]
    note = "With pictures, and a file of decisions to edit: sightline audit DATA."
    return [
        _effect(audit["decisions"]),
        Table("Findings", ("Finding", "Level", "What it means and what to do"), rows, note),
        *(_images(entry) for entry in findings if entry["kind"] not in LISTED_ELSEWHERE),
        Text("Not looked for", [audit["left_out"]]),
    ]


def _images(finding: Mapping[str, Any]) -> Table:
    rows = [(" and ".join(item["images"]), item["detail"]) for item in finding["items"]]
    return rows_table(finding["title"], ("Image", "What was seen"), rows, folded=True)


def _effect(effect: Mapping[str, Any] | None) -> Tiles | Text:
    """What a probe gains by the decisions, on the same test images."""
    title = "What the decisions changed"
    if effect is None:
        return Tiles(title, [])
    counts = f"{amounts.number_of(effect['dropped'], 'image')} dropped, {effect['relabelled']} relabelled."
    if "before" not in effect:
        return Text(title, [counts])
    low, high = effect["interval"]
    return Tiles(
        title,
        [
            Tile("Before", f"{effect['before']:.1%}", "trained on the data as they came"),
            Tile("After", f"{effect['after']:.1%}", "trained on the cleaned data"),
            Tile("Difference", f"{100 * effect['difference']:+.1f} points", f"{100 * low:+.1f} to {100 * high:+.1f}, 95% interval"),
        ],
        f"{counts} Measured with logistic regression on a frozen network, on the same "
        f"{amounts.number_of(effect['n'], 'cleaned test image')} for both.",
    )
