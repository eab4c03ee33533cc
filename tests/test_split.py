"""split: whole units, each class in its share, and what came split stays so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sightline.data.split import split
from sightline.errors import DataError
from sightline.records import SPLITS, Dataset, ImageRef


def dataset(targets, groups=None, splits=None) -> Dataset:
    targets = np.asarray(targets, np.int64)
    return Dataset(
        Path("data"), "classify", tuple("abcdefgh"[: targets.max() + 1]), [ImageRef(f"{row}.png") for row in range(len(targets))], targets,
        splits=None if splits is None else np.array(splits), groups=None if groups is None else np.array(groups),
    )  # fmt: skip


def drawn(data, links=(), *, validation=0.15, test=0.15, seed=0):
    return split(data, list(links), validation=validation, test=test, seed=seed)[0]


def refusal(data, links=()) -> str:
    with pytest.raises(DataError) as caught:
        drawn(data, links)
    return str(caught.value)


@st.composite
def tied(draw, *, one_class_a_unit=False):
    """Up to three classes, groups, and links between rows; with ``one_class_a_unit`` ties stay within a class."""
    targets = np.repeat(np.arange(3)[: draw(st.integers(1, 3))], draw(st.integers(6, 12)))
    rows = st.integers(0, len(targets) - 1)
    links = draw(st.lists(st.tuples(rows, rows), max_size=10))
    names = draw(st.lists(st.sampled_from(["", "", *"uvwxyz"]), min_size=len(targets), max_size=len(targets)))
    if one_class_a_unit:
        links = [(a, b) for a, b in links if targets[a] == targets[b]]
        names = [f"{name}{label}" if name else "" for name, label in zip(names, targets, strict=True)]
    return dataset(targets, groups=names), links


def units_of(data, links) -> np.ndarray:
    """The number of each row's unit, found by spreading the smallest row number until nothing changes."""
    unit = np.arange(len(data))
    ties, groups = list(links), [] if data.groups is None else data.groups.tolist()
    ties += [(row, groups.index(group)) for row, group in enumerate(groups) if group]
    for _ in range(len(data)):
        before = unit.copy()
        for a, b in ties:
            unit[[a, b]] = unit[[a, b]].min()
        if (unit == before).all():
            break
    return unit


def units_a_class(data, unit) -> list[int]:
    return [len(np.unique(unit[data.targets == label])) for label in range(len(data.labels))]


# ---- drawn -----------------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(tied(), st.integers(0, 3), st.floats(0.05, 0.45), st.floats(0.05, 0.45))
def test_groups_and_links_never_straddle_and_every_class_is_in_train(case, seed, validation, test):
    data, links = case
    unit = units_of(data, links)
    assume(min(units_a_class(data, unit)) >= 3)
    parts = drawn(data, links, validation=validation, test=test, seed=seed).splits
    assert set(parts) <= set(SPLITS)
    for number in np.unique(unit):
        assert len(set(parts[unit == number])) == 1
    assert set(data.targets[parts == "train"]) == set(data.targets)


@settings(max_examples=60)
@given(tied(one_class_a_unit=True), st.integers(0, 3), st.floats(0.05, 0.4), st.floats(0.05, 0.4))
def test_every_class_is_in_every_split_with_its_share_to_within_a_unit(case, seed, validation, test):
    data, links = case
    unit = units_of(data, links)
    assume(min(units_a_class(data, unit)) >= 3)
    result = drawn(data, links, validation=validation, test=test, seed=seed)
    for label in range(len(data.labels)):
        mine = data.targets == label
        largest = np.bincount(unit[mine]).max()
        for name, share in (("validation", validation), ("test", test)):
            count = np.count_nonzero(mine & (result.splits == name))
            assert count >= 1
            assert abs(count - share * mine.sum()) <= largest + 0.5
        assert (mine & (result.splits == "train")).any()


@pytest.mark.parametrize("share", [0.1, 0.15, 0.25, 0.4])
def test_without_ties_the_share_of_each_class_is_exact(share):
    data = dataset(np.repeat([0, 1, 2], [20, 100, 1000]))
    parts = drawn(data, validation=share, test=share).splits
    for label, count in enumerate((20, 100, 1000)):
        for name in ("validation", "test"):
            assert np.count_nonzero(parts[data.targets == label] == name) == round(share * count)


def test_three_images_a_class_go_one_to_each_split():
    parts = drawn(dataset([0, 0, 0, 1, 1, 1]), validation=0.5, test=0.5).splits
    assert sorted(parts[:3]) == sorted(parts[3:]) == ["test", "train", "validation"]


@pytest.mark.parametrize("seed", range(8))
def test_a_unit_that_holds_most_of_a_class_stays_in_training(seed):
    data = dataset([0] * 60 + [1] * 60, groups=["big"] * 50 + [f"g{i}" for i in range(10)] + [""] * 60)
    parts = drawn(data, seed=seed).splits
    assert set(parts[:50]) == {"train"}
    assert set(parts[50:60]) == {"validation", "test"}


def test_a_class_of_three_uneven_units_keeps_the_largest_in_training():
    data = dataset([0] * 30 + [1] * 30, groups=["big"] * 20 + ["mid"] * 9 + ["one"] + [""] * 30)
    parts = drawn(data).splits
    assert (parts[0], {parts[20], parts[29]}) == ("train", {"validation", "test"})


def test_the_same_seed_gives_the_same_split_and_another_seed_another():
    data = dataset(np.repeat([0, 1], 50))
    assert (drawn(data, seed=7).splits == drawn(data, seed=7).splits).all()
    assert (drawn(data, seed=7).splits != drawn(data, seed=8).splits).any()


def test_the_origin_says_seed_and_counts():
    _, origin = split(dataset([0] * 10 + [1] * 10), [], validation=0.2, test=0.1, seed=5)
    assert origin == "Drawn at random within each class (seed 5): 14 train, 4 validation, 2 test; copies stay on one side."


def test_a_hundred_thousand_images_are_split_without_comparing_them_all():
    data = dataset(np.arange(100_000) % 8)
    parts = drawn(data).splits
    assert [np.count_nonzero(parts == name) for name in SPLITS] == [70_000, 15_000, 15_000]


# ---- came split ------------------------------------------------------------------------------------------------------


def test_what_came_split_stays_even_where_copies_straddle():
    splits = ["train", "validation", "test"] * 4
    data = dataset([0, 0, 0, 1, 1, 1] * 2, splits=splits)
    result, origin = split(data, [(0, 1), (0, 2)], validation=0.2, test=0.2, seed=0)
    assert result.splits.tolist() == splits
    assert "what came split stays so" in origin
    assert "drawn" not in origin


@pytest.mark.parametrize(("given", "missing"), [("test", "validation"), ("validation", "test")])
def test_a_split_that_is_missing_is_drawn_from_training(given, missing):
    splits = np.array((["train"] * 20 + [given] * 5) * 2)
    data = dataset([0] * 25 + [1] * 25, splits=splits)
    result, origin = split(data, [(0, 1), (2, 3), (4, 5)], validation=0.2, test=0.2, seed=0)
    assert (result.splits[splits == given] == given).all()
    assert [np.count_nonzero(result.splits[:25] == name) for name in ("train", given, missing)] == [16, 5, 4]
    assert all(result.splits[a] == result.splits[a + 1] for a in (0, 2, 4))
    assert f"The {missing} images were drawn at random within each class (seed 0) from training." in origin


@pytest.mark.parametrize("tie", ["copies", "groups"])
@pytest.mark.parametrize(("given", "missing"), [("test", "validation"), ("validation", "test")])
def test_what_is_tied_to_the_other_held_out_part_is_not_drawn(given, missing, tie):
    splits = np.array((["train"] * 20 + [given] * 8) * 2)
    held = [(start + row, start + 20 + row) for start in (0, 28) for row in range(8)]
    groups = np.full(56, "", "<U4")
    for number, pair in enumerate(held):
        groups[list(pair)] = f"g{number}"
    data = dataset([0] * 28 + [1] * 28, splits=splits, groups=groups if tie == "groups" else None)
    for seed in range(5):
        parts = drawn(data, held if tie == "copies" else (), validation=0.4, test=0.4, seed=seed).splits
        assert set(parts[[row for row, _ in held]]) == {"train"}
        assert [np.count_nonzero(parts[start : start + 28] == missing) for start in (0, 28)] == [8, 8]


def test_where_all_images_of_a_label_are_tied_to_the_other_held_out_part_the_smallest_unit_is_drawn():
    splits = ["train"] * 20 + ["train"] * 5 + ["validation"] * 2
    data = dataset([0] * 20 + [1] * 7, splits=splits)
    parts = drawn(data, [(20, 25), (21, 25), (22, 25), (23, 26), (24, 26)]).splits
    assert parts[20:].tolist() == ["train"] * 3 + ["test"] * 2 + ["validation"] * 2
    assert np.count_nonzero(parts[:20] == "test") == 3


def test_where_most_images_are_tied_to_the_other_held_out_part_the_share_is_filled_with_them():
    """As where each patient has images in training and in test: a handful of validation images would say nothing."""
    groups = [f"g{row % 50}" for row in range(200)]
    data = dataset([0, 1] * 100, groups=groups, splits=["train"] * 150 + ["test"] * 50)
    assert np.count_nonzero(drawn(data, validation=0.2).splits == "validation") == 30


def test_validation_and_test_are_shares_of_what_came_as_training():
    data = dataset([0] * 100 + [1] * 100, splits=["train"] * 200)
    parts = drawn(data, validation=0.3, test=0.3).splits
    assert [np.count_nonzero(parts == name) for name in SPLITS] == [80, 60, 60]


def test_a_class_with_a_single_training_image_keeps_it():
    data = dataset([0] * 10 + [1, 0, 1], splits=["train"] * 11 + ["test"] * 2)
    parts = drawn(data).splits
    assert parts[10] == "train"
    assert "validation" in parts[:10]


def test_rows_without_a_split_count_as_training():
    parts = drawn(dataset([0, 1] * 5, splits=["train", "train", "", "", "", "", "test", "test", "validation", "validation"])).splits
    assert parts[2:6].tolist() == ["train"] * 4


# ---- refusals --------------------------------------------------------------------------------------------------------


def test_a_class_absent_from_training_is_named_with_where_it_was_found():
    data = dataset([0, 0, 1, 1, 2], splits=["train", "test", "validation", "test", "test"])
    assert refusal(data) == (
        "data: training has no usable image of class 'b' (found in test and validation), 'c' (found in test), so it could never be "
        "learned: add training images of it, or remove its folders."
    )


def test_no_training_images_at_all():
    text = refusal(dataset([0, 1], splits=["test", "test"]))
    assert text == "data: the data came split but has no training images; add some."


@pytest.mark.parametrize("splits", [None, "train"])
def test_every_class_with_fewer_than_three_different_images_is_named(splits):
    targets = [0, 0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3]
    data = dataset(targets, splits=None if splits is None else [splits] * len(targets))
    text = refusal(data, [(6, 7), (9, 10), (10, 11), (9, 12)])
    assert "'b' has 2 usable images; 'c' has 3 usable images, of which 1 copy; 'd' has 5 usable images, of which 3 copies" in text
    assert "'a'" not in text
    assert "3 different images at least" in text


def test_training_that_is_too_small_to_draw_what_is_missing_from():
    text = refusal(dataset([0, 1, 0, 1], splits=["train", "train", "test", "test"]))
    assert text == "data: training has too few different images of every class to draw validation images from; add some."
