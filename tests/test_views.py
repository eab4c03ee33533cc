"""Several views of an image inside the network: what it says is their mean, in torch and in the exported graph alike."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch

from sightline.config import NetworkConfig
from sightline.data.prepare import Prepare
from sightline.errors import UsageError
from sightline.explanation.cam import cam
from sightline.model.backbone import BackboneSpec, build
from sightline.model.choose import choose
from sightline.model.export import export_graph
from sightline.model.gradcam import grad_cam
from sightline.model.heads.classify import make_head
from sightline.model.network import Network
from sightline.model.views import COUNTS, one_view

pytestmark = pytest.mark.usefixtures("one_thread")
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)


def network(views: str, name: str = "sightline/patchnet_small", size: int = 32) -> Network:
    torch.manual_seed(0)
    backbone = build(BackboneSpec(name, size, views=views))
    made = Network(backbone, make_head(backbone.num_features, 4, 0.2), Prepare(size))
    with torch.no_grad():  # statistics of its own, so that nothing is constant
        made(torch.from_numpy(IMAGES).repeat(4, 1, 1, 1)[:, :size, :size])
    return made.eval()


def answers(of: Network, images: np.ndarray) -> dict[str, np.ndarray]:
    with torch.no_grad():
        return {name: tensor.numpy() for name, tensor in of(torch.from_numpy(np.ascontiguousarray(images))).items()}


def as_seen(views: str) -> list[np.ndarray]:
    """The views of the images, made by numpy."""
    wide = np.pad(IMAGES, ((0, 0), (1, 1), (1, 1), (0, 0)), "reflect")
    shown = [IMAGES] if views == "mirror" else [IMAGES, wide[:, 2:, 2:], wide[:, :-2, :-2]]
    return [*shown, *(view[:, :, ::-1] for view in shown)]


@pytest.mark.parametrize("views", ["mirror", "shifts"])
def test_an_answer_is_the_mean_over_the_views(views):
    whole, single = network(views), network("one")
    each = [answers(single, view) for view in as_seen(views)]
    assert len(each) == COUNTS[views]
    found = answers(whole, IMAGES)
    for name in ("logits", "embedding"):
        np.testing.assert_allclose(found[name], np.mean([one[name] for one in each], axis=0), atol=1e-5)
    half = len(each) // 2  # a place in a mirrored image's map lies on the other side
    upright = [one["features"] if place < half else one["features"][..., ::-1] for place, one in enumerate(each)]
    np.testing.assert_allclose(found["features"], np.mean(upright, axis=0), atol=1e-5)
    np.testing.assert_allclose(found["features"].mean((2, 3)), found["embedding"], atol=1e-5)  # so its CAM is exact


def test_training_and_its_validation_see_one_view():
    whole, single = network("mirror"), network("one")
    with one_view(whole):
        np.testing.assert_array_equal(answers(whole, IMAGES)["logits"], answers(single, IMAGES)["logits"])
    np.testing.assert_allclose(answers(whole, IMAGES)["logits"], answers(whole, IMAGES[:, :, ::-1])["logits"], atol=1e-5)
    whole.head.dropout.p = single.head.dropout.p = 0.0
    np.testing.assert_array_equal(answers(whole.train(), IMAGES)["logits"], answers(single.train(), IMAGES)["logits"])


def test_a_transformers_map_is_that_of_the_plain_view():
    whole, single = network("mirror", "test_vit"), network("one", "test_vit")
    found, alone, mirrored = answers(whole, IMAGES), answers(single, IMAGES), answers(single, IMAGES[:, :, ::-1])
    np.testing.assert_allclose(found["logits"], (alone["logits"] + mirrored["logits"]) / 2, atol=1e-5)
    np.testing.assert_allclose(found["features"], alone["features"], atol=1e-5)


def test_the_exported_graph_has_the_views_in_it():
    whole = network("shifts")
    session = onnxruntime.InferenceSession(export_graph(whole, 32), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    for n in (1, 3):
        found = dict(zip(names, session.run(None, {"images": IMAGES[:n]}), strict=True))
        for name, expected in answers(whole, IMAGES[:n]).items():
            np.testing.assert_allclose(found[name], expected, atol=1e-4)


def test_views_are_written_down_only_where_there_are_several():
    assert "views" not in BackboneSpec("resnet18", 32).to_json()
    spec = BackboneSpec("resnet18", 32, views="mirror")
    assert BackboneSpec.from_json(spec.to_json()) == spec


def test_views_are_chosen_by_the_settings_and_said():
    choice = choose(NetworkConfig(backbone="test_resnet", weights="none", views="mirror"), (32, 32))
    assert choice.build().views == "mirror"
    assert "An answer is the mean over 2 views of an image, which takes 2 times the time in use." in choice.reasons
    plain = choose(NetworkConfig(backbone="test_resnet", weights="none"), (32, 32))
    assert plain.build().views == "one"
    assert not any("views" in reason for reason in plain.reasons)
    with pytest.raises(UsageError, match="--views mirror: is for what whole images show"):
        choose(NetworkConfig(backbone="test_resnet", weights="none", views="mirror"), (64, 64), scenes=True)


def test_grad_cam_reaches_the_map_that_is_the_mean_over_the_views():
    whole = network("mirror")
    targets = np.array([0, 3, 1])
    maps = grad_cam(whole, IMAGES, targets)
    found = answers(whole, IMAGES)
    weight = whole.head.linear.weight.detach().numpy()
    exact = np.stack([cam(features, weight[target]) for features, target in zip(found["features"], targets, strict=True)])
    np.testing.assert_allclose(maps * maps[0].size, exact, atol=1e-5)  # of a linear head after an average they are the same
