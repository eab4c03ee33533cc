"""Detection's head and what it learns from: shapes, losses, boxes found in pictures learned by heart, the exported graph."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import torch

from sightline.data.prepare import Prepare
from sightline.model.assembly import assembled
from sightline.model.assignment import CROWD, PADDING
from sightline.model.backbone import BackboneSpec, build
from sightline.model.boxes import iou
from sightline.model.export import export_graph, weights_bytes
from sightline.model.heads import detect
from sightline.model.network import Network, torch_infer
from sightline.model.rebuild import network_of

pytestmark = pytest.mark.usefixtures("one_thread")
SIDE, CLASSES = 64, 2
CPU = torch.device("cpu")
NOTHING = [PADDING, 0.0, 0.0, 0.0, 0.0]
COLOURS = [(220, 40, 40), (40, 60, 220)]


def network(name: str = "test_resnet", side: int = SIDE) -> Network:
    torch.manual_seed(0)
    return assembled(build(BackboneSpec(name, side)), detect, CLASSES, 0.0, Prepare(side))


def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    """Two pictures of coloured rectangles, (2, SIDE, SIDE, 3) uint8 and (2, 3, 5): of the first there are three, of the second one."""
    targets = torch.tensor([
        [[0, 4, 6, 24, 22], [1, 30, 8, 60, 44], [0, 8, 40, 26, 62]],
        [[1, 10, 20, 44, 52], NOTHING, NOTHING],
    ])  # fmt: skip
    images = torch.full((2, SIDE, SIDE, 3), 128, dtype=torch.uint8)
    for image, rows in zip(images, targets, strict=True):
        for label, left, top, right, bottom in rows.int().tolist():
            if label >= 0:
                image[top:bottom, left:right] = torch.tensor(COLOURS[label], dtype=torch.uint8)
    return images, targets


@pytest.fixture(scope="module")
def learned() -> tuple[Network, list[float]]:
    """A network that has learned both pictures by heart, and its losses on the way."""
    torch.set_num_threads(1)
    found, (images, targets), losses = network(), pictures(), []
    optimizer, objective = torch.optim.AdamW(found.parameters(), 2e-3), detect.Objective(0.0)
    for _ in range(60):
        loss, _ = objective.step(found.train(), images, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    with torch.no_grad():  # the statistics of these pictures, which 60 steps have only come near to
        for _ in range(30):
            found(images)
    return found.eval(), losses


def best(raw: dict, image: int, boxes: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each true box the highest score that a place gives to its label among those that overlap it by 0.7, and what they overlap."""
    overlap = iou(boxes[:, None], torch.from_numpy(raw["boxes"][image]))
    scores = torch.from_numpy(raw["scores"][image]).sigmoid()[:, labels].T
    place = scores.masked_fill(overlap < 0.7, 0).argmax(1, keepdim=True)
    return scores.gather(1, place)[:, 0], overlap.gather(1, place)[:, 0]


def test_pictures_learned_by_heart_are_found(learned):
    found, losses = learned
    images, targets = pictures()
    assert losses[-1] < losses[0] / 3
    raw = torch_infer(found, CPU, ("boxes", "scores"))(images.numpy())
    for image, rows in enumerate(targets):
        rows = rows[rows[:, 0] >= 0]
        scores, overlaps = best(raw, image, rows[:, 1:], rows[:, 0].long())
        assert scores.min() > 0.5
        assert overlaps.min() > 0.75
        # And nothing is seen where nothing is.
        outside = iou(rows[:, None, 1:], torch.from_numpy(raw["boxes"][image])).amax(0) < 0.1
        assert torch.from_numpy(raw["scores"][image]).sigmoid()[outside].max() < 0.3


def test_in_evaluation_boxes_lie_in_the_input_and_every_place_has_one(learned):
    found, _ = learned
    raw = torch_infer(found, CPU, ("boxes", "scores", "embedding", "features"))(
        np.random.default_rng(0).integers(0, 256, (3, 64, 96, 3), np.uint8)
    )
    places = 8 * 12 + 4 * 6 + 2 * 3
    assert {name: values.shape for name, values in raw.items()} == {
        "boxes": (3, places, 4), "scores": (3, places, CLASSES), "embedding": (3, 96), "features": (3, 96, 2, 3),
    }  # fmt: skip
    assert (raw["boxes"] >= 0).all()
    assert (raw["boxes"][..., 0::2] <= 96).all()
    assert (raw["boxes"][..., 1::2] <= 64).all()
    assert (raw["boxes"][..., 2:] >= raw["boxes"][..., :2]).all()


def loss_of(found: Network, targets: list, objective: detect.Objective | None = None) -> torch.Tensor:
    images, _ = pictures()
    return (objective or detect.Objective(0.0)).step(found.train(), images, torch.tensor(targets))[0]


def test_pictures_without_objects_give_a_finite_loss_and_gradients():
    found = network()
    for targets in ([[NOTHING], [NOTHING]], np.zeros((2, 0, 5), np.float32).tolist()):
        loss = loss_of(found, targets) if targets[0] else detect.Objective(0.0).step(found, pictures()[0], torch.zeros(2, 0, 5))[0]
        assert loss.isfinite()
        loss.backward()
    assert all(weights.grad.isfinite().all() for weights in found.head.score.parameters())


def test_in_a_crowd_nothing_is_learned():
    whole = [float(CROWD), 0.0, 0.0, float(SIDE), float(SIDE)]
    assert float(loss_of(network(), [[whole], [whole]]).detach()) == 0
    half = [float(CROWD), 0.0, 0.0, float(SIDE), SIDE / 2]
    assert 0 < float(loss_of(network(), [[half], [whole]]).detach()) < float(loss_of(network(), [[NOTHING], [NOTHING]]).detach())


def test_class_weights_and_smoothing_change_what_is_learned():
    objects = [[[0.0, 4.0, 6.0, 24.0, 22.0]], [[1.0, 10.0, 20.0, 44.0, 52.0]]]
    plain = float(loss_of(network(), objects).detach())
    assert float(loss_of(network(), objects, detect.Objective(0.0, torch.tensor([1.0, 3.0]))).detach()) > plain
    assert float(loss_of(network(), objects, detect.Objective(0.0, torch.ones(2))).detach()) == pytest.approx(plain, rel=1e-6)
    # Scores begin near nought, so that asking for less of them is nearer.
    assert float(loss_of(network(), objects, detect.Objective(0.5)).detach()) < plain


def test_in_bfloat16_the_loss_is_computed_in_float32():
    images, targets = pictures()
    with torch.autocast("cpu", torch.bfloat16):
        loss, figures = detect.Objective(0.0).step(network(), images, targets)
    exact, _ = detect.Objective(0.0).step(network(), images, targets)
    assert loss.dtype == torch.float32
    assert set(figures) == {"score", "box"}
    assert float(loss.detach()) == pytest.approx(float(exact.detach()), rel=0.05)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_the_graph_answers_as_the_network_does(name):
    side = 160 if name == "test_vit" else SIDE
    found = network(name, side)
    with torch.no_grad():
        for batch in torch.rand(3, 4, side, side, 3):
            found(batch * 255)
    images = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), np.uint8)
    session = onnxruntime.InferenceSession(export_graph(found, side), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    assert names == ["boxes", "scores", "embedding", "features"]
    expected = torch_infer(found, CPU, names)(images)
    for name, values in zip(names, session.run(names, {"images": images}), strict=True):
        np.testing.assert_allclose(values, expected[name], rtol=1e-4, atol=1e-4)


def test_weights_in_a_bundle_make_the_same_network_again(learned, monkeypatch):
    found, _ = learned
    manifest = SimpleNamespace(
        task="detect",
        labels=["a", "b"],
        backbone=json.loads(json.dumps(BackboneSpec("test_resnet", SIDE).to_json())),
        prepare=Prepare(SIDE).to_json(),
    )
    monkeypatch.setattr("sightline.model.rebuild.load_task", lambda name: None)
    monkeypatch.setitem(__import__("sightline.tasks").tasks.TASKS, "detect", SimpleNamespace(head="sightline.model.heads.detect"))
    again = network_of(SimpleNamespace(manifest=manifest, path="it", read=lambda role: weights_bytes(found)))
    images = pictures()[0].numpy()
    expected, raw = (torch_infer(each, CPU, ("boxes", "scores"))(images) for each in (found, again))
    assert all(np.array_equal(raw[name], expected[name]) for name in raw)
