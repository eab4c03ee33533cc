"""A network is cut where everything passes through one tensor, and its halves are the network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sightline.data.prepare import Prepare
from sightline.model.backbone import BackboneSpec, ModuleBackbone, build
from sightline.model.cut import cuts
from sightline.model.heads.classify import make_head
from sightline.model.network import Network
from sightline.model.views import MIRROR, SHIFTS
from tiny import tiny_network

pytestmark = pytest.mark.usefixtures("one_thread")


def network_of(name: str, size: int) -> Network:
    torch.manual_seed(0)
    backbone = build(BackboneSpec(name, size))
    return Network(backbone, make_head(backbone.num_features, 3, 0.0), Prepare(size)).eval()


def images_of(size: int) -> torch.Tensor:
    return torch.randint(0, 256, (3, size, size, 3), generator=torch.Generator().manual_seed(1)).float()


@pytest.mark.parametrize(
    ("name", "size", "shapes"),
    [
        ("mobilenetv2_050", 64, [(48, 4, 4), (16, 8, 8)]),
        ("torchvision/mobilenet_v2", 64, [(96, 4, 4), (32, 8, 8)]),  # not inside a block, where the map is six times as wide
        ("torchvision/resnet18", 64, [(256, 4, 4), (128, 8, 8)]),
        ("torchvision/googlenet", 64, [(832, 4, 4), (256, 8, 8)]),
        ("inception_v3", 96, [(768, 4, 4), (288, 9, 9)]),  # what its auxiliary head would read is no obstacle
        ("mobilenetv3_small_050", 64, [(24, 4, 4), (16, 8, 8)]),
        ("vit_tiny_patch16_224", 224, [(197, 192), (197, 192)]),
    ],
)
def test_halves_before_the_last_stages_are_the_network(name, size, shapes):
    network, images = network_of(name, size), images_of(size)
    found = cuts(network)
    assert [cut.shape for cut in found] == shapes
    with torch.no_grad():
        whole = network(images)
        for cut in found:
            activations = cut.lower(images)
            assert tuple(activations.shape[1:]) == cut.shape
            parts = cut.upper.eval()(activations)
            for output in whole:
                torch.testing.assert_close(parts[output], whole[output], rtol=1e-4, atol=1e-5)
    learned = [sum(parameter.numel() for parameter in cut.upper.parameters()) for cut in found]
    assert 0 < learned[0] < learned[1] <= sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("views", [MIRROR, SHIFTS])
def test_a_network_that_answers_by_several_views_is_cut_like_any_other(views):
    network = tiny_network()
    expected = [cut.shape for cut in cuts(network)]
    network.backbone.views = views
    assert expected
    assert [cut.shape for cut in cuts(network)] == expected
    assert network.backbone.views == views


def test_what_the_upper_half_learns_the_network_has_learned():
    network = tiny_network()
    (cut, *_), images = cuts(network), images_of(32)
    before = network(images)["logits"].detach()
    with torch.no_grad():
        for parameter in cut.upper.parameters():
            parameter.mul_(0.5)
        changed = network(images)["logits"]
        assert not torch.allclose(before, changed)
        torch.testing.assert_close(cut.upper.eval()(cut.lower(images))["logits"], changed)


def test_upper_and_lower_half_share_no_weights():
    cut = cuts(network_of("torchvision/resnet18", 64))[0]
    lower = {id(parameter) for parameter in cut.lower.parameters()}
    assert lower.isdisjoint(id(parameter) for parameter in cut.upper.parameters())


class Deciding(nn.Module):
    """What it computes depends on the numbers, so that it is no graph."""

    def forward(self, images):
        return images.mean((2, 3)) if images.sum() > 0 else images.amax((2, 3))


class Once(nn.Module):
    """A single convolution, with no place to cut at."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)

    def forward(self, images):
        return self.convolution(images)


@pytest.mark.parametrize("module", [Deciding(), Once()])
def test_a_network_that_cannot_be_cut_is_not(module):
    assert cuts(Network(ModuleBackbone(module, 3), make_head(3, 3, 0.0), Prepare(16))) == []
