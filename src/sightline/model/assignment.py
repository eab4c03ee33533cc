"""Which place of a detector's maps learns which object: Feng et al., "TOOD: Task-aligned one-stage object detection" (2021).

An object is learned by the places inside it that already tell it best, in score and in box alike, and the score that they are to give
is how well they do, by the best of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.model.boxes import iou

# What a row of targets holds besides labels: nothing, and a region of which nobody knows what is in it.
PADDING, CROWD = -1, -2
BACKGROUND = -1
# Places that learn an object, and how much the score and the overlap count in their choice; the paper's.
TOP, SCORE_POWER, OVERLAP_POWER = 13, 1.0, 6.0
# An object smaller than the finest places lie apart is taken for as many times that distance wide, so that some place is inside.
SMALLEST_OBJECT = 1.5
# Objects times places that are looked at at once: some tensors of so many float32.
MOST_PAIRS = 4_000_000


@dataclass(frozen=True)
class Assigned:
    """What each of a places in n images is to learn.

    label    (n, a) int64, BACKGROUND where there is no object, CROWD where nothing is to be learned
    boxes    (n, a, 4) float32, those of the objects; nought elsewhere
    quality  (n, a) float32 in [0, 1], the score that is to be given to the label
    """

    label: Tensor
    boxes: Tensor
    quality: Tensor


@dataclass(frozen=True)
class _Claims:
    """Pairs of an object and a place that could learn it: their numbers, the pair's overlap, and how well the place tells the object."""

    objects: Tensor
    places: Tensor
    overlap: Tensor
    alignment: Tensor


@torch.no_grad()
def assign(boxes: Tensor, scores: Tensor, centres: Tensor, strides: Tensor, targets: Tensor) -> Assigned:
    """Of a batch's predictions at a places, and its objects.

    boxes, scores     (n, a, 4) and (n, a, k) logits, float32
    centres, strides  (a, 2) in pixels of the input
    targets           (n, m, 5): label, left, top, right, bottom; PADDING and CROWD in the label's place
    """
    n, a = scores.shape[:2]
    images, rows = (targets[..., 0] >= 0).nonzero(as_tuple=True)
    labels, truth = targets[images, rows, 0].long(), targets[images, rows, 1:]
    claims = _claims(boxes, scores, centres, strides, (images, labels, truth))
    owner = _owners(claims, n * a)
    return _learned(claims, owner, (labels, truth), _in_crowds(targets, centres), (n, a))


def _claims(boxes: Tensor, scores: Tensor, centres: Tensor, strides: Tensor, objects: tuple[Tensor, Tensor, Tensor]) -> _Claims:
    images, labels, truth = objects
    a = len(centres)
    wide_enough = _at_least(truth, SMALLEST_OBJECT * float(strides.min())) if len(truth) else truth
    found = []
    for part in _parts(len(truth), a):
        overlap = iou(boxes[images[part]], truth[part, None])
        score = scores[images[part], :, labels[part]].sigmoid()
        alignment = score**SCORE_POWER * overlap**OVERLAP_POWER
        best, places = alignment.masked_fill(~_inside(centres, wide_enough[part]), -1).topk(min(TOP, a))
        numbers = torch.arange(part.start, part.start + len(best), device=places.device)[:, None].expand_as(places)
        claimed = best >= 0
        found.append((numbers[claimed], (places + a * images[part, None])[claimed], overlap.gather(1, places)[claimed], best[claimed]))
    if not found:
        none = torch.zeros(0, dtype=torch.long, device=boxes.device)
        return _Claims(none, none, none.float(), none.float())
    return _Claims(*(torch.cat(each) for each in zip(*found, strict=True)))


def _parts(objects: int, places: int) -> Iterator[slice]:
    at_once = max(1, MOST_PAIRS // places)
    for start in range(0, objects, at_once):
        yield slice(start, min(start + at_once, objects))


def _at_least(boxes: Tensor, side: float) -> Tensor:
    """The boxes, grown about their middle to ``side`` where they are smaller."""
    middle, size = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).clamp(min=side)
    return torch.cat([middle - size / 2, middle + size / 2], 1)


def _inside(centres: Tensor, boxes: Tensor) -> Tensor:
    """(m, a) whether each of a points is in each of m boxes."""
    return ((centres > boxes[:, None, :2]) & (centres < boxes[:, None, 2:])).all(-1)


def _owners(claims: _Claims, places: int) -> Tensor:
    """(places,) the object that each place learns, -1 for none: of those that claim it the one it overlaps most."""
    most = torch.full((places,), -1.0, device=claims.overlap.device).scatter_reduce_(0, claims.places, claims.overlap, "amax")
    won = claims.overlap == most[claims.places]
    owner = torch.full((places,), -1, device=claims.places.device)
    # Of objects that overlap alike the last, so that a run can be repeated.
    return owner.scatter_reduce_(0, claims.places[won], claims.objects[won], "amax")


def _learned(claims: _Claims, owner: Tensor, objects: tuple[Tensor, Tensor], crowded: Tensor, shape: tuple[int, int]) -> Assigned:
    labels, truth = objects
    kept = owner[claims.places] == claims.objects
    numbers, places = claims.objects[kept], claims.places[kept]
    alignment, overlap = claims.alignment[kept], claims.overlap[kept]
    none = torch.zeros(len(labels), device=alignment.device)
    best_alignment, best_overlap = (none.scatter_reduce(0, numbers, each, "amax") for each in (alignment, overlap))
    label = torch.where(crowded, CROWD, BACKGROUND).flatten()
    label[places] = labels[numbers]
    quality, boxes = torch.zeros(len(owner), device=alignment.device), torch.zeros(len(owner), 4, device=alignment.device)
    quality[places] = alignment / best_alignment[numbers].clamp(min=torch.finfo(alignment.dtype).tiny) * best_overlap[numbers]
    boxes[places] = truth[numbers]
    return Assigned(label.view(shape), boxes.view(*shape, 4), quality.view(shape))


def _in_crowds(targets: Tensor, centres: Tensor) -> Tensor:
    """(n, a) whether a place is inside a region of its image of which nothing is known."""
    n, a = len(targets), len(centres)
    images, rows = (targets[..., 0] == CROWD).nonzero(as_tuple=True)
    covered = torch.zeros(n, a, device=centres.device)
    for part in _parts(len(images), a):
        covered.index_add_(0, images[part], _inside(centres, targets[images[part], rows[part], 1:]).float())
    return covered > 0
