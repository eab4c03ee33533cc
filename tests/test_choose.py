"""Which network, start and size a run gets, and the sentences that say why."""

from __future__ import annotations

import pytest
import timm
import torch
from safetensors.torch import save_file

from sightline.config import NetworkConfig
from sightline.errors import ModelFileError, UsageError
from sightline.model.choose import PRETRAINED_DEFAULT, choose

pytestmark = pytest.mark.usefixtures("one_thread")

FIXED = NetworkConfig(weights="none")


@pytest.fixture
def weights_file(tmp_path):
    def write(name: str, **metadata: str) -> NetworkConfig:
        path = tmp_path / f"{name}.safetensors"
        save_file(timm.create_model(name, num_classes=0).state_dict(), path, metadata={"timm": name, **metadata})
        return NetworkConfig(weights=str(path))

    return write


@pytest.mark.parametrize(
    ("median_side", "backbone", "size"),
    [(0, "resnet10t", 32), (8, "resnet10t", 32), (28, "resnet10t", 32), (64, "resnet10t", 64), (65, "resnet18", 64), (100, "resnet18", 96),
     (200, "resnet18", 192), (224, "resnet18", 224), (4000, "resnet18", 224)],
)  # fmt: skip
def test_the_defaults_from_random_weights_follow_the_images(median_side, backbone, size):
    choice = choose(FIXED, (median_side, median_side))
    assert (choice.spec.name, choice.spec.size, choice.prepare.size) == (backbone, size, size)
    assert choice.spec.keep_resolution == (size <= 64)
    assert not choice.pretrained
    assert choice.prepare.crop_fraction == 1
    assert choice.store_side == size
    kind = "small images" if median_side <= 64 else "photographs"
    assert choice.reasons[:3] == (
        f"Backbone {backbone}, the default for {kind} without pretrained weights.",
        "Random weights, as asked.",
        f"Input {size} px, near the images' own size (median shorter side {median_side} px).",
    )


def test_what_is_asked_for_is_taken():
    choice = choose(NetworkConfig(backbone="alexnet", weights="none", size=80, fit="pad"), (300, 300))
    assert (choice.spec.name, choice.spec.size, choice.prepare.fit) == ("torchvision/alexnet", 80, "pad")
    assert choice.reasons == ("Backbone torchvision/alexnet, as asked.", "Random weights, as asked.", "Input 80 px, as asked.")
    small = choose(NetworkConfig(backbone="test_resnet", weights="none", size=24), (300, 300))
    assert small.spec.keep_resolution
    assert small.reasons[-1].startswith("At 24 px a convolutional stem keeps the resolution")


def test_a_weights_file_brings_its_backbone_and_its_view(weights_file):
    choice = choose(weights_file("test_resnet", mean="0.1,0.2,0.3", size="96", crop_pct="0.75", interpolation="bicubic"), (300, 300))
    assert choice.pretrained
    assert (choice.spec.name, choice.spec.size, choice.spec.keep_resolution) == ("test_resnet", 96, False)
    assert (choice.prepare.mean, choice.prepare.interpolation, choice.prepare.crop_fraction) == ((0.1, 0.2, 0.3), "bicubic", 0.75)
    assert choice.store_side == 128
    assert choice.reasons == (
        "Backbone test_resnet, which the weights are for.",
        "Weights test_resnet.safetensors; licence: not stated.",
        "Input 96 px, which the weights were trained on.",
    )


def test_small_images_are_enlarged_a_little_for_pretrained_weights(weights_file):
    config = weights_file("test_resnet")
    choice = choose(config, (32, 32))
    assert (choice.spec.size, choice.spec.keep_resolution) == (64, True)
    assert choice.reasons[2] == "Input 64 px, because the images are small (median shorter side 32 px)."
    assert choice.build()(torch.rand(2, 3, 64, 64))[0].shape == (2, 96)


def test_a_network_of_one_size_keeps_the_size_of_its_weights(weights_file):
    choice = choose(weights_file("test_vit"), (32, 32))
    assert (choice.spec.size, choice.spec.keep_resolution) == (160, False)


def test_an_asked_size_wins_over_the_weights(weights_file):
    config = weights_file("test_resnet")
    choice = choose(NetworkConfig(weights=config.weights, size=120), (32, 32))
    assert (choice.spec.size, choice.prepare.size) == (120, 120)


def test_weights_of_another_network_than_asked_are_refused(weights_file):
    with pytest.raises(ModelFileError, match="holds weights for test_resnet, not for resnet18"):
        choose(NetworkConfig(backbone="resnet18", weights=weights_file("test_resnet").weights), (100, 100))


def test_a_misspelt_backbone_is_met_before_anything_else():
    with pytest.raises(UsageError, match=r"Did you mean .*'resnet18'"):
        choose(NetworkConfig(backbone="resnet_18", weights="/nowhere.safetensors"), (100, 100))


def test_found_weights_choose_the_default_for_pretrained_ones(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: str(tmp_path / "model.safetensors"))
    choice = choose(NetworkConfig(), (400, 400))
    assert (choice.spec.name, choice.spec.size) == (PRETRAINED_DEFAULT, 224)
    assert choice.reasons[1].startswith(f"Weights timm/{PRETRAINED_DEFAULT}.")
    assert choice.reasons[1].endswith("found on this machine; licence: apache-2.0.")


def test_each_fit_is_the_same_network():
    assert {choose(NetworkConfig(weights="none", fit=fit), (100, 100)).spec.size for fit in ("crop", "pad", "squash")} == {96}


@pytest.mark.parametrize(
    ("backbone", "size", "median"),
    [("resnet10t", None, (0, 0)), ("resnet10t", 8, (300, 200)), ("test_vit", 16, (300, 200)), ("test_vit", None, (0, 0))],
)
def test_inputs_with_things_on_them_are_never_without_area(backbone, size, median):
    """Nor where no image has a header that can be read, which is told when they are looked at."""
    assert choose(NetworkConfig(backbone=backbone, weights="none", size=size), median, scenes=True).prepare.shape == (32, 32)


def test_a_network_that_cannot_be_built_without_numbers_is_built_with_them():
    """torchvision's RegNets work out their widths with tensors."""
    choice = choose(NetworkConfig(backbone="torchvision/regnet_y_400mf", weights="none", size=64), (96, 64), scenes=True)
    assert choice.prepare.shape == (32, 64)
    assert choice.normalised
    assert choice.takes(96)
