"""Support vector machines on rows of features: fitted for either task, their settings chosen on validation, within a time allowance."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation.multilabel import average_precision, mean_average_precision
from sightline.trust.examples import Material

Floats = NDArray[np.float64]
Setting = Mapping[str, float]
Score = Callable[[Floats], Floats]
"""(m, d) features to (m, k) scores of each label, the larger the likelier."""

# What is tried: strengths C and, of the curved kernel, widths as multiples of one over the features' number. The first is taken where
# there is nothing to choose on.
SETTINGS: dict[str, tuple[Setting, ...]] = {
    "linear": ({"C": 0.01}, {"C": 0.001}, {"C": 0.1}),
    "rbf": ({"C": 10.0, "width": 1.0}, {"C": 1.0, "width": 1.0}, {"C": 10.0, "width": 0.3}, {"C": 10.0, "width": 3.0}),
}
# The first fit is on so many images; it tells how long larger ones take, as time grows with the square of their number.
FIRST_FIT = 300
# Settings are compared on at most so many training images, in this share of the allowance.
MOST_COMPARED, COMPARING_SHARE = 1500, 0.5
# A class that no training image has scores this much below everything else.
FAR_BELOW = 10.0
MOST_STEPS = 2000


@dataclass(frozen=True)
class Machine:
    """A fitted machine, the ``setting`` chosen, on how many images settings were ``compared``, and on how many it was ``fitted``."""

    score: Score
    setting: Setting
    compared: int
    fitted: int


def best_machine(kernel: str, material: Material, labels: int, seconds: float, seed: int) -> Machine:
    """The machine, "linear" or "rbf", with the setting that is best on validation, fitted and asked in about ``seconds``.

    Less images are learned from where all would take longer.
    """
    settings, n, asked = SETTINGS[kernel], len(material.train), len(material.validation)
    started = time.perf_counter()
    used = min(n, FIRST_FIT)
    _reached(kernel, settings[0], material, used, labels, seed)
    took = time.perf_counter() - started
    setting, compared = settings[0], 0
    if asked:
        used = compared = _affordable(used, took, COMPARING_SHARE * seconds / len(settings), min(n, MOST_COMPARED))
        begun = time.perf_counter()
        setting = max(settings, key=lambda setting: _reached(kernel, setting, material, compared, labels, seed))
        took = (time.perf_counter() - begun) / len(settings)
    left = seconds - (time.perf_counter() - started)
    # Test images are asked about as well, and asking takes about as long for each as fitting.
    fitted = _affordable(used, took * (1 + len(material.test) / (asked + used)), left, n)
    return Machine(fit(kernel, setting, material.train[:fitted], material.train_targets[:fitted], labels, seed), setting, compared, fitted)


def _reached(kernel: str, setting: Setting, material: Material, n: int, labels: int, seed: int) -> float:
    """Accuracy, or of tags mean average precision, on validation, of a machine fitted on n training images."""
    score, targets = fit(kernel, setting, material.train[:n], material.train_targets[:n], labels, seed), material.validation_targets
    if not len(targets):
        return 0.0
    scores = score(material.validation)
    if targets.ndim == 1:
        return float((scores.argmax(axis=1) == targets).mean())
    return float(np.nan_to_num(mean_average_precision(average_precision(targets.astype(bool), scores))))


def _affordable(n: int, took: float, seconds: float, most: int) -> int:
    """How many images ``seconds`` are enough for, when n of them ``took`` so long; never less than n."""
    return int(min(most, max(n, n * np.sqrt(max(seconds, 0.0) / max(took, 1e-6)))))


def fit(kernel: str, setting: Setting, train: Floats, targets: NDArray[Any], labels: int, seed: int) -> Score:
    """A machine fitted on features (n, d): one for all classes, targets (n,), or one for each tag, (n, labels) bool."""
    fit_one = _of_classes if targets.ndim == 1 else _of_tags
    return fit_one(lambda: _machine(kernel, setting, train.shape[1], seed), train, targets, labels)


def _of_classes(make: Callable[[], Any], train: Floats, targets: NDArray[Any], labels: int) -> Score:
    machine, present = make(), np.unique(targets)
    _fit_quietly(machine, train, targets)

    def score(features: Floats) -> Floats:
        if not len(features):
            return np.empty((0, labels))
        found = machine.decision_function(features)
        known = np.stack([-found, found], axis=1) if found.ndim == 1 else found
        scores = np.full((len(features), labels), known.min(initial=0.0) - FAR_BELOW)
        scores[:, present] = known
        return scores

    return score


def _of_tags(make: Callable[[], Any], train: Floats, targets: NDArray[Any], labels: int) -> Score:
    """A tag that every training image has, or none, scores the same for every image: its log-odds."""
    machines = {label: make() for label in range(labels) if 0 < targets[:, label].sum() < len(targets)}
    for label, machine in machines.items():
        _fit_quietly(machine, train, targets[:, label])

    def score(features: Floats) -> Floats:
        scores = np.tile(log_odds(targets, labels), (len(features), 1))
        for label, machine in machines.items() if len(features) else ():
            scores[:, label] = machine.decision_function(features)
        return scores

    return score


def log_odds(targets: NDArray[Any], labels: int) -> Floats:
    """(labels,) log-odds of each label's share in targets, (n,) or (n, labels), with half an image added on both sides."""
    counts = targets.sum(axis=0) if targets.ndim > 1 else np.bincount(targets, minlength=labels)
    return np.asarray(np.log((counts + 0.5) / (len(targets) - counts + 0.5)))


def _machine(kernel: str, setting: Setting, features: int, seed: int) -> Any:
    from sklearn.svm import SVC, LinearSVC

    if kernel == "linear":
        return LinearSVC(C=setting["C"], max_iter=MOST_STEPS, random_state=seed)
    return SVC(C=setting["C"], gamma=setting["width"] / features, random_state=seed)


def _fit_quietly(machine: Any, train: Floats, targets: NDArray[Any]) -> None:
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # Steps are bounded for the allowance's sake; a fit that used them all is as good a baseline.
        warnings.simplefilter("ignore", ConvergenceWarning)
        machine.fit(train, targets)
