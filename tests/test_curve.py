"""The learning curve of the probe, and what it says about more images."""

from __future__ import annotations

import numpy as np
import pytest

from sightline.model.heads import classify, tag
from sightline.training.curve import FEWEST_IMAGES, learning_curve


def clouds(n: int, distance: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points of four classes around four centres, so far from each other."""
    rng = np.random.default_rng(seed)
    targets = np.arange(n) % 4
    centres = np.random.default_rng(99).normal(size=(4, 60)) * distance
    return (centres[targets] + rng.normal(size=(n, 60))).astype(np.float32), targets


def curve_of(n: int, distance: float, *, head=classify, tags: bool = False):
    train, val = clouds(n, distance), clouds(400, distance, seed=1)
    targets = tuple(np.eye(4, dtype=bool)[part] if tags else part for part in (train[1], val[1]))
    probe = head.fit_probe(train[0], targets[0], val[0], targets[1], 4)
    return learning_curve(head, [train[0], val[0]], targets, 4, probe, 0), probe


def test_where_halves_are_worse_more_images_would_help():
    curve, probe = curve_of(80, 0.25)
    assert [n for n, _ in curve.points] == [20, 40, 80]
    assert curve.points[-1][1] == probe.reached
    assert curve.points[0][1] < curve.points[-1][1]
    assert curve.sentence.endswith("more images would probably help.")


def test_where_a_half_does_as_well_more_images_may_not_help():
    curve, _ = curve_of(400, 2.0)
    assert curve.points[1][1] == pytest.approx(1.0, abs=0.02)
    assert "more images like these may not help much" in curve.sentence


def test_tags_have_a_curve_of_their_own_measure():
    curve, _ = curve_of(80, 0.5, head=tag, tags=True)
    assert curve.measure == "mean average precision"
    assert len(curve.points) == 3


def test_a_class_with_a_single_image_is_in_every_part():
    embeddings, targets = clouds(80, 1.0)
    targets = targets.copy()
    targets[0] = 4
    probe = classify.fit_probe(embeddings, targets, embeddings, targets, 5)
    assert learning_curve(classify, [embeddings, embeddings], (targets, targets), 5, probe, 0) is not None


def test_a_handful_of_images_has_no_curve():
    embeddings, targets = clouds(FEWEST_IMAGES - 1, 1.0)
    probe = classify.fit_probe(embeddings, targets, embeddings, targets, 4)
    assert learning_curve(classify, [embeddings, embeddings], (targets, targets), 4, probe, 0) is None
