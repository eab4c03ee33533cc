"""records: columns stay together, selections keep labels, and the fingerprint depends on what is there, not on its order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.predictions import Classification
from sightline.records import Dataset, ImageRef


def dataset(n: int = 4, **columns) -> Dataset:
    rows = {
        "targets": np.arange(n) % 2, "splits": np.array(["train", "test"] * n)[:n], "groups": np.array([f"g{i // 2}" for i in range(n)]),
        "content_ids": np.array([f"sha{i}" for i in range(n)]), "attributes": {"size": np.arange(n) * 10},
    }  # fmt: skip
    return Dataset(Path("data"), "classify", ("a", "b"), [ImageRef(f"{i}.png") for i in range(n)], **{**rows, **columns})


@pytest.mark.parametrize(
    ("ref", "text"),
    [
        (ImageRef("a/b.png"), "a/b.png"),
        (ImageRef("a.zip", member="b.png"), "a.zip!b.png"),
        (ImageRef("a.tif", frame=3), "a.tif#3"),
        (ImageRef("a.tif", frame=3, window=(1, 2, 30, 40)), "a.tif#3@1,2,30,40"),
    ],
)
def test_a_reference_says_which_part_of_which_file(ref, text):
    assert str(ref) == text


@pytest.mark.parametrize("name", ["targets", "splits", "groups", "content_ids"])
def test_a_column_of_another_length_is_refused_by_name(name):
    with pytest.raises(ValueError, match=f"column '{name}' has 3 rows, the data set has 4"):
        dataset(**{name: np.zeros(3, int)})


def test_an_attribute_of_another_length_is_refused_by_name():
    with pytest.raises(ValueError, match="column 'size' has 5 rows"):
        dataset(attributes={"size": np.zeros(5)})


def test_a_sample_has_its_row_of_every_column_and_none_for_what_is_not_known():
    sample = dataset()[1]
    assert (sample.ref, sample.target, sample.split, sample.group, sample.content_id) == (ImageRef("1.png"), 1, "test", "g0", "sha1")
    bare = dataset(targets=None, splits=None, groups=np.array(["", "", "x", ""]), content_ids=None)[0]
    assert (bare.target, bare.split, bare.group, bare.content_id) == (None, None, None, None)


@given(st.lists(st.integers(0, 5), max_size=12))
def test_a_selection_keeps_rows_together_and_in_the_order_asked_for(rows):
    whole = dataset(6)
    part = whole.select(np.array(rows, np.int64))
    assert [sample.ref.path for sample in part] == [f"{row}.png" for row in rows]
    assert list(part) == [whole[row] for row in rows]
    assert part.attributes["size"].tolist() == [10 * row for row in rows]
    assert part.labels == whole.labels


def test_a_mask_selects_like_its_indices():
    whole = dataset()
    assert list(whole.select(np.array([True, False, False, True]))) == list(whole.select(np.array([0, 3])))


def test_rows_of_a_split_and_none_where_nothing_is_split():
    whole = dataset()
    assert whole.rows_of("test").tolist() == [1, 3]
    assert [sample.ref.path for sample in whole.of_split("test")] == ["1.png", "3.png"]
    assert whole.rows_of("validation").tolist() == []
    assert len(dataset(splits=None).of_split("train")) == 0


def test_a_class_absent_from_a_split_keeps_its_index():
    part = dataset(targets=np.array([0, 1, 0, 1])).of_split("test")
    assert part.labels == ("a", "b")
    assert part.targets.tolist() == [1, 1]


@given(st.permutations(range(6)))
def test_the_fingerprint_does_not_depend_on_order(order):
    whole = dataset(6)
    assert whole.select(np.array(order)).fingerprint == whole.fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"targets": np.array([1, 1, 0, 1])},
        {"splits": np.array(["train", "test", "test", "test"])},
        {"groups": np.array(["g0", "g0", "g1", "g2"])},
        {"content_ids": np.array(["sha0", "sha1", "sha2", "other"])},
        {"labels": ("a", "c")},
        {"task": "tag"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_fingerprint_changes_with(change):
    assert dataset().replace(**change).fingerprint != dataset().fingerprint


def test_where_images_lie_does_not_matter_once_their_content_is_known():
    moved = [ImageRef(f"elsewhere/{i}.png") for i in range(4)]
    assert dataset().replace(refs=moved).fingerprint == dataset().fingerprint
    assert dataset(content_ids=None).replace(refs=moved).fingerprint != dataset(content_ids=None).fingerprint


def test_a_file_name_that_is_not_utf8_has_a_fingerprint():
    refs = [ImageRef(name) for name in ("a.png", "b\udcff.png", "c.png", "d.png")]
    assert len(dataset(content_ids=None).replace(refs=refs).fingerprint) == 64


def test_a_data_set_cannot_be_changed():
    with pytest.raises(AttributeError):
        dataset().task = "tag"


def test_a_classification_is_read_best_first():
    said = Classification(("cat", "dog", "owl"), (0.7, 0.2, 0.1))
    assert (said.label, said.score) == ("cat", 0.7)
    assert said.to_json(top=2) == [{"label": "cat", "score": 0.7}, {"label": "dog", "score": 0.2}]
    assert len(said.to_json()) == 3


def test_tags_and_classes_say_which_labels_a_row_has():
    classes = dataset(targets=np.array([1, -1, 0, 1]))
    tags = classes.replace(task="tag", targets=np.array([[0, 1], [0, 0], [1, 1], [1, 0]], bool))
    assert [column.tolist() for column in classes.labelled()] == [[0, 2, 3], [1, 0, 1]]
    assert [column.tolist() for column in tags.labelled()] == [[0, 2, 2, 3], [1, 0, 1, 0]]
    a, b = classes.labels
    assert [classes.label_names(row) for row in range(4)] == [(b,), (), (a,), (b,)]
    assert [tags.label_names(row) for row in range(4)] == [(b,), (), (a, b), (a,)]
    assert classes.fingerprint != tags.fingerprint


def test_targets_in_terms_of_more_labels_in_another_order():
    classes = dataset(targets=np.array([1, -1, 0, 1]))
    a, b = classes.labels
    assert classes.targets_among((b, "other", a)).tolist() == [0, -1, 2, 0]
    tags = classes.replace(targets=np.array([[0, 1], [0, 0], [1, 1], [1, 0]], bool))
    assert tags.targets_among((b, "other", a)).astype(int).tolist() == [[1, 0, 0], [0, 0, 0], [1, 0, 1], [0, 0, 1]]
    with pytest.raises(ValueError):
        tags.targets_among(("other", a))
