"""Simpler methods beside the network: what the features see, what is said of the comparison, and odd data."""

from __future__ import annotations

import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest

from conftest import render_shape
from sightline.data.prepare import Prepare
from sightline.predictions import Decision
from sightline.report.baselines import baselines_blocks
from sightline.tasks import load_task
from sightline.tasks.blocks import Bars, Text
from sightline.trust.baselines import FEATURES_SHARE, baselines
from sightline.trust.examples import Examples, fair_order
from sightline.trust.features import KINDS, features_of, shrunk
from sightline.trust.machines import fit
from tiny import store_of

SHAPE_KINDS = ("disc", "cross")


def examples(images: np.ndarray, targets: np.ndarray) -> Examples:
    return Examples(lambda rows: images[rows], targets)


def two_kinds(n: int, seed: int, side: int = 32, channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Dark and bright noise: two classes that anything can tell apart."""
    rng = np.random.default_rng(seed)
    targets = np.arange(n) % 2
    low = np.where(targets == 1, 130, 20)[:, None, None, None]
    return (low + rng.integers(0, 100, (n, side, side, channels))).astype(np.uint8), targets


def perfect(targets: np.ndarray, labels: int) -> np.ndarray:
    """Logits of a network that is right on every image."""
    return 8.0 * (targets if targets.ndim > 1 else np.eye(labels)[targets]) - 4.0


def compared(train, validation, test, logits, *, labels=("dark", "bright"), task="classify", decision=Decision(), seconds=600.0):  # noqa: B008
    found = baselines(
        examples(*train), examples(*validation), examples(*test), logits, decision, labels, load_task(task), seconds=seconds, seed=0
    )
    json.dumps(found.numbers, allow_nan=False)
    assert found.pictures == {}
    return found.numbers


def by_name(numbers: dict) -> dict:
    return {method["name"]: method for method in numbers["methods"]}


# Features


def coloured(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Reddish and greenish images of the same brightness."""
    rng, targets = np.random.default_rng(seed), np.arange(n) % 2
    hues = np.array([(150, 76, 90), (60, 122, 90)])[targets]
    return np.clip(hues[:, None, None] + rng.normal(0, 4, (n, 64, 64, 1)), 0, 255).astype(np.uint8), targets


def textured(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Fine stripes in any direction, and dots as dense and as bright."""
    rng, targets = np.random.default_rng(seed), np.arange(n) % 2
    rows, columns = np.mgrid[:64, :64]
    images = []
    for target in targets:
        angle, phase = rng.uniform(0, np.pi), rng.uniform(0, 9)
        stripes = np.sin(1.5 * (rows * np.sin(angle) + columns * np.cos(angle)) + phase) > 0
        dots = rng.random((64, 64)) > 0.5
        images.append(100 + 60 * (stripes if target else dots))
    return np.repeat(np.stack(images)[..., None], 3, axis=3).astype(np.uint8), targets


def shaped(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Discs and crosses of any colours."""
    targets = np.arange(n) % 2
    return np.stack([np.asarray(render_shape(SHAPE_KINDS[target], seed * 1000 + row, 64)) for row, target in enumerate(targets)]), targets


@pytest.mark.parametrize(("kind", "make"), [("colour", coloured), ("lbp", textured), ("hog", shaped)])
def test_each_kind_of_feature_tells_what_it_is_for(kind, make):
    (images, targets), (others, truth) = make(60, 1), make(60, 2)
    train, test = (features_of(some)[kind] for some in (images, others))
    scale = train.std() + 1e-9
    score = fit("linear", {"C": 1.0}, train / scale, targets, 2, 0)
    assert (score(test / scale).argmax(axis=1) == truth).mean() >= 0.9


def test_shape_features_do_not_see_colour_and_colour_features_do_not_see_shape():
    images, _ = shaped(4, 0)
    turned = images[:, ::-1, ::-1]
    np.testing.assert_allclose(features_of(images)["colour"], features_of(turned)["colour"])
    reddish, greenish = np.full((1, 64, 64, 3), (150, 0, 0), np.uint8), np.full((1, 64, 64, 3), (0, 150, 0), np.uint8)
    np.testing.assert_array_equal(features_of(reddish)["hog"], features_of(greenish)["hog"])


@pytest.mark.parametrize(("side", "channels"), [(8, 3), (64, 1), (100, 5), (224, 3)])
def test_features_are_as_many_whatever_the_size_and_finite_whatever_the_channels(side, channels):
    images = np.random.default_rng(0).integers(0, 256, (3, side, side, channels), np.uint8)
    found, plain = features_of(images), features_of(np.zeros_like(images))
    assert list(found) == list(KINDS)
    for kind in KINDS:
        assert found[kind].shape == plain[kind].shape
        assert np.isfinite(found[kind]).all()
        assert np.isfinite(plain[kind]).all()
    # What was shrunk before has the same features.
    np.testing.assert_array_equal(features_of(shrunk(images))["hog"], found["hog"])


# Samples


def test_every_beginning_of_the_order_is_a_fair_sample():
    targets = np.array([0] * 60 + [1] * 30 + [2] * 9 + [3])
    order = fair_order(targets, 0)
    assert sorted(order) == list(range(100))
    assert sorted(targets[order[:4]]) == [0, 1, 2, 3]
    half = np.bincount(targets[order[:50]])
    assert abs(half - [30, 15, 5, 1]).max() <= 1


def test_stored_images_are_prepared_as_for_evaluation():
    images = [np.random.default_rng(row).integers(0, 256, (40 + row, 50, 3), np.uint8) for row in range(5)]
    prepare = Prepare(80)
    part = Examples.of_store(store_of(images), prepare, np.zeros(5, np.int64))
    expected = shrunk(np.stack([prepare(images[row])[0] for row in (3, 1)]))
    np.testing.assert_array_equal(part.images(np.array([3, 1])), expected)


# The comparison


def test_a_network_that_simple_methods_equal_is_said_not_to_beat_them():
    train, validation, test = two_kinds(60, 0), two_kinds(20, 1), two_kinds(40, 2)
    numbers = compared(train, validation, test, perfect(test[1], 2))
    found = by_name(numbers)
    assert list(found) == ["majority", "linear", "rbf", "network"]
    assert found["linear"]["right"] == found["rbf"]["right"] == found["network"]["right"] == 1
    assert found["majority"]["right"] == 0.5
    assert found["linear"]["behind"]["interval"][0] < 0 < found["linear"]["behind"]["interval"][1]
    assert not numbers["beaten"]
    assert "does not clearly beat" in numbers["sentence"]
    assert "may be chance" in numbers["sentence"]
    assert numbers["samples"] == {"train": 60, "validation": 20, "test": 40}


def test_a_network_that_is_clearly_better_is_said_to_be():
    rng = np.random.default_rng(0)
    train, validation, test = ((rng.integers(0, 256, (n, 16, 16, 3), np.uint8), rng.integers(0, 2, n)) for n in (60, 20, 60))
    numbers = compared(train, validation, test, perfect(test[1], 2))
    assert numbers["beaten"]
    assert "clearly beats simpler methods" in numbers["sentence"]
    assert "right on 100.0% of 60 test images, against" in numbers["sentence"]


def test_a_network_that_is_worse_is_said_to_be():
    train, validation, test = two_kinds(60, 0), two_kinds(20, 1), two_kinds(60, 2)
    numbers = compared(train, validation, test, perfect(1 - test[1], 2))
    assert not numbers["beaten"]
    assert "is worse than" in numbers["sentence"]


def test_tags_are_compared_by_how_much_of_them_is_right():
    rng = np.random.default_rng(0)

    def tagged(n: int) -> tuple[np.ndarray, np.ndarray]:
        targets = np.stack([rng.random(n) < 0.5, np.zeros(n, bool), rng.random(n) < 0.3], axis=1)
        return (20 + 150 * targets[:, 0, None, None, None] + rng.integers(0, 80, (n, 16, 16, 3))).astype(np.uint8), targets

    train, validation, test = tagged(80), tagged(40), tagged(60)
    numbers = compared(train, validation, test, perfect(test[1], 3), labels=("light", "never", "any"), task="tag")
    found = by_name(numbers)
    assert found["network"]["right"] == 1
    assert found["network"]["map"] == 1
    # Chance: the mean of the shares of the labels that are there.
    assert found["majority"]["map"] == pytest.approx(test[1][:, [0, 2]].mean())
    assert found["majority"]["map"] < found["linear"]["map"] < 1
    assert numbers["beaten"]
    assert "mean over" in numbers["sentence"]


def test_the_same_seed_gives_the_same_numbers():
    data = two_kinds(60, 0), two_kinds(20, 1), two_kinds(30, 2)
    assert compared(*data, perfect(data[2][1], 2)) == compared(*data, perfect(data[2][1], 2))


# Odd data


@pytest.mark.parametrize(("side", "channels"), [(8, 3), (32, 1), (32, 5)])
def test_small_images_and_other_channels_are_compared(side, channels):
    data = [two_kinds(n, seed, side, channels) for seed, n in enumerate((40, 10, 20))]
    numbers = compared(*data, perfect(data[2][1], 2))
    assert by_name(numbers)["linear"]["right"] == 1


def test_a_class_of_one_a_class_of_none_and_test_images_of_one_class():
    images, targets = two_kinds(41, 0)
    targets = targets.copy()
    targets[-1] = 2  # the only one
    test = two_kinds(20, 2)[0][1::2], np.ones(10, np.int64)
    numbers = compared((images, targets), two_kinds(5, 1), test, perfect(test[1], 4), labels=("dark", "bright", "one", "none"))
    found = by_name(numbers)
    assert found["linear"]["right"] == 1
    assert found["majority"]["right"] == 0
    assert not numbers["beaten"]


def test_without_validation_images_the_first_setting_is_taken():
    train, test = two_kinds(40, 0), two_kinds(20, 2)
    numbers = compared(train, (train[0][:0], train[1][:0]), test, perfect(test[1], 2))
    assert by_name(numbers)["linear"] | {"behind": 0, "interval": 0} == {
        "name": "linear", "setting": {"C": 0.001}, "compared": 0, "fitted": 40, "right": 1.0, "interval": 0, "behind": 0,
    }  # fmt: skip


@pytest.mark.parametrize(("size", "reason"), [(0, "no training images"), (30, "same label")])
def test_what_cannot_be_learned_has_its_reason(size, reason):
    train, test = two_kinds(size, 0), two_kinds(20, 2)
    numbers = compared((train[0], train[1] * 0), test, test, perfect(test[1], 2))
    text = numbers.get("reason") or " ".join(numbers["reasons"])
    assert reason in text
    if size:  # what needs no learning is compared
        assert list(by_name(numbers)) == ["majority", "network"]
        assert numbers["beaten"]


def test_a_small_allowance_takes_fewer_images_and_none_at_all_leaves_features_out(monkeypatch):
    train, validation, test = two_kinds(600, 0, 16), two_kinds(100, 1, 16), two_kinds(50, 2, 16)
    moments = itertools.count()
    # A clock by which the first eight images take 80 ms.
    monkeypatch.setattr("sightline.trust.examples.time", SimpleNamespace(perf_counter=lambda: 0.08 * next(moments)))
    small = compared(train, validation, test, perfect(test[1], 2), seconds=0.2 * 0.01 * 750 / FEATURES_SHARE)
    assert small["samples"] == {"train": 120, "validation": 20, "test": 10}
    assert (small["n"], small["of"]) == (10, 50)
    none = compared(train, validation, test, perfect(test[1], 2), seconds=0.0)
    assert list(by_name(none)) == ["majority", "network"]
    assert "too small" in none["reasons"][0]
    assert none["n"] == 50


# The report


def test_the_report_shows_every_method_with_the_sentence():
    train, validation, test = two_kinds(60, 0), two_kinds(20, 1), two_kinds(40, 2)
    numbers = compared(train, validation, test, perfect(test[1], 2))
    text, bars = baselines_blocks(numbers)
    assert isinstance(text, Text)
    assert text.paragraphs == [numbers["sentence"]]
    assert isinstance(bars, Bars)
    assert [bar.value for bar in bars.bars] == [0.5, 1, 1, 1]
    assert all(bar.low <= bar.value <= bar.high for bar in bars.bars)
    assert "40 test images" in bars.note


def test_the_report_is_silent_without_a_section_and_gives_the_reason_where_nothing_was_compared():
    assert baselines_blocks({}) == []
    (text,) = baselines_blocks({"reason": "There are no test images."})
    assert text.paragraphs == ["There are no test images."]
