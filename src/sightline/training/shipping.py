"""How long what follows training will take: reading, export, test and report."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from sightline.config import TrialConfig
from sightline.data.decode import Limits, decode
from sightline.data.prepare import Prepare
from sightline.records import Dataset
from sightline.training.budget import Budget
from sightline.training.session import Session

# The exporter's time for a small network, and for how many parameters it takes a second longer.
EXPORT_SECONDS, PARAMETERS_A_SECOND = 7.0, 20e6
# What judging an image with the bundle takes at most of a forward pass of the trained network; reading it is counted apart.
JUDGING = 1.5
# What the trial (harder conditions, baselines, explanations) may take of a run, and in seconds at least and at most.
TRIAL_SHARE, LEAST_TRIAL_SECONDS, MOST_TRIAL_SECONDS = 0.12, 5.0, 60.0
# The share of it that goes to embeddings of training images, beside which new images are held; without a trial these have as much.
KNOWN_SHARE = 0.15
TIMED_FILES = 12


def shipping_seconds(session: Session, forward: float) -> float:
    """Seconds from the trained network to the finished report, where a forward pass takes ``forward`` seconds an image."""
    n_calibration, n_test = session.to_judge
    parameters = sum(parameter.numel() for parameter in session.network.parameters())
    judging = n_calibration * (session.read_seconds + forward) + n_test * (session.read_seconds + JUDGING * forward)
    return EXPORT_SECONDS + parameters / PARAMETERS_A_SECOND + judging


def trial_seconds(budget: Budget, trial: TrialConfig) -> float:
    """What the trial of the trained network may take: a share of the budget or, without one, of the time until now; where there is no
    trial, only what of it goes to training images' embeddings."""
    seconds = min(MOST_TRIAL_SECONDS, max(LEAST_TRIAL_SECONDS, TRIAL_SHARE * (budget.seconds if budget.limited else budget.elapsed())))
    return seconds if trial.trial else KNOWN_SHARE * seconds


def read_seconds(dataset: Dataset, prepare: Prepare, limits: Limits) -> float:
    """Seconds from a test image's file to the network's input, the median of some; the mean of the windows of one picture."""
    test, taken = dataset.of_split("test").refs, []
    whole = replace(test[0], window=None)
    of_one = [ref for ref in test if ref.window and replace(ref, window=None) == whole]
    for ref in of_one or test[:: max(1, len(test) // TIMED_FILES)]:
        started = time.perf_counter()
        prepare(decode(ref, min_side=prepare.min_side, limits=limits, reading=prepare.reading))
        taken.append(time.perf_counter() - started)
    return float(np.mean(taken) if of_one else np.median(taken))
