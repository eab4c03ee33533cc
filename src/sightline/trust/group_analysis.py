"""What is to be told of attributes that can be compared: every question asked first, all corrected together, then described."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation.gaps import (
    Chance,
    alikeness,
    chance_of_calibration,
    chance_of_gap,
    difference_interval,
    difference_within,
    mean_interval,
)
from sightline.evaluation.paired import holm
from sightline.evaluation.slices import Grouping, Pair, Ranked, Slice, corrected, extremes, large_enough, pairs, worst_slices
from sightline.trust.answered import Answered

LEVEL = 0.05
# What each question gets of the chance of a false alarm.
SHARES = {"gap": 0.8, "recall": 0.15, "pair": 0.05}
# Labels may come in hundreds of combinations, within each of which is dealt out; whether 5% is reached, fewer draws tell.
WITHIN_DRAWS = (1_000,)
# Examples of what went wrong in a slice, and groups that are too small, as many as are named.
EXAMPLES, NAMED = 3, 20
PREDICTED = "answer"


@dataclass(frozen=True)
class _RecallGap:
    """Among labels and groups with enough images: the label whose recall is farthest off in a group, beside what chance would do."""

    label: int
    chance: Chance
    cells: Grouping
    found: NDArray[np.float64]


@dataclass(frozen=True)
class Analysis:
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
    def of(cls, judged: Answered, compared: Sequence[Grouping], labels: Sequence[str], seed: int) -> Analysis:
        gaps = [chance_of_gap(judged.right[one.inside], one.codes[one.inside], alike=one.alike, seed=seed) for one in compared]
        recalls = [_recall_gap(judged, one, seed) for one in compared]
        found, not_looked_at = pairs(compared, judged.right, judged.related, seed)
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
        right, recall = self.judged.right[rows], self.judged.recall(rows, one.alike)
        return {
            "group": one.names[group], "n": len(rows),
            "right": float(right.mean()), "interval": list(mean_interval(right, alike=one.alike)),
            "recall": recall[0] if recall else None, "recall_interval": list(recall[1]) if recall else None,
            "calibration": self._calibration(rows, one.alike),
        }  # fmt: skip

    def _calibration(self, rows: NDArray[np.int64], alike: float) -> dict[str, Any] | None:
        """Mean score less the share right, of the images with a score; None where none has one."""
        known = rows[np.isfinite(self.judged.scores[rows])]
        if not len(known):
            return None
        scores, right = self.judged.scores[known], self.judged.right[known]
        return {"n": len(known), "difference": float(scores.mean() - right.mean()), "p": chance_of_calibration(scores, right, alike)}

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
        within = chance_of_gap(right, chosen.astype(np.int64), kinds, alike=one.alike, seed=self.seed, batches=WITHIN_DRAWS).p
        left = difference_within(right, chosen, kinds)
        return {
            "group": one.names[group], "right": float(right[chosen].mean()), "others": float(right[~chosen].mean()),
            "difference": difference, "interval": list(difference_interval(right[chosen], right[~chosen], alike=one.alike)),
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
            "groups": [{"group": name, "n": len(found), "recall": float(found.mean()),
                        "interval": list(mean_interval(found, alike=gap.cells.alike))} for name, found in parts],
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
        made = [(one, doubts[one.name]) for one in self.compared]
        made += [
            (pair.cells, min(p, doubts[pair.first.name], doubts[pair.second.name])) for pair, p in zip(self.pairs, self.pair_p, strict=True)
        ]
        slices = [Slice(one.name, name, one.rows(group), doubt, one.alike) for one, doubt in made for group, name in enumerate(one.names)]
        right, related = self.judged.right, self.judged.related
        for label, rows in self.judged.given:
            if large_enough(np.zeros(len(rows), np.int64), 1, related if related is None else related[rows])[0]:
                alike = 1.0 if related is None else alikeness(right[rows], np.zeros(len(rows), np.int64), related[rows])
                slices.append(Slice(PREDICTED, label, rows, alike=alike, answered=True))
        return [self._slice(entry) for entry in worst_slices(right, slices)]

    def _slice(self, entry: Ranked) -> dict[str, Any]:
        rows, scores = entry.slice.rows, np.nan_to_num(self.judged.scores[entry.slice.rows])
        wrong = [row for row in rows[np.lexsort((-scores, self.judged.right[rows]))].tolist() if self.judged.right[row] < 1]
        return {
            "of": entry.slice.of, "group": entry.slice.group, "answered": entry.slice.answered,
            "n": len(rows), "right": entry.mean, "interval": list(entry.interval),
            "corrected": entry.p, "real": entry.p < LEVEL, "examples": [str(self.judged.names[row]) for row in wrong[:EXAMPLES]],
        }  # fmt: skip


def _explained(difference: float, within: float | None, p: float) -> str:
    """Whether the labels in the groups explain a gap: "explained", "stays", or "open" where there are too few images to tell."""
    if within is not None and p < LEVEL:
        return "stays"
    return "explained" if within is not None and abs(within) < abs(difference) / 2 else "open"


def _recall_gap(judged: Answered, one: Grouping, seed: int) -> _RecallGap | None:
    """The test of equal opportunity: within each label by itself. None where no label has two groups with enough images."""
    codes, width = one.codes[judged.rows], len(one.names)
    inside = np.flatnonzero(codes >= 0)
    cells, related = judged.labels[inside] * width + codes[inside], judged.related_for(one.name)
    related = related if related is None else related[judged.rows[inside]]
    n_labels = int(judged.labels.max(initial=-1)) + 1
    large = large_enough(cells, n_labels * width, related).reshape(-1, width)
    large &= large.sum(axis=1, keepdims=True) >= 2
    if not large.any():
        return None
    judgeable = large.reshape(-1)[cells]
    kept, cells = inside[judgeable], cells[judgeable]
    alike = 1.0 if related is None else alikeness(judged.found[kept], cells, related[judgeable])
    strata = np.unique(judged.labels[kept], return_inverse=True)
    chance = chance_of_gap(judged.found[kept], codes[kept], strata[1].reshape(-1), apart=True, alike=alike, seed=seed)
    label = int(strata[0][np.abs(chance.z).max(axis=1).argmax()])
    rows = kept[judged.labels[kept] == label]
    held = np.unique(codes[rows])
    of_label = Grouping(one.name, tuple(one.names[group] for group in held), np.searchsorted(held, codes[rows]), alike=alike)
    return _RecallGap(label, chance, of_label, judged.found[rows])
