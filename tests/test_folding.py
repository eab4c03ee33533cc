"""Normalisation folded into convolutions: the same answers from fewer layers, and a network it does not suit stays as it is."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import Tensor, nn

from sightline.model.folding import folded

# With the share of normalisations that remain at most: in some a normalisation stands before its convolution.
NETWORKS = {"mobilenetv2_035": 0.0, "test_efficientnet": 0.0, "test_resnet": 0.0, "mobilenetv3_small_050": 0.0, "repvgg_a0": 0.3,
            "resnetv2_18": 0.6, "densenet121": 0.6}  # fmt: skip


class Named(nn.Module):
    """A network as the exporter takes it: its output by a name, and statistics as after training."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        generator = torch.Generator().manual_seed(1)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
                module.running_mean.normal_(0, 0.1, generator=generator)
                module.running_var.uniform_(0.8, 1.2, generator=generator)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"logits": self.inner(images)}


def pair() -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    return nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_from_fewer_layers(name):
    torch.manual_seed(0)
    network = Named(timm.create_model(name, num_classes=5)).eval()
    before, images = copy.deepcopy(network.state_dict()), torch.rand(2, 3, 64, 64)
    simpler, outputs = folded(network, images)
    assert norms(simpler) <= NETWORKS[name] * norms(network)
    others = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(simpler(others)["logits"], network(others)["logits"], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(outputs["logits"], network(images)["logits"], rtol=1e-3, atol=1e-4)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


def test_a_network_with_nothing_to_fold_is_as_it_was():
    network = Named(nn.Conv2d(3, 4, 3)).eval()
    images = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(folded(network, images)[1]["logits"], network(images)["logits"])


class TakenTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = pair()

    def forward(self, images: Tensor) -> Tensor:
        given = self.first(images)
        return given + self.norm(given)


class RunTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = pair()

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.first(images)) + self.first(images.flip(3))


class OwnStatistics(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.first(images))


class Standardised(nn.Conv2d):
    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.conv2d(images, self.weight / self.weight.std(), self.bias)


@pytest.mark.parametrize(
    "inner", [TakenTwice, RunTwice, OwnStatistics, lambda: nn.Sequential(Standardised(3, 4, 3), nn.BatchNorm2d(4))],
    ids=["taken twice", "run twice", "own statistics", "standardised weights"],
)  # fmt: skip
def test_what_cannot_be_folded_stays(inner):
    torch.manual_seed(0)
    network = Named(inner()).eval()
    simpler, outputs = folded(network, torch.rand(2, 3, 9, 9))
    others = torch.rand(2, 3, 9, 9)
    assert norms(simpler) == 1
    with torch.no_grad():
        assert torch.equal(simpler(others)["logits"], network(others)["logits"])
    assert outputs["logits"].shape == (2, 4, 7, 7)


def test_the_smallest_activation_is_a_clip():
    network = Named(nn.Sequential(*pair(), nn.ReLU6())).eval()
    simpler, _ = folded(network, torch.rand(1, 3, 8, 8) * 20)
    assert not any(isinstance(module, nn.ReLU6) for module in simpler.modules())
    given = torch.randn(1, 3, 8, 8) * 20
    with torch.no_grad():
        torch.testing.assert_close(simpler(given)["logits"], network(given)["logits"])
