"""The parts every report has, whatever the task: report.json's dictionary turned into sections of blocks.

A section without anything to say is not there: each function returns its blocks, the empty ones left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sightline.records import SPLITS
from sightline.report import amounts
from sightline.tasks.blocks import Bars, Block, Curves, Differences, Gallery, Matrix, Table, Text, Tile, Tiles

# A page with ten thousand refused files helps nobody; report.json has them all.
MOST_ROWS = 300
# Longer tables start folded.
OPEN_ROWS = 12
# Figures that objectives watch on validation and that are shares: their names and what they mean. Others are drawn as they are.
SHARES = {
    "accuracy": ("Accuracy", "Share of the validation images that were right."),
    "map": ("Mean average precision", "How well the validation images are put in order by each label, mean over labels."),
}


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
        Section("results", "Results", task_blocks, _results_lead(report)),
        Section("training", "How it was trained", training_blocks(report)),
        Section("data", "The data", data_blocks(report["data"])),
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


def training_blocks(report: Mapping[str, Any]) -> list[Block]:
    """Loss and the objective's figures by epoch, the network, the plan, and where the time went."""
    training = report["training"]
    epochs, best = training["epochs"], training["best_epoch"]
    mark = f"kept: epoch {best}"

    def points(name: str) -> list[tuple[float, float]]:
        return [(epoch["epoch"], epoch[name]) for epoch in epochs if epoch[name] is not None]

    # A single epoch is a point, not a curve.
    losses = {"validation": points("val_loss"), "train": points("train_loss")} if len(epochs) > 1 else {}
    course = " ".join([*_stages(epochs), training["stopped"]])
    return [
        Curves("Loss", "epoch", "loss", losses, best, mark, course),
        *(_figure_curve(name, epochs, best, mark) for name in _figures(epochs) if losses),
        _epoch_table(epochs, note="" if losses else course),
        Text("The network", [_network_sentence(report["network"]), *report["network"]["reasons"]], listed=True),
        Text("The plan", training["plan"], listed=True),
        _seconds_table(training["seconds"]),
    ]


def data_blocks(data: Mapping[str, Any]) -> list[Block]:
    """What the images are, how they were split, and everything that was odd about them."""
    split_tiles = [Tile(name.capitalize(), amounts.count(data["splits"][name]["n"]), "images") for name in SPLITS if name in data["splits"]]
    split_text = [data["split_origin"]]
    if data["copies"]:
        split_text.append(f"{amounts.number_of(data['copies'], 'pair')} of copies kept together, each on one side of the split.")
    return [
        Tiles("Images in each split", split_tiles if data["splits"] else []),
        Text("How the split was made", split_text),
        _class_table(data),
        _rows_table(
            "Copies across splits",
            ("Image", "Split", "Its copy", "Split", "Kind"),
            [(leak["a"], leak["a_split"], leak["b"], leak["b_split"], leak["kind"]) for leak in data["leaks"]],
            "The same picture on two sides of a split makes the results look better than they are.",
        ),
        _rows_table(
            "Groups in more than one split",
            ("Group", "Splits"),
            [(entry["group"], ", ".join(entry["splits"])) for entry in data["straddling"]],
            "Images of one group are alike, so the results look better than they will be for a group that was never seen.",
        ),
        _rows_table(
            "Copies with different labels",
            ("Image", "Label", "Its copy", "Label"),
            [(pair["a"], pair["a_label"], pair["b"], pair["b_label"]) for pair in data["conflicts"]],
            "One of the two labels is wrong, or the classes overlap.",
        ),
        _rows_table(
            "Files that were refused",
            ("File", "Reason"),
            [(entry["path"], entry["reason"]) for entry in data["refused"]],
            "They took no part in anything below or above.",
        ),
        _rows_table(
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
    lead = f"Measured on {amounts.number_of(report['test']['n'], 'test image')} that took no part in training."
    n_leaks = sum("test" in (leak["a_split"], leak["b_split"]) for leak in report["data"]["leaks"])
    n_groups = sum("test" in entry["splits"] for entry in report["data"]["straddling"])
    doubts = []
    if n_leaks:
        doubts.append("one of them has a copy" if n_leaks == 1 else f"{amounts.count(n_leaks)} copies of them are")
    if n_groups:
        doubts.append(f"{amounts.number_of(n_groups, 'group')} of images {'is' if n_groups == 1 else 'are'} also")
    return f"{lead} But {' and '.join(doubts)} in another split: see The data." if doubts else lead


def _figures(epochs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of what the task's objective watches on validation, besides the loss."""
    names = [name.removeprefix("val_") for name in (epochs[0] if epochs else ()) if name.startswith("val_")]
    return [name for name in names if name != "loss"]


def _figure_title(name: str) -> str:
    return SHARES[name][0] if name in SHARES else name.replace("_", " ").capitalize()


def _figure_curve(name: str, epochs: Sequence[Mapping[str, Any]], best: int, mark: str) -> Curves:
    title, scale, unit = _figure_title(name), *((100, " in %") if name in SHARES else (1, ""))
    points = [(epoch["epoch"], epoch[f"val_{name}"] * scale) for epoch in epochs if epoch[f"val_{name}"] is not None]
    note = f"{SHARES[name][1] if name in SHARES else 'On the validation images.'} The test images are not looked at here."
    return Curves(title, "epoch", f"{title.lower()}{unit}", {"validation": points}, best, mark, note)


def _figure_text(name: str, value: float | None) -> str:
    return amounts.share(value) if name in SHARES else amounts.decimal(value)


def _stages(epochs: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """A sentence on the epochs in which only the head learned."""
    frozen = [epoch["epoch"] for epoch in epochs if epoch["stage"] == "head"]
    if not frozen:
        return []
    when = f"epoch {frozen[0]}" if len(frozen) == 1 else f"epochs {frozen[0]} to {frozen[-1]}"
    rest = "; then all layers learned." if len(frozen) < len(epochs) else "."
    return [f"Only the head learned in {when}{rest}"]


def _epoch_table(epochs: Sequence[Mapping[str, Any]], note: str) -> Table:
    layers = {"head": "head", "all": "all layers"}
    figures = _figures(epochs)
    rows = [
        (
            str(epoch["epoch"]),
            layers.get(epoch["stage"], epoch["stage"]),
            amounts.significant(epoch["lr"]),
            amounts.decimal(epoch["train_loss"]),
            amounts.decimal(epoch["val_loss"]),
            *(_figure_text(name, epoch[f"val_{name}"]) for name in figures),
            amounts.duration(epoch["seconds"]),
        )
        for epoch in epochs
    ]
    watched = [f"Validation {_figure_title(name).lower()}" for name in figures]
    columns = ("Epoch", "Learned", "Learning rate", "Train loss", "Validation loss", *watched, "Time")
    return _rows_table("Every epoch", columns, rows, note, folded=len(rows) > 1)


def _network_sentence(network: Mapping[str, Any]) -> str:
    licence = f" (licence: {network['weights_licence']})" if network["weights_licence"] else ""
    side = network["size"]
    size = f"{amounts.parameters(network['parameters'])} parameters, reading images of {side} × {side} pixels"
    sentence = f"{network['backbone']} with {size}."
    # The reasons that follow may have named the weights already.
    named = any(network["weights"] in reason for reason in network["reasons"])
    return sentence if named else f"{sentence} It started from {network['weights']}{licence}."


def _seconds_table(seconds: Mapping[str, float]) -> Table:
    total = sum(seconds.values())
    rows = [(name, amounts.duration(spent), amounts.share(spent / total if total else 0, 0)) for name, spent in seconds.items()]
    if len(rows) > 1:
        rows.append(("total", amounts.duration(total), "100%"))
    return Table("Where the time went", ("Stage", "Time", "Share"), rows)


def _class_table(data: Mapping[str, Any]) -> Table:
    names = [name for name in SPLITS if name in data["splits"]]
    rows = []
    for label in data["labels"]:
        counts = [data["splits"][name]["classes"].get(label, 0) for name in names]
        rows.append((label, *map(amounts.count, counts), amounts.count(sum(counts))))
    columns = ("Class", *(name.capitalize() for name in names), "Total")
    return _rows_table("Images of each class", columns, rows)


def _rows_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], note: str = "", folded: bool = False) -> Table:
    """A table of as many rows as there happen to be: folded when long, cut when far too long."""
    if len(rows) > MOST_ROWS:
        note = f"{note} The first {MOST_ROWS} of {amounts.count(len(rows))}; all are in report.json.".strip()
    return Table(title, columns, rows[:MOST_ROWS], note, folded or len(rows) > OPEN_ROWS)


def setting_text(value: Any) -> str:
    """A setting's value in a reader's words."""
    words = {None: "chosen from the data", True: "yes", False: "no"}
    return words[value] if value is None or isinstance(value, bool) else str(value)
