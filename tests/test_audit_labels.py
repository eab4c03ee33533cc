"""label_findings: names that may be one, classes too small to judge or too rare, labels that a split or a group gives away."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import DATA, needs_data
from sightline.auditing.labels import images_to_judge, label_findings
from sightline.auditing.lookalike_names import lookalikes
from sightline.evaluation.intervals import wilson_interval
from sightline.records import Dataset, ImageRef


def classes(*rows, unlabelled: int = 0) -> Dataset:
    """A data set to classify from (label, count, split, group) each; split and group may be left out."""
    each = [(label, *(*more, "", "")[:2]) for label, count, *more in rows for _ in range(count)] + [("", "", "")] * unlabelled
    labels = tuple(sorted({label for label, *_ in each if label}))
    targets = np.array([labels.index(label) if label else -1 for label, *_ in each], np.int64)
    splits, groups = (np.array([row[place] for row in each], "<U12") for place in (1, 2))
    return Dataset(
        Path("data"), "classify", labels, [ImageRef(f"{row}.png") for row in range(len(each))], targets,
        splits if splits.any() else None, groups if groups.any() else None,
    )  # fmt: skip


def tags(labels: tuple[str, ...], held: list[list[bool]], **columns) -> Dataset:
    refs = [ImageRef(f"{row}.png") for row in range(len(held))]
    return Dataset(Path("data"), "tag", labels, refs, np.array(held, bool).reshape(len(held), len(labels)), **columns)


def found(dataset: Dataset) -> dict:
    return {finding.kind: finding for finding in label_findings(dataset)}


def test_without_labels_there_is_nothing_to_say():
    assert label_findings(Dataset(Path("data"), "classify", ("a", "b"), [ImageRef("x")])) == []
    assert label_findings(Dataset(Path("data"), "", (), [ImageRef("x")], np.array([-1]))) == []


def test_sound_labels_give_nothing():
    assert label_findings(classes(("cat", 400), ("dog", 500))) == []
    assert label_findings(classes(*((label, 60, split) for label in ("cat", "dog") for split in ("train", "test")))) == []


# ---- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "how"),
    [
        ("cat", "Cat", "case or blanks"),
        ("sea lion", "sea  Lion", "case or blanks"),
        ("long sleeve", "longsleeve", "blanks, hyphens or underscores"),
        ("early_blight", "early-blight", "blanks, hyphens or underscores"),
        ("Type-2", "type 2", "blanks, hyphens or underscores"),
        ("shoe", "Shoes", "plural"),
        ("tomato", "tomatoes", "plural"),
        ("berry", "berries", "plural"),
        ("ripe tomato", "ripe_tomatos", "plural"),
        ("tomato", "tomatoe", "one letter"),
        ("tomato", "tomtao", "one letter"),
        ("avocado leaf", "avokado leaf", "one letter"),
        ("caterpillar", "catterpillar", "one letter"),
        ("Läufer", "läuffer", "one letter"),
    ],
)
def test_names_that_may_be_one(one, other, how):
    for names in ((one, other), (other, one)):
        ((a, b, said),) = lookalikes(["something else", *names])
        assert (a, b) == (1, 2)
        assert how in said


@pytest.mark.parametrize(
    "names",
    [
        ("cat1", "cat2"), ("L1", "L2"), ("3", "8"), ("1-1", "11"), ("1_1", "1 1 1"), ("-1", "1"), ("a", "A"), ("a", "b"),
        ("cat", "bat"), ("cat", "cats2"), ("horse", "house"), ("beaver", "beaker"), ("typical", "atypical"), ("t-shirt", "shirt"),
        ("LE", "LES"),
        ("MEL", "MELS"), ("stage I", "stage II"), ("left eye", "right eye"), ("glass", "glas"), ("early blight", "late blight"),
        ("class 10", "class 100"), ("leaf_a", "leaf_b"), ("potato", "tomato"), ("C", "C++"), ("A+", "A-"), ("", "x"),
    ],
)  # fmt: skip
def test_names_that_differ_for_a_reason(names):
    assert lookalikes(names) == []


def test_lookalike_labels_are_named_with_their_numbers():
    finding = found(classes(("tomatoe", 300), ("tomato", 400), ("Potato", 300), ("potato", 290)))["lookalike-labels"]
    assert finding.level == "warning"
    assert finding.sentence.startswith(
        "'Potato' (300 images) and 'potato' (290) differ only in case or blanks; "
        "'tomato' (400 images) and 'tomatoe' (300) differ in one letter. If"
    )
    assert finding.figures["pairs"][1] == {"a": "tomato", "a_images": 400, "b": "tomatoe", "b_images": 300, "how": "differ in one letter"}
    assert finding.items == ()


@given(st.lists(st.text(alphabet="abAB12 -_s", max_size=9), max_size=12))
def test_pairs_are_in_order_each_once_and_never_for_digits_alone(names):
    pairs = lookalikes(names)
    assert all(pair.a < pair.b for pair in pairs)
    assert len({(pair.a, pair.b) for pair in pairs}) == len(pairs)
    digits = [[letter for letter in name if letter.isdigit()] for name in names]
    assert all(digits[pair.a] == digits[pair.b] for pair in pairs)


@needs_data
def test_of_a_thousand_names_of_things_hardly_any_two_look_alike():
    names = [line.split(",")[0] for line in (DATA / "weights" / "imagenet_labels.txt").read_text().splitlines()]
    pairs = [(names[pair.a], names[pair.b]) for pair in lookalikes(names) if names[pair.a] != names[pair.b]]
    assert pairs == [("Cardigan", "cardigan"), ("sunglass", "sunglasses")]


# ---- numbers ---------------------------------------------------------------------------------------------------------


def test_the_number_needed_gives_an_interval_of_twenty_points():
    n = images_to_judge()
    low, high = wilson_interval(round(0.9 * n), n)
    assert high - low <= 0.2
    low, high = wilson_interval(round(0.9 * (n - 10)), n - 10)
    assert high - low > 0.2


def test_labels_with_too_few_test_images():
    dataset = classes(
        ("cat", 90, "train"), ("cat", 70, "test"), ("dog", 50, "train"), ("dog", 39, "test"), ("eel", 40, "train"), ("eel", 3, "test")
    )
    finding = found(dataset)["labels-too-small-to-judge"]
    assert finding.sentence == (
        "2 of 3 labels have fewer than 40 test images ('eel': 3 and 'dog': 39), so what is said of each may be far from the truth: even if "
        "all 3 of 'eel' are recognised, the true share may be as low as 44%. Figures over all labels together are surer."
    )
    assert finding.figures == {"test_images": {"eel": 3, "dog": 39}, "needed": 40}
    assert "40 test images." in finding.advice


def test_before_a_split_is_drawn_it_is_reckoned_how_many_test_images_there_will_be():
    finding = found(classes(("cat", 300), ("dog", 100)))["labels-too-small-to-judge"]
    assert finding.figures["test_images"] == {"dog": 15}
    assert "when 15% of the images are drawn for the test ('dog': 15)" in finding.sentence
    assert "or 267 altogether" in finding.advice


def test_imbalance_beyond_ten_to_one():
    assert "imbalance" not in found(classes(("cat", 4000), ("dog", 400)))
    finding = found(classes(("cat", 4010), ("dog", 400), ("eel", 1000)))["imbalance"]
    assert finding.sentence.startswith("'cat' has 4010 images and 'dog' has 400, 10 times fewer.")
    assert "--balance weights or --balance sampling" in finding.advice
    assert finding.figures == {"ratio": 10.025, "rare": {"dog": 400}}


def test_unlabelled_images_are_counted():
    finding = found(classes(("cat", 300), ("dog", 300), unlabelled=7))["unlabelled"]
    assert (finding.level, finding.figures) == ("note", {"images": 7})
    assert finding.sentence == "7 of 607 images have no label and are not used for training or judging."


# ---- splits and groups -----------------------------------------------------------------------------------------------


def test_a_label_without_training_images_is_a_problem_and_one_without_test_images_a_warning():
    splits = [
        ("cat", 90, "train"),
        ("cat", 50, "test"),
        ("dog", 60, "test"),
        ("dog", 9, "validation"),
        ("eel", 70, ""),
        ("eel", 9, "validation"),
    ]
    findings = found(classes(*splits))
    assert list(findings) == ["labels-not-in-training", "labels-not-in-test"]
    assert findings["labels-not-in-training"].level == "problem"
    assert findings["labels-not-in-training"].figures == {"labels": {"dog": 69}}
    assert findings["labels-not-in-test"].level == "warning"
    assert findings["labels-not-in-test"].figures == {"labels": {"eel": 79}, "needed": 40}


def test_a_label_all_of_one_group_is_a_problem():
    finding = found(classes(("cat", 300, "", "anna"), ("cat", 300, "", "bert"), ("dog", 300, "", "carl"), ("eel", 300, "", "")))[
        "labels-in-one-group"
    ]
    assert finding.level == "problem"
    assert finding.figures == {"labels": {"dog": 300}, "groups": {"dog": "carl"}}
    assert "1 label comes from one group only ('dog': 300)" in finding.sentence


def test_groups_of_one_image_each_or_one_group_of_all_give_nothing():
    assert label_findings(classes(("cat", 300, "", "anna"), ("dog", 300, "", "anna"))) == []
    assert label_findings(classes(*((label, 1, "", f"{label}{n}") for label in ("cat", "dog") for n in range(270)))) == []


# ---- tags ------------------------------------------------------------------------------------------------------------


def test_tags_are_counted_as_labels_are():
    held = [[True, row < 3] for row in range(300)] + [[False, False]] * 5
    groups = np.array(["a"] * 100 + ["b"] * 205)
    findings = found(tags(("cloud", "clouds"), held, groups=groups, splits=np.array((["train"] * 2 + ["test"]) * 101 + ["train"] * 2)))
    assert list(findings) == ["labels-in-one-group", "lookalike-labels", "labels-too-small-to-judge", "imbalance", "unlabelled"]
    assert findings["labels-in-one-group"].figures == {"labels": {"clouds": 3}, "groups": {"clouds": "a"}}
    assert findings["labels-too-small-to-judge"].figures["test_images"] == {"clouds": 1}
    assert findings["imbalance"].figures["ratio"] == 100
    assert findings["unlabelled"].sentence == "5 of 305 images have no label and are taken to show nothing of what the labels name."


def test_a_label_that_no_image_has_is_not_counted_in():
    dataset = tags(("cloud", "rain", "snow"), [[True, False, False], [False, True, False]] * 300)
    assert label_findings(dataset) == []
