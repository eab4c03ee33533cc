"""gate, where the data has groups, and where it lies in another order."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import write_shapes
from sightline.auditing.gate import gate
from sightline.config import DataConfig
from sightline.data.decode import Limits
from sightline.data.folder import read_folder
from sightline.data.store import look_once
from sightline.errors import DataError
from sightline.report.sections import data_blocks


@pytest.fixture(scope="module")
def looked(tmp_path_factory):
    """24 shapes, two of them copies and one a copy with another label, with their store."""
    folder = write_shapes(tmp_path_factory.mktemp("gate") / "data", per_class=8)
    shutil.copy(folder / "disc" / "000.png", folder / "disc" / "again.png")
    shutil.copy(folder / "disc" / "000.png", folder / "cross" / "mislabelled.png")
    dataset = read_folder(folder)
    return dataset, look_once(dataset, 32, limits=Limits(), workers=2, limit_bytes=1e9)


def with_columns(looked, groups=None, splits=None):
    """The data set with a column of its own for (class folder, number in it), and its store."""
    dataset, store = looked
    refs = [(ref.path.split("/")[-2], place) for place, ref in enumerate(dataset.refs)]
    columns = {"groups": groups, "splits": splits}
    return dataset.replace(**{name: np.array([of(*ref) for ref in refs]) for name, of in columns.items() if of}), store


def passed(dataset, store, **settings_):
    return gate(dataset, store, DataConfig(**settings_), seed=0)


def test_a_group_that_came_in_two_splits_is_named_everywhere(looked, capsys):
    found = passed(*with_columns(
        looked,
        splits=lambda _, place: ("train", "train", "validation", "test")[place % 4],
        groups=lambda _, place: ("ann", "bob", "bob", "cy")[place % 4] if place < 12 else "",
    ))  # fmt: skip
    assert found.straddling == [("bob", ["train", "validation"])]
    found.announce()
    assert "! The group 'bob' is in train and validation, so the figures will flatter the model." in capsys.readouterr().err.splitlines()
    summary = found.summary()
    assert summary["straddling"] == [{"group": "bob", "splits": ["train", "validation"]}]
    (table,) = [block for block in data_blocks(summary) if block.title == "Groups in more than one split"]
    assert table.rows == [("bob", "train, validation")]


def test_rows_that_came_without_a_split_count_as_training_when_groups_are_compared(looked):
    parts = ("", "", "validation", "test")
    names = ("ann", "bob", "ann", "bob")
    found = passed(*with_columns(looked, splits=lambda _, place: parts[place % 4], groups=lambda _, place: names[place % 4]))
    assert found.straddling == [("ann", ["train", "validation"]), ("bob", ["train", "test"])]


def test_groups_that_reach_into_a_split_that_was_drawn_are_told_as_they_are_in_the_end(looked):
    found = passed(*with_columns(
        looked, splits=lambda _, place: "validation" if place % 4 == 3 else "train", groups=lambda _, place: str(place // 4)
    ))  # fmt: skip
    groups, splits = found.dataset.groups, found.dataset.splits
    parts = {group: set(splits[groups == group]) for group in groups.tolist()}
    assert {group: set(told) for group, told in found.straddling} == {group: of for group, of in parts.items() if len(of) > 1}
    # Every cross is tied to validation, so that some had to be drawn.
    assert {"validation", "test"} in parts.values()


def test_groups_of_a_split_that_is_drawn_never_straddle(looked):
    found = passed(*with_columns(looked, groups=lambda label, place: f"{label}{place // 2}"))
    assert found.straddling == []
    for group in set(found.dataset.groups):
        assert len(set(found.dataset.splits[found.dataset.groups == group])) == 1


def test_a_class_that_lies_in_one_group_is_refused_in_words(looked):
    data = with_columns(looked, groups=lambda label, place: label if label != "cross" else f"{place}")
    with pytest.raises(DataError) as caught:
        passed(*data)
    # The copies tie groups together: a cross, being one of the discs as well, belongs to their group.
    assert str(caught.value) == (
        f"{data[0].root}: class 'disc' has 9 usable images, all in one group; 'square' has 8 usable images, all in one group. Training, "
        "validation and test need one each, so 3 images of different groups at least: add some or remove the class."
    )


@pytest.mark.parametrize("fold", [None, 2])
@settings(max_examples=25)
@given(random=st.randoms(use_true_random=False))
def test_the_order_of_the_data_set_changes_nothing(looked, fold, random):
    dataset, store = with_columns(looked, groups=lambda label, place: f"{label}{place // 2}" if place % 3 else "")
    order = list(range(len(dataset)))
    random.shuffle(order)
    rows = np.array(order)
    config = DataConfig(folds=fold and 3)
    first = gate(dataset, store, config, 0, fold)
    other = gate(dataset.select(rows), store.select(rows), config, 0, fold)
    assert other.dataset.content_ids.tolist() == first.dataset.content_ids.tolist() == sorted(first.dataset.content_ids)
    assert other.dataset.splits.tolist() == first.dataset.splits.tolist()
    assert other.dataset.targets.tolist() == first.dataset.targets.tolist()
    assert (other.names, other.origin, other.copies, other.conflicts) == (first.names, first.origin, first.copies, first.conflicts)
    assert all(np.array_equal(other.store[row], first.store[row]) for row in range(len(first.store)))
