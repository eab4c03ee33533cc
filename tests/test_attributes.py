"""attributes: what is known of images, from the data and from the facts, as texts that part them into groups."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np

from compared_groups import LABELS, classified
from sightline.data.store import Facts
from sightline.records import Dataset, ImageRef
from sightline.trust.attributes import as_texts, attributes_of


def facts_of(n: int, **columns) -> Facts:
    empty = {
        entry.name: np.full(n, "") if entry.type == "Texts" else np.zeros((n, 2) if entry.name == "border" else n)
        for entry in fields(Facts)
    }
    return Facts(**{**empty, **{name: np.asarray(column) for name, column in columns.items()}})


def dataset_of(n: int, groups=None, **attributes) -> Dataset:
    refs = [ImageRef(f"/data/{row}.png") for row in range(n)]
    return Dataset(Path("/data"), "classify", LABELS, refs, np.zeros(n, np.int64), groups=groups, attributes=attributes)


def test_attributes_come_from_the_data_and_from_the_facts():
    n = 90
    facts = facts_of(
        n,
        brightness=np.linspace(0.1, 0.9, n),
        width=np.r_[np.full(45, 200), np.full(45, 400)].astype(np.int64),
        height=np.full(n, 100, np.int64),
        camera=["Canon"] * 30 + [""] * 60,
        taken=["2024-05-01T23:30:00", "2024-05-01T04:59:59", "2024-05-01T05:00:00", "2024-05-01T12:00:00", "2024-05-01T17:00:00", ""] * 15,
    )
    ward = np.array(["A", "B"] * 45)
    found = attributes_of(dataset_of(n, groups=np.array(["p1", "p2", "p3"] * 30), ward=ward), facts, np.arange(n))
    assert list(found) == ["ward", "group", "brightness", "image size", "camera", "hour of capture"]
    assert found["ward"] == ward.tolist()
    assert found["group"][:3] == ["p1", "p2", "p3"]
    assert [found["brightness"].count(part) for part in dict.fromkeys(found["brightness"])] == [30, 30, 30]
    assert (found["brightness"][0], found["brightness"][-1]) == ("dark (up to 37% of white)", "bright (over 63% of white)")
    assert (found["image size"][0], found["image size"][-1]) == ("small (up to 20,000 pixels)", "large (over 20,000 pixels)")
    assert found["camera"] == ["Canon"] * 30 + [""] * 60
    assert [hour.split(" ")[0] for hour in found["hour of capture"][:6]] == ["night", "night", "morning", "day", "evening", ""]


def test_only_the_rows_asked_for_are_described():
    facts = facts_of(6, brightness=[0.0, 0.5, 1.0, 0.2, 0.5, 0.8])
    found = attributes_of(dataset_of(6, ward=np.array(list("abcdef"))), facts, np.array([5, 3, 4]))
    assert found["ward"] == ["f", "d", "e"]
    assert [text.split(" ")[0] for text in found["brightness"]] == ["bright", "dark", "middle"]
    assert all(len(column) == 0 for column in attributes_of(dataset_of(6), facts, np.empty(0, np.int64)).values())


def test_a_fact_does_not_take_the_place_of_a_column():
    found = attributes_of(dataset_of(2, Camera=np.array(["c", "d"])), facts_of(2, camera=["x", "y"]), np.arange(2))
    assert found["Camera"] == ["c", "d"]
    assert found["camera (measured)"] == ["x", "y"]


def test_facts_that_are_the_same_everywhere_are_named_as_such():
    n = 60
    facts = facts_of(n, brightness=np.full(n, 0.5), width=np.full(n, 32, np.int64), height=np.full(n, 32, np.int64))
    found = attributes_of(dataset_of(n), facts, np.arange(n))
    numbers = classified(np.ones(n, bool), np.arange(n) % 3, found)
    assert {entry["attribute"]: entry["reason"] for entry in numbers["left_out"]} == {
        "brightness": "every image has the same value, '50% of white'",
        "image size": "every image has the same value, '1,024 pixels'",
        "camera": "no image has a value",
        "hour of capture": "no image has a value",
    }


def test_many_different_numbers_become_bands():
    ages = np.r_[np.arange(17, 91), np.nan, np.arange(17, 91)].astype(np.float64)
    found = as_texts(ages)
    assert found[74] == ""
    assert list(dict.fromkeys(text for text in found if text)) == ["17 to 35", "36 to 53", "54 to 72", "73 to 90"]
    assert found[0] == found[18] == "17 to 35"
    fine = as_texts(np.r_[np.linspace(1.00001, 1.00002, 50), np.nan])
    assert len(set(fine)) == 5


def test_few_different_numbers_stay_as_they_are():
    assert as_texts(np.array([1.0, 2.0, np.nan, 2.5, np.inf])) == ["1", "2", "", "2.5", ""]
    assert as_texts(np.array([True, False])) == ["yes", "no"]
    assert as_texts(np.array(["a", None, 3, float("nan")], object)) == ["a", "", "3", ""]
    # Most are the same: what is left of the four bands.
    assert set(as_texts(np.r_[np.zeros(80), np.arange(1, 21)])) == {"0", "1 to 20"}


def test_whole_numbers_that_are_all_different_are_names():
    assert as_texts(np.arange(1000, 1100)) == [str(number) for number in range(1000, 1100)]


def test_facts_with_errors_have_zeros_and_do_no_harm():
    facts = replace(facts_of(3), width=np.array([0, 10, 10]), height=np.array([0, 10, 10]))
    assert attributes_of(dataset_of(3), facts, np.arange(3))["image size"][0].startswith("small (up to 0 pixels")
