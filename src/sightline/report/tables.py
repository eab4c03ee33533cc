"""Tables of as many rows as there happen to be."""

from __future__ import annotations

from collections.abc import Sequence

from sightline.report import amounts
from sightline.tasks.blocks import Table

# A page with ten thousand refused files helps nobody; report.json has them all.
MOST_ROWS = 300
# Longer tables start folded.
OPEN_ROWS = 12


def rows_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], note: str = "", folded: bool = False) -> Table:
    """A table of as many rows as there happen to be: folded when long, cut when far too long."""
    if len(rows) > MOST_ROWS:
        note = f"{note} The first {MOST_ROWS} of {amounts.count(len(rows))}; all are in report.json.".strip()
    return Table(title, columns, rows[:MOST_ROWS], note, folded or len(rows) > OPEN_ROWS)
