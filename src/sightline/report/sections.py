"""The parts every report has, whatever the task: report.json's dictionary turned into sections of blocks.

A section without anything to say is not there: each function returns its blocks, the empty ones left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sightline.records import SPLITS
from sightline.report import amounts
from sightline.report.audit import audit_blocks
from sightline.report.baselines import baselines_blocks
from sightline.report.confidence import confidence_blocks
from sightline.report.explanations import explanations_blocks
from sightline.report.groups import groups_blocks
from sightline.report.learned import learned_blocks
from sightline.report.requirements import requirements_blocks
from sightline.report.robustness import robustness_blocks
from sightline.report.suspects import suspects_blocks
from sightline.report.tables import rows_table
from sightline.report.training import training_blocks
from sightline.tasks.blocks import Bars, Block, Curves, Differences, Gallery, Matrix, Table, Text, Tile, Tiles


@dataclass(frozen=True)
class Section:
    """A part of the page with its heading; ``anchor`` is its address within the page."""

    anchor: str
    title: str
    blocks: Sequence[Block]
    lead: str = ""


def all_sections(report: Mapping[str, Any], task_blocks: Sequence[Block]) -> list[Section]:
    """The report's sections in order, without empty blocks and empty sections."""
    return without_empty([
        Section("requirements", "What was required", requirements_blocks(report.get("requirements", {}))),
        Section("results", "Results", task_blocks, _results_lead(report)),
        Section("confidence", "When to believe it", confidence_blocks(report.get("confidence", {}))),
        Section("groups", "For whom it works", groups_blocks(report.get("groups", {}))),
        Section("robustness", "In harder conditions", robustness_blocks(report.get("robustness", {}))),
        Section("baselines", "Is a network needed?", baselines_blocks(report.get("baselines", {}))),
        Section("explanations", "Why it says so", explanations_blocks(report.get("explanations", {}))),
        Section("learned", "What it learned", learned_blocks(report.get("learned", {}))),
        Section("training", "How it was trained", training_blocks(report)),
        Section("data", "The data", data_blocks(report["data"])),
        Section("audit", "What the audit found", audit_blocks(report["audit"])),
        Section("suspects", "Annotations that may be wrong", suspects_blocks(report.get("suspects", {}))),
        Section("shipping", "Shipping", shipping_blocks(report["export"])),
        Section("reproduce", "To reproduce", reproduce_blocks(report)),
    ])  # fmt: skip


def without_empty(sections: Iterable[Section]) -> list[Section]:
    """The sections with the blocks that have content, without those that have none."""
    kept = [Section(section.anchor, section.title, [b for b in section.blocks if has_content(b)], section.lead) for section in sections]
    return [section for section in kept if section.blocks]


def has_content(block: Block) -> bool:
    """Whether there is anything to draw below the block's title."""
    match block:
        case Tiles():
            return bool(block.tiles)
        case Text():
            return any(block.paragraphs)
        case Table():
            return bool(block.rows)
        case Bars():
            return bool(block.bars)
        case Differences():
            return bool(block.rows)
        case Matrix():
            return bool(block.labels)
        case Gallery():
            return bool(block.pictures)
        case Curves():
            return any(len(points) for points in block.series.values())


def facts(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The line of facts under the verdict, as (name, value)."""
    data = report["data"]
    return [
        ("Images", amounts.count(data["n"])),
        ("Classes", amounts.count(len(data["labels"]))),
        ("Network", report["network"]["backbone"]),
        ("Created", amounts.moment(report["created"])),
        ("Seed", str(report["environment"]["seed"])),
    ]


def data_blocks(data: Mapping[str, Any]) -> list[Block]:
    """What the images are, how they were split, and everything that was odd about them."""
    split_tiles = [Tile(name.capitalize(), amounts.count(data["splits"][name]["n"]), "images") for name in SPLITS if name in data["splits"]]
    split_text = [data["split_origin"]]
    if (together := data["copies"] - len(data["leaks"])) > 0:
        split_text.append(f"{amounts.number_of(together, 'pair')} of copies kept together, each on one side of the split.")
    return [
        Tiles("Images in each split", split_tiles if data["splits"] else []),
        Text("How the split was made", split_text),
        _class_table(data),
        *_oddities(data),
    ]


def _oddities(data: Mapping[str, Any]) -> list[Block]:
    """Tables of what makes results look better than they are, and of single files."""
    return [
        rows_table(
            "Copies across splits",
            ("Image", "Split", "Its copy", "Split", "Kind"),
            [(leak["a"], leak["a_split"], leak["b"], leak["b_split"], leak["kind"]) for leak in data["leaks"]],
            "The same picture on two sides of a split makes the results look better than they are.",
        ),
        rows_table(
            "Groups in more than one split",
            ("Group", "Splits"),
            [(entry["group"], ", ".join(entry["splits"])) for entry in data["straddling"]],
            "Images of one group are alike, so the results look better than they will be for a group that was never seen.",
        ),
        rows_table(
            "Copies with different labels",
            ("Image", "Label", "Its copy", "Label"),
            [(pair["a"], pair["a_label"], pair["b"], pair["b_label"]) for pair in data["conflicts"]],
            "One of the two labels is wrong, or the classes overlap.",
        ),
        rows_table(
            "Files that were refused",
            ("File", "Reason"),
            [(entry["path"], entry["reason"]) for entry in data["refused"]],
            "They took no part in anything below or above.",
        ),
        rows_table(
            "Notes on single files",
            ("File", "Note"),
            [(entry["path"], entry["note"]) for entry in data["notes"]],
            "They were used.",
        ),
    ]


def shipping_blocks(export: Mapping[str, Any]) -> list[Block]:
    """Whether the exported file does what the trained network does, how large it is and how fast."""
    within = export["max_difference"] <= export["tolerance"]
    tiles = [
        Tile(
            "Export agrees" if within else "Export differs",
            amounts.significant(export["max_difference"]),
            f"largest difference; {amounts.significant(export['tolerance'])} is tolerated",
        ),
        Tile("Size", amounts.size(export["graph_bytes"]), f"{amounts.parameters(export['parameters'])} parameters"),
    ]
    if export["images_per_second"] is not None:
        tiles.append(Tile("Speed", f"{export['images_per_second']:,.1f}", f"images a second with {export['engine']}"))
    note = "The exported file was run on the same images as the trained network and their outputs compared."
    return [Tiles("The exported file", tiles, note)]


def reproduce_blocks(report: Mapping[str, Any]) -> list[Block]:
    """Every setting and version, folded."""
    environment = report["environment"]
    machine = [("Data", report["data"]["root"]), ("Seed", str(environment["seed"])), ("Python", environment["python"]),
               ("Platform", environment["platform"]), ("Processor", environment["processor"])]  # fmt: skip
    versions = {"sightline": report["sightline"], **environment["versions"]}
    settings = [(stage, name, setting_text(value)) for stage, named in report["settings"].items() for name, value in named.items()]
    return [
        Table("Machine and data", ("What", "Value"), machine, folded=True),
        Table("Settings", ("Stage", "Setting", "Value"), settings, folded=True),
        Table("Versions", ("Package", "Version"), [(name, str(version)) for name, version in versions.items()], folded=True),
    ]


def _results_lead(report: Mapping[str, Any]) -> str:
    """What the numbers were measured on, and whether copies of it, or images of the same groups, were trained on."""
    lead = f"Measured on {amounts.number_of(report['test']['n'], 'test image')} that took no part in training.{tiles_said(report)}"
    n_leaks = sum("test" in (leak["a_split"], leak["b_split"]) for leak in report["data"]["leaks"])
    n_groups = sum("test" in entry["splits"] for entry in report["data"]["straddling"])
    doubts = []
    if n_leaks:
        doubts.append("one of them has a copy" if n_leaks == 1 else f"{amounts.count(n_leaks)} copies of them are")
    if n_groups:
        doubts.append(f"{amounts.number_of(n_groups, 'group')} of images {'is' if n_groups == 1 else 'are'} also")
    return f"{lead} But {' and '.join(doubts)} in another split: see The data." if doubts else lead


def tiles_said(report: Mapping[str, Any]) -> str:
    """A sentence where images are parts of pictures, with a blank before it."""
    tiles = report["data"].get("tiles") or {}
    return f" The figures are of tiles of {amounts.count(tiles['side'])} pixels of larger pictures, not of whole ones." if tiles else ""


def _class_table(data: Mapping[str, Any]) -> Table:
    names = [name for name in SPLITS if name in data["splits"]]
    rows = []
    for label in data["labels"]:
        counts = [data["splits"][name]["classes"].get(label, 0) for name in names]
        rows.append((label, *map(amounts.count, counts), amounts.count(sum(counts))))
    columns = ("Class", *(name.capitalize() for name in names), "Total")
    return rows_table("Images of each class", columns, rows)


def setting_text(value: Any) -> str:
    """A setting's value in a reader's words."""
    words = {None: "chosen from the data", True: "yes", False: "no"}
    return words[value] if value is None or isinstance(value, bool) else str(value)
