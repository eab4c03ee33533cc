"""Does the model serve some images worse than others? Every attribute, every pair of them, and the groups in which most goes wrong.

A gap is said to be real only where chance explains it in less than 5% of cases after correction for all that was looked at: of 100 models
that serve all groups alike, at most five are said not to. That holds for the gaps in what is right, in recall and in pairs together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation.gaps import Chance, chance_of_calibration, chance_of_gap, difference_interval, difference_within, mean_interval
from sightline.evaluation.paired import holm
from sightline.evaluation.slices import (
    SMALLEST,
    Grouping,
    Pair,
    Ranked,
    Slice,
    corrected,
    extremes,
    grouping,
    pairs,
    why_left_out,
    worst_slices,
)
from sightline.trust.answered import Answered
from sightline.trust.evidence import Evidence

LEVEL = 0.05
# What each question gets of the chance of a false alarm.
SHARES = {"gap": 0.8, "recall": 0.15, "pair": 0.05}
# Labels may come in hundreds of combinations, within each of which is dealt out; whether 5% is reached, fewer draws tell.
WITHIN_DRAWS = (1_000,)
# Examples of what went wrong in a slice, and groups that are too small, as many as are named.
EXAMPLES, NAMED = 3, 20
PREDICTED = "answer"


def groups(
    attributes: Mapping[str, Sequence[str]],
    outcomes: Sequence[Mapping[str, Any]],
    targets: NDArray[Any],
    labels: Sequence[str],
    names: Sequence[str],
    *,
    seed: int = 0,
) -> Evidence:
    """Numbers on the groups of n test images; no pictures.

    ``attributes`` has (n,) texts by name, "" where nothing is known; ``outcomes`` are the task's, a row an image; ``targets`` are (n,)
    int64 or (n, k) bool; ``names`` are the images'. A group of fewer than 20 images is named and not judged.

    ``worst_group_recall`` is the smallest share, over all groups of all attributes that are judged, of the true labels of a group's images
    that the model names: to classify, that is the group's accuracy. ``largest_gap`` is the largest difference, over all attributes,
    between the shares right of two judged groups. Both are None where nothing could be judged, and ``reason`` says why.
    """
    judged = Answered.of(outcomes, targets, labels, names)
    made = [grouping(name, column) for name, column in attributes.items()]
    left_out = {one.name: why_left_out(one, len(judged)) for one in made}
    compared = [one for one in made if not left_out[one.name]]
    numbers: dict[str, Any] = {
        "n": len(judged),
        "several": targets.ndim == 2,
        "smallest": SMALLEST,
        "left_out": [{"attribute": name, "reason": reason} for name, reason in left_out.items() if reason],
        "worst_group_recall": None,
        "largest_gap": None,
        "attributes": [],
        "pairs": {"looked_at": 0, "not_looked_at": 0, "found": []},
        "slices": [],
    }
    if not compared:
        numbers["reason"] = _nothing(made, len(judged))
        return Evidence(numbers)
    return Evidence({**numbers, **_Analysis.of(judged, compared, labels, seed).numbers()})


def _nothing(made: Sequence[Grouping], n: int) -> str:
    if not made:
        return "Nothing is known of the images that could part them into groups."
    if n < 2 * SMALLEST:
        return f"With {n} test images no two groups of {SMALLEST} can be compared."
    return f"No attribute has two groups of at least {SMALLEST} test images."


@dataclass(frozen=True)
class _RecallGap:
    """Among labels and groups with enough images: the label whose recall is farthest off in a group, beside what chance would do."""

    label: int
    chance: Chance
    cells: Grouping
    found: NDArray[np.float64]


@dataclass(frozen=True)
class _Analysis:
    """Everything that was looked at. The p-values are corrected, and stand in the order of ``compared`` and of ``pairs``."""

    judged: Answered
    labels: Sequence[str]
    compared: Sequence[Grouping]
    gaps: Sequence[Chance]
    recalls: Sequence[_RecallGap | None]
    pairs: Sequence[Pair]
    not_looked_at: int
    gap_p: Sequence[float]
    recall_p: Sequence[float | None]
    pair_p: Sequence[float]
    seed: int

    @classmethod
    def of(cls, judged: Answered, compared: Sequence[Grouping], labels: Sequence[str], seed: int) -> _Analysis:
        gaps = [chance_of_gap(judged.right[one.inside], one.codes[one.inside], seed=seed) for one in compared]
        recalls = [_recall_gap(judged, one, seed) for one in compared]
        found, not_looked_at = pairs(compared, judged.right, seed)
        gap_p, recall_p, pair_p = corrected([
            (SHARES["gap"], [gap.p for gap in gaps]),
            (SHARES["recall"], [gap.chance.p for gap in recalls if gap]),
            (SHARES["pair"], [pair.p for pair in found]),
        ])  # fmt: skip
        in_turn = iter(recall_p)
        recall_by_attribute = [next(in_turn) if gap else None for gap in recalls]
        return cls(judged, labels, compared, gaps, recalls, found, not_looked_at, gap_p, recall_by_attribute, pair_p, seed)

    def numbers(self) -> dict[str, Any]:
        """What of the report's numbers needs at least one attribute to compare."""
        attributes = [self._attribute(place) for place in range(len(self.compared))]
        entries = [{"attribute": one["attribute"], **group} for one in attributes for group in one["groups"]]
        worst = min((entry for entry in entries if entry["recall"] is not None), key=lambda entry: entry["recall"], default=None)
        widest = max(attributes, key=lambda one: one["gap"]["difference"])
        self._judge_calibration(attributes)
        return {
            "right": float(self.judged.right.mean()),
            "comparisons": len(self.gaps) + len(self.pairs) + sum(gap is not None for gap in self.recalls),
            "attributes": attributes,
            "pairs": {"looked_at": len(self.pairs), "not_looked_at": self.not_looked_at, "found": self._pairs_found()},
            "slices": self._slices(),
            "worst_group_recall": worst["recall"] if worst else None,
            "worst_group": worst,
            "largest_gap": widest["gap"]["difference"],
            "largest_gap_between": {"attribute": widest["attribute"], **widest["gap"]},
        }

    def _attribute(self, place: int) -> dict[str, Any]:
        one, chance, p = self.compared[place], self.gaps[place], self.gap_p[place]
        right = self.judged.right
        ends = extremes(right, one)
        numbers: dict[str, Any] = {
            "attribute": one.name,
            "n": len(one.inside),
            "not_given": one.not_given,
            "too_small": [{"group": name, "n": n} for name, n in one.too_small[:NAMED]],
            "more_too_small": max(0, len(one.too_small) - NAMED),
            "groups": [self._group(one, group) for group in range(len(one.names))],
            "gap": {"low": one.names[ends.low], "high": one.names[ends.high], "difference": ends.difference,
                    "interval": list(ends.interval), "p": chance.p, "corrected": p, "real": p < LEVEL},
            "recall_gap": self._recall_numbers(place),
        }  # fmt: skip
        if p < LEVEL:
            numbers["standing_out"] = self._standing_out(one, chance)
        return numbers

    def _group(self, one: Grouping, group: int) -> dict[str, Any]:
        rows = one.rows(group)
        right, recall = self.judged.right[rows], self.judged.recall(rows)
        return {
            "group": one.names[group], "n": len(rows), "right": float(right.mean()), "interval": list(mean_interval(right)),
            "recall": recall[0] if recall else None, "recall_interval": list(recall[1]) if recall else None,
            "calibration": self._calibration(rows),
        }  # fmt: skip

    def _calibration(self, rows: NDArray[np.int64]) -> dict[str, Any] | None:
        """Mean score less the share right, of the images with a score; None where none has one."""
        known = rows[np.isfinite(self.judged.scores[rows])]
        if not len(known):
            return None
        scores, right = self.judged.scores[known], self.judged.right[known]
        return {"n": len(known), "difference": float(scores.mean() - right.mean()), "p": chance_of_calibration(scores, right)}

    def _judge_calibration(self, attributes: Sequence[Mapping[str, Any]]) -> None:
        """Write into each group whether its scores promise more or less than is right, corrected for the number of groups."""
        found = [group["calibration"] for one in attributes for group in one["groups"] if group["calibration"]]
        for entry, p in zip(found, holm([entry["p"] for entry in found]), strict=True):
            entry |= {"corrected": p, "real": p < LEVEL}

    def _standing_out(self, one: Grouping, chance: Chance) -> dict[str, Any]:
        """The group that is farthest off, the worse one where both a worse and a better one are, against all others."""
        worse = int(chance.z[0].argmin())
        group = worse if chance.each[0, worse] < LEVEL else int(chance.z[0].argmax())
        inside, chosen = one.inside, one.codes[one.inside] == group
        right, kinds = self.judged.right[inside], self.judged.kinds[inside]
        difference = float(right[chosen].mean() - right[~chosen].mean())
        within = chance_of_gap(right, chosen.astype(np.int64), kinds, seed=self.seed, batches=WITHIN_DRAWS).p
        left = difference_within(right, chosen, kinds)
        return {
            "group": one.names[group], "right": float(right[chosen].mean()), "others": float(right[~chosen].mean()),
            "difference": difference, "interval": list(difference_interval(right[chosen], right[~chosen])),
            "within_classes": {"difference": left, "p": within, "verdict": _explained(difference, left, within)},
        }  # fmt: skip

    def _recall_numbers(self, place: int) -> dict[str, Any] | None:
        gap, p = self.recalls[place], self.recall_p[place]
        if gap is None or p is None:
            return None
        ends = extremes(gap.found, gap.cells)
        parts = [(name, gap.found[gap.cells.rows(group)]) for group, name in enumerate(gap.cells.names)]
        return {
            "label": self.labels[gap.label], "low": gap.cells.names[ends.low], "high": gap.cells.names[ends.high],
            "difference": ends.difference, "interval": list(ends.interval), "p": gap.chance.p, "corrected": p, "real": p < LEVEL,
            "groups": [{"group": name, "n": len(found), "recall": float(found.mean()), "interval": list(mean_interval(found))}
                       for name, found in parts],
        }  # fmt: skip

    def _pairs_found(self) -> list[dict[str, Any]]:
        """Pairs whose cells differ by more than chance and either attribute alone explain."""
        found = []
        for pair, p in zip(self.pairs, self.pair_p, strict=True):
            if p < LEVEL:
                groups = [self._group(pair.cells, group) for group in range(len(pair.cells.names))]
                found.append({"attributes": [pair.first.name, pair.second.name], "corrected": p, "groups": groups})
        return found

    def _slices(self) -> list[dict[str, Any]]:
        doubts = {one.name: p for one, p in zip(self.compared, self.gap_p, strict=True)}
        slices = [Slice(one.name, name, one.rows(group), doubts[one.name]) for one in self.compared for group, name in enumerate(one.names)]
        for pair, p in zip(self.pairs, self.pair_p, strict=True):
            doubt = min(p, doubts[pair.first.name], doubts[pair.second.name])
            slices += [Slice(pair.cells.name, name, pair.cells.rows(group), doubt) for group, name in enumerate(pair.cells.names)]
        slices += [Slice(PREDICTED, label, rows) for label, rows in self.judged.given if len(rows) >= SMALLEST]
        return [self._slice(entry) for entry in worst_slices(self.judged.right, slices)]

    def _slice(self, entry: Ranked) -> dict[str, Any]:
        rows, scores = entry.slice.rows, np.nan_to_num(self.judged.scores[entry.slice.rows])
        wrong = [row for row in rows[np.lexsort((-scores, self.judged.right[rows]))].tolist() if self.judged.right[row] < 1]
        return {
            "of": entry.slice.of, "group": entry.slice.group, "n": len(rows), "right": entry.mean, "interval": list(entry.interval),
            "corrected": entry.p, "real": entry.p < LEVEL, "examples": [str(self.judged.names[row]) for row in wrong[:EXAMPLES]],
        }  # fmt: skip


def _explained(difference: float, within: float | None, p: float) -> str:
    """Whether the labels in the groups explain a gap: "explained", "stays", or "open" where there are too few images to tell."""
    if within is not None and p < LEVEL:
        return "stays"
    return "explained" if within is not None and abs(within) < abs(difference) / 2 else "open"


def _recall_gap(judged: Answered, one: Grouping, seed: int) -> _RecallGap | None:
    """The test of equal opportunity: within each label by itself. None where no label has two groups with enough images."""
    codes = one.codes[judged.rows]
    width = len(one.names)
    cells = judged.labels * width + codes
    sizes = np.bincount(cells[codes >= 0], minlength=(int(judged.labels.max(initial=-1)) + 1) * width).reshape(-1, width)
    large = sizes >= SMALLEST
    large &= large.sum(axis=1, keepdims=True) >= 2
    if not large.any():
        return None
    kept = np.flatnonzero((codes >= 0) & large.reshape(-1)[cells])
    present, strata = np.unique(judged.labels[kept], return_inverse=True)
    chance = chance_of_gap(judged.found[kept], codes[kept], strata.reshape(-1), apart=True, seed=seed)
    label = int(present[np.abs(chance.z).max(axis=1).argmax()])
    rows = kept[judged.labels[kept] == label]
    held = np.unique(codes[rows])
    cells_of_label = Grouping(one.name, tuple(one.names[group] for group in held), np.searchsorted(held, codes[rows]))
    return _RecallGap(label, chance, cells_of_label, judged.found[rows])
