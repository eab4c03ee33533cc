"""The report's part on how the network was trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sightline.report import amounts
from sightline.report.tables import rows_table
from sightline.tasks.blocks import Block, Curves, Table, Text

# Figures that objectives watch on validation and that are shares: their names and what they mean. Others are drawn as they are.
SHARES = {
    "accuracy": ("Accuracy", "Share of the validation images that were right."),
    "map": ("Mean average precision", "How well the validation images are put in order by each label, mean over labels."),
}


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
        _stage_table(training["stages"]),
        _learning_curve(training["learning_curve"]),
        _seconds_table(training["seconds"]),
    ]


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
    layers = {"head": "head", "upper": "upper layers", "all": "all layers", "harder": "all, harder images"}
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
    return rows_table("Every epoch", columns, rows, note, folded=len(rows) > 1)


def _stage_table(stages: Sequence[Mapping[str, Any]]) -> Table:
    """What each stage of a fine-tuning brought on validation, and the time it took."""
    names = {"upper": "upper layers", "all": "all layers", "harder": "all layers, from harder images"}
    rows = [
        (
            names[stage["layers"]],
            str(stage["epochs"]),
            *(f"{_figure_text(name, stage['before'][name])} to {_figure_text(name, stage['after'][name])}" for name in stage["after"]),
            amounts.share(stage["share"], 0),
            amounts.duration(stage["expected_seconds"]),
            amounts.duration(stage["seconds"]),
        )
        for stage in stages
    ]
    watched = [f"Validation {'loss' if name == 'loss' else _figure_title(name).lower()}" for name in (stages[0]["after"] if stages else ())]
    note = "Kept is the share of what was learned that lowered the validation loss most; the rest is averaged with what was there before."
    return rows_table("What each stage brought", ("Learned", "Epochs", *watched, "Kept", "Time expected", "Time taken"), rows, note)


def _learning_curve(curve: Mapping[str, Any] | None) -> Curves:
    """Would more images help? Empty without a probe."""
    points = [(n, 100 * reached) for n, reached in curve["points"]] if curve else []
    measure = curve["measure"] if curve else ""
    sentence = curve["sentence"] if curve else ""
    return Curves("Would more images help?", "training images", f"{measure} in %", {"probe": points}, None, "", sentence)


def _network_sentence(network: Mapping[str, Any]) -> str:
    licence = f" (licence: {network['weights_licence']})" if network["weights_licence"] else ""
    size = f"{amounts.parameters(network['parameters'])} parameters, reading images of {amounts.input_size(network)}"
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
