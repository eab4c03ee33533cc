"""What a model has to reach before it may be used: ``--require "accuracy>=0.9, ece<=0.05"`` read, and held against a report.

A requirement whose figure could not be measured is not met: whoever asks for it wants to know, not to hope.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sightline.errors import ConfigError, RequirementNotMet, did_you_mean
from sightline.figures import FIGURES

RELATIONS = {">=": "at least", ">": "more than", "<=": "at most", "<": "less than"}
# Means of shares are exact to about this; 0.9 reached as 0.8999999999999999 is reached.
ROUNDING = 1e-9

_PART = re.compile(r"\s*(?P<name>[^<>=!≤≥]*?)\s*(?P<relation>[<>=!≤≥]+)\s*(?P<bound>.*?)\s*", re.DOTALL)
_NUMBER = re.compile(r"(?P<digits>[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?)\s*(?P<percent>%?)")


@dataclass(frozen=True)
class Requirement:
    """A figure's name, one of ``RELATIONS`` and the bound, a share such as 0.9."""

    metric: str
    relation: str
    bound: float

    def __str__(self) -> str:
        """As it is written in ``--require``."""
        return f"{self.metric}{self.relation}{self.bound!r}"

    @property
    def is_floor(self) -> bool:
        """Whether the figure must not be lower than the bound."""
        return self.relation.startswith(">")

    def holds(self, value: float) -> bool:
        """Whether a figure is as required; what is equal but for rounding is equal."""
        above = value - self.bound if self.is_floor else self.bound - value
        return above >= -ROUNDING if self.relation.endswith("=") else above > ROUNDING


@dataclass(frozen=True)
class Verdict:
    """A requirement held against what was measured: ``reached`` is None where nothing was, and then it is not met."""

    requirement: Requirement
    reached: float | None
    met: bool
    sentence: str

    def to_json(self) -> dict[str, Any]:
        asked = self.requirement
        return {"metric": asked.metric, "relation": asked.relation, "bound": asked.bound, "reached": self.reached, "met": self.met,
                "sentence": self.sentence}  # fmt: skip


def parse(text: str) -> tuple[Requirement, ...]:
    """Requirements from ``"accuracy>=0.9, ece<=5%"``; ConfigError, a UsageError, with every mistake in it."""
    parts = [part for part in text.split(",") if part.strip()]
    if not parts:
        raise ConfigError(['--require is empty; write what the model has to reach, such as --require "accuracy>=0.9, ece<=0.05".'])
    found, problems = [], []
    for part in parts:
        requirement, wrong = _parsed(part)
        problems += wrong
        if requirement is not None:
            found.append(requirement)
    problems += _clashes(found)
    if problems:
        raise ConfigError(problems)
    return tuple(found)


def check_task(requirements: Sequence[Requirement], task: str, n_labels: int) -> None:
    """Refuse figures that a task, or so few labels, will never have; ConfigError with all of them, to be asked before training begins."""
    known = [name for name, figure in FIGURES.items() if task in figure.tasks and (name != "top5" or n_labels > 5)]
    problems = [
        f"--require {asked}: the task {task} of {n_labels} labels has no {asked.metric}; it has {', '.join(known)}."
        for asked in requirements
        if asked.metric not in known
    ]
    if problems:
        raise ConfigError(problems)


def _parsed(part: str) -> tuple[Requirement | None, list[str]]:
    """One requirement, or what is wrong with its text."""
    said = part.strip()
    match = _PART.fullmatch(part)
    if match is None:
        hint = " A shell takes an unquoted > or < for itself: quote the whole text." if said in FIGURES else ""
        return None, [f"--require: {said!r} is no requirement; write a name, a relation and a number, such as accuracy>=0.9.{hint}"]
    name, relation, bound = match.group("name", "relation", "bound")
    problems = []
    if name not in FIGURES:
        near = did_you_mean(name.lower().replace("-", "_"), FIGURES) or f" There are {', '.join(FIGURES)}."
        problems.append(f"--require {said}: there is no figure {name!r}.{near}")
    if relation not in RELATIONS:
        problems.append(f"--require {said}: {relation!r} is none of the relations {', '.join(RELATIONS)}.")
    number = _NUMBER.fullmatch(bound)
    if number is None:
        problems.append(f"--require {said}: {bound!r} is no number; write a share such as 0.9 or 90%.")
    if problems or number is None:
        return None, problems
    asked = Requirement(name, relation, float(Decimal(number["digits"]) / (100 if number["percent"] else 1)) + 0.0)
    impossible = _impossible(asked)
    return (None, [impossible]) if impossible else (asked, [])


def _impossible(asked: Requirement) -> str | None:
    """Why no model can do as asked."""
    figure = FIGURES[asked.metric]
    best = figure.high if asked.is_floor else figure.low
    if figure.low <= asked.bound <= figure.high and (asked.bound != best or asked.relation.endswith("=")):
        return None
    percent = f" Did you mean {asked.bound:g}%?" if figure.high < asked.bound <= 100 else ""
    return f"--require {asked}: no model can do that, as {asked.metric} lies between {figure.low:g} and {figure.high:g}.{percent}"


def _clashes(asked: Sequence[Requirement]) -> list[str]:
    """Figures bounded twice from one side, or from both sides so that nothing is left between."""
    problems = []
    for metric in dict.fromkeys(requirement.metric for requirement in asked):
        floors, ceilings = ([one for one in asked if one.metric == metric and one.is_floor is floor] for floor in (True, False))
        problems += [
            f"--require has {metric} more than once: {' and '.join(map(str, same))}; leave one."
            for same in (floors, ceilings)
            if len(same) > 1
        ]
        problems += [
            f"--require contradicts itself: nothing is both {floor} and {ceiling}."
            for floor in floors
            for ceiling in ceilings
            if not (floor.bound < ceiling.bound or (floor.bound == ceiling.bound and (floor.relation, ceiling.relation) == (">=", "<=")))
        ]
    return problems


def figures_of(report: Mapping[str, Any]) -> dict[str, float | None]:
    """Every figure that can be required, from ``report.json``'s dictionary; None for what it does not have."""
    seen = {**report, **_derived(report)}
    return {name: _number(at(seen, *figure.place)) for name, figure in FIGURES.items()}


def intervals_of(report: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """The 95% intervals of the figures that the report has one for."""
    seen = {**report, **_derived(report)}
    found = {name: at(seen, *figure.interval) for name, figure in FIGURES.items() if figure.interval}
    return {name: (float(interval[0]), float(interval[1])) for name, interval in found.items() if interval is not None}


def reasons_of(report: Mapping[str, Any]) -> dict[str, str]:
    """For figures that the report does not have, its own words on why not, where there are any."""
    found = {}
    for name, figure in FIGURES.items():
        reasons = [at(report, *figure.place[:depth], "reason") for depth in range(len(figure.place) - 1, 0, -1)]
        said = [reason for reason in reasons if isinstance(reason, str)]
        if said:
            found[name] = said[0].strip().removeprefix("Not measured: ").rstrip(".")
    return found


def at(report: Mapping[str, Any], *place: str) -> Any:
    """What stands at a place of ``report.json``; None where the way to it ends before."""
    found: Any = report
    for name in place:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _derived(report: Mapping[str, Any]) -> dict[str, Any]:
    """The sections whose figures are the worst of several, with that figure: the weakest class that has test images, the strongest of
    the simpler methods."""
    classes = at(report, "test", "classes") or at(report, "test", "labels") or ()
    recalls = [entry["recall"] for entry in classes if entry.get("n") and entry.get("recall") is not None]
    behind = [found for method in at(report, "baselines", "methods") or () if (found := at(method, "behind"))]
    nearest: Mapping[str, Any] = min(behind, key=lambda found: found["difference"], default={})
    return {
        "test": {**(report.get("test") or {}), "worst_class_recall": min(recalls, default=None)},
        "baselines": {"margin": nearest.get("difference"), "margin_interval": nearest.get("interval")},
    }


def _number(value: Any) -> float | None:
    """A finite number, or None: what is not finite was not measured."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None


def checked(
    requirements: Sequence[Requirement],
    figures: Mapping[str, float | None],
    reasons: Mapping[str, str] = MappingProxyType({}),
    intervals: Mapping[str, tuple[float, float]] = MappingProxyType({}),
) -> list[Verdict]:
    """Each requirement held against its figure, in the order asked. The figure decides; how far its interval reaches is said."""
    verdicts = []
    for asked in requirements:
        reached = _number(figures.get(asked.metric))
        if reached is None:
            why = f" ({reasons[asked.metric]})" if asked.metric in reasons else ""
            verdicts.append(Verdict(asked, None, False, f"{asked.metric} could not be measured{why}, so it is not met"))
        else:
            met = asked.holds(reached)
            verdicts.append(Verdict(asked, reached, met, _compared(asked, reached, met, intervals.get(asked.metric))))
    return verdicts


def _compared(asked: Requirement, reached: float, met: bool, interval: tuple[float, float] | None) -> str:
    """The figure beside the bound, in so many digits that they can be told apart."""
    kind = "f" if counts(asked.metric) else "%"
    digits = next((digits for digits in (1, 2, 3, 4) if f"{reached:.{digits}{kind}}" != f"{asked.bound:.{digits}{kind}}"), 1)
    sentence = f"{asked.metric} is {reached:.{digits}{kind}}"
    if interval is not None:
        sentence += f" (95% interval {interval[0]:.1%} to {interval[1]:.1%})"
    sentence += f", {bound_text(asked)} as required" if met else f", while {bound_text(asked)} is required"
    if interval is not None and met and not asked.holds(interval[0] if asked.is_floor else interval[1]):
        sentence += "; by its interval other images of the same kind may miss that"
    return sentence


def counts(metric: str) -> bool:
    """Whether a figure is a number of objects, and no share."""
    return math.isinf(FIGURES[metric].high)


def bound_text(asked: Requirement) -> str:
    """``>=`` and 0.9 as ``at least 90%``; of a number of objects ``at most 0.5``."""
    bound = f"{asked.bound:.10g}" if counts(asked.metric) else f"{asked.bound * 100:.10g}%"
    return f"{RELATIONS[asked.relation]} {bound}"


def summary(verdicts: Sequence[Verdict]) -> str:
    """Whether the requirements are met: those that are not with their figures, and what can be done."""
    failed = [verdict for verdict in verdicts if not verdict.met]
    if not failed:
        return f"The model meets {'its requirement' if len(verdicts) == 1 else f'all {len(verdicts)} requirements'}."
    which = "its requirement" if len(verdicts) == 1 else f"{len(failed)} of {len(verdicts)} requirements"
    figures = "; ".join(verdict.sentence for verdict in failed)
    advice = "; ".join(dict.fromkeys(FIGURES[verdict.requirement.metric].advice for verdict in failed))
    return f"The model does not meet {which}: {figures}. To meet {'it' if len(failed) == 1 else 'them'}: {advice}; or require less."


def refuse_unmet(section: Mapping[str, Any], model: Path, done: Any = None) -> None:
    """Once everything is ``done``: RequirementNotMet with it, where the report's ``requirements`` section says that one was missed."""
    if section and not section["met"]:
        raise RequirementNotMet(f"{section['sentence']} It is kept, marked as unfit, with its report beside it: {model}", done)
