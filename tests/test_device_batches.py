"""Batches of images that lie on the device: every view is one that the settings allow, and the same whenever it is asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sightline.config import AugmentConfig
from sightline.data.prepare import Prepare
from sightline.training.augment import ERASED_AREA, mirrored_in
from sightline.training.batches import TrainBatches
from sightline.training.device_batches import DeviceBatches, fit_on, inside
from sightline.training.plan import PLAIN, Show
from tiny import store_of

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
STILL = AugmentConfig(crop_scale=1.0, rotate=0.0, flip=False, colour=0.0)
IMAGES = np.random.default_rng(3).integers(0, 256, (10, 12, 12, 3), np.uint8)
STORE, TARGETS = store_of(list(IMAGES)), np.arange(10)


def host(augment: AugmentConfig, **settings) -> TrainBatches:
    return TrainBatches(STORE, TARGETS, Prepare(12), augment, 4, 5, CPU, **{"classes": 10, **settings})


def device(augment: AugmentConfig, **settings) -> DeviceBatches:
    return DeviceBatches(host(augment, **settings))


def shown(batches, epoch: int, *, start: int = 0, show: Show = PLAIN) -> tuple[np.ndarray, np.ndarray]:
    views, targets = zip(*batches.epoch(epoch, start, show), strict=True)
    return torch.cat(views).numpy(), torch.cat(targets).numpy()


def ways(image: np.ndarray, most: int) -> dict[tuple[bool, int, int], np.ndarray]:
    """Every view of an image, mirrored or not, that numpy cuts from it with mirrored edges."""
    wide = {
        turned: np.pad(image[:, ::-1] if turned else image, ((most, most), (most, most), (0, 0)), "reflect") for turned in (False, True)
    }
    return {
        (turned, down, right): wide[turned][down : down + 12, right : right + 12]
        for turned in wide for down in range(2 * most + 1) for right in range(2 * most + 1)
    }  # fmt: skip


def found_ways(batches, epoch: int, most: int) -> dict[int, tuple[bool, int, int]]:
    """By which of these ways each image is shown in an epoch."""
    views, targets = shown(batches, epoch)
    assert sorted(targets.tolist()) == list(range(10))
    return {
        target: next(way for way, expected in ways(IMAGES[target], most).items() if np.array_equal(view, expected))
        for view, target in zip(views, targets.tolist(), strict=True)
    }


@pytest.mark.parametrize("make", [device, host])
def test_images_are_moved_and_mirrored_and_nothing_else(make):
    seen = [way for epoch in range(1, 5) for way in found_ways(make(replace(STILL, flip=True, shift=2)), epoch, 2).values()]
    assert {turned for turned, _, _ in seen} == {False, True}
    assert {down for _, down, _ in seen} == {right for _, _, right in seen} == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("make", [device, host])
def test_alternating_flips_show_every_image_both_ways_in_two_epochs(make):
    batches = make(replace(STILL, flip=True, alternate=True))
    turned = [{row: way[0] for row, way in found_ways(batches, epoch, 0).items()} for epoch in (1, 2, 3)]
    assert all(turned[0][row] != turned[1][row] and turned[0][row] == turned[2][row] for row in range(10))
    assert len(set(turned[0].values())) == 2


def test_in_an_epoch_about_half_of_many_images_are_mirrored():
    rows = np.arange(10_000)
    share = mirrored_in(1, rows, 0).mean()
    assert 0.48 < share < 0.52
    np.testing.assert_array_equal(mirrored_in(1, rows, 0)[7:90], mirrored_in(1, rows[7:90], 0))
    assert 0.4 < (mirrored_in(1, rows, 0) == mirrored_in(1, rows, 1)).mean() < 0.6
    assert 0.4 < (mirrored_in(1, rows, 0)[1:] == mirrored_in(1, rows, 0)[:-1]).mean() < 0.6


def test_nothing_is_mirrored_where_that_is_not_allowed():
    assert not any(turned for turned, _, _ in found_ways(device(replace(STILL, alternate=True)), 1, 0).values())


ALL = AugmentConfig(crop_scale=1.0, rotate=0.0, flip=True, shift=1, colour=0.3, erase=0.5, cutmix=1.0)


def test_an_epoch_is_the_same_from_wherever_it_is_taken_up_and_another_one_differs():
    batches = device(ALL)
    views, targets = shown(batches, 2)
    assert len(batches) == 3
    again = shown(device(ALL), 2, start=1)
    np.testing.assert_array_equal(again[0], views[4:])
    np.testing.assert_array_equal(again[1], targets[4:])
    assert not np.array_equal(shown(batches, 3)[0], views)


def test_an_image_drawn_twice_is_seen_in_two_ways():
    chances = np.array([1.0] + [0.0] * 9)
    views, targets = shown(device(replace(STILL, shift=3), shares=chances), 1)
    assert set(targets.tolist()) == {0}
    assert len({view.tobytes() for view in views}) > 3


def test_a_rectangle_of_noise_is_painted_over_as_many_images_as_asked():
    views, targets = shown(device(replace(STILL, erase=1.0)), 1)
    changed = (views != IMAGES[targets]).any(axis=3)
    for image in changed:
        rows, columns = image.any(axis=1), image.any(axis=0)
        assert image.sum() >= 0.8 * rows.sum() * columns.sum()  # noise may hit a pixel's own value
        assert rows.sum() * columns.sum() <= (ERASED_AREA[1] + 0.15) * image.size
    assert not np.array_equal(shown(device(replace(STILL, erase=0.5)), 1)[0], shown(device(STILL), 1)[0])
    untouched = [
        np.array_equal(*pair) for pair in zip(*(shown(device(replace(STILL, erase=erase)), 1)[0] for erase in (0.5, 0.0)), strict=True)
    ]
    assert 0 < sum(untouched) < 10


def test_colour_changes_as_much_as_asked():
    views, targets = shown(device(replace(STILL, colour=0.2)), 1)
    ratios = views.mean((1, 2, 3)) / IMAGES[targets].mean((1, 2, 3))
    assert ratios.min() > 0.78
    assert ratios.max() < 1.22
    assert np.ptp(ratios) > 0.1


def test_mixed_images_have_mixed_targets():
    _, targets = shown(device(replace(STILL, mixup=0.5)), 1)
    assert targets.shape == (10, 10)
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-5)


def test_images_shrink_by_averaging():
    views, targets = shown(device(STILL), 1, show=Show(6))
    assert views.shape == (10, 6, 6, 3)
    np.testing.assert_allclose(views.mean((1, 2, 3)), IMAGES[targets].mean((1, 2, 3)), rtol=0.05)
    assert views.std() < 0.75 * IMAGES.std()


def test_what_lies_beyond_an_edge_is_mirrored_back():
    places = torch.arange(-3, 8)
    expected = np.pad(np.arange(5), 3, "reflect")
    np.testing.assert_array_equal(inside(places, 5).numpy(), expected)


@pytest.mark.parametrize(
    ("change", "shape", "fits"),
    [
        ({}, (12, 12, 3), True),
        ({"crop_scale": 0.5}, (12, 12, 3), False),
        ({"rotate": 10.0}, (12, 12, 3), False),
        ({"robust": True}, (12, 12, 3), False),
        ({}, (12, 16, 3), False),
        ({}, (128, 128, 3), False),
    ],
)
def test_what_needs_resampling_is_made_elsewhere(change, shape, fits):
    assert fit_on(CPU, STORE, replace(STILL, **change), shape) is fits


def test_what_does_not_fit_into_memory_is_made_elsewhere(monkeypatch):
    monkeypatch.setattr("sightline.training.device_batches.memory_bytes", lambda: 10 * 12 * 12 * 3 * 4)
    assert not fit_on(CPU, STORE, STILL, (12, 12, 3))
