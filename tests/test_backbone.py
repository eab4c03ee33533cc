"""Backbones by name: whatever the two libraries have is built, gives an embedding and a feature map, and can be trained."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import nn

from sightline.errors import ModelFileError, UsageError
from sightline.model.backbone import BackboneSpec, build, check_name, has_fixed_size, keep_resolution, known_backbones

pytestmark = pytest.mark.usefixtures("one_thread")

# Small networks of many families, with the size of their input and the shape of their feature map after the batch.
TIMM = [
    ("test_resnet", 32, (96, 4, 4)),
    ("test_resnet", 96, (96, 3, 3)),
    ("test_efficientnet", 32, (256, 2, 2)),
    ("test_convnext", 32, (64, 3, 3)),
    ("test_vit", 160, (101, 64)),
    ("test_vit", 32, (5, 64)),
    ("test_mambaout", 32, (64, 2, 2)),
    ("resnet10t", 32, (512, 4, 4)),
    ("resnet18", 32, (512, 4, 4)),
    ("mobilenetv2_100", 32, (1280, 2, 2)),
    ("mobilenetv3_small_050", 32, (288, 2, 2)),
    ("efficientnet_lite0", 32, (1280, 2, 2)),
    ("regnetx_002", 32, (368, 2, 2)),
    ("convnext_atto", 32, (320, 3, 3)),
    ("densenet121", 32, (1024, 4, 4)),
    ("inception_v3", 80, (2048, 1, 1)),
    ("inception_v3", 32, (2048, 2, 2)),
    ("vgg11", 32, (512, 2, 2)),
    ("vit_tiny_patch16_224", 224, (197, 192)),
    ("vit_tiny_patch16_224", 64, (17, 192)),
    ("swin_tiny_patch4_window7_224", 64, (768, 2, 2)),
    ("mixer_s32_224", 64, (4, 512)),
    ("levit_128s", 64, (1, 384)),
    ("repvgg_a0", 32, (1280, 1, 1)),  # its stem has two branches, which no longer fit together when one keeps the resolution
]
TORCHVISION = [
    ("alexnet", 32, (256, 5, 5)),
    ("vgg11", 32, (512, 2, 2)),
    ("googlenet", 32, (1024, 4, 4)),
    ("squeezenet1_0", 32, (512, 6, 6)),
    ("densenet121", 32, (1024, 4, 4)),
    ("mobilenet_v3_small", 32, (576, 2, 2)),
    ("efficientnet_b0", 32, (1280, 2, 2)),
    ("shufflenet_v2_x0_5", 32, (1024, 4, 4)),
    ("mnasnet0_5", 32, (1280, 2, 2)),
    ("resnet18", 32, (512, 4, 4)),
    ("inception_v3", 299, (2048, 8, 8)),
    ("swin_t", 32, (768, 4, 4)),
    ("vit_b_16", 32, (5, 768)),
]
CASES = [*TIMM, *((f"torchvision/{name}", size, shape) for name, size, shape in TORCHVISION)]


@pytest.mark.parametrize(("name", "size", "shape"), CASES, ids=[f"{name}-{size}" for name, size, _ in CASES])
def test_a_backbone_gives_an_embedding_and_a_feature_map_in_both_modes(name, size, shape):
    torch.manual_seed(0)
    backbone = build(BackboneSpec(name, size, keep_resolution=size <= 64))
    assert backbone.training
    images = torch.rand(2, 3, size, size)
    embedding, features, *_ = backbone(images)
    assert embedding.shape == (2, backbone.num_features)
    assert features.shape == (2, *shape)
    embedding.sum().backward()
    learning = [parameter for parameter in backbone.parameters() if parameter.grad is not None]
    assert len(learning) >= 0.8 * len(list(backbone.parameters()))
    backbone.zero_grad()
    backbone.eval()
    copied = copy.deepcopy(backbone).eval()
    with torch.inference_mode():
        once, again, alone = backbone(images)[0], copied(images)[0], backbone(images[:1])[0]
    assert once.isfinite().all()
    torch.testing.assert_close(once, again, rtol=0, atol=0)
    assert (once[:1] - alone).abs().max() < 0.02 * once.abs().max()


@pytest.mark.parametrize(
    "name", ["torchvision/alexnet", "torchvision/inception_v3", "torchvision/mobilenet_v3_small", "torchvision/googlenet"]
)
def test_no_dropout_stands_between_the_backbone_and_our_head(name):
    """The embedding of a backbone whose dropout layers would drop nearly everything is the same with and without the last of them."""
    backbone = build(BackboneSpec(name, 96))
    dropouts = [module for module in backbone.modules() if isinstance(module, nn.Dropout)]
    for module in dropouts:
        module.p = 0.999
    backbone.train()
    for module in backbone.modules():  # of training mode, only dropout is looked at
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    with torch.no_grad():
        embedding, *_ = backbone(torch.rand(2, 3, 96, 96))
    assert (embedding != 0).float().mean() > 0.01


def test_the_feature_map_averages_to_the_embedding_of_a_convolutional_network():
    for name in ("test_resnet", "torchvision/resnet18", "torchvision/squeezenet1_0", "torchvision/shufflenet_v2_x0_5"):
        backbone = build(BackboneSpec(name, 64)).eval()
        with torch.inference_mode():
            embedding, features, *_ = backbone(torch.rand(1, 3, 64, 64))
        torch.testing.assert_close(features.mean((2, 3)), embedding)


def test_a_network_that_ends_in_several_feature_maps_is_refused_before_it_is_trained():
    with pytest.raises(UsageError, match=r"crossvit_9_240: cannot be built .* several last feature maps"):
        build(BackboneSpec("crossvit_9_240", 240))


def test_keeping_the_resolution_is_worth_its_name_and_can_be_left_out():
    images = torch.rand(1, 3, 32, 32)
    for name in ("resnet18", "torchvision/resnet18"):
        plain, kept = (build(BackboneSpec(name, 32, keep_resolution=keep)).eval() for keep in (False, True))
        assert plain(images)[1].shape[2:] == (1, 1)
        assert kept(images)[1].shape[2:] == (4, 4)
        assert plain.state_dict().keys() == kept.state_dict().keys()


def test_pooling_that_does_not_shrink_is_not_the_stems():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(3, stride=1), nn.MaxPool2d(2))
    keep_resolution(model)
    assert [type(layer).__name__ for layer in model] == ["Conv2d", "MaxPool2d", "Identity"]


def test_the_same_seed_builds_the_same_backbone_and_its_json_the_same_spec():
    spec = BackboneSpec("test_efficientnet", 48, {"pad_type": "same"}, keep_resolution=True)
    again = BackboneSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again == spec
    states = []
    for each in (spec, again):
        torch.manual_seed(3)
        states.append(build(each).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_spec_of_another_version_is_refused():
    with pytest.raises(ModelFileError, match="backbone is not understood"):
        BackboneSpec.from_json({"name": "resnet18", "size": 32, "colour": "red"})


def test_arguments_a_backbone_does_not_take_are_refused():
    for name in ("test_resnet", "torchvision/resnet18"):
        with pytest.raises(ModelFileError, match="does not take these arguments"):
            build(BackboneSpec(name, 32, {"pad_typ": "same"}, keep_resolution=True))


@pytest.mark.parametrize(("name", "size"), [("torchvision/vit_b_16", 30), ("torchvision/maxvit_t", 64), ("inception_v3", 16)])
def test_a_size_that_cannot_be_built_is_named(name, size):
    with pytest.raises(UsageError, match=rf"--backbone {name}: cannot be built for images of {size} px .*choose another --size"):
        build(BackboneSpec(name, size, keep_resolution=True))


def test_names_of_both_libraries_are_known():
    assert check_name("resnet18") == "resnet18"
    assert check_name("resnet18.a1_in1k") == "resnet18.a1_in1k"
    assert check_name("alexnet") == check_name("torchvision/alexnet") == "torchvision/alexnet"
    assert check_name("torchvision/resnet18") == "torchvision/resnet18"
    assert {"resnet18", "torchvision/vit_b_16"} <= set(known_backbones())


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("resnet81", "resnet18"),
        ("mobilnetv2_100", "mobilenetv2_100"),
        ("torchvision/alexnt", "torchvision/alexnet"),
        ("resnet18.a1_in1", "resnet18.a1_in1k"),
    ],
)
def test_a_misspelt_name_gets_the_nearest_ones(wrong, right):
    with pytest.raises(UsageError, match=f"--backbone {wrong}: .*Did you mean .*'{right}'"):
        check_name(wrong)


def test_transformers_are_known_to_be_of_one_size():
    assert has_fixed_size("vit_tiny_patch16_224")
    assert has_fixed_size("torchvision/vit_b_16")
    assert not has_fixed_size("resnet18")
    assert not has_fixed_size("torchvision/resnet18")
