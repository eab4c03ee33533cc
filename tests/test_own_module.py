"""A user's own ``nn.Module`` goes the whole way; deep networks from nothing have auxiliary heads while they learn."""

from __future__ import annotations

import copy
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

import sightline
from conftest import QUICK
from sightline.bundle import Bundle
from sightline.config import NetworkConfig
from sightline.data.prepare import Prepare
from sightline.errors import UsageError
from sightline.model.backbone import BackboneSpec, build
from sightline.model.choose import choose
from sightline.model.export import export_graph, weights_bytes
from sightline.model.heads.classify import Objective, make_head
from sightline.model.heads.linear import AUXILIARY_SHARE
from sightline.model.network import AUXILIARY_WIDTH, AuxiliaryHead, Network, torch_infer
from sightline.model.rebuild import network_of
from sightline.runtime import Model

pytestmark = pytest.mark.usefixtures("one_thread")


class Small(nn.Module):
    """Two convolutions; ``gives`` says what comes out."""

    def __init__(self, gives: str = "map") -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU())
        self.gives = gives

    def forward(self, images):
        features = self.layers(images)
        embedding = features.amax((2, 3))
        return {"map": features, "embedding": embedding, "both": (embedding, features)}[self.gives]


@pytest.fixture(scope="module")
def trained(shapes, tmp_path_factory, one_thread):
    """By what a module gives: one such, as it was before, as it is after a training, and the run."""

    @cache
    def by(gives):
        module = Small(gives)
        before = copy.deepcopy(module)
        return before, module, sightline.train(shapes, out=str(tmp_path_factory.mktemp(gives) / "run"), **{**QUICK, "backbone": module})

    return by


@pytest.mark.parametrize("gives", ["map", "embedding", "both"])
def test_a_module_is_trained_shipped_and_predicts_without_torch(trained, gives):
    before, module, run = trained(gives)
    for ours, theirs in zip(module.state_dict().values(), before.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)  # the user's stays as it was
    assert run.numbers["network"]["backbone"] == "module/Small"
    assert sightline.verify(run.model)["max_difference"] == 0
    model = Model.open(run.model, engine="onnxruntime")
    batch = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    with Bundle.open(run.model) as bundle:
        again = torch_infer(network_of(bundle, module), torch.device("cpu"), ("logits",))(batch)
        with pytest.raises(UsageError, match="module/Small is a module of your own: give it again"):
            network_of(bundle)
    np.testing.assert_allclose(model.infer(batch)["logits"], again["logits"], atol=1e-4)


def test_a_run_with_a_module_goes_on_when_the_module_is_given_again(shapes, trained, tmp_path, monkeypatch):
    _, module, straight = trained("map")
    monkeypatch.setattr("sightline.package.ship", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(sightline.SightlineError, match="--resume"):
        sightline.train(shapes, out=str(tmp_path / "stopped"), **{**QUICK, "backbone": module})
    monkeypatch.undo()
    with pytest.raises(UsageError, match="give it again"):
        sightline.train(resume=tmp_path / "stopped")
    resumed = sightline.train(resume=tmp_path / "stopped", backbone=Small())
    with Bundle.open(straight.model) as ours, Bundle.open(resumed.model) as theirs:
        assert ours.read("weights") == theirs.read("weights")


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.Flatten(0), "does not turn"),
        (nn.Conv2d(1, 2, 3), "does not turn"),
        (nn.Identity(), None),
    ],
)
def test_a_module_that_gives_no_embedding_is_refused_in_words(module, reason):
    spec = BackboneSpec("module/X", 32)
    if reason is None:
        assert build(spec, module).num_features == 3
    else:
        with pytest.raises(UsageError, match=reason):
            build(spec, module)


def test_a_module_answers_by_the_views_that_are_asked_for():
    torch.manual_seed(0)
    choice = choose(NetworkConfig(views="mirror"), (32, 32), module=Small("both"))
    backbone = choice.build()
    network = Network(backbone, make_head(backbone.num_features, 3, 0.0), choice.prepare).eval()
    images = torch.randint(0, 256, (2, 32, 32, 3)).float()
    with torch.no_grad():
        torch.testing.assert_close(network(images)["logits"], network(images.flip(2))["logits"])


def test_a_module_takes_no_weights_and_no_drop_path():
    with pytest.raises(UsageError, match="weights and drop_path cannot be set for a module of your own"):
        choose(NetworkConfig(weights="hub", drop_path=0.1), (32, 32), module=Small())


def test_drop_path_reaches_the_network_or_is_refused():
    kept = choose(NetworkConfig(backbone="resnet10t", weights="none", drop_path=0.2, size=32), (32, 32)).build()
    assert any(type(module).__name__ == "DropPath" for module in kept.modules())
    with pytest.raises(UsageError, match="--drop-path: vgg11 has no residual branches"):
        choose(NetworkConfig(backbone="vgg11", weights="none", drop_path=0.2, size=32), (32, 32)).build()


# Auxiliary heads


def tapped() -> Network:
    torch.manual_seed(0)
    backbone = build(BackboneSpec("inception_v3", 75))
    taps = [AuxiliaryHead(channels, make_head(AUXILIARY_WIDTH, 3, 0.0)) for channels in backbone.tap_channels]
    return Network(backbone, make_head(backbone.num_features, 3, 0.0), Prepare(75), taps)


def test_auxiliary_heads_learn_and_are_not_shipped():
    network = tapped()
    images, targets = torch.randint(0, 256, (2, 75, 75, 3)).float(), torch.tensor([0, 2])
    network.train()
    torch.manual_seed(1)
    outputs = network(images)
    assert outputs["auxiliary"].shape == (1, 2, 3)
    torch.manual_seed(1)
    loss, _ = Objective(0.0).step(network, images, targets)
    cross_entropy = nn.functional.cross_entropy
    expected = cross_entropy(outputs["logits"], targets) + AUXILIARY_SHARE * cross_entropy(outputs["auxiliary"][0], targets)
    torch.testing.assert_close(loss, expected, rtol=1e-3, atol=1e-3)
    loss.backward()
    assert all(parameter.grad is not None for parameter in network.auxiliary.parameters())
    network.eval()
    assert "auxiliary" not in network(images)
    assert b"auxiliary" not in weights_bytes(network)


def test_googlenet_is_tapped_twice():
    assert build(BackboneSpec("torchvision/googlenet", 64, keep_resolution=True)).tap_channels == (512, 528)


def test_a_tapped_network_is_exported_without_its_taps():
    assert b"auxiliary" not in export_graph(tapped(), 75)
