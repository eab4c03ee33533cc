"""Fading: a classifier's probabilities of an image unlike the training images are drawn towards equal shares."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.evaluation.fading import LEAST, fading, spread_below
from sightline.evaluation.metrics import softmax
from sightline.predictions import Decision
from sightline.tasks import classify, tag
from sightline.tasks.confidence import calibrated

LABELS = ("ant", "bee", "cat", "dog")


def test_it_is_a_factor_of_e_for_each_spread_below_what_is_familiar():
    assert fading(np.array([0.9, 0.5, 0.4, 0.3]), 0.5, 0.1) == pytest.approx([1, 1, 1 / math.e, 1 / math.e**2])


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=20), st.floats(-1, 1), st.floats(1e-3, 1))
def test_it_falls_with_the_similarity_and_never_to_nothing(similarities, familiar_from, fades_over):
    found = fading(np.sort(similarities), familiar_from, fades_over)
    assert (np.diff(found) >= 0).all()
    assert (found >= LEAST).all()
    assert (found <= 1).all()


def test_the_spread_of_similarities_is_found_again():
    rng = np.random.default_rng(0)
    assert np.mean([spread_below(rng.normal(0.6, 0.07, 300)) for _ in range(100)]) == pytest.approx(0.07, rel=0.02)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_handful_of_images_that_are_all_alike_do_not_make_others_fade_at_once(n):
    assert fading(np.array([0.88]), 0.9, spread_below(np.full(n, 0.9))) > 0.7


def test_an_unfamiliar_image_keeps_its_best_guess_and_loses_its_certainty():
    rng = np.random.default_rng(0)
    raw = {"logits": rng.normal(0, 5, (40, 4)).astype(np.float32), "similarity": np.r_[np.full(20, 0.7), np.full(20, 0.1)]}
    decision = Decision(temperature=2.0, familiar_from=0.5, fades_over=0.1)
    plain, found = softmax(raw["logits"], 2.0), classify.probabilities(raw, decision)
    assert (found.argmax(axis=1) == plain.argmax(axis=1)).all()
    np.testing.assert_allclose(found[:20], plain[:20], rtol=1e-6)
    assert found[20:].max() < 0.3
    assert (classify.probabilities({"logits": raw["logits"]}, decision) == plain).all()  # nobody knows how similar these are
    assert (classify.probabilities(raw, Decision(temperature=2.0, familiar_from=0.5)) == plain).all()
    assert [one.score for one in classify.decode(raw, LABELS, decision)] == found.max(axis=1).tolist()


def test_tags_do_not_fade():
    """Half is not what remains of a tag of which nothing is known."""
    rng = np.random.default_rng(0)
    raw = {"logits": rng.normal(size=(40, 4)), "similarity": rng.random(40)}
    assert calibrated(tag, raw, rng.random((40, 4)) < 0.5, LABELS).fades_over is None
    assert calibrated(classify, raw, rng.integers(0, 4, 40), LABELS).fades_over == pytest.approx(spread_below(raw["similarity"]))


def test_a_bundle_is_less_sure_of_noise_than_its_network_and_names_the_same(run, shapes):
    import sightline

    model = sightline.Model.open(run.model)
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    known = sorted(map(str, (shapes / "disc").glob("*.png")))
    raw = np.concatenate([batch.raw["logits"] for batch in model.raw([noise, *known])])
    plain = softmax(raw, model.manifest.decision.temperature)
    found = model.predict([noise, *known])
    assert [one.label for one in found] == [model.labels[place] for place in plain.argmax(axis=1)]
    assert found[0].caution.unfamiliar
    assert found[0].score < plain[0].max()
    for one, row in zip(found[1:], plain[1:], strict=True):
        assert one.caution.unfamiliar or one.score == pytest.approx(row.max(), abs=1e-6)
