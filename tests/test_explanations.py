"""explanations: the trial's tests tell heat maps that can be trusted from those that cannot, and the report says which they are."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image

from planted_objects import LABELS, infer_of, trained
from sightline.explanation.cam import Cam
from sightline.explanation.occlusion import Occlusion
from sightline.explanation.tested import random_maps
from sightline.model.gradcam import grad_cam
from sightline.model.shuffled import shuffled
from sightline.predictions import Decision
from sightline.reference import Known
from sightline.report.explanations import explanations_blocks
from sightline.report.html import Page, render_page
from sightline.report.sections import Section, without_empty
from sightline.tasks import load_task
from sightline.trust.explanations import explanations
from tiny import tiny_network

pytestmark = pytest.mark.usefixtures("one_thread")
CLASSIFY, TAG = load_task("classify"), load_task("tag")


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
