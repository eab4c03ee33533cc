"""copy_findings: which copies spoil what, which of them to drop, and which image is always kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from sightline.auditing.copies import CopyPair
from sightline.auditing.copy_findings import copy_findings
from sightline.records import SPLITS, Dataset, ImageRef


def data(labels: str, splits: list[str] | None = None) -> Dataset:
    """A letter each image: its class, or "-" for none."""
    names = tuple(sorted(set(labels) - {"-"}))
    targets = np.array([names.index(label) if label != "-" else -1 for label in labels], np.int64)
    refs = [ImageRef(f"{row}.png") for row in range(len(labels))]
    return Dataset(Path("data"), "classify", names, refs, targets, None if splits is None else np.array(splits, "<U10"))


def names(dataset: Dataset) -> list[str]:
    return [ref.path for ref in dataset.refs]


def exact(a: int, b: int) -> CopyPair:
    return CopyPair(a, b, True)


def near(a: int, b: int, how: str = "") -> CopyPair:
    return CopyPair(a, b, False, how)


def found(dataset: Dataset, *copies: CopyPair, straddling=()) -> dict:
    return {finding.kind: finding for finding in copy_findings(dataset, names(dataset), copies, straddling)}


def told(finding) -> list[tuple[tuple[str, ...], str, str]]:
    return [(item.images, item.detail, item.suggestion) for item in finding.items]


def test_without_copies_and_groups_there_is_nothing_to_say():
    assert copy_findings(data("aab"), ["x", "y", "z"], [], []) == []


@pytest.mark.parametrize("splits", [None, ["train"] * 6])
def test_copies_within_a_split_are_dropped_but_one(splits):
    findings = found(data("aaabbb", splits), exact(0, 1), exact(0, 2), near(3, 5, "mirrored"))
    assert list(findings) == ["exact-copies", "near-copies"]
    assert {finding.level for finding in findings.values()} == {"warning"}
    assert told(findings["exact-copies"]) == [
        (("1.png", "0.png"), "the same file; 3 copies altogether", "drop"),
        (("2.png", "0.png"), "the same file; 3 copies altogether", "drop"),
    ]
    assert told(findings["near-copies"]) == [(("5.png", "3.png"), "nearly the same picture, mirrored", "drop")]
    assert findings["exact-copies"].figures == {"pictures": 1, "images": 3, "surplus": 2}
    assert ("in the same split" in findings["exact-copies"].sentence) == (splits is not None)


def test_across_splits_the_test_image_is_kept():
    findings = found(data("aaa", ["train", "validation", "test"]), near(0, 2), exact(0, 1))
    (across,) = findings.values()
    assert (across.kind, across.level) == ("copies-across-splits", "problem")
    assert told(across) == [
        (("1.png", "2.png"), "nearly the same picture; validation and test; 3 copies altogether", "drop"),
        (("0.png", "2.png"), "nearly the same picture; train and test; 3 copies altogether", "drop"),
    ]
    assert across.sentence.startswith(
        "1 picture is in more than one split, one of them the test. The model is examined on what it has learned"
    )
    assert across.figures == {"pictures": 1, "images": 3, "pictures_in_test": 1}


def test_of_several_test_images_one_is_kept_and_what_reaches_the_test_comes_first():
    across = found(data("aaaaa", ["train", "validation", "test", "train", "test"]), exact(0, 1), near(2, 3), exact(2, 4))[
        "copies-across-splits"
    ]
    assert [(item.images, item.suggestion) for item in across.items] == [
        (("4.png", "2.png"), "drop"), (("3.png", "2.png"), "drop"), (("0.png", "1.png"), "drop"),
    ]  # fmt: skip
    assert across.figures["pictures_in_test"] == 1
    assert across.sentence.startswith("2 pictures are in more than one split, 1 of them in the test.")
    assert across.items[0].detail == "the same file; both in test; 3 copies altogether"


def test_copies_across_training_and_validation_only_are_kept_in_validation():
    across = found(data("aa", ["validation", "train"]), exact(0, 1))["copies-across-splits"]
    assert told(across) == [(("1.png", "0.png"), "the same file; train and validation", "drop")]
    assert across.sentence.startswith("1 picture is in more than one split. The model is chosen")


def test_rows_without_a_split_count_as_training_images():
    assert list(found(data("aa", ["", "train"]), exact(0, 1))) == ["exact-copies"]
    assert list(found(data("aa", ["", "test"]), exact(0, 1))) == ["copies-across-splits"]


def test_different_labels_are_for_a_person_to_decide_also_across_splits():
    findings = found(data("abaa", ["train", "test", "train", "train"]), near(0, 1, "cropped"), exact(2, 3))
    assert list(findings) == ["copies-across-splits", "copies-with-different-labels", "exact-copies"]
    detail = "nearly the same picture, cropped; train and test; labelled a and b"
    for kind in ("copies-across-splits", "copies-with-different-labels"):
        assert findings[kind].level == "problem"
        assert told(findings[kind]) == [(("0.png", "1.png"), detail, "")]


def test_a_copy_without_a_label_agrees_with_all_and_the_one_with_a_label_is_kept():
    assert told(found(data("-a"), exact(0, 1))["exact-copies"]) == [(("0.png", "1.png"), "the same file", "drop")]


def test_tags_conflict_when_they_are_not_the_same():
    refs = [ImageRef(f"{row}.png") for row in range(4)]
    held = np.array([[1, 1], [1, 0], [0, 0], [0, 0]], bool)
    dataset = Dataset(Path("data"), "tag", ("sky", "sea"), refs, held)
    findings = found(dataset, exact(0, 1), exact(2, 3))
    assert list(findings) == ["copies-with-different-labels", "exact-copies"]
    assert "labelled sky and sky, sea" in findings["copies-with-different-labels"].items[0].detail


def test_without_targets_no_labels_differ():
    dataset = Dataset(Path("data"), "", (), [ImageRef("0.png"), ImageRef("1.png")])
    assert list(found(dataset, exact(0, 1))) == ["exact-copies"]


def test_the_plain_name_is_kept_rather_than_the_copy_s():
    (finding,) = copy_findings(data("aa"), ["a (copy).png", "a.png"], [exact(0, 1)], [])
    assert finding.items[0].images == ("a (copy).png", "a.png")


def test_what_hangs_together_only_through_another_is_said():
    details = {
        item.images[0]: item.detail
        for item in found(data("aaaa"), near(0, 1), near(1, 2, "turned by 180°"), exact(1, 3))["near-copies"].items
    }
    assert details["1.png"] == details["3.png"] == "nearly the same picture; 4 copies altogether"
    assert details["2.png"] == "nearly the same picture, by way of another copy; 4 copies altogether"


def test_groups_in_several_splits_are_a_problem():
    finding = found(data("ab", ["train", "test"]), straddling=[("anna", ["train", "test"]), ("bert", ["validation", "test"])])[
        "groups-across-splits"
    ]
    assert finding.level == "problem"
    assert finding.sentence.startswith("2 groups are in more than one split ('anna' in train and test; 'bert' in validation and test).")
    assert finding.figures == {"groups": {"anna": ["train", "test"], "bert": ["validation", "test"]}}


rows = st.integers(0, 11)


@given(
    st.lists(st.tuples(rows, rows, st.booleans()).filter(lambda pair: pair[0] < pair[1]), max_size=14),
    st.lists(st.sampled_from("ab-"), min_size=12, max_size=12),
    st.lists(st.sampled_from(["", *SPLITS]), min_size=12, max_size=12),
)
def test_one_of_each_picture_is_kept_and_it_is_a_test_image_if_there_is_one(pairs, labels, splits):
    dataset = data("".join([*labels, "ab"]), [*splits, "train", "train"])
    findings = copy_findings(dataset, names(dataset), [CopyPair(*pair) for pair in pairs], [])
    dropped = {item.images[0] for finding in findings for item in finding.items if item.suggestion == "drop"}
    ends = np.array([pair[:2] for pair in pairs], np.int64).reshape(-1, 2)
    tied = connected_components(coo_matrix((np.ones(len(ends)), ends.T), shape=(12, 12)), directed=False)[1]
    for bunch in (np.flatnonzero(tied == number).tolist() for number in set(tied.tolist())):
        kept = [row for row in bunch if f"{row}.png" not in dropped]
        if len({labels[row] for row in bunch} - {"-"}) > 1:
            assert len(kept) == len(bunch)
        else:
            assert len(kept) == 1
            assert splits[kept[0]] == "test" or "test" not in {splits[row] for row in bunch}
