"""Which place learns which object, on cases worked out by hand, and how much boxes overlap."""

from __future__ import annotations

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.model import assignment
from sightline.model.assignment import BACKGROUND, CROWD, PADDING, TOP, assign
from sightline.model.boxes import generalized_iou, iou

pytestmark = pytest.mark.usefixtures("one_thread")
NOTHING = [PADDING, 0.0, 0.0, 0.0, 0.0]


def grid(rows: int, columns: int, stride: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Centres and strides of a map's places, row by row."""
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    centres = (torch.stack([x, y], -1).reshape(-1, 2) + 0.5) * stride
    return centres, torch.full_like(centres, stride)


def around(centres: torch.Tensor, half: float) -> torch.Tensor:
    return torch.cat([centres - half, centres + half], 1)


def test_overlaps_are_those_of_torchvision():
    boxes, others = (torch.rand(50, 4) * 100 for _ in range(2))
    boxes, others = (torch.cat([each[:, :2], each[:, :2] + each[:, 2:]], 1) for each in (boxes, others))
    torch.testing.assert_close(iou(boxes[:, None], others), torchvision.ops.box_iou(boxes, others), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(
        generalized_iou(boxes[:, None], others), torchvision.ops.generalized_box_iou(boxes, others), rtol=1e-4, atol=1e-6
    )


def test_an_object_is_learned_by_the_places_inside_it_and_the_best_is_to_say_how_well_it_fits():
    centres, strides = grid(4, 4)
    boxes = around(centres, 8)[None].clone()
    boxes[0, 5] = torch.tensor([4.0, 4.0, 20.0, 20.0])  # just the object
    scores = torch.full((1, 16, 2), -2.0)
    targets = torch.tensor([[[1.0, 4.0, 4.0, 20.0, 20.0], NOTHING]])
    found = assign(boxes, scores, centres, strides, targets)
    # Centres at 12 are inside; those at 4 and 20 lie on the border, which is outside.
    assert found.label[0].tolist() == [1 if place == 5 else BACKGROUND for place in range(16)]
    assert found.boxes[0, 5].tolist() == [4, 4, 20, 20]
    assert found.quality[0, 5] == pytest.approx(1, abs=1e-4)
    assert found.quality.sum() == found.quality[0, 5]


def test_quality_falls_with_alignment_from_the_best_overlap_down():
    """Two places inside: overlaps 1 and 1/2 at equal scores, so alignments 1 and 1/64 of the best."""
    centres, strides = grid(1, 2)
    boxes = torch.tensor([[[0.0, 0.0, 16.0, 8.0], [8.0, 0.0, 16.0, 8.0]]])
    found = assign(boxes, torch.zeros(1, 2, 1), centres, strides, torch.tensor([[[0.0, 0.0, 0.0, 16.0, 8.0]]]))
    assert found.label.tolist() == [[0, 0]]
    assert found.quality[0].tolist() == pytest.approx([1, 1 / 64], rel=1e-3)


def test_a_place_in_two_objects_learns_the_one_that_it_overlaps_more():
    centres, strides = grid(1, 3)
    boxes = around(centres, 4)[None]
    targets = torch.tensor([[[0.0, 0.0, 0.0, 24.0, 8.0], [1.0, 8.0, 0.0, 16.0, 8.0]]])
    found = assign(boxes, torch.zeros(1, 3, 2), centres, strides, targets)
    assert found.label.tolist() == [[0, 1, 0]]


def test_only_so_many_places_learn_a_large_object():
    centres, strides = grid(10, 10)
    targets = torch.tensor([[[0.0, 0.0, 0.0, 80.0, 80.0]]])
    found = assign(around(centres, 20)[None], torch.randn(1, 100, 1), centres, strides, targets)
    assert (found.label == 0).sum() == TOP


def test_an_object_between_the_places_is_learned_all_the_same():
    centres, strides = grid(4, 4)
    targets = torch.tensor([[[0.0, 15.5, 15.5, 16.5, 16.5]]])
    found = assign(around(centres, 6)[None], torch.zeros(1, 16, 1), centres, strides, targets)
    assert (found.label == 0).nonzero()[:, 1].tolist() == [5, 6, 9, 10]
    assert found.quality.max() > 0


def test_nothing_is_learned_in_a_crowd_but_its_neighbours_and_what_is_in_front_of_it():
    centres, strides = grid(2, 4)
    targets = torch.tensor([[[CROWD, 0.0, 0.0, 16.0, 16.0], [0.0, 0.0, 0.0, 8.0, 8.0]], [NOTHING, NOTHING]])
    found = assign(around(centres, 4).repeat(2, 1, 1), torch.zeros(2, 8, 1), centres, strides, targets)
    assert found.label[0].tolist() == [0, CROWD, BACKGROUND, BACKGROUND, CROWD, CROWD, BACKGROUND, BACKGROUND]
    assert (found.label[1] == BACKGROUND).all()


@pytest.mark.parametrize("targets", [torch.zeros(2, 0, 5), torch.tensor([[NOTHING], [NOTHING]])])
def test_pictures_without_objects_are_all_background(targets):
    centres, strides = grid(2, 2)
    found = assign(around(centres, 4).repeat(2, 1, 1), torch.zeros(2, 4, 3), centres, strides, targets)
    assert (found.label == BACKGROUND).all()
    assert found.quality.sum() == 0


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 12))
def test_looking_at_few_objects_at_once_changes_nothing(seed, objects):
    torch.manual_seed(seed)
    centres, strides = grid(6, 6)
    boxes, scores = around(centres, 6).repeat(3, 1, 1) + torch.randn(3, 36, 4), torch.randn(3, 36, 2)
    corners = torch.rand(3, objects, 2) * 40
    labels = torch.randint(-2, 2, (3, objects, 1)).float()
    targets = torch.cat([labels, corners, corners + torch.rand(3, objects, 2) * 20], 2)
    whole = assign(boxes, scores, centres, strides, targets)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assignment, "MOST_PAIRS", 72)
        parts = assign(boxes, scores, centres, strides, targets)
    assert torch.equal(whole.label, parts.label)
    torch.testing.assert_close(whole.quality, parts.quality)  # powers are computed otherwise in tensors of another length
    assert torch.equal(whole.boxes, parts.boxes)
    assert (whole.quality >= 0).all()
    assert (whole.quality <= 1).all()
