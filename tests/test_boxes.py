"""Overlaps against torchvision and by hand, and non-maximum suppression against torchvision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision import ops

from sightline.evaluation import boxes as geometry
from sightline.evaluation.boxes import areas, clip, iou, overlapping, paired_iou, suppress


def random_boxes(rng: np.random.Generator, count: int, side: float = 100) -> np.ndarray:
    corners = rng.uniform(0, side, (count, 2))
    return np.concatenate([corners, corners + rng.uniform(1, side / 2, (count, 2))], axis=1)


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 2**32 - 1))
def test_overlaps_agree_with_torchvision(found, truth, seed):
    rng = np.random.default_rng(seed)
    first, second = random_boxes(rng, found), random_boxes(rng, truth)
    expected = ops.box_iou(torch.from_numpy(first), torch.from_numpy(second)).numpy()
    np.testing.assert_allclose(iou(first, second), expected, atol=1e-12)
    least = min(found, truth)
    np.testing.assert_allclose(paired_iou(first[:least], second[:least]), np.diag(expected), atol=1e-12)


def test_overlaps_by_hand():
    box, half, crowd, point = [0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 100, 100], [3, 3, 3, 3]
    np.testing.assert_allclose(iou(np.array([box, point], float), np.array([box, half, crowd, point], float)),
                               [[1, 0.5, 0.01, 0], [0, 0, 0, 0]])  # fmt: skip
    everything = iou(np.array([half, [95, 0, 105, 10]], float), np.array([crowd, box], float), np.array([True, False]))
    np.testing.assert_allclose(everything, [[1, 0.5], [0.5, 0]])
    assert areas(np.array([box, point, [5, 5, 4, 9]])).tolist() == [100, 0, 0]


def test_boxes_are_cut_to_the_image():
    boxes = np.array([[-5, -5, 5, 5], [8, 2, 30, 9], [40, 40, 50, 50]], np.float32)
    cut = clip(boxes, width=20, height=6)
    assert cut.tolist() == [[0, 0, 5, 5], [8, 2, 20, 6], [20, 6, 20, 6]]
    assert cut.dtype == np.float32


@given(st.integers(0, 40), st.integers(0, 40), st.floats(0.05, 0.95), st.integers(0, 2**32 - 1))
def test_pairs_in_blocks_are_those_of_the_whole(found, truth, least, seed):
    rng = np.random.default_rng(seed)
    first, second, crowd = random_boxes(rng, found), random_boxes(rng, truth), rng.random(truth) < 0.3
    expected = iou(first, second, crowd)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(geometry, "DENSE", 0)
        patch.setattr(geometry, "PAIRS_AT_ONCE", 64)
        rows, columns, values = overlapping(first, second, least, crowd)
    assert list(zip(rows, columns, strict=True)) == list(zip(*np.nonzero(expected >= least), strict=True))
    np.testing.assert_array_equal(values, expected[rows, columns])


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("overlap", [0.3, 0.6])
def test_suppression_agrees_with_torchvision(seed, overlap):
    rng = np.random.default_rng(seed)
    count = int(rng.choice([0, 1, 5, 200, 1000]))
    boxes, scores, labels = random_boxes(rng, count), rng.random(count), rng.integers(0, 3, count)
    expected = ops.batched_nms(*map(torch.from_numpy, (boxes, scores, labels)), overlap).tolist()
    assert suppress(boxes, scores, labels, overlap).tolist() == expected
    assert suppress(boxes, scores, labels, overlap, limit=20).tolist() == expected[:20]


def test_of_equal_scores_the_first_stays_and_other_classes_are_left():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 5]], np.float32)
    assert suppress(boxes, np.array([1, 1, 1, 2.0]), np.array([0, 0, 1, 0]), 0.5).tolist() == [3, 0, 2]  # 0.5 is not above 0.5


def test_ten_thousand_boxes_are_settled():
    rng = np.random.default_rng(0)
    boxes, scores = random_boxes(rng, 10_000, side=3000).astype(np.float32), rng.random(10_000)
    boxes[:, 2:] = boxes[:, :2] + 20
    kept = suppress(boxes, scores, np.zeros(10_000, np.int64), 0.5)
    assert kept.tolist() == ops.nms(torch.from_numpy(boxes), torch.from_numpy(scores.astype(np.float32)), 0.5).tolist()


def test_a_box_that_is_not_a_number_hides_no_doubles():
    rng = np.random.default_rng(0)
    boxes = np.repeat(random_boxes(rng, 300, side=3000), 10, axis=0)
    boxes[-1] = np.nan
    kept = suppress(boxes, np.append(rng.random(2999), -1), np.zeros(3000, np.int64), 0.9)
    assert len(kept) == 301
