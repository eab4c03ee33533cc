"""Segmentation's head and what it learns from: shapes, losses, a picture learned by heart, the exported graph."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from torch.nn import functional as F

from sightline.data.prepare import Prepare
from sightline.model.assembly import assembled
from sightline.model.backbone import BackboneSpec, build
from sightline.model.export import export_graph
from sightline.model.heads import segment
from sightline.model.heads.segment import IGNORED, dice_loss
from sightline.model.network import Network, torch_infer

pytestmark = pytest.mark.usefixtures("one_thread")
SIDE, CLASSES = 64, 3
CPU = torch.device("cpu")


def network(name: str = "test_resnet", side: int = SIDE) -> Network:
    torch.manual_seed(0)
    return assembled(build(BackboneSpec(name, side)), segment, CLASSES, 0.0, Prepare(side))


def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    """Two pictures (2, SIDE, 96, 3) uint8 with the class of each pixel (2, SIDE, 96): a ground, a band and a block."""
    truth = torch.zeros(2, SIDE, 96, dtype=torch.uint8)
    truth[0, 20:44] = 1
    truth[0, 8:40, 60:84] = 2
    truth[1, :, 12:40] = 2
    truth[1, 48:, 40:] = 1
    colours = torch.tensor([(120, 120, 120), (30, 180, 60), (210, 50, 40)], dtype=torch.uint8)
    return colours[truth.long()], truth


def test_a_picture_learned_by_heart_is_told_pixel_by_pixel():
    found, (images, truth) = network(), pictures()
    optimizer, objective, losses = torch.optim.AdamW(found.parameters(), 2e-3), segment.Objective(0.0), []
    for _ in range(50):
        loss, _ = objective.step(found.train(), images, truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    with torch.no_grad():
        for _ in range(30):
            found(images)
    assert losses[-1] < losses[0] / 4
    raw = torch_infer(found, CPU, ("logits", "embedding", "features"))(images.numpy())
    assert raw["features"].shape == (2, 96, 2, 3)
    assert raw["embedding"].shape == (2, 96)
    logits = F.interpolate(torch.from_numpy(raw["logits"]), size=truth.shape[1:], mode="bilinear")
    assert (logits.argmax(1) == truth).float().mean() > 0.95


def test_pixels_that_nobody_knows_count_for_nothing():
    images, truth = pictures()
    hidden = truth.clone()
    hidden[:, :, :48] = IGNORED
    other = truth.clone()
    other[:, :, :48] = 2
    objective = segment.Objective(0.0)
    first, second = (float(objective.step(network(), images, each)[0].detach()) for each in (hidden, other))
    assert first != second
    loss, _ = objective.step(network(), images, torch.full_like(truth, IGNORED))
    loss.backward()
    assert float(loss.detach()) == 0


def test_the_dice_loss_on_a_case_worked_out_by_hand():
    """Two of four pixels are of class 1, and of those one is told, and one other by mistake; the last pixel is not known."""
    told, truth = torch.tensor([[[1, 1, 0, 0, 1]]]), torch.tensor([[[1, 0, 1, 0, IGNORED]]])
    logits = 100.0 * F.one_hot(told, 3).permute(0, 3, 1, 2)
    # Classes 0 and 1: 1 - 2 * 1 / (2 + 2); class 2 is not there.
    assert float(dice_loss(logits, truth)) == pytest.approx(0.5)


def test_class_weights_make_a_class_count_more():
    images, truth = pictures()

    def loss(weights):
        return float(segment.Objective(0.0, weights).step(network(), images, truth)[0].detach())

    assert loss(torch.ones(3)) == pytest.approx(loss(None), rel=1e-6)
    assert loss(torch.tensor([1.0, 1.0, 5.0])) != pytest.approx(loss(None), rel=1e-3)


def test_the_coarser_maps_logits_are_for_training_alone():
    found, (images, _) = network(), pictures()
    assert [tuple(each.shape) for each in found(images)["auxiliary"]] == [(2, 3, 8, 12), (2, 3, 4, 6), (2, 3, 2, 3)]
    assert "auxiliary" not in found.eval()(images)


def test_the_graph_answers_as_the_network_does():
    found = network()
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 96, 3), np.uint8)
    session = onnxruntime.InferenceSession(export_graph(found, (64, 96)), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    assert names == ["logits", "embedding", "features"]
    expected = torch_infer(found, CPU, names)(images)
    for name, values in zip(names, session.run(names, {"images": images}), strict=True):
        np.testing.assert_allclose(values, expected[name], rtol=1e-4, atol=1e-4)
