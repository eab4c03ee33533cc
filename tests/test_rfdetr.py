"""RF-DETR as a backbone: what is refused and in which words, weights from files, and a network that learns, is exported and answers
without torch as it does with it. The networks are the package's own, with random weights and few places."""

from __future__ import annotations

import argparse
import importlib.util
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import sightline
from conftest import QUICK, SCENE_LABELS, render_scene, write_boxes
from made_bundles import write_bundle
from sightline.bundle import Bundle
from sightline.config import NetworkConfig, TrainSettings
from sightline.data.prepare import Prepare
from sightline.errors import ModelFileError, UsageError
from sightline.model import rfdetr
from sightline.model.assembly import assembled, heads_of
from sightline.model.assignment import CROWD, PADDING
from sightline.model.backbone import BackboneSpec, build
from sightline.model.choose import Choice, choose
from sightline.model.export import export_graph, quiet, weights_bytes
from sightline.model.heads import queries
from sightline.model.network import Network, torch_infer
from sightline.model.rebuild import network_of
from sightline.onnx_check import check_graph
from sightline.predictions import Decision
from sightline.runtime import Model, raw_outputs
from sightline.training.plan import QUERIES_LR, make_plan

pytestmark = pytest.mark.usefixtures("one_thread")
needs_rfdetr = pytest.mark.skipif(importlib.util.find_spec("rfdetr") is None, reason="RF-DETR is not installed: sightline[rfdetr]")
NANO, SIDE = "rfdetr-nano", 96
# Places of the map, and so queries.
QUERIES = (SIDE // rfdetr.PATCH) ** 2
PREPARE = Prepare(SIDE, "pad", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


@pytest.fixture
def installed(monkeypatch):
    """Called with whether the package is to seem installed; it cannot be told from one that is as long as nothing of it is used."""
    real = importlib.util.find_spec

    def seem(there: bool) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: (there or None) if name == "rfdetr" else real(name, *rest))

    return seem


def asked(**settings: object) -> TrainSettings:
    return TrainSettings.of(**{"weights": "none", **settings})


@pytest.mark.parametrize(("settings", "task", "words"), [
    ({"backbone": "rfdetr-xlarge"}, "detect", "Platform Model License"),
    ({"backbone": "rfdetr-nanu"}, "detect", "Did you mean 'rfdetr-nano'"),
    ({"backbone": "rfdetr-base"}, "detect", "rfdetr-nano, rfdetr-small, rfdetr-medium, rfdetr-large"),
    ({"backbone": NANO}, "segment", "does not learn to segment"),
    ({"backbone": NANO, "weights": "auto"}, "detect", "--weights rf-detr-nano.pth"),
    ({"backbone": NANO, "weights": "hub"}, "detect", "--weights none"),
    ({"backbone": NANO, "label_smoothing": 0.1}, "detect", "--label-smoothing"),
    ({"backbone": NANO, "balance": "weights"}, "detect", "--balance weights"),
])  # fmt: skip
def test_what_cannot_be_had_is_said_in_a_sentence(settings, task, words, installed):
    installed(True)
    with pytest.raises(UsageError, match=words) as raised:
        rfdetr.check_asked(asked(**settings), task)
    assert str(raised.value).count("\n") == 0


def test_the_package_that_is_absent_is_named_before_any_image_is_looked_at(installed, tmp_path):
    installed(False)
    with pytest.raises(UsageError, match=r"needs rfdetr, which is not installed: pip install 'sightline\[rfdetr\]'"):
        sightline.train(write_boxes(tmp_path / "data", n=8), out=str(tmp_path / "run"), **{**QUICK, "backbone": NANO})
    assert not (tmp_path / "run").exists()


def test_other_backbones_are_none_of_its_business():
    rfdetr.check_asked(asked(backbone="resnet18", label_smoothing=0.1), "classify")
    rfdetr.check_asked(asked(), "segment")


def test_queries_learn_at_rates_of_their_own():
    plan = make_plan(asked().training, 500, pretrained=True, lies="boxes", queries=True)
    assert (plan.lr, plan.clip_norm, plan.weight_decay, plan.probe) == (QUERIES_LR, 0.1, 1e-4, False)
    assert make_plan(asked(optimizer="sgd").training, 500, pretrained=True, lies="boxes", queries=True).lr > QUERIES_LR
    assert make_plan(asked(lr=0.5).training, 500, pretrained=True, lies="boxes", queries=True).lr == 0.5


class Counting:
    """In the place of the package's loss: notes what it is to divide by."""

    group_detr, sum_group_losses, weight_dict = 13, False, {"loss_ce": 1.0}

    def __init__(self) -> None:
        self.counts: list[int] = []

    def __call__(self, outputs, targets, num_boxes=None):
        self.counts.append(num_boxes)
        return {name: outputs["pred_logits"].sum() for name in queries.PARTS.values()}


def test_the_loss_is_told_the_objects_of_the_batch_so_that_no_other_process_is_asked(monkeypatch):
    judge, outputs = Counting(), {"boxes": torch.zeros(2, 3, 8, 4), "scores": torch.zeros(2, 3, 8, 2)}
    monkeypatch.setattr(queries, "criterion", lambda classes: judge)
    images, targets = scenes(range(1, 3))
    for given in (targets, torch.full_like(targets, PADDING)):
        queries.Objective(0.0).step(lambda shown: outputs, images, given)
    assert judge.counts == [13 * int((targets[..., 0] >= 0).sum()), 1]


@needs_rfdetr
def test_the_package_would_count_as_many(learned, monkeypatch):
    judge, (images, targets), counted = queries.criterion(len(SCENE_LABELS)), scenes(range(1, 4)), []
    forward = judge.forward

    def counting(outputs, asked, num_boxes=None):
        counted.append((num_boxes, float(judge.num_boxes_for_targets(outputs, asked))))
        return forward(outputs, asked, num_boxes)

    monkeypatch.setattr(judge, "forward", counting)
    with torch.no_grad():
        queries.Objective(0.0).step(learned[0].train(), images, targets)
    learned[0].eval()
    ((ours, theirs),) = counted
    assert ours == theirs > judge.group_detr


def whole(name: str = NANO, side: int = 64, classes: int = 90) -> torch.nn.Module:
    """The package's own network of random weights, as it builds it."""
    torch.manual_seed(1)
    with quiet():
        return rfdetr.library(name).models.build_model_from_config(rfdetr.configured(name, side, num_classes=classes))


@pytest.fixture(scope="module")
def theirs() -> dict[str, torch.Tensor]:
    return whole().state_dict()


@pytest.fixture(scope="module")
def checkpoint(theirs, tmp_path_factory) -> Path:
    """A file as the package writes them: the weights beside settings in a namespace."""
    path = tmp_path_factory.mktemp("weights") / "rf-detr-nano.pth"
    torch.save({"model": theirs, "args": argparse.Namespace(num_classes=90, class_names=["a", "b"])}, path)
    return path


def chosen(path: Path, side: int) -> Choice:
    return choose(NetworkConfig(backbone=NANO, weights=str(path), size=side), (300, 200), scenes=True)


@needs_rfdetr
def test_a_file_of_the_package_fills_the_network(checkpoint, theirs):
    choice = chosen(checkpoint, 64)
    assert (choice.prepare.shape, choice.prepare.fit, choice.weights_source, choice.queries) == ((64, 64), "pad", "rf-detr-nano.pth", True)
    network = assembled(choice.build(), heads_of("detect", NANO), 3, 0.0, choice.prepare)
    given = {**network.backbone.inner.state_dict(prefix="backbone.0."), **network.head.inner.state_dict()}
    for name in theirs.keys() - {"_kp_active_mask"}:
        if "class_embed" not in name:
            assert torch.equal(given[name], theirs[name]), name
    assert torch.equal(given["class_embed.1.weight"], theirs["class_embed.weight"][:3])
    assert torch.equal(given["transformer.enc_out_class_embed.12.bias"], theirs["transformer.enc_out_class_embed.12.bias"][:3])


@needs_rfdetr
def test_weights_fit_inputs_of_another_size_and_come_as_safetensors(theirs, tmp_path):
    path = tmp_path / "nano.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in theirs.items()}, path, {"licence": "apache-2.0"})
    choice = chosen(path, 32)
    assert choice.licence == "apache-2.0"
    backbone = choice.build()
    positions, queries = backbone.inner.encoder.encoder.embeddings.position_embeddings, backbone.decoder[0].query_feat.weight
    assert positions.shape == (1, 1 + 2 * 2, 384)
    groups = theirs["query_feat.weight"].unflatten(0, (13, 16))
    assert torch.equal(queries.unflatten(0, (13, 4)), groups[:, :4])


class Unknown:
    """Something that a pickle would have to make."""


@needs_rfdetr
@pytest.mark.parametrize(("content", "words"), [
    (lambda own: {"model": {**own, "more": torch.zeros(1)}}, "of another network than rfdetr-nano"),
    (lambda own: {"model": {**own, "bbox_embed.layers.0.bias": torch.full((256,), torch.nan)}}, "no finite numbers"),
    (lambda own: {"model": own, "args": Unknown()}, "cannot be read"),
    (lambda own: [1, 2], "cannot be read"),
])  # fmt: skip
def test_files_that_are_no_such_weights_are_refused(content, words, theirs, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(content(theirs), path)
    with pytest.raises(ModelFileError, match=words):
        chosen(path, 64).build()


@needs_rfdetr
def test_weights_of_another_size_of_network_are_refused(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"model": whole("rfdetr-small").state_dict()}, path)
    with pytest.raises(ModelFileError, match="of another network than rfdetr-nano"):
        chosen(path, 64).build()


@needs_rfdetr
def test_each_size_is_built_for_its_own_input():
    sides = {}
    for name in rfdetr.SIZES:
        choice = choose(NetworkConfig(backbone=name, weights="none"), (640, 480), scenes=True)
        assert choice.normalised
        assert not choice.takes(320)
        sides[name] = choice.prepare.shape
    assert sides == {name: (side, side) for name, side in zip(rfdetr.SIZES, (384, 512, 576, 704), strict=True)}


def scenes(numbers: range) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures (n, SIDE, SIDE, 3) uint8 of rectangles, and their targets (n, 3, 5)."""
    pictures, rows = zip(*(render_scene(number, 1, SIDE) for number in numbers), strict=True)
    targets = torch.full((len(rows), 3, 5), float(PADDING))
    for row, found in enumerate(rows):
        for place, (label, box) in enumerate(found):
            targets[row, place] = torch.tensor([label, *box])
    return torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])), targets


@pytest.fixture(scope="module")
def learned() -> tuple[Network, list[float]]:
    """A network of two decoder layers that has learned for some steps, and the losses on the way."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    heads, losses = heads_of("detect", NANO), []
    network = assembled(build(BackboneSpec(NANO, SIDE)), heads, len(SCENE_LABELS), 0.0, PREPARE)
    optimizer, objective = torch.optim.AdamW(network.parameters(), 3e-4, weight_decay=1e-4), heads.Objective(0.0)
    for _ in range(12):
        loss, parts = objective.step(network.train(), *scenes(range(1, 4)))
        assert set(parts) == {"score", "box", "overlap"}
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 0.5)
        optimizer.step()
        losses.append(float(loss.detach()))
    return network.eval(), losses


@needs_rfdetr
def test_the_loss_falls_and_every_layer_learns(learned):
    network, losses = learned
    assert losses[-1] == min(losses) < 0.95 * losses[0]
    # A token that only masked training of DINOv2 knows.
    assert {name for name, weights in network.named_parameters() if weights.grad is None} == {
        "backbone.inner.encoder.encoder.embeddings.mask_token"
    }


@needs_rfdetr
def test_crowds_are_not_asked_for(learned):
    images, targets = scenes(range(1, 3))
    crowded = torch.cat([targets, torch.tensor([[CROWD, 0.0, 0.0, 50.0, 50.0]]).expand(2, 1, 5)], 1)
    objective = heads_of("detect", NANO).Objective(0.0)
    with torch.no_grad():
        one, other = (objective.step(learned[0].train(), images, each)[0] for each in (targets, crowded))
    learned[0].eval()
    assert float(one) == pytest.approx(float(other))


@needs_rfdetr
def test_the_bundle_gives_what_the_network_gives_and_finds_the_same(learned, tmp_path):
    network = learned[0]
    files = []
    for number in range(5):
        sink = io.BytesIO()
        render_scene(number, seed=1, side=80)[0].save(sink, "PNG")
        files.append(sink.getvalue())
    graph = export_graph(network, PREPARE.shape)
    check_graph(graph)
    path = write_bundle(
        tmp_path / "it.sight", graph, files[:1], PREPARE, task="detect", labels=SCENE_LABELS,
        backbone=BackboneSpec(NANO, SIDE).to_json(), weights=weights_bytes(network),
    )  # fmt: skip
    model = Model.open(path, engine="onnxruntime", threads=1)
    (given,) = model.raw(files)
    (expected,) = raw_outputs(torch_infer(network, torch.device("cpu"), model.task.OUTPUTS), PREPARE, files)
    assert given.raw["boxes"].shape == (5, QUERIES + 1, 4)
    assert (given.raw["boxes"][:, :-1] >= 0).all()
    assert (given.raw["boxes"][:, :-1] <= SIDE).all()
    # At such a temperature every box is said; which place one has may be another where scores are all but equal.
    assert model.task.difference(given.raw, expected.raw, Decision(temperature=4.0)) < 1e-3
    np.testing.assert_allclose(np.sort(given.raw["scores"], axis=1), np.sort(expected.raw["scores"], axis=1), rtol=0, atol=1e-3)
    np.testing.assert_allclose(np.sort(given.raw["boxes"], axis=1), np.sort(expected.raw["boxes"], axis=1), rtol=0, atol=1e-3 * SIDE)
    for found, known in zip(model.predict(files), model.task.decode(expected.raw, SCENE_LABELS, Decision()), strict=True):
        assert found.labels == known.labels
    with Bundle.open(path) as bundle:
        again = network_of(bundle)
    images = scenes(range(2))[0]
    with torch.no_grad():
        assert torch.equal(again(images)["scores"], network(images)["scores"])


@needs_rfdetr
def test_one_command_from_boxes_and_a_file_of_weights_to_a_report(checkpoint, tmp_path):
    data = write_boxes(tmp_path / "data", n=24)
    how = {**QUICK, "backbone": NANO, "weights": str(checkpoint), "epochs": 1, "batch_size": 4, "size": 64}
    run = sightline.train(data, task="detect", out=str(tmp_path / "run"), **how)
    network = run.numbers["network"]
    assert (network["backbone"], network["weights"], network["size"]) == (NANO, "rf-detr-nano.pth", 64)
    assert run.numbers["export"]["max_difference"] <= run.numbers["export"]["tolerance"]
    assert run.numbers["training"]["epochs"][1]["train_loss"] > 0
    assert sightline.verify(run.model)["max_difference"] == 0
    assert sightline.evaluate(run.model, data, engine="onnxruntime")["metrics"] == pytest.approx(run.numbers["test"]["metrics"])
    code = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "rfdetr", "transformers"):
            raise ImportError(f"{{name}} is blocked")
sys.meta_path.insert(0, Blocked())
import sightline
model = sightline.Model.open({str(run.model)!r}, engine="onnxruntime")
print(len(model.predict({str(data / "images" / "001.png")!r})) >= 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == ("True", 0), done.stderr
