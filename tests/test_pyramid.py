"""Maps at several strides of whatever backbone there is, and the weights that come with it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sightline.config import NetworkConfig
from sightline.errors import UsageError
from sightline.model.backbone import BackboneSpec, build
from sightline.model.choose import choose
from sightline.model.neck import WIDTH, Neck
from sightline.model.pyramid import Level, pyramid

pytestmark = pytest.mark.usefixtures("one_thread")

# Backbones, their input's sides, and the channels and strides of their maps.
CASES = [
    ("test_resnet", (64, 96), [(32, 4), (48, 8), (192, 16), (96, 32)]),
    ("test_efficientnet", (64, 96), [(24, 4), (32, 8), (48, 16), (64, 32)]),
    ("mobilenetv2_100", (64, 96), [(24, 4), (32, 8), (96, 16), (320, 32)]),
    ("resnet18", (70, 90), [(64, 4), (128, 8), (256, 16), (512, 32)]),
    ("test_convnext", (64, 96), [(24, 4), (32, 8), (48, 16), (64, 32)]),
    ("swin_tiny_patch4_window7_224", (64, 64), [(96, 4), (192, 8), (384, 16), (768, 32)]),
    ("test_vit", (160, 160), [(64, 16)]),
    ("mixer_s32_224", (64, 64), [(512, 32)]),
    ("torchvision/resnet18", (64, 96), [(64, 4), (128, 8), (256, 16), (512, 32)]),
    ("torchvision/mobilenet_v2", (64, 96), [(24, 4), (32, 8), (96, 16), (320, 32)]),
    ("torchvision/googlenet", (64, 96), [(64, 4), (256, 8), (832, 16), (1024, 32)]),
    ("torchvision/vit_b_16", (32, 32), [(768, 16)]),
]


@pytest.mark.parametrize(("name", "shape", "levels"), CASES, ids=[name for name, *_ in CASES])
def test_a_backbone_gives_a_map_of_each_stride_in_both_modes(name, shape, levels):
    torch.manual_seed(0)
    plain = build(BackboneSpec(name, shape[0]))
    known = copy.deepcopy(plain.state_dict())
    found = pyramid(plain, 3, shape)
    assert [(level.channels, level.stride) for level in found.levels] == levels
    assert found.training
    images = torch.rand(2, 3, *shape)
    for mode in (True, False):
        embedding, features, *maps = found.train(mode)(images)
        for (channels, stride), each in zip(levels, maps, strict=True):
            assert each.shape[:2] == (2, channels)
            assert all(abs(places - side / stride) <= 1 for places, side in zip(each.shape[2:], shape, strict=True))
        assert features is maps[-1]
        torch.testing.assert_close(embedding, features.mean((2, 3)))
    sum(each.sum() for each in found.train()(images)[2:]).backward()
    assert all(weights.grad is not None for weights in found.parameters() if weights.requires_grad)
    assert all(torch.equal(known[entry], value) for entry, value in pyramid_again(name, shape).state_dict().items())


def pyramid_again(name, shape):
    torch.manual_seed(0)
    return pyramid(build(BackboneSpec(name, shape[0])), 3, shape)


def test_layers_that_no_map_needs_are_left_out():
    """MobileNetV2's last convolution, to 1,280 channels, is there for the classifier alone."""
    plain = build(BackboneSpec("mobilenetv2_100", 64))
    before = plain.state_dict().keys()
    gone = before - pyramid(plain, 3, (64, 64)).state_dict().keys()
    assert {name.split(".")[1] for name in gone} == {"conv_head", "bn2"}


def test_a_transformers_map_lies_as_its_patches_do():
    """Only the patch at row 2, column 7 of an otherwise black image differs: so does its place, before attention has mixed them."""
    found = pyramid(build(BackboneSpec("test_vit", 160)), 3, (160, 160)).eval()
    for block in found.inner.blocks:
        nn.init.zeros_(block.attn.proj.weight)
    images = torch.zeros(1, 3, 160, 160)
    images[:, :, 32:48, 112:128] = 1
    found.inner.pos_embed.data.zero_()
    with torch.no_grad():
        changed = (found(images)[1] - found(torch.zeros_like(images))[1]).abs().sum(1)[0]
    assert changed.gt(1e-4).nonzero().tolist() == [[2, 7]]


class Embeds(nn.Module):
    def forward(self, images):
        return images.mean((2, 3))


class Maps(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 5, 16, 16)

    def forward(self, images):
        return self.layer(images)


def test_a_users_own_module_gives_its_map():
    found = pyramid(build(BackboneSpec("module/Maps", 96), Maps()), 3, (96, 64))
    assert found.levels == (Level(5, 16),)
    assert found(torch.rand(2, 3, 96, 64))[1].shape == (2, 5, 6, 4)


REFUSED = (
    r"^--backbone {}: gives no feature map that says where in an image of {} px something is; take one that does, such as "
    r"mobilenetv2_100, efficientnet_b0, convnext_atto or resnet18\.$"
)


def test_what_gives_no_map_is_refused_with_what_to_take():
    with pytest.raises(UsageError, match=REFUSED.format("module/Embeds", "256 x 128")):
        pyramid(build(BackboneSpec("module/Embeds", 256), Embeds()), 3, (128, 256))


def test_a_transformer_without_a_map_is_refused_when_it_is_chosen(monkeypatch):
    """One that gives the token of the whole image alone; before anything is read or its weights are made."""
    network = "timm.models.VisionTransformer"
    monkeypatch.setattr(f"{network}.forward_intermediates", lambda self, images, **given: [])
    monkeypatch.setattr(f"{network}.forward_features", lambda self, images: images.mean((2, 3))[:, None, :1].expand(-1, 1, 64))
    asked = NetworkConfig(backbone="test_vit", weights="none", size=160)
    with pytest.raises(UsageError, match=REFUSED.format("test_vit", "160 x 160")):
        choose(asked, (300, 200), scenes=True)
    assert choose(asked, (300, 200)).spec.name == "test_vit"


@pytest.mark.parametrize("given", [(4, 8, 16, 32), (8, 16), (16,), (32,), (4,), (64,), (4, 32)])
@pytest.mark.parametrize("wanted", [(8, 16, 32), (4, 8, 16, 32)])
@pytest.mark.parametrize("rising", [True, False])
def test_the_neck_makes_the_strides_that_are_wanted_of_those_that_are_given(given, wanted, rising):
    neck = Neck([Level(6, stride) for stride in given], wanted, rising=rising)
    shape = (96, 200)
    maps = [torch.randn(2, 6, -(-shape[0] // stride), -(-shape[1] // stride)) for stride in given]
    found = neck(maps, shape)
    assert [tuple(each.shape) for each in found] == [(2, WIDTH, -(-shape[0] // stride), -(-shape[1] // stride)) for stride in wanted]
    sum(each.square().sum() for each in found).backward()
    assert all(weights.grad is not None for weights in neck.parameters())
