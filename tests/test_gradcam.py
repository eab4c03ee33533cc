"""Grad-CAM of the torch network, and the maps of an exported graph held against it."""

from __future__ import annotations

import numpy as np
import pytest

from planted_objects import SIDE, infer_of, render_objects, trained
from sightline.engines.adapters import Work, onnx_infer
from sightline.explanation.cam import Cam
from sightline.explanation.subject import Subject
from sightline.model.export import export_graph
from sightline.model.gradcam import grad_cam
from sightline.predictions import Decision
from sightline.tasks import load_task
from tiny import tiny_network

pytestmark = pytest.mark.usefixtures("one_thread")
OUTPUTS = ("logits", "embedding", "features")


@pytest.fixture(scope="module")
def objects():
    return render_objects(6, 77)


def cam_of(infer, network, images, targets):
    labels = [str(number) for number in range(network.head.linear.out_features)]
    subject = Subject(infer, load_task("classify"), labels, Decision())
    return Cam(network.head.linear.weight.detach().numpy()).evidence(subject, images, targets)


def test_cam_of_the_exported_graph_is_grad_cam_of_the_network(objects):
    """Both are in the unit of the logit, so that 1e-3 is little: the maps' values go into the tens."""
    images, targets, _ = objects
    network = trained()
    infer = onnx_infer(Work(export_graph(network, SIDE), OUTPUTS, "the graph", (SIDE, SIDE, 3), threads=1))
    ours, theirs = cam_of(infer, network, images, targets), grad_cam(network, images, targets)
    assert ours.shape == theirs.shape == (6, 12, 12)
    np.testing.assert_allclose(ours, theirs * 12 * 12, atol=1e-3)


@pytest.mark.parametrize("target", [0, 1, 2])
def test_cam_is_grad_cam_for_any_label_and_frozen_weights(target):
    network = tiny_network().requires_grad_(False)
    images, targets = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8), np.full(3, target)
    ours, theirs = cam_of(infer_of(network), network, images, targets), grad_cam(network, images, targets)
    np.testing.assert_allclose(ours, theirs * theirs[0].size, atol=1e-3)


def test_grad_cam_leaves_the_network_as_it_was(objects):
    images, targets, _ = objects
    network = trained()
    before = infer_of(network)(images)["logits"]
    first, second = grad_cam(network, images, targets), grad_cam(network, images, targets)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(before, infer_of(network)(images)["logits"])
    assert all(parameter.grad is None or not parameter.grad.isnan().any() for parameter in network.parameters())


def test_a_network_without_a_feature_map_has_none():
    images = np.zeros((1, 64, 64, 3), np.uint8)
    with pytest.raises(ValueError, match="no Grad-CAM"):
        grad_cam(tiny_network(name="test_vit", size=64), images, np.array([0]))
