"""explanation: heat maps point at what matters, their tests tell good ones from bad ones, pictures are legible, neighbours are near."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional as F

from planted_objects import LABELS, OBJECT, SIDE, mottled, render_objects, trained
from sightline.data.prepare import Prepare
from sightline.drawing.lettering import font_for, printable, shortened, wrapped
from sightline.evaluation.promises import unit
from sightline.explanation import heat as colours
from sightline.explanation.cam import Cam, cam, why_no_cam
from sightline.explanation.grid import covered, enlarged, heat_of, laid_back
from sightline.explanation.methods import best_method
from sightline.explanation.nearest import Neighbour, nearest
from sightline.explanation.occlusion import CELLS, Occlusion, cells_for, patches
from sightline.explanation.sheet import LEAST_WIDTH, Laid, Line, sheet
from sightline.explanation.subject import Subject, label_to_explain, log_odds
from sightline.explanation.tested import STEPS, area, delete_and_insert, random_maps, rank_correlation
from sightline.model.gradcam import grad_cam
from sightline.model.network import torch_infer
from sightline.model.shuffled import shuffled
from sightline.predictions import Classification, Decision, Tags
from sightline.reference import Known
from sightline.report.explanations import explanations_blocks
from sightline.report.html import Page, render_page
from sightline.report.sections import Section, without_empty
from sightline.tasks import load_task
from sightline.trust.explanations import explanations
from tiny import tiny_network

pytestmark = pytest.mark.usefixtures("one_thread")
OUTPUTS = ("logits", "embedding", "features")
CLASSIFY, TAG = load_task("classify"), load_task("tag")
FONT = font_for("", 15)


def infer_of(network):
    return torch_infer(network, torch.device("cpu"), OUTPUTS)


@pytest.fixture(scope="module")
def objects():
    return render_objects(24, 9_999)


@pytest.fixture(scope="module")
def weight(one_thread):
    return trained().head.linear.weight.detach().numpy()


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
        assert abs(rows.mean() - y - 5) <= reach
        assert abs(columns.mean() - x - 5) <= reach
    left, top, right, bottom = covered(back, (64, 64))
    inside = [max(left, 0), max(top, 0), min(right, width), min(bottom, height)]
    assert seen.sum() == pytest.approx((inside[2] - inside[0]) * (inside[3] - inside[1]), rel=0.08)
    assert (fit == "crop") == bool((~seen).any())


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


@dataclass(frozen=True)
class EdgeDetector:
    """Broken: it shows where the image has edges, whatever the network."""

    name: str = "CAM"
    passes: int = 0

    def evidence(self, subject, images, targets):
        grey = images.mean(axis=3)
        edges = np.abs(np.diff(grey, axis=1, append=0)) + np.abs(np.diff(grey, axis=2, append=0))
        return edges.reshape(len(images), 12, 4, 12, 4).mean(axis=(2, 4)).astype(np.float32)

    def forgetting(self, seed):
        return self


def evidence_on(objects, method, **others):
    images, targets, _ = objects
    twin = infer_of(shuffled(trained(), images[:16], 0))
    given = {"infer": infer_of(trained()), "images": images, "targets": targets, "task": CLASSIFY, "seconds": 600.0, **others}
    return explanations(random_infer=twin, labels=LABELS, decision=Decision(), method=method, **given)


@pytest.fixture(scope="module")
def honest(objects, weight):
    known = Known(np.eye(24, dtype=np.float16), objects[1], [f"train/{number}.png" for number in range(24)])
    return evidence_on(objects, Cam(weight), known=known)


def test_an_honest_method_is_trusted(honest):
    numbers = honest.numbers
    assert numbers["trusted"] is True
    assert numbers["n"] == 24
    assert numbers["deletion"]["wins"] >= 20
    assert numbers["insertion"]["wins"] >= 20
    assert numbers["deletion"]["interval"][0] > 0
    assert numbers["likeness"] < numbers["likeness_bound"]
    assert "passed" in numbers["sentence"]


def test_a_method_that_ignores_the_network_fails_the_randomisation(objects):
    """On these pictures the edges are the object, so that it does well in all else."""
    numbers = evidence_on(objects, EdgeDetector()).numbers
    assert numbers["likeness"] == pytest.approx(1)
    assert numbers["trusted"] is False
    assert "weights are random" in numbers["sentence"]
    assert numbers["deletion"]["interval"][0] > 0


def test_a_method_that_points_anywhere_fails_the_other_tests(objects):
    class Anywhere(EdgeDetector):
        def evidence(self, subject, images, targets):
            return random_maps(len(images), (12, 12), int(images.sum()) + id(subject) % 7)

    numbers = evidence_on(objects, Anywhere()).numbers
    assert numbers["trusted"] is False
    assert "random places" in numbers["sentence"]


def test_evidence_is_plain_json_with_pictures_of_its_own(honest):
    json.dumps(honest.numbers, allow_nan=False)
    assert {example["key"] for example in honest.numbers["examples"]} == set(honest.pictures)
    assert all(key.startswith("explanations/") for key in honest.pictures)
    assert all(Image.open(io.BytesIO(data)).format == "JPEG" for data in honest.pictures.values())
    assert all(len(example["nearest"]) == 3 for example in honest.numbers["examples"])


def test_no_image_too_few_images_and_scores_that_are_none(objects, weight):
    images, targets, places = objects
    nothing = evidence_on(objects, Occlusion(), images=images[:0], targets=targets[:0]).numbers
    assert nothing["trusted"] is None
    assert nothing["reason"]
    few = evidence_on((images[:3], targets[:3], places[:3]), Cam(weight)).numbers
    assert (few["n"], few["trusted"]) == (3, None)
    assert "too few" in few["reason"]

    def broken(batch):
        raw = infer_of(trained())(batch)
        return {**raw, "logits": np.full_like(raw["logits"], np.nan)}

    lost = evidence_on(objects, Cam(weight), infer=broken).numbers
    assert lost["trusted"] is None
    assert lost["reason"]
    assert not evidence_on((np.full_like(images, 90), targets, places), Cam(weight)).numbers["trusted"]


def test_tags_are_explained_too(objects, weight):
    found = evidence_on(objects, Cam(weight), task=TAG, targets=np.eye(2, dtype=bool)[objects[1]]).numbers
    assert found["trusted"] is True
    assert {example["label"] for example in found["examples"]} <= set(LABELS)


def test_a_shuffled_network_has_the_same_weights_elsewhere(objects):
    network = trained()
    twin = shuffled(network, objects[0], 0)
    for ours, theirs in zip(network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours.flatten().sort().values, theirs.flatten().sort().values)
    assert not torch.equal(network.head.linear.weight, twin.head.linear.weight)
    raw = infer_of(twin)(objects[0])
    assert np.isfinite(raw["logits"]).all()
    assert raw["features"].std() > 0.01
    np.testing.assert_array_equal(raw["logits"], infer_of(shuffled(network, objects[0], 0))(objects[0])["logits"])


def test_a_single_image_is_enough_to_shuffle_by(objects):
    network = tiny_network(size=32)
    assert np.isfinite(infer_of(shuffled(network, np.zeros((1, 32, 32, 3), np.uint8), 0))(objects[0][:2, :32, :32])["logits"]).all()


def test_a_network_without_grad_cam_is_tested_without(objects, weight):
    def none(images, targets):
        raise ValueError("there is no Grad-CAM of it")

    chosen = {"images": objects[0][:4], "targets": objects[1][:4]}
    assert evidence_on(objects, Cam(weight), grad_cam=none, **chosen).numbers["grad_cam_reason"] == "there is no Grad-CAM of it"
    agreeing = evidence_on(objects, Cam(weight), grad_cam=lambda *given: grad_cam(trained(), *given), **chosen).numbers
    assert agreeing["grad_cam_difference"] < 1e-3


# ---- the report ------------------------------------------------------------------------------------------------------


def test_the_report_says_whether_and_shows_where(honest):
    assert explanations_blocks({}) == []
    blocks = without_empty([Section("explanations", "Heat maps", explanations_blocks(honest.numbers))])
    page = render_page(Page("t", "t", "", [], blocks, "2026-01-01T00:00:00+00:00", "0"), honest.pictures)
    assert honest.numbers["sentence"] in page
    assert page.count("data:image/jpeg") == len(honest.pictures)
    assert "nearest training images" in page


def test_the_report_says_why_nothing_is_known():
    blocks = explanations_blocks({"method": "occlusion", "trusted": None, "reason": "No test image has an answer."})
    assert "No test image has an answer." in blocks[0].paragraphs


# ---- pictures --------------------------------------------------------------------------------------------------------


def luminance(pixels):
    return np.asarray(pixels, float) @ np.array([0.2126, 0.7152, 0.0722])


def test_colours_grow_lighter_without_exception():
    assert (np.diff(luminance(colours.colours(np.linspace(0, 1, 256)))) > 0).all()
    assert (np.diff(luminance(colours.scale(200, 4))[0, [10, 50, 90, 120, 150, 190]]) > 1).all()


@pytest.mark.parametrize("ground", ["black", "white", "noise", "yellow"])
def test_heat_shows_on_any_photograph(ground):
    grounds = {"black": 0, "white": 255, "noise": np.random.default_rng(0).integers(0, 256, (40, 40, 3)), "yellow": (255, 238, 128)}
    picture = np.broadcast_to(np.array(grounds[ground]), (40, 40, 3)).astype(np.uint8)
    heat = np.zeros((40, 40))
    heat[:, :10], heat[:, 30:] = 1, np.nan
    shown = luminance(colours.overlay(picture, heat))
    hot, cold, unseen = shown[2:-2, 2:8].mean(), shown[2:-2, 14:28].mean(), shown[2:-2, 32:].mean()
    assert hot > cold + 25
    assert unseen < cold


def test_a_sheet_holds_the_pair_the_words_and_the_neighbours():
    thumb = io.BytesIO()
    Image.new("RGB", (40, 30), (0, 200, 0)).save(thumb, "JPEG")
    near = [Neighbour("a.png", ("cat",), 0.9, thumb.getvalue()), Neighbour("b.png", (), 0.5, thumb.getvalue())]
    image = np.full((60, 20, 3), 200, np.uint8)
    laid = Laid(np.ones((3, 3)), np.eye(2, 3), (20, 20))
    plain, whole = (
        Image.open(io.BytesIO(sheet(image, laid, lines, found)))
        for lines, found in (([], []), ([Line("猫 " + "very " * 60 + "long")], near))
    )
    assert plain.format == "PNG"
    assert plain.width > LEAST_WIDTH
    assert whole.height > plain.height + 150
    pixels = np.asarray(whole).reshape(-1, 3)
    assert ((pixels[:, 1] > 150) & (pixels[:, 0] < 60)).sum() > 1000


def test_a_word_that_is_too_long_is_measured_a_few_times_a_row():
    """Found by benchmarks/fuzz_bundles.py: a sentence of five thousand letters without a space took minutes."""

    class Counting:
        asked = 0

        def getlength(self, text):
            self.asked += 1
            return 10.0 * len(text)

    font = Counting()
    assert [len(row) for row in wrapped("x" * 2000, font, 500)] == [50] * 40
    assert font.asked < 40 * 15
    assert shortened("x" * 2000) == "x" * 2000
    assert len(shortened("x" * 10**6)) == 2003


@settings(max_examples=50)
@given(st.text(max_size=80), st.integers(40, 300))
def test_wrapped_rows_hold_every_letter_and_fit(text, width):
    text = printable(text, FONT)
    rows = wrapped(text, FONT, width)
    assert "".join("".join(rows).split()) == "".join(text.split())
    assert all(FONT.getlength(row) <= width or len(row) == 1 for row in rows)


def test_letters_that_the_font_lacks_become_question_marks():
    assert printable("cat 猫 \udc80", FONT) == "cat ? ?"
    assert font_for("cat", 15).getname() == FONT.getname()
    assert len(printable("Käse 猫", font_for("Käse 猫", 15))) == 6


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
