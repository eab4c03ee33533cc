"""A budget is read, counted from the start of the process, and keeps what follows training."""

from __future__ import annotations

import math
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.config import TrialConfig
from sightline.errors import UsageError
from sightline.training.budget import CAUTION, Budget, parse_budget, process_start, spoken
from sightline.training.shipping import KNOWN_SHARE, trial_seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("90", 90),
        ("10m", 600),
        ("1.5h", 5400),
        ("1h30m", 5400),
        ("1h 5s".replace(" ", ""), 3605),
        (" 2M ", 120),
        ("1m30s", 90),
    ],
)
def test_times_are_read(text, seconds):
    assert parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "10 minutes", "-5m", "m", "1.2.3s", "5m2h", "nan", "inf"])
def test_what_is_no_time_is_refused_with_an_example(text):
    with pytest.raises(UsageError, match="give a time such as 90s, 10m or 1h30m"):
        parse_budget(text)


def test_a_time_too_short_for_anything_is_refused():
    with pytest.raises(UsageError, match="--budget 3s: give at least 10 seconds"):
        parse_budget("3s")


@given(st.integers(10, 10**6))
def test_seconds_are_read_as_written(seconds):
    assert parse_budget(f"{seconds}s") == parse_budget(f"{seconds // 3600}h{seconds % 3600 // 60}m{seconds % 60}s") == seconds


def test_what_is_left_is_less_what_was_spent_and_what_is_kept():
    budget = Budget(100, started=time.monotonic() - 20)
    assert budget.left() == pytest.approx(80, abs=1)
    assert budget.after(30).left() == pytest.approx(50, abs=1)
    assert budget.keeping(10).left() == pytest.approx(80 - CAUTION * 10, abs=1)
    assert budget.limited


def test_without_a_budget_there_is_always_time():
    assert Budget().left() == math.inf
    assert not Budget().limited


def test_a_process_knows_when_it_was_started():
    before = time.monotonic()
    code = "import time; time.sleep(1); from sightline.training.budget import process_start; print(time.monotonic() - process_start())"
    age = float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert 1 <= age <= time.monotonic() - before + 0.1
    assert process_start() < before


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 s"), (45.4, "45 s"), (60, "1 min"), (125, "2 min 5 s"), (3600, "1 h"), (5410, "1 h 30 min")]
)
def test_lengths_of_time_are_spoken(seconds, words):
    assert spoken(seconds) == words


@pytest.mark.parametrize(("seconds", "allowed"), [(10, 5), (100, 12), (math.inf, 60)])
def test_training_images_are_known_as_well_without_a_trial_as_with_one(seconds, allowed):
    budget = Budget(seconds, started=time.monotonic() - 10_000)
    assert trial_seconds(budget, TrialConfig()) == pytest.approx(allowed)
    assert trial_seconds(budget, TrialConfig(trial=False)) == pytest.approx(KNOWN_SHARE * allowed)
