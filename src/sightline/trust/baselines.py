"""Does the network beat what is simpler? The commonest class, and support vector machines on hand-crafted features, on the same images."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation.intervals import wilson_interval
from sightline.evaluation.multilabel import average_precision, mean_average_precision
from sightline.evaluation.paired import bootstrap_interval, paired_difference
from sightline.predictions import Decision
from sightline.tasks import Task
from sightline.trust.examples import MOST, Examples, Material, fair_order, material_of, sample_sizes
from sightline.trust.features import KINDS
from sightline.trust.machines import best_machine, log_odds
from sightline.trust.report_part import ReportPart

FEWEST_TRAIN = 20
# What of the allowance goes into features.
FEATURES_SHARE = 0.5
# Above this, a machine for each pair of classes takes too long.
MOST_CLASSES = 100
MAJORITY, NETWORK = "majority", "network"
KERNELS = ("linear", "rbf")
# In a sentence.
WORDS = {
    MAJORITY: "always giving the same answer",
    "linear": "a linear SVM on hand-crafted features",
    "rbf": "an RBF SVM on hand-crafted features",
}


@dataclass(frozen=True)
class Method:
    """Raw scores (n, k) of a method on the test images, how they become answers, and what was chosen for it."""

    name: str
    logits: NDArray[Any]
    decision: Decision
    chosen: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Judging:
    """The test images that methods are compared on, and the task that judges them."""

    task: Task
    targets: NDArray[Any]
    labels: Sequence[str]

    def decided(self, on_validation: NDArray[Any], targets: NDArray[Any]) -> Decision:
        """How a method's scores become answers: as the network's do, by what is best on validation images."""
        return self.task.decide({"logits": on_validation}, targets, self.labels) if len(targets) else Decision()

    def right(self, method: Method) -> NDArray[np.float64]:
        """(n,) in [0, 1]: whether each image's answer is right, or how much of its tags."""
        outcomes = self.task.outcomes({"logits": method.logits}, self.targets, self.labels, method.decision)
        return np.array([outcome["right"] for outcome in outcomes], np.float64)

    def figures(self, method: Method, network: NDArray[np.float64]) -> dict[str, Any]:
        """What a method reached, and how far the network's ``right`` lies above it."""
        right = self.right(method)
        binary = np.isin(right, (0, 1)).all()
        found = paired_difference(right, network)
        figures = {
            "name": method.name, **method.chosen, "right": float(right.mean()),
            "interval": list(wilson_interval(int(right.sum()), len(right)) if binary else bootstrap_interval(right, resamples=1000)),
        }  # fmt: skip
        if self.targets.ndim > 1:
            precision = mean_average_precision(average_precision(self.targets.astype(bool), method.logits))
            figures["map"] = float(precision) if np.isfinite(precision) else None
        if method.name != NETWORK:
            figures["behind"] = {"difference": found.difference, "interval": list(found.interval), "p": found.p}
        return figures


def baselines(
    train: Examples, validation: Examples, test: Examples, logits: NDArray[Any], decision: Decision, labels: Sequence[str], task: Task,
    *, seconds: float, seed: int,
) -> ReportPart:  # fmt: skip
    """The network against simpler methods, in about ``seconds``.

    logits, decision  what the network gave for the n test images, (n, k), and how that becomes answers

    ``numbers`` has ``n`` test images compared on ``of`` all, the ``samples``' sizes, ``methods`` with the network last, ``beaten``
    (whether the network is clearly better than every other), the ``sentence`` and ``reasons`` for what is not there; or only a ``reason``.
    """
    if not len(test) or not len(train):
        return ReportPart({"reason": "There are no test images or no training images, so nothing can be compared."})
    until = time.perf_counter() + seconds
    parts = {"train": train, "validation": validation, "test": test}
    sizes = sample_sizes(parts, FEATURES_SHARE * seconds)
    missing = _missing(train, sizes, labels)
    kernels = [kernel for kernel in KERNELS if kernel not in missing]
    size = sizes["test"] if kernels else MOST["test"]
    rows = {"test": np.sort(np.random.default_rng(seed).permutation(len(test))[:size])}
    judging = Judging(task, test.targets[rows["test"]], labels)
    methods = [_majority(train, validation, judging)]
    if kernels:
        rows |= {name: fair_order(parts[name].targets, seed)[: sizes[name]] for name in ("train", "validation")}
        methods += _machines(kernels, material_of(parts, rows, seed), judging, until, seed)
    methods.append(Method(NETWORK, logits[rows["test"]], decision))
    return ReportPart({
        "n": len(rows["test"]), "of": len(test), "samples": {name: len(chosen) for name, chosen in rows.items()}, "features": dict(KINDS),
        **_compared(methods, judging), "reasons": list(dict.fromkeys(missing.values())),
    })  # fmt: skip


def _missing(train: Examples, sizes: Mapping[str, int], labels: Sequence[str]) -> dict[str, str]:
    """The kernels that are left out, with the reason."""
    single = train.targets.ndim == 1
    if sizes["train"] < min(FEWEST_TRAIN, len(train)) or not sizes["test"]:
        return dict.fromkeys(KERNELS, "The time allowance was too small for hand-crafted features.")
    if len(np.unique(train.targets, axis=0)) < 2:
        return dict.fromkeys(KERNELS, "All training images have the same label, so hand-crafted features have nothing to tell apart.")
    if single and len(labels) > MOST_CLASSES:
        return {"rbf": f"An RBF SVM was left out: with {len(labels)} classes it would take too long."}
    return {}


def _majority(train: Examples, validation: Examples, judging: Judging) -> Method:
    """What needs no image: how common each label is in training."""
    odds = log_odds(train.targets, len(judging.labels))
    decision = judging.decided(np.tile(odds, (len(validation), 1)), validation.targets)
    return Method(MAJORITY, np.tile(odds, (len(judging.targets), 1)), decision)


def _machines(kernels: Sequence[str], material: Material, judging: Judging, until: float, seed: int) -> list[Method]:
    """A machine of each kernel, done at about the moment ``until``."""
    methods = []
    for place, kernel in enumerate(kernels):
        seconds = (until - time.perf_counter()) / (len(kernels) - place)
        machine = best_machine(kernel, material, len(judging.labels), seconds, seed)
        decision = judging.decided(machine.score(material.validation), material.validation_targets)
        chosen = {"setting": dict(machine.setting), "compared": machine.compared, "fitted": machine.fitted}
        methods.append(Method(kernel, machine.score(material.test), decision, chosen))
    return methods


def _compared(methods: Sequence[Method], judging: Judging) -> dict[str, Any]:
    network = judging.right(methods[-1])
    found = [judging.figures(method, network) for method in methods]
    beaten = all(entry["behind"]["interval"][0] > 0 for entry in found[:-1])
    return {"methods": found, "beaten": beaten, "sentence": _sentence(found, len(network), judging.targets.ndim > 1)}


def _sentence(found: Sequence[Mapping[str, Any]], n: int, tags: bool) -> str:
    """What the comparison comes to."""
    *others, network = found
    nearest = min(others, key=lambda entry: entry["behind"]["interval"][0])
    behind, (low, high) = nearest["behind"]["difference"], nearest["behind"]["interval"]
    what = f"right on {network['right']:.1%} {'of the labels, mean over' if tags else 'of'} {n} test images"
    against = f"{nearest['right']:.1%} with {WORDS[nearest['name']]}"
    distance = f"a difference of {100 * behind:.1f} points (95% interval {100 * low:.1f} to {100 * high:.1f})"
    if low > 0:
        beaten = "simpler methods" if len(others) > 1 else WORDS[nearest["name"]]
        return f"The network clearly beats {beaten}: it is {what}, against {against}, {distance}."
    if high < 0:
        return f"The network is worse than {WORDS[nearest['name']]}: it is {what}, against {against}, {distance}. Do not use it as it is."
    return (
        f"The network does not clearly beat {WORDS[nearest['name']]}: it is {what}, against {against}, {distance}. That may be chance, and "
        "the simpler method may do as well."
    )
