"""The network's door: uint8 images in, named raw outputs out, the same whichever way they come."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sightline.data.prepare import Prepare
from sightline.errors import DeviceError
from sightline.model.backbone import BackboneSpec, build
from sightline.model.device import gpu_uuid, present_devices, torch_device
from sightline.model.heads.classify import make_head
from sightline.model.network import Network, torch_infer
from tiny import tiny_network

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
OUTPUTS = ("logits", "embedding", "features")


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)


def test_the_named_outputs_have_their_shapes(images):
    raw = torch_infer(tiny_network(), CPU, OUTPUTS)(images)
    assert {name: values.shape for name, values in raw.items()} == {"logits": (5, 3), "embedding": (5, 96), "features": (5, 96, 4, 4)}
    assert {values.dtype for values in raw.values()} == {np.dtype(np.float32)}


def test_only_the_outputs_asked_for_come(images):
    assert list(torch_infer(tiny_network(), CPU, ("embedding",))(images)) == ["embedding"]


def test_bytes_and_floats_are_the_same_images(images):
    network = tiny_network().eval()
    with torch.inference_mode():
        exact, floating = (network(torch.from_numpy(batch))["logits"] for batch in (images, images.astype(np.float32)))
    torch.testing.assert_close(exact, floating, rtol=0, atol=0)


def test_normalisation_is_inside_and_is_that_of_the_contract(images):
    torch.manual_seed(0)
    backbone = build(BackboneSpec("test_resnet", 32))
    prepare = Prepare(32, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    network = Network(backbone, make_head(96, 3, 0.0), prepare).eval()
    normal = (images / 255 - np.array(prepare.mean)) / np.array(prepare.std)
    with torch.inference_mode():
        embedding, _ = backbone(torch.from_numpy(normal.astype(np.float32)).permute(0, 3, 1, 2))
        torch.testing.assert_close(network(torch.from_numpy(images))["embedding"], embedding, rtol=1e-4, atol=1e-5)


def test_normalisation_is_no_weight():
    network = tiny_network()
    assert not {"scale", "shift"} & set(network.state_dict())
    torch.testing.assert_close(network.scale, torch.full((3,), 1 / (255 * 0.5)))


def test_inference_is_in_evaluation_mode_and_does_not_depend_on_the_batch(images):
    network = tiny_network(dropout=0.9).train()
    infer = torch_infer(network, CPU, OUTPUTS)
    assert not network.training
    together, alone = infer(images)["logits"], np.concatenate([infer(image[None])["logits"] for image in images])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(together, infer(images)["logits"])


def test_a_copy_computes_the_same(images):
    network = tiny_network()
    expected = torch_infer(network, CPU, OUTPUTS)(images)
    found = torch_infer(copy.deepcopy(network), CPU, OUTPUTS)(images)
    assert all(np.array_equal(found[name], expected[name]) for name in OUTPUTS)


def test_no_network_answers_with_what_it_kept_from_older_weights():
    """TinyViT keeps its attention's biases from its first pass in evaluation mode; the average of weights is always in that mode."""
    network = copy.deepcopy(tiny_network(name="tiny_vit_5m_224", size=64))
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    before = torch_infer(network, CPU, ("embedding",))(images)["embedding"]
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "attention_biases" in name:
                parameter.add_(torch.randn_like(parameter))
    after = torch_infer(copy.deepcopy(network), CPU, ("embedding",))(images)["embedding"]
    assert not np.allclose(before, after)
    np.testing.assert_array_equal(torch_infer(network, CPU, ("embedding",))(images)["embedding"], after)
    network.train()(torch.from_numpy(images))["logits"].sum().backward()


def test_the_device_is_the_one_asked_for():
    assert torch_device("cpu") == CPU
    assert torch_device("auto").type == present_devices()[0]
    assert present_devices()[-1] == "cpu"


def test_a_device_that_is_not_there_is_an_error(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(DeviceError, match=r"--device cuda: torch finds no such device here, only (mps and )?cpu"):
        torch_device("cuda")


def test_a_gpu_is_named_as_its_driver_calls_it(monkeypatch):
    assert gpu_uuid(CPU) is None
    monkeypatch.setattr(torch.version, "cuda", "12.4")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="8f6d0d0c-0000-1111-2222-333344445555"))
    assert gpu_uuid(torch.device("cuda")) == "GPU-8f6d0d0c-0000-1111-2222-333344445555"
    monkeypatch.setattr(torch.version, "cuda", None)  # AMD's GPUs are called cuda as well
    assert gpu_uuid(torch.device("cuda")) is None
