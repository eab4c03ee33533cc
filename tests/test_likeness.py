"""Likeness: how an image's similarity to training images draws a classifier's probabilities towards equal shares."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sightline.evaluation.likeness import LEAST, STRANGE, likeness, usual_similarity
from sightline.evaluation.metrics import softmax
from sightline.predictions import Decision
from sightline.tasks import classify

LABELS = ("ant", "bee", "cat", "dog")


def test_it_is_bayes_rule_for_a_normal_distribution_and_an_even_one():
    similarities, usual = np.array([0.2, 0.45, 0.6, 0.7]), stats.norm(0.7, 0.1)
    expected = (1 - STRANGE) * usual.pdf(similarities) / ((1 - STRANGE) * usual.pdf(similarities) + STRANGE * stats.uniform().pdf(0.5))
    assert likeness(similarities, 0.7, 0.1) == pytest.approx(np.maximum(expected, LEAST))
    assert likeness(np.array([0.99]), 0.7, 0.1) == likeness(np.array([0.7]), 0.7, 0.1)  # nobody is too similar


def test_usual_similarities_are_found_again():
    rng = np.random.default_rng(0)
    found = np.array([usual_similarity(rng.normal(0.6, 0.07, 300)) for _ in range(100)])
    assert found.mean(axis=0) == pytest.approx((0.6, 0.07), rel=0.02)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_handful_of_images_that_are_all_alike_make_no_image_strange_that_is_nearly_so(n):
    assert likeness(np.array([0.8]), *usual_similarity(np.full(n, 0.9))) > 0.9


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=20), st.floats(-1, 1), st.floats(1e-3, 1))
def test_it_falls_with_the_similarity_and_never_to_nothing(similarities, middle, spread):
    found = likeness(np.sort(similarities), middle, spread)
    assert (np.diff(found) >= 0).all()
    assert (found >= LEAST).all()
    assert (found < 1).all()


def test_a_strange_image_keeps_its_best_guess_and_loses_its_certainty():
    rng = np.random.default_rng(0)
    raw = {"logits": rng.normal(0, 5, (40, 4)).astype(np.float32), "similarity": np.r_[np.full(20, 0.7), np.full(20, 0.1)]}
    decision = Decision(temperature=2.0, usual=0.7, spread=0.08)
    plain, found = softmax(raw["logits"], 2.0), classify.probabilities(raw, decision)
    assert (found.argmax(axis=1) == plain.argmax(axis=1)).all()
    np.testing.assert_allclose(found[:20], plain[:20], atol=2e-2)
    assert found[20:].max() < 0.3
    for other in (Decision(temperature=2.0), decision):
        assert (classify.probabilities({"logits": raw["logits"]}, other) == plain).all()  # by whom nothing is known it is as it was
    told = classify.decode(raw, LABELS, decision)
    assert [one.score for one in told] == found.max(axis=1).tolist()


def test_the_temperature_is_chosen_with_it():
    """Images of ten times the logits, but seen from afar, are no reason to be less sure of the others."""
    rng = np.random.default_rng(0)
    honest = rng.normal(0, 2, (2000, 4))
    targets = np.array([rng.choice(4, p=p) for p in softmax(honest)])
    similarities = np.where(np.arange(2000) < 40, 0.1, rng.normal(0.7, 0.05, 2000))
    logits = np.where(np.arange(2000)[:, None] < 40, -10 * honest, honest)
    with_it = classify.decide({"logits": logits, "similarity": similarities}, targets, LABELS)
    without = classify.decide({"logits": logits}, targets, LABELS)
    assert with_it.temperature == pytest.approx(1, abs=0.1)
    assert without.temperature > 1.3
    assert without.usual is without.spread is None


def test_a_bundle_is_less_sure_of_noise_than_its_network_and_names_the_same(run, shapes):
    import sightline

    model = sightline.Model.open(run.model)
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    known = sorted(map(str, (shapes / "disc").glob("*.png")))
    raw = np.concatenate([batch.raw["logits"] for batch in model.raw([noise, *known])])
    plain = softmax(raw, model.manifest.decision.temperature)
    found = model.predict([noise, *known])
    assert [one.label for one in found] == [model.labels[place] for place in plain.argmax(axis=1)]
    assert found[0].score < 0.5 + plain[0].max() / 2
    assert np.mean([abs(one.score - row.max()) for one, row in zip(found[1:], plain[1:], strict=True)]) < 0.02
