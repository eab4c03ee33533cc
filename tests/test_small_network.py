"""Our own network for small images: a first layer that whitens, filters that begin as the identity, and a place among the backbones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sightline.errors import UsageError
from sightline.model.backbone import BackboneSpec, build, check_name, has_fixed_size, known_backbones
from sightline.model.small import PATCH, PATCHNET, WIDTHS, PatchStem, filters, whiten
from sightline.model.weights import has_weights

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = f"{PATCHNET}_small"


def smooth_images(n: int = 60, side: int = 16) -> torch.Tensor:
    """Images whose pixels are much like their neighbours, with different spreads and means of the channels."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(n, 3, side, side))
    blurred = sum(np.roll(noise, (down, right), (2, 3)) for down in range(3) for right in range(3)) / 3
    return torch.from_numpy(blurred * np.array([1.0, 0.6, 0.3])[:, None, None] + np.array([0.5, -1.0, 0.1])[:, None, None]).float()


def test_the_stem_gives_patches_in_white_coordinates_with_both_signs():
    images, stem = smooth_images(), PatchStem(3, PATCH)
    stem.whiten(images)
    with torch.no_grad():
        found = stem(images).permute(1, 0, 2, 3).flatten(1).double().numpy()
    half = len(found) // 2
    assert half == 3 * PATCH**2
    np.testing.assert_allclose(found[:half], -found[half:], atol=1e-5)
    np.testing.assert_allclose(found.mean(axis=1), 0, atol=1e-3)
    # Not exactly 1: the least variance is added, so that directions without any are not blown up.
    np.testing.assert_allclose(np.cov(found[:half]), np.eye(half), atol=0.05)


def test_directions_without_variance_are_not_blown_up():
    stem = PatchStem(3, 1)
    stem.whiten(torch.ones(4, 3, 8, 8))
    assert torch.isfinite(stem.weight).all()
    with torch.no_grad():
        assert float(stem(torch.ones(1, 3, 8, 8)).abs().max()) < 1e-3


class Elsewhere(torch.Tensor):
    """Images on a GPU without float64, such as Apple's."""

    def cpu(self) -> torch.Tensor:
        return self.as_subclass(torch.Tensor)

    def double(self) -> torch.Tensor:
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64.")


def test_whitening_asks_for_no_float64_on_the_device_of_the_images():
    here, there = PatchStem(3, PATCH), PatchStem(3, PATCH)
    here.whiten(smooth_images())
    there.whiten(smooth_images().as_subclass(Elsewhere))
    assert torch.equal(there.weight, here.weight)
    assert torch.equal(there.bias, here.bias)


def test_what_is_whitened_is_kept_and_not_learned():
    backbone = build(BackboneSpec(SMALL, 32))
    assert not [name for name, _ in backbone.named_parameters() if name.endswith("stem.weight")]
    assert "inner.stem.weight" in backbone.state_dict()
    before = backbone.state_dict()["inner.stem.weight"].clone()
    whiten(backbone, smooth_images)
    assert not torch.equal(backbone.state_dict()["inner.stem.weight"], before)
    asked = []
    whiten(build(BackboneSpec("test_resnet", 32)), lambda: asked.append(1))
    assert not asked  # another network has no such layer, and no images are prepared for it


def test_filters_begin_as_the_identity_and_more():
    layer, maps = filters(4, 6), torch.randn(2, 4, 5, 5)
    with torch.no_grad():
        found = layer(maps)
    torch.testing.assert_close(found[:, :4], maps)
    assert float(found[:, 4:].abs().max()) > 0


@pytest.mark.parametrize(
    ("size", "channels", "shape"),
    [(32, 3, (256, 3, 3)), (24, 3, (256, 2, 2)), (64, 3, (256, 4, 4)), (96, 3, (256, 6, 6)), (32, 4, (256, 3, 3))],
)  # fmt: skip
def test_it_is_a_backbone_for_small_images_of_any_size(size, channels, shape):
    backbone = build(BackboneSpec(SMALL, size, channels=channels)).eval()
    with torch.no_grad():
        embedding, features = backbone(torch.randn(2, channels, size, size))
    assert features.shape[1:] == shape
    assert embedding.shape == (2, backbone.num_features)
    torch.testing.assert_close(embedding, features.mean((2, 3)))


def test_it_is_known_by_name_and_has_no_weights_to_download():
    assert set(WIDTHS) <= set(known_backbones())
    assert check_name("patchnet") == PATCHNET
    assert not has_weights(PATCHNET)
    assert not has_fixed_size(PATCHNET)
    with pytest.raises(UsageError, match="cannot be built for images of 8 px"):
        build(BackboneSpec(PATCHNET, 8))
    with pytest.raises(UsageError, match="--drop-path: sightline/patchnet has no residual branches"):
        build(BackboneSpec(PATCHNET, 32, {"drop_path_rate": 0.1}))
