"""Kept activations are those of the images, and batches of them depend on seed, epoch and step alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sightline.config import AugmentConfig
from sightline.training.activations import Kept, KeptBatches

CPU = torch.device("cpu")


def kept_of(n: int = 10, views: int = 3, shape: tuple[int, ...] = (2, 4, 5)) -> Kept:
    """Every number of a view of an image is 100 x view + image."""
    kept = Kept(n, shape)
    for view in range(views):
        rows = torch.arange(n).float() + 100 * view
        kept.add_view(part.reshape(-1, *([1] * len(shape))).expand(-1, *shape) for part in rows.split(4))
    return kept


@pytest.mark.parametrize("shape", [(2, 4, 5), (7, 3), (6,)])
def test_what_is_kept_comes_back_in_its_shape(shape):
    kept = kept_of(shape=shape)
    found = kept.get([0, 2, 1], [9, 0, 4], CPU)
    assert found.shape == (3, *shape)
    assert found.dtype == torch.float32
    assert found.flatten(1)[:, 0].tolist() == [9.0, 200.0, 104.0]
    assert len(kept) == 10
    assert kept.bytes_of_view == 10 * int(np.prod(shape)) * 2 == kept.views[0].numel() * kept.views[0].element_size()


def test_maps_are_kept_and_given_channels_last_as_convolutions_like_them():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(4, 3, 5, 6, generator=generator)
    kept = Kept(4, (3, 5, 6))
    kept.add_view([maps])
    found = kept.get([0] * 4, range(4), CPU)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, maps, rtol=1e-3, atol=1e-3)


def batches(kept: Kept, **settings) -> KeptBatches:
    return KeptBatches(kept, np.arange(len(kept)) % 3, AugmentConfig(**settings), 4, 0, CPU, 3)


def test_an_epoch_has_every_image_once_with_its_target_in_views_at_random():
    found = list(batches(kept_of()).epoch(1))
    assert [len(activations) for activations, _ in found] == [4, 4, 2] == [4] * (len(batches(kept_of())) - 1) + [2]
    numbers = torch.cat([activations[:, 0, 0, 0] for activations, _ in found])
    targets = torch.cat([targets for _, targets in found])
    assert sorted((numbers % 100).tolist()) == list(range(10))
    assert (numbers % 100 % 3).tolist() == targets.tolist()
    assert len(set((numbers // 100).tolist())) > 1


def test_an_epoch_is_the_same_again_and_from_its_middle_and_another_is_not():
    data = batches(kept_of(), mixup=0.4)
    whole, again, other = list(data.epoch(2)), list(data.epoch(2)), list(data.epoch(3))
    for (ours, truth), (theirs, same) in zip(whole, again, strict=True):
        assert torch.equal(ours, theirs)
        assert torch.equal(truth, same)
    assert all(torch.equal(ours[0], rest[0]) for ours, rest in zip(whole[1:], data.epoch(2, 1), strict=True))
    assert not torch.equal(whole[0][0], other[0][0])


def test_mixed_activations_have_mixed_targets():
    for activations, truth in batches(kept_of(views=1), mixup=0.4).epoch(1):
        assert truth.shape == (len(activations), 3)
        torch.testing.assert_close(truth.sum(dim=1), torch.ones(len(truth)))


def test_maps_are_moved_by_whole_cells_and_their_edges_repeated():
    kept = Kept(2, (1, 3, 4))
    kept.add_view([torch.arange(24.0).reshape(2, 1, 3, 4)])
    still, moved = (kept.get([0, 0], [0, 1], CPU, np.array(by)) for by in ([[0, 0], [0, 0]], [[1, 0], [0, -1]]))
    torch.testing.assert_close(still, kept.get([0, 0], [0, 1], CPU))
    assert moved[0, 0].tolist() == [[0, 1, 2, 3], [0, 1, 2, 3], [4, 5, 6, 7]]
    assert moved[1, 0].tolist() == [[13, 14, 15, 15], [17, 18, 19, 19], [21, 22, 23, 23]]
    assert moved.is_contiguous(memory_format=torch.channels_last)


def test_an_epoch_moves_large_maps_and_leaves_small_ones_and_sequences():
    assert [kept_of(shape=shape).most_moved for shape in [(2, 14, 14), (2, 7, 7), (49, 2), (6,)]] == [1, 0, 0, 0]
    kept = Kept(8, (1, 14, 14))
    kept.add_view([torch.arange(196.0).reshape(1, 1, 14, 14).expand(8, -1, -1, -1)])
    found = torch.cat([activations for activations, _ in batches(kept).epoch(1)])
    corners = {tuple(np.divmod(int(value), 14)) for value in found[:, 0, 7, 7]}
    assert corners <= {(row, column) for row in (6, 7, 8) for column in (6, 7, 8)}
    assert len(corners) > 3
