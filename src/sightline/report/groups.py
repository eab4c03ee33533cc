"""The report's part on groups of images: whether the model serves some worse than others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sightline.report import amounts
from sightline.report.group_words import (
    answer_sentences,
    capital,
    gap_sentences,
    new_pairs,
    pair_sentences,
    points,
    poor_answers,
    real_gaps,
    recall_sentences,
    said,
    span,
    too_few,
    unequal_recalls,
    verdict,
)
from sightline.report.tables import rows_table
from sightline.tasks.blocks import Bar, Bars, Block, Table, Text, Tile, Tiles
from sightline.tasks.measures import measure_in

Numbers = Mapping[str, Any]

WHISKER = "On the test images; the whisker is the 95% interval."


def groups_blocks(section: Numbers) -> list[Block]:
    """Verdict, the gaps that are more than chance, where most goes wrong, and all else in folded tables; [] for an empty section."""
    if not section:
        return []
    real, unequal, pairs = real_gaps(section), unequal_recalls(section), new_pairs(section)
    findings = [gap_sentences(one, section) for one in real]
    findings += [recall_sentences(one, section) for one in unequal] + [pair_sentences(pair, section) for pair in pairs]
    findings += [answer_sentences(entry, section) for entry in poor_answers(section)]
    return [
        Text("Does it serve all images alike?", [verdict(section), *too_few(section)]),
        _tiles(section),
        Text("What differs, and what to do", findings, listed=True),
        *(Bars(_title(one["attribute"], section), [_bar(group) for group in one["groups"]], WHISKER) for one in real),
        *(_recall_bars(one) for one in unequal),
        *(_pair_bars(pair, section) for pair in pairs),
        _slices_table(section),
        _attributes_table(section),
        _groups_table(section),
        rows_table(
            "Not compared",
            ("Attribute", "Why"),
            [(entry["attribute"], capital(entry["reason"])) for entry in section["left_out"]],
            folded=True,
        ),
    ]


def _tiles(section: Numbers) -> Tiles:
    if "reason" in section:
        return Tiles("The groups in numbers", [])
    worst, gap = section["worst_group"], section["largest_gap_between"]
    tiles = [Tile("All images", amounts.share(section["right"]), said(section).overall)]
    if worst:
        low, high = worst["recall_interval"]
        tiles.append(Tile("Worst group", amounts.share(worst["recall"]), f"{said(section).found}, {_percents(low, high)}; {_place(worst)}"))
    chance = "more than chance explains" if gap["real"] else "chance may explain it"
    tiles.append(Tile("Largest gap", points(gap["difference"]), f"{gap['attribute']}: {gap['low']} against {gap['high']}; {chance}"))
    note = (
        f"Groups of at least {section['smallest']} test images; intervals of 95%. A gap counts as more than chance only if chance explains "
        f"it in under 5% of cases, all {amounts.count(section['comparisons'])} comparisons taken together."
    )
    return Tiles("The groups in numbers", tiles, note)


def _title(of: str, section: Numbers) -> str:
    return f"{said(section).title} by {of}"


def _bar(group: Numbers) -> Bar:
    low, high = group["interval"]
    return Bar(group["group"], group["right"], low, high, note=amounts.number_of(group["n"], "image"))


def _recall_bars(one: Numbers) -> Bars:
    gap = one["recall_gap"]
    bars = []
    for group in gap["groups"]:
        low, high = group["interval"]
        bars.append(Bar(group["group"], group["recall"], low, high, note=f"of {amounts.count(group['n'])}"))
    return Bars(f"How often {gap['label']} is found, by {one['attribute']}", bars, WHISKER)


def _pair_bars(pair: Numbers, section: Numbers) -> Bars:
    return Bars(_title(" and ".join(pair["attributes"]), section), [_bar(group) for group in pair["groups"]], WHISKER)


def _slices_table(section: Numbers) -> Table:
    rows = [
        (
            _place(entry, "of"),
            amounts.count(entry["n"]),
            amounts.share(entry["right"]),
            _percents(*entry["interval"]),
            "no" if entry["real"] else "may be",
            ", ".join(entry["examples"]),
        )
        for entry in section["slices"]
    ]
    note = (
        "Groups, pairs of groups and answers with the lowest results, put in order by the upper end of the interval, which allows for how "
        "many were looked at. Start looking for errors here."
    )
    found = any(entry["real"] for entry in section["slices"])
    note += "" if found else " Chance may explain all of them."
    return Table(
        "Where most goes wrong",
        ("Images with", "Images", measure_in(section).name, "Interval", "By chance", "Such as"),
        rows,
        note,
        folded=not found,
    )


def _attributes_table(section: Numbers) -> Table:
    rows = [
        (
            one["attribute"],
            amounts.count(len(one["groups"])),
            f"{one['gap']['low']}",
            f"{one['gap']['high']}",
            points(one["gap"]["difference"]),
            span(*one["gap"]["interval"]),
            amounts.share(one["gap"]["corrected"]),
            amounts.count(one["not_given"]),
        )
        for one in section["attributes"]
        if not one["gap"]["real"]
    ]
    note = (
        "The lowest and the highest group of each attribute; the interval allows for the choice of these two. Chance: how often it alone "
        "shows such a gap, all comparisons taken together. That no gap was found does not prove that there is none: see how wide the "
        "interval is."
    )
    columns = ("Attribute", "Groups", "Lowest", "Highest", "Gap", "95% interval", "Chance", "Images without a value")
    return rows_table("Without a gap beyond chance", columns, rows, note, folded=True)


def _groups_table(section: Numbers) -> Table:
    rows = []
    for one in section["attributes"]:
        for group in one["groups"]:
            recall = [amounts.share(group["recall"])] if section["several"] else []
            figures = [amounts.count(group["n"]), amounts.share(group["right"]), _percents(*group["interval"]), *recall]
            rows.append((one["attribute"], group["group"], *figures, *_calibration(group["calibration"])))
        rows += [(one["attribute"], entry["group"], amounts.count(entry["n"]), *_nothing(section)) for entry in one["too_small"]]
    note = (
        "The last columns say how far the mean score is above what is right, and whether it is off by more than chance explains. Groups "
        "without figures are too small to judge."
    )
    recall_column = ("Labels found",) if section["several"] else ()
    columns = (
        "Attribute",
        "Group",
        "Images",
        measure_in(section).name,
        "95% interval",
        *recall_column,
        "Score less right",
        "Off beyond chance",
    )
    return rows_table("Every group", columns, rows, note, folded=True)


def _nothing(section: Numbers) -> Sequence[str]:
    return (amounts.NOTHING,) * (5 if section["several"] else 4)


def _calibration(found: Numbers | None) -> tuple[str, str]:
    if found is None:
        return amounts.NOTHING, amounts.NOTHING
    return f"{100 * found['difference']:+.1f}", "yes" if found["real"] else "no"


def _place(entry: Numbers, of: str = "attribute") -> str:
    return f"{entry[of]}: {entry['group']}"


def _percents(low: float, high: float) -> str:
    return f"{amounts.share(low)} to {amounts.share(high)}"
