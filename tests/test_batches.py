"""Batches: every image once, and the same from (seed, epoch, row) whenever they are asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.config import AugmentConfig
from sightline.data.prepare import Prepare
from sightline.training import batches
from sightline.training.batches import TrainBatches, plain_batches, shuffled
from tiny import shapes_store, store_of

pytestmark = pytest.mark.usefixtures("one_thread")
OFF = AugmentConfig(crop_scale=1.0, rotate=0.0, flip=False, colour=0.0)


def numbered(n: int, batch_size: int, *, seed: int = 0, augment: AugmentConfig = OFF) -> TrainBatches:
    """Images of one colour each, whose target is their number."""
    store = store_of([np.full((8, 8, 3), number, np.uint8) for number in range(n)])
    return TrainBatches(store, np.arange(n), Prepare(8), augment, batch_size, seed, torch.device("cpu"), classes=n)


def shapes(*, seed: int = 0) -> TrainBatches:
    store, targets = shapes_store(4)
    return TrainBatches(store, targets, Prepare(32), AugmentConfig(flip=True), 5, seed, torch.device("cpu"), classes=3)


def epoch_of(batches: TrainBatches, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
    images, targets = zip(*batches.epoch(epoch), strict=True)
    return torch.cat(images), torch.cat(targets)


@given(st.integers(2, 40), st.integers(1, 12), st.integers(0, 5), st.integers(1, 3))
@settings(max_examples=40)
def test_an_epoch_shows_every_image_once_but_a_last_single_one(n, batch_size, seed, epoch):
    batches = numbered(n, batch_size, seed=seed)
    found = list(batches.epoch(epoch))
    assert len(found) == len(batches)
    shown = torch.cat([targets for _, targets in found]).tolist()
    single = batch_size > 1 and n > batch_size and n % batch_size == 1
    assert len(set(shown)) == len(shown) == n - single
    assert all(len(images) == len(targets) <= batch_size for images, targets in found)
    assert batch_size == 1 or all(len(targets) > 1 for _, targets in found)


def test_images_go_with_their_targets():
    images, targets = epoch_of(numbered(20, 6), 1)
    assert images.shape == (20, 8, 8, 3)
    assert images.dtype == torch.float32
    torch.testing.assert_close(images[:, 0, 0, 0], targets.float(), rtol=0, atol=1e-3)


def test_an_epoch_is_the_same_whenever_it_is_repeated():
    once, again = epoch_of(shapes(), 2), epoch_of(shapes(), 2)
    assert torch.equal(once[0], again[0])
    assert torch.equal(once[1], again[1])


def test_an_epoch_does_not_depend_on_those_before_it():
    batches = shapes()
    for epoch in (1, 2):
        list(batches.epoch(epoch))
    assert torch.equal(epoch_of(batches, 3)[0], epoch_of(shapes(), 3)[0])


def test_epochs_and_seeds_differ_in_order_and_in_their_views():
    first, second, other = epoch_of(shapes(), 1), epoch_of(shapes(), 2), epoch_of(shapes(seed=1), 1)
    for different in (second, other):
        assert first[1].tolist() != different[1].tolist()
        assert not torch.equal(first[0].sort(dim=0).values, different[0].sort(dim=0).values)


def test_two_images_of_an_epoch_get_two_views():
    store = store_of([np.asarray(shapes_store(1)[0][0])] * 2)
    batches = TrainBatches(store, np.zeros(2, np.int64), Prepare(32), AugmentConfig(flip=True), 2, 0, torch.device("cpu"), classes=1)
    images, _ = epoch_of(batches, 1)
    assert not torch.equal(images[0], images[1])


def test_an_epoch_that_is_left_early_leaves_nothing_behind():
    batches = shapes()
    running = batches.epoch(1)
    next(running)
    running.close()
    assert torch.equal(epoch_of(batches, 1)[0], epoch_of(shapes(), 1)[0])


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_plain_batches_are_evaluations_views_in_order(batch_size):
    store, _ = shapes_store(3)
    prepare = Prepare(24, "pad")
    found = list(plain_batches(store, prepare, batch_size))
    assert all(len(batch) <= batch_size for batch in found)
    np.testing.assert_array_equal(np.concatenate(found), np.stack([prepare(store[row])[0] for row in range(len(store))]))


@pytest.mark.parametrize("augment", [OFF, replace(OFF, mixup=0.4, erase=0.5)])
def test_an_epoch_can_be_entered_at_any_batch(augment):
    batches = numbered(20, 6, augment=augment)
    whole = list(batches.epoch(2))
    for start in range(5):
        rest = list(batches.epoch(2, start))
        assert len(rest) == max(0, len(whole) - start)
        for ours, theirs in zip(rest, whole[start:], strict=True):
            assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_rare_images_come_as_often_as_their_share_says():
    batches = replace(numbered(10, 5), shares=np.array([0.5, *[0.5 / 9] * 9]))
    shown = torch.cat([targets for epoch in range(1, 101) for _, targets in batches.epoch(epoch)]).bincount(minlength=10)
    assert int(shown.sum()) == 1000
    assert 430 < int(shown[0]) < 570


def test_an_image_drawn_twice_is_seen_in_two_ways():
    store, targets = shapes_store(1)
    batches = TrainBatches(
        store, targets, Prepare(32), AugmentConfig(flip=True), 9, 0, torch.device("cpu"), classes=3, shares=np.array([1.0, 0.0, 0.0])
    )
    images, found = epoch_of(batches, 1)
    assert found.tolist() == [0, 0, 0]
    assert not torch.equal(images[0], images[1])


def test_mixed_batches_have_soft_targets_that_add_up():
    batches = numbered(12, 6, augment=replace(OFF, mixup=1.0, cutmix=1.0))
    for images, targets in batches.epoch(1):
        assert targets.shape == (6, 12)
        torch.testing.assert_close(targets.sum(1), torch.ones(6))
        # Each image is of one colour, its number: the mixture's mean is that of its targets.
        torch.testing.assert_close(images.mean((1, 2, 3)), targets @ torch.arange(12.0), atol=1e-3, rtol=1e-4)


def test_above_many_images_an_epoch_is_ordered_as_it_goes(monkeypatch):
    monkeypatch.setattr(batches, "MANY", 30)
    assert isinstance(shuffled(30, None, 0, 1), np.ndarray)
    shown = [torch.cat([targets for _, targets in numbered(31, 5).epoch(epoch)]).tolist() for epoch in (1, 2, 1)]
    assert len(set(shown[0])) == 30  # but for the last, which would be a batch by itself
    assert shown[0] == shown[2] != shown[1]
    assert torch.cat([targets for _, targets in numbered(31, 5).epoch(1, start=4)]).tolist() == shown[0][20:]
