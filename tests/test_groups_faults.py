"""groups: what cannot be compared has its reason, and odd names, values and scores do no harm."""

from __future__ import annotations

import numpy as np
import pytest

from compared_groups import LABELS, attribute, claims, classified, text_of
from sightline.predictions import Decision
from sightline.tasks import load_task
from sightline.trust.groups import groups


@pytest.mark.parametrize("share", [0, 1])
def test_all_right_or_all_wrong(share):
    targets = np.arange(120) % 3
    numbers = classified(np.full(120, bool(share)), targets, {"x": ["u"] * 60 + ["v"] * 60, "y": ["u", "v"] * 60})
    assert numbers["worst_group_recall"] == share
    assert numbers["largest_gap"] == 0
    assert not claims(numbers)
    assert numbers["slices"] == []
    assert "No group was found" in text_of(numbers)


@pytest.mark.parametrize(
    ("n", "attributes", "reason"),
    [
        (100, {}, "Nothing is known of the images that could part them into groups."),
        (5, {"x": list("uuvvv")}, "With 5 test images no two groups of 20 can be compared."),
        (0, {"x": []}, "With 0 test images no two groups of 20 can be compared."),
        (60, {"x": ["u"] * 59 + ["v"], "y": ["u"] * 60}, "No attribute has two groups of at least 20 test images."),
        (60, {"x": [""] * 60}, "No attribute has two groups of at least 20 test images."),
    ],
)
def test_what_cannot_be_compared_has_a_reason_instead_of_figures(n, attributes, reason):
    numbers = classified(np.ones(n, bool), np.arange(n) % 3, attributes)
    assert numbers["reason"] == reason
    assert numbers["worst_group_recall"] is None
    assert numbers["largest_gap"] is None
    assert [entry["attribute"] for entry in numbers["left_out"]] == list(attributes)
    assert "Groups of images were not compared." in text_of(numbers)


def test_scores_that_are_no_numbers_leave_only_calibration_out():
    rng = np.random.default_rng(12)
    targets = np.arange(200) % 3
    outcomes = load_task("classify").outcomes({"logits": rng.normal(0, 3, (200, 3))}, targets, LABELS, Decision())
    for row, outcome in enumerate(outcomes):
        outcome["score"] = float("nan") if row < 100 or row % 2 else outcome["score"]
    columns = {"x": ["u"] * 100 + ["v"] * 100}
    numbers = groups(columns, outcomes, targets, LABELS, [str(row) for row in range(200)]).numbers
    first, second = attribute(numbers, "x")["groups"]
    assert first["calibration"] is None
    assert second["calibration"]["n"] == 50
    assert first["right"] == np.mean([outcome["right"] for outcome in outcomes[:100]])
    text_of(numbers)


def test_images_without_a_value_are_counted_and_not_compared():
    right = np.r_[np.ones(40, bool), np.zeros(40, bool), np.ones(40, bool)]
    numbers = classified(right, np.arange(120) % 3, {"x": ["u"] * 40 + [" "] * 40 + ["v"] * 40})
    found = attribute(numbers, "x")
    assert (found["n"], found["not_given"]) == (80, 40)
    assert [group["group"] for group in found["groups"]] == ["u", "v"]
    assert not found["gap"]["real"]
    assert numbers["largest_gap"] == 0


def test_strange_names_and_very_many_values():
    rng = np.random.default_rng(13)
    n = 2000
    odd = np.array(["<script>alert(1)</script>", "a{b}%s", "\u202egnp.exe", "x" * 400])[rng.integers(0, 4, n)]
    many = rng.permutation(np.arange(n) % 1000).astype(str)
    targets = rng.integers(0, 3, n)
    numbers = classified(rng.random(n) < np.where(odd == odd[0], 0.7, 0.9), targets, {'a "quoted" & <b>': odd, "many": many})
    assert numbers["left_out"] == [{"attribute": "many", "reason": "none of its 1000 values has enough images"}]
    text = text_of(numbers)
    assert "<script>" not in text
    assert "\u202e" not in text


def test_many_groups_too_small_are_counted():
    rng = np.random.default_rng(14)
    column = ["large"] * 50 + ["other"] * 50 + [f"small {i}" for i in range(200)]
    numbers = classified(rng.random(300) < 0.9, rng.integers(0, 3, 300), {"x": column})
    found = attribute(numbers, "x")
    assert len(found["too_small"]) + found["more_too_small"] == 200
    assert "and 196 more." in text_of(numbers)


def test_the_same_seed_gives_the_same_numbers():
    rng = np.random.default_rng(15)
    right, targets, columns = rng.random(300) < 0.8, rng.integers(0, 3, 300), {"x": rng.choice(["u", "v", "w"], 300)}
    assert classified(right, targets, columns, seed=5) == classified(right, targets, columns, seed=5)
