"""Boxes and label maps go where their pixels go, whatever is drawn at random."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sightline.config import AugmentConfig
from sightline.data.prepare import Prepare
from sightline.data.store import Store
from sightline.model.assignment import CROWD, PADDING
from sightline.records import ImageRef, column_of
from sightline.scenes import IGNORED, LabelMap, Objects
from sightline.training.plan import Show
from sightline.training.scenes import SceneBatches
from tiny import store_of

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
GEOMETRY = AugmentConfig(flip=True, colour=0.0)
# Of the original, of which the store has half the size.
BOX = (40, 60, 88, 108)


def halved(images: list[np.ndarray]) -> Store:
    store = store_of(images)
    facts = replace(store.facts, width=2 * store.shapes[:, 1], height=2 * store.shapes[:, 0])
    return replace(store, facts=facts)


def one_object(*, height: int = 80, width: int = 96) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    left, top, right, bottom = (side // 2 for side in BOX)
    image[top:bottom, left:right] = 255
    return image


def batches(n: int = 6, *, augment: AugmentConfig = GEOMETRY, mosaic: float = 0.0, targets=None, shape=(64, 96)) -> SceneBatches:
    targets = [Objects.of([BOX], [1])] * n if targets is None else targets
    prepare = Prepare(shape[1], "pad", height=shape[0])
    return SceneBatches(halved([one_object()] * n), column_of(targets), prepare, augment, 2, 0, CPU, mosaic)


def bright(image: torch.Tensor) -> list[float]:
    rows, columns = torch.nonzero(image[..., 0] > 190, as_tuple=True)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize("rotate", [0.0, 10.0])
def test_a_box_is_around_its_pixels(rotate):
    seen = 0
    for epoch in range(1, 6):
        for images, targets in batches(augment=replace(GEOMETRY, rotate=rotate)).epoch(epoch):
            assert images.shape == (2, 64, 96, 3)
            assert images.dtype == targets.dtype == torch.float32
            for image, rows in zip(images, targets, strict=True):
                for label, *box in rows[rows[:, 0] == 1].tolist():
                    # Of a turned square the corners fade, so that the box around it is a little larger.
                    np.testing.assert_allclose(bright(image), box, atol=2.0 if not rotate else 4.0)
                    seen += label == 1
    assert seen > 20


def test_four_images_have_the_boxes_of_four():
    counts = [int((targets[..., 0] >= 0).sum()) for images, targets in batches(8, mosaic=1.0).epoch(1)]
    assert sum(counts) > 10
    for images, targets in batches(8, mosaic=1.0).epoch(1):
        for image, rows in zip(images, targets, strict=True):
            white = image[..., 0] > 190
            for left, top, right, bottom in rows[rows[:, 0] >= 0][:, 1:].round().int().tolist():
                assert white[top + 1 : bottom - 1, left + 1 : right - 1].float().mean() > 0.9
                white[max(0, top - 2) : bottom + 2, max(0, left - 2) : right + 2] = False
            for left, top, right, bottom in rows[rows[:, 0] == CROWD][:, 1:].round().int().tolist():
                white[max(0, top - 2) : bottom + 2, max(0, left - 2) : right + 2] = False
            assert white.sum() <= 0.02 * white.numel()  # what is left is of objects of which next to nothing is seen


def test_late_in_training_no_picture_is_put_together():
    for _, targets in batches(8, mosaic=1.0).epoch(1, 0, Show(late=True)):
        assert targets.shape[1] == 1


def test_every_crop_keeps_an_object():
    augment = replace(GEOMETRY, crop_scale=0.05)
    for epoch in range(1, 8):
        for _, targets in batches(augment=augment).epoch(epoch):
            assert (targets[..., 0] != PADDING).any(dim=1).all()


def test_crowds_are_where_nothing_counts_and_images_without_objects_stay():
    crowd, none = Objects.of([BOX], [0], [True]), Objects.of([], [])
    (_, targets), *_ = batches(2, augment=replace(GEOMETRY, crop_scale=1.0), targets=[crowd, none]).epoch(1)
    assert sorted(targets[:, 0, 0].tolist()) == [CROWD, PADDING]


def test_an_epoch_goes_on_where_it_was():
    whole, rest = list(batches(mosaic=0.5).epoch(2)), list(batches(mosaic=0.5).epoch(2, 1))
    assert all(torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1]) for ours, theirs in zip(whole[1:], rest, strict=True))


def test_smaller_pictures_have_the_same_shape_and_fit_a_network():
    images, _ = next(batches(shape=(192, 288)).epoch(1, 0, Show(size=200)))
    assert images.shape[1:3] == (128, 192)


def test_a_label_map_goes_with_its_pixels(tmp_path: Path):
    classes = np.zeros((160, 192), np.uint8)
    left, top, right, bottom = BOX
    classes[top:bottom, left:right] = 5
    Image.fromarray(classes).save(tmp_path / "m.png")
    target = LabelMap(ImageRef(str(tmp_path / "m.png")), {0: 0, 5: 1}, np.array([1, 1]), (192, 160))
    for mosaic in (0.0, 1.0):
        data = batches(4, augment=replace(GEOMETRY, rotate=20.0), mosaic=mosaic, targets=[target] * 4)
        for images, targets in data.epoch(1):
            assert targets.dtype == torch.uint8
            white, known = images[..., 0] > 127, targets != IGNORED
            assert (white == (targets == 1))[known].float().mean() > 0.99
            assert known.float().mean() > 0.3
            assert (images[~known] - 128).abs().float().mean() < 30  # outside of the image all is grey
