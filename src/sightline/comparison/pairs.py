"""The first run against each of the others on the test images that both have, in numbers and in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sightline.comparison.runs import Answer, FinishedRun, read_runs
from sightline.errors import DataError
from sightline.evaluation.paired import PairedDifference, holm, paired_difference
from sightline.tasks import load_task
from sightline.tasks.measures import MEASURES, SCENES, measure_of

LEVEL = 0.95
# Where the corrected p-value is at most this, the difference is called more than chance.
CHANCE = 1 - LEVEL
FEW_IMAGES = 50
_STANDINGS = {"better": ("is better", "are better"), "worse": ("is worse", "are worse"), "same": ("may differ by chance only",) * 2}
# Where a run was written to says nothing of how it was made.
_NO_DIFFERENCE = {("run", "out")}


@dataclass(frozen=True)
class Pair:
    """Two runs on their common test images, by content; copies of an image count once.

    common        (reference's answer, run's answer) for each image
    relabelled    images in both tests whose true labels differ, which are left out
    p_corrected   the p-value after Holm's correction for the number of pairs
    task          that the runs learned
    """

    reference: str
    run: str
    common: Sequence[tuple[Answer, Answer]]
    only_reference: int
    only_run: int
    relabelled: int
    paired: PairedDifference
    p_corrected: float
    n_pairs: int
    task: str = "classify"

    @property
    def clear(self) -> bool:
        """Whether the difference is more than chance."""
        return self.p_corrected <= CHANCE

    @property
    def standing(self) -> str:
        """better, worse or the same, as far as can be told."""
        return "same" if not self.clear else "better" if self.paired.difference > 0 else "worse"

    @property
    def sentence(self) -> str:
        return _sentence(self)

    def to_json(self) -> dict[str, Any]:
        paired = self.paired
        return {"reference": self.reference, "run": self.run, "n": paired.n, "only_reference": self.only_reference,
                "only_run": self.only_run, "relabelled": self.relabelled, "right": [paired.reference, paired.other],
                "gained": paired.gained, "lost": paired.lost, "difference": paired.difference, "interval": list(paired.interval),
                "level": LEVEL, "method": paired.method, "p": paired.p, "p_corrected": self.p_corrected, "test": paired.test,
                "clear": self.clear, "sentence": self.sentence}  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """Runs in the order given, the first with each of the others, and (stage, setting) -> its value in each run where they differ.

    ``page`` is where the page was written, if it was.
    """

    runs: Sequence[FinishedRun]
    pairs: Sequence[Pair]
    differing: dict[tuple[str, str], Sequence[Any]]
    page: Path | None = None

    @property
    def sentence(self) -> str:
        """What came out, for one pair in full, for several the gist of each."""
        if len(self.pairs) == 1:
            return self.pairs[0].sentence
        gist = "; ".join(filter(None, map(self._standing, _STANDINGS)))
        correction = f"Holm's correction allows for the {len(self.pairs)} comparisons."
        return f"Compared with {self.runs[0].name} on the same test images, {gist}. {correction}"

    def _standing(self, standing: str) -> str:
        """``b (+5.1%) and c (+4.0%) are better``, or nothing where no run is."""
        named = [f"{pair.run} ({percent(pair.paired.difference, '+')}%)" for pair in self.pairs if pair.standing == standing]
        one, many = _STANDINGS[standing]
        return f"{in_words(named)} {one if len(named) == 1 else many}" if named else ""

    def written(self, page: Path) -> Comparison:
        return replace(self, page=page)

    def to_json(self) -> dict[str, Any]:
        return {
            "sentence": self.sentence, "runs": [run.to_json() for run in self.runs], "pairs": [pair.to_json() for pair in self.pairs],
            "differing": [{"stage": stage, "name": name, "values": list(values)} for (stage, name), values in self.differing.items()],
            "page": None if self.page is None else str(self.page),
        }  # fmt: skip


def compare(paths: Sequence[str | Path], *, seed: int = 0) -> Comparison:
    """Finished runs, named by folder or bundle, against the first of them; ``seed`` is that of the resampling, where there is any.

    Raises UsageError and DataError as ``read_runs`` does, and DataError where a run has no test image in common with the first.
    """
    runs = read_runs(paths)
    matched = [_match(runs[0], run) for run in runs[1:]]
    if strangers := [run.name for run, (common, *_) in zip(runs[1:], matched, strict=True) if not common]:
        raise DataError(
            f"{', '.join(strangers)}: no test image in common with {runs[0].name}; compare runs on the same data, or with the same --seed."
        )
    found = [
        paired_difference(np.array([a.right for a, _ in common]), np.array([b.right for _, b in common]), level=LEVEL, seed=seed)
        for common, *_ in matched
    ]
    corrected = holm([paired.p for paired in found])
    pairs = [
        Pair(runs[0].name, run.name, *match, paired, p, len(found), runs[0].task)
        for run, match, paired, p in zip(runs[1:], matched, found, corrected, strict=True)
    ]
    return Comparison(runs, pairs, _differing(runs))


def _match(reference: FinishedRun, run: FinishedRun) -> tuple[list[tuple[Answer, Answer]], int, int, int]:
    """Pairs of answers to the same image; how many images only one of the two has; how many have another truth."""
    theirs = {answer.content_id: answer for answer in reversed(run.answers)}
    ours = {answer.content_id: answer for answer in reversed(reference.answers)}
    both = [content for content in dict.fromkeys(answer.content_id for answer in reference.answers) if content in theirs]
    common = [(ours[content], theirs[content]) for content in both if ours[content].truth == theirs[content].truth]
    return common, len(ours) - len(both), len(theirs) - len(both), len(both) - len(common)


def _differing(runs: Sequence[FinishedRun]) -> dict[tuple[str, str], Sequence[Any]]:
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    values = {("data", "folder"): [str(run.data) for run in runs]} | {key: [run.settings.get(key) for run in runs] for key in keys}
    return {key: found for key, found in values.items() if key not in _NO_DIFFERENCE and any(value != found[0] for value in found)}


def percent(value: float, sign: str = "-") -> str:
    """0.0321 as ``3.2``, or with the sign "+" as ``+3.2``; never ``-0.0``."""
    return f"{round(100 * value, 1) + 0.0:{sign}.1f}"


def in_words(names: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _sentence(pair: Pair) -> str:
    paired = pair.paired
    sign = -1 if paired.difference < 0 else 1
    low, high = sorted(sign * end for end in paired.interval)
    amount, ends = percent(sign * paired.difference), f"{percent(low)} to {percent(high)}%"
    same = f"the same {paired.n} image{'s' if paired.n != 1 else ''}"
    few = f" With only {paired.n} in common this is a rough figure." if paired.n < FEW_IMAGES else ""
    if amount == percent(0):
        return f"{pair.run} and {pair.reference} are right equally often on {same} (95% interval of the difference {ends}).{few}"
    if paired.test.startswith("McNemar"):
        sentence = f"{pair.run} is right on {amount}% {'more' if sign > 0 else 'fewer'} of {same} than {pair.reference}"
    else:
        direction = "above" if sign > 0 else "below"
        measure = measure_of(load_task(pair.task))
        what = f"{MEASURES[measure].promised} of" if measure in SCENES else "mean share that"
        has = "" if measure in SCENES else " has right"
        sentence = f"On {same}, the {what} {pair.run}{has} is {amount}% {direction} that of {pair.reference}"
    return f"{sentence} (95% interval {ends}): that {'is more than' if pair.clear else 'may be'} chance{_because(pair)}.{few}"


def _because(pair: Pair) -> str:
    """The p-value, where the interval alone would say something else."""
    low, high = pair.paired.interval
    if pair.clear == (low > 0 or high < 0):
        return ""
    correction = f", after Holm's correction for {pair.n_pairs} comparisons" if pair.n_pairs > 1 else ""
    return f" ({pair.paired.test}: p = {pair.p_corrected:.2g}{correction})"
