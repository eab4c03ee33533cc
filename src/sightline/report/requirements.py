"""The report's part on what was asked of the model with ``--require``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sightline.report import amounts
from sightline.requirements import Requirement, bound_text, checked, counts, figures_of, intervals_of, reasons_of, summary
from sightline.tasks.blocks import Block, Table

COLUMNS = ("Figure", "Required", "Reached", "Met")


def requirements_section(requirements: Sequence[Requirement], report: Mapping[str, Any]) -> dict[str, Any]:
    """The report's ``requirements`` section: whether all are ``met``, a ``sentence`` and a row each; empty without requirements."""
    if not requirements:
        return {}
    verdicts = checked(requirements, figures_of(report), reasons_of(report), intervals_of(report))
    return {
        "met": all(verdict.met for verdict in verdicts),
        "sentence": summary(verdicts),
        "rows": [verdict.to_json() for verdict in verdicts],
    }


def requirements_blocks(section: Mapping[str, Any]) -> list[Block]:
    """What was asked beside what was reached; nothing where nothing was asked."""
    if not section:
        return []
    return [Table("What was asked of the model", COLUMNS, requirement_rows(section), section["sentence"])]


def requirement_rows(section: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """A row for each requirement, as ``COLUMNS``."""
    return [
        (
            row["metric"],
            bound_text(Requirement(row["metric"], row["relation"], row["bound"])),
            "not measured" if row["reached"] is None else _reached(row),
            "yes" if row["met"] else "no",
        )
        for row in section.get("rows", ())
    ]


def _reached(row: Mapping[str, Any]) -> str:
    return amounts.decimal(row["reached"], 2) if counts(row["metric"]) else amounts.share(row["reached"], 2)
