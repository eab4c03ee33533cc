"""explanation: heat maps point at what matters and lie where they belong, their tests are what they claim to be, neighbours are near."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from planted_objects import LABELS, OBJECT, SIDE, infer_of, mottled, trained
from sightline.data.prepare import Prepare
from sightline.evaluation.promises import unit
from sightline.explanation.cam import Cam, cam, why_no_cam
from sightline.explanation.grid import covered, enlarged, heat_of, is_whole, laid_back
from sightline.explanation.methods import best_method
from sightline.explanation.nearest import nearest
from sightline.explanation.occlusion import CELLS, Occlusion, cells_for, patches
from sightline.explanation.subject import Subject, label_to_explain, log_odds
from sightline.explanation.tested import STEPS, area, delete_and_insert, random_maps, rank_correlation
from sightline.predictions import Classification, Decision, Tags
from sightline.reference import Known
from sightline.tasks import load_task

pytestmark = pytest.mark.usefixtures("one_thread")
CLASSIFY, TAG = load_task("classify"), load_task("tag")


@pytest.fixture(scope="module")
def subject(one_thread):
    return Subject(infer_of(trained()), CLASSIFY, LABELS, Decision())


# ---- maps ------------------------------------------------------------------------------------------------------------


def test_the_mean_of_cam_is_the_logit_without_its_bias(subject, weight, objects):
    raw, bias = subject.raw(objects[0]), trained().head.linear.bias.detach().numpy()
    maps = Cam(weight).evidence(subject, objects[0], objects[1])
    np.testing.assert_allclose(maps.mean(axis=(1, 2)) + bias[objects[1]], raw["logits"][np.arange(24), objects[1]], atol=1e-4)


def test_cam_by_hand():
    features = np.array([[[1.0, 0.0], [0.0, 2.0]], [[0.0, 3.0], [0.0, 1.0]]])
    np.testing.assert_array_equal(cam(features, np.array([2.0, -1.0])), [[2, -3], [0, 3]])


def test_heat_is_what_is_above_the_mean():
    np.testing.assert_allclose(heat_of(np.array([[2, -3], [1, 4]])), [[1 / 3, 0], [0, 1]])
    np.testing.assert_allclose(heat_of(np.array([[2, -9], [0, 4]])), [[0.5, 0], [0, 1]])
    for flat in (np.full((2, 2), -1.0), np.full((2, 2), 3.0), np.array([[1.0, 1.0 + 1e-6]]), np.array([[-2.0, -1.0]])):
        assert not heat_of(flat).any()


@pytest.mark.parametrize("method", ["CAM", "occlusion"])
def test_heat_lies_on_the_object(subject, weight, objects, method):
    explainer = Cam(weight) if method == "CAM" else Occlusion()
    images, targets, places = (part[:8] for part in objects)
    maps = explainer.evidence(subject, images, targets)
    assert explainer.name == method
    for evidence, place in zip(maps, places, strict=True):
        heat = enlarged(heat_of(evidence), (SIDE, SIDE))
        assert heat[place].sum() / heat.sum() >= 3 * OBJECT**2 / SIDE**2


@pytest.mark.parametrize("size", [8, 9, 14, 32, 48, 224])
def test_each_cell_lies_under_four_patches(size):
    cells = cells_for((size, size))
    covering = np.zeros((size, size), int)
    for rows, columns in patches((size, size), cells):
        covering[rows, columns] += 1
    assert len(patches((size, size), cells)) == (cells + 1) ** 2
    assert (covering == 4).all()
    assert cells == CELLS or size < 2 * CELLS


def test_occlusion_finds_what_is_counted():
    """A model that counts bright pixels in one place: the evidence is there and nowhere else."""

    def infer(batch):
        bright = (batch[:, 8:16, 24:32, 0] > 200).mean(axis=(1, 2))
        return {"logits": np.stack([bright * 4, np.ones(len(batch))], axis=1).astype(np.float32)}

    image = np.full((56, 56, 3), 60, np.uint8)
    image[8:16, 24:32] = 255
    counting = Subject(infer, CLASSIFY, ("bright", "other"), Decision(), batch=7)
    (evidence,) = Occlusion().evidence(counting, image[None], np.array([0]))
    assert np.unravel_index(evidence.argmax(), evidence.shape) == (1, 3)
    assert evidence[3:].max() == pytest.approx(0, abs=1e-6)


def test_the_best_method_a_network_allows():
    maps, small = np.zeros((1, 8, 7, 7), np.float32), np.zeros((1, 8, 1, 1), np.float32)
    assert best_method(np.ones((3, 8)), maps).name == "CAM"
    for weight, features, says in ((None, maps, "linear"), (np.ones((3, 4)), maps, "averages"), (np.ones((3, 8)), small, "1 x 1 cells"),
                                   (np.ones((3, 8)), np.zeros((1, 50, 8)), "averages")):  # fmt: skip
        assert says in why_no_cam(weight, features)
        assert best_method(weight, features).name == "occlusion"


def test_log_odds_move_where_probabilities_do_not():
    np.testing.assert_allclose(log_odds(np.array([0.5, 0.25])), [0, np.log(1 / 3)])
    assert np.isfinite(log_odds(np.array([0.0, 1.0]))).all()
    assert log_odds(np.array([1 - 1e-9]))[0] - log_odds(np.array([1 - 1e-7]))[0] == pytest.approx(np.log(100), rel=1e-3)


def test_the_label_to_explain_is_the_answer_or_came_nearest_to_it():
    assert label_to_explain(Classification(("b", "a"), (0.9, 0.1))) == "b"
    assert label_to_explain(Tags(("c", "a"), {"a": 0.6, "b": 0.3, "c": 0.8})) == "c"
    assert label_to_explain(Tags((), {"a": 0.1, "b": 0.3})) == "b"


# ---- grids -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cells", "size"), [((7, 7), 224), ((4, 4), 30), ((3, 5), 32), ((1, 1), 8)])
def test_enlarging_is_bilinear(cells, size):
    grid = np.random.default_rng(0).normal(size=cells)
    expected = F.interpolate(torch.from_numpy(grid)[None, None], (size, size), mode="bilinear", align_corners=False)[0, 0]
    np.testing.assert_allclose(enlarged(grid, (size, size)), expected.numpy(), atol=1e-12)


@settings(max_examples=60)
@given(
    fit=st.sampled_from(["crop", "pad", "squash"]),
    width=st.integers(40, 200),
    height=st.integers(40, 200),
    at=st.tuples(st.floats(0.3, 0.7), st.floats(0.3, 0.7)),
)
def test_heat_comes_back_to_the_pixels_that_it_was_made_of(fit, width, height, at):
    """A network whose evidence is brightness: a bright spot in the original lies under the heat, whichever way it was prepared."""
    x, y = (min(int(share * side), side - 12) for share, side in zip(at, (width, height), strict=True))
    image = np.zeros((height, width, 3), np.uint8)
    image[y : y + 10, x : x + 10] = 255
    prepared, back = Prepare(64, fit=fit, crop_fraction=0.9)(image)
    grid = prepared[:, :, 0].reshape(16, 4, 16, 4).mean(axis=(1, 3)) * (prepared[:, :, 0].reshape(16, 4, 16, 4).max(axis=(1, 3)) > 160)
    heat = laid_back(grid, back, (64, 64), width, height)
    assert heat.shape == (height, width)
    seen = ~np.isnan(heat)
    if grid.any():
        rows, columns = np.nonzero(np.nan_to_num(heat) >= 0.9 * np.nanmax(heat))
        reach = 8 * max(back[0, 0], back[1, 1])
        # A crop may leave a part of the spot, which is all there is evidence of.
        spot_rows, spot_columns = np.nonzero(image[:, :, 0].astype(bool) & seen)
        assert abs(rows.mean() - spot_rows.mean()) <= reach
        assert abs(columns.mean() - spot_columns.mean()) <= reach
    left, top, right, bottom = covered(back, (64, 64))
    inside = [max(left, 0), max(top, 0), min(right, width), min(bottom, height)]
    assert seen.sum() == pytest.approx((inside[2] - inside[0]) * (inside[3] - inside[1]), rel=0.08)
    assert (fit == "crop") == bool((~seen).any())


@pytest.mark.parametrize("fit", ["pad", "squash"])
def test_what_is_seen_whole_is_so_however_its_sides_are_rounded(fit):
    prepare = Prepare(224, fit=fit)
    for width, height in ((460, 460), *((side, 1000 - side) for side in range(40, 961))):
        assert is_whole(covered(prepare.way_back(width, height), prepare.shape), width, height)


@pytest.mark.parametrize(("size", "whole"), [((460, 460), True), ((226, 224), False), ((224, 226), False), ((640, 480), False)])
def test_the_middle_of_an_image_is_not_all_of_it(size, whole):
    assert is_whole(covered(Prepare(224, fit="crop").way_back(*size), (224, 224)), *size) == whole


# ---- tests of maps ---------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.integers(3, 40))
def test_rank_correlation_is_spearmans(seed, n):
    values, other = np.random.default_rng(seed).integers(0, 10, (2, n))
    if values.std() and other.std():
        assert rank_correlation(values, other) == pytest.approx(scipy.stats.spearmanr(values, other).statistic, abs=1e-12)


def test_rank_correlation_of_flat_maps():
    flat, rising = np.ones((3, 3)), np.arange(9.0).reshape(3, 3)
    assert rank_correlation(flat, rising) == 0
    assert rank_correlation(flat, 2 * flat) == 1
    assert rank_correlation(rising, -rising) == pytest.approx(-1)


def test_areas_are_by_trapezoids():
    curves = np.random.default_rng(0).random((5, STEPS + 1))
    np.testing.assert_allclose(area(curves), scipy.integrate.trapezoid(curves, dx=1 / STEPS, axis=1))


def counting_score(image, place):
    """The share of an object's pixels that are as they were."""

    def score(images):
        return (images[(slice(None), *place)] == image[place]).all(axis=3).mean(axis=(1, 2))

    return score


def test_the_true_map_beats_random_ones_and_its_opposite_loses():
    rng = np.random.default_rng(0)
    image, place = mottled(rng), (slice(12, 24), slice(24, 36))
    truth = np.zeros((12, 12), np.float32)
    truth[3:6, 6:9] = 1
    score, random = counting_score(image, place), random_maps(20, (12, 12), 0)
    good, bad = (delete_and_insert(score, image, evidence, random) for evidence in (truth, -truth))
    assert good.deletion.shape == good.insertion.shape == (21, STEPS + 1)
    assert good.wins() == (1.0, 1.0)
    assert bad.wins() == (0.0, 0.0)
    # An eighth of the pixels holds the whole object: all is lost, or won, at the first step.
    np.testing.assert_allclose(good.insertion[0, 1:], 1)
    assert good.deletion[0, 1] <= 0.05
    assert good.deletion[:, 0] == pytest.approx(1)
    np.testing.assert_array_equal(good.deletion[:, -1], good.deletion[0, -1])
    found = good.to_json()
    assert found["deletion"] < found["random_deletion"]
    assert found["insertion"] > found["random_insertion"]
    assert found["random_maps"] == 20


def test_a_map_is_as_good_as_itself():
    image = mottled(np.random.default_rng(1))
    same = random_maps(1, (6, 6), 3)
    assert delete_and_insert(counting_score(image, (slice(0, 9), slice(0, 9))), image, same[0], same).wins() == (0.5, 0.5)


# ---- nearest images --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("targets", [np.arange(30) % 3, np.eye(3, dtype=bool)[np.arange(30) % 3]])
def test_the_nearest_are_those_of_the_largest_cosine(targets):
    from sklearn.neighbors import NearestNeighbors

    rng = np.random.default_rng(0)
    vectors, asked = unit(rng.normal(size=(30, 8))), 5 * rng.normal(size=8)
    known = Known.of(Known(vectors, targets, [f"{row}.png" for row in range(30)], [bytes([row]) for row in range(30)]).arrays())
    distances, rows = NearestNeighbors(n_neighbors=4, metric="cosine").fit(vectors).kneighbors(asked[None])
    found = nearest(known, asked, ("a", "b", "c"), 4)
    assert [neighbour.name for neighbour in found] == [f"{row}.png" for row in rows[0]]
    assert [neighbour.labels for neighbour in found] == [("abc"[row % 3],) for row in rows[0]]
    assert [neighbour.thumb for neighbour in found] == [bytes([row]) for row in rows[0]]
    np.testing.assert_allclose([neighbour.similarity for neighbour in found], 1 - distances[0], atol=2e-3)


def test_few_known_images_unlabelled_ones_and_an_embedding_of_nought():
    known = Known(np.eye(2, 4, dtype=np.float16), np.array([-1, 0]), ["a", "b"])
    assert [neighbour.labels for neighbour in nearest(known, np.zeros(4), ("x",), 5)] == [(), ("x",)]
