"""Pretrained weights: a file's contract is obeyed, a wrong or broken one is refused in words, nothing connects without being asked."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file, save_file

from conftest import DATA, WEIGHTS, needs_data
from sightline.config import NetworkConfig
from sightline.errors import ModelFileError
from sightline.model.backbone import BackboneSpec, build
from sightline.model.choose import choose
from sightline.model.heads.classify import make_head
from sightline.model.network import Network, torch_infer
from sightline.model.weights import IMAGENET_MEAN, IMAGENET_STD, Contract, Weights, hub_weights, load_into, local_weights

pytestmark = pytest.mark.usefixtures("one_thread")


def library_state(name: str, **arguments) -> dict[str, torch.Tensor]:
    """The tensors of a network with a classifier of ten classes, as its library would save them."""
    torch.manual_seed(1)
    if name.startswith("torchvision/"):
        model = torchvision.models.get_model(name.removeprefix("torchvision/"), weights=None, num_classes=10, **arguments)
    else:
        model = timm.create_model(name, num_classes=10, **arguments)
    return {key: tensor.clone().contiguous() for key, tensor in model.state_dict().items()}


def write(path: Path, state: dict[str, torch.Tensor], **metadata: str) -> Path:
    save_file(state, path, metadata=metadata or None)
    return path


@pytest.fixture(scope="module")
def resnet_state() -> dict[str, torch.Tensor]:
    return library_state("test_resnet")


@pytest.fixture(autouse=True)
def no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_):
        raise AssertionError("something connected")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_the_files_contract_is_obeyed(resnet_state, tmp_path):
    path = write(tmp_path / "w.safetensors", resnet_state, timm="test_resnet", mean="0.5,0.4,0.3", std="[0.2, 0.3, 0.4]",
                 interpolation="bicubic", size="96", crop_pct="0.9", licence="MIT")  # fmt: skip
    weights = local_weights(path, None)
    assert (weights.path, weights.source, weights.backbone) == (path, "w.safetensors", "test_resnet")
    assert weights.contract == Contract((0.5, 0.4, 0.3), (0.2, 0.3, 0.4), "bicubic", 96, 0.9, {}, "MIT")


def test_padding_is_part_of_the_contract_and_of_the_network(tmp_path):
    path = write(tmp_path / "w.safetensors", library_state("test_efficientnet"), timm="test_efficientnet", pad_type="same")
    choice = choose(NetworkConfig(weights=str(path)), (100, 100))
    assert choice.spec.arguments == {"pad_type": "same"}
    padded = choice.build().eval()
    plain = build(BackboneSpec("test_efficientnet", choice.spec.size))
    load_into(plain, choice.weights)
    images = torch.rand(1, 3, 64, 64)
    reference = timm.create_model("test_efficientnet", num_classes=0, pad_type="same").eval()
    reference.load_state_dict(padded.inner.state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(padded(images)[0], reference(images))
        assert not torch.allclose(padded(images)[0], plain.eval()(images)[0])


def test_where_the_file_is_silent_the_librarys_contract_holds(resnet_state, tmp_path):
    weights = local_weights(write(tmp_path / "w.safetensors", resnet_state), "vit_tiny_patch16_224")
    assert weights.contract == Contract((0.5,) * 3, (0.5,) * 3, "bicubic", 224, 0.9, {}, None)
    seen = local_weights(tmp_path / "w.safetensors", "torchvision/efficientnet_b3").contract
    assert (seen.mean, seen.interpolation, seen.size, seen.crop_fraction) == (IMAGENET_MEAN, "bicubic", 300, 300 / 320)


def test_a_library_that_keeps_more_than_the_shorter_side_is_kept_within_the_image():
    name = next(name for name in timm.list_models() if (cfg := timm.get_pretrained_cfg(name)) and cfg.crop_pct > 1)
    path = Path("never-read.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sightline.model.weights._metadata", lambda _: {})
        assert local_weights(path, name).contract.crop_fraction == 1


def test_half_precision_becomes_single(resnet_state, tmp_path):
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in resnet_state.items()}
    backbone = build(BackboneSpec("test_resnet", 64))
    load_into(backbone, local_weights(write(tmp_path / "w.safetensors", half, timm="test_resnet"), None))
    assert {tensor.dtype for tensor in backbone.state_dict().values()} == {torch.float32, torch.int64}
    torch.testing.assert_close(backbone.inner.conv1[0].weight, half["conv1.0.weight"].float(), rtol=0, atol=0)


@pytest.mark.parametrize(
    "name",
    ["test_resnet", "mobilenetv3_small_050", "test_efficientnet", "test_vit", "test_convnext", "test_mambaout", "regnetx_002", "levit_128s",
     "efficientvit_b0", "torchvision/shufflenet_v2_x0_5", "torchvision/squeezenet1_1", "torchvision/mobilenet_v3_small",
     "torchvision/mnasnet0_5"],
)  # fmt: skip
def test_everything_but_the_classifier_is_loaded(name, tmp_path):
    state = library_state(name)
    size = 160 if name == "test_vit" else 224 if name == "levit_128s" else 64
    backbone = build(BackboneSpec(name, size))
    load_into(backbone, local_weights(write(tmp_path / "w.safetensors", state), name))
    loaded = backbone.inner.state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in loaded)
    left_out = state.keys() - loaded.keys()
    assert left_out
    assert len({tuple(state[key].shape)[:1] for key in left_out if state[key].ndim}) <= 2  # ten classes, or an input's statistics


def test_a_heads_normalisation_is_the_backbones(tmp_path):
    state = library_state("test_convnext")
    state["head.norm.weight"] += 1
    backbone = build(BackboneSpec("test_convnext", 64))
    load_into(backbone, local_weights(write(tmp_path / "w.safetensors", state), "test_convnext"))
    torch.testing.assert_close(backbone.inner.head.norm.weight, state["head.norm.weight"])


def test_a_transformers_positions_are_resampled_to_another_size(tmp_path):
    path = write(tmp_path / "w.safetensors", library_state("test_vit"), timm="test_vit")
    weights = local_weights(path, None)
    backbone = build(BackboneSpec("test_vit", 64))
    load_into(backbone, weights)
    assert backbone.inner.pos_embed.shape[1] < load_file(path)["pos_embed"].shape[1]
    torch.testing.assert_close(backbone.inner.blocks[0].attn.qkv.weight, load_file(path)["blocks.0.attn.qkv.weight"])


def test_the_weights_of_another_network_are_refused_by_name(resnet_state, tmp_path):
    path = write(tmp_path / "w.safetensors", resnet_state, timm="test_resnet")
    with pytest.raises(ModelFileError, match=r"w\.safetensors: holds weights for test_resnet, not for resnet18; leave --backbone out"):
        local_weights(path, "resnet18")
    silent = Weights(path, "w", "test_efficientnet", Contract())
    with pytest.raises(ModelFileError, match=r"another network than test_efficientnet.*\d+ tensors are missing.*give the --backbone"):
        load_into(build(BackboneSpec("test_efficientnet", 64)), silent)


def test_tensors_of_another_shape_are_refused(resnet_state, tmp_path):
    wider = {**resnet_state, "conv1.0.weight": torch.zeros(7, 3, 3, 3)}
    path = write(tmp_path / "w.safetensors", wider, timm="test_resnet")
    with pytest.raises(ModelFileError, match=r"1 have another shape \(such as conv1\.0\.weight\)"):
        load_into(build(BackboneSpec("test_resnet", 64)), local_weights(path, None))


def test_values_that_are_no_numbers_are_refused(resnet_state, tmp_path):
    poisoned = {**resnet_state, "conv1.0.weight": torch.full_like(resnet_state["conv1.0.weight"], torch.nan)}
    path = write(tmp_path / "w.safetensors", poisoned, timm="test_resnet")
    with pytest.raises(ModelFileError, match=r"no finite numbers \(in conv1\.0\.weight\)"):
        load_into(build(BackboneSpec("test_resnet", 64)), local_weights(path, None))


def test_weights_of_one_of_a_librarys_tags_are_for_the_backbone_without(resnet_state, tmp_path):
    path = write(tmp_path / "w.safetensors", resnet_state, timm="test_resnet.r160_in1k")
    assert local_weights(path, "test_resnet").backbone == "test_resnet"
    assert local_weights(path, None).backbone == "test_resnet.r160_in1k"


def test_a_name_that_only_torchvision_has_is_found(tmp_path):
    path = write(tmp_path / "w.safetensors", {"x": torch.zeros(1)}, architecture="alexnet")
    assert local_weights(path, None).backbone == local_weights(path, "torchvision/alexnet").backbone == "torchvision/alexnet"


@pytest.mark.parametrize("cut", [0, 5, 100, -1])
def test_a_truncated_file_is_refused(resnet_state, tmp_path, cut):
    path = write(tmp_path / "w.safetensors", resnet_state, timm="test_resnet")
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ModelFileError, match=r"w\.safetensors: is not a whole safetensors file .*fetch it again"):
        local_weights(path, None)


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"\x80\x04 this is no such file" * 10)
    with pytest.raises(ModelFileError, match="is not a whole safetensors file"):
        local_weights(path, "resnet18")
    with pytest.raises(ModelFileError, match="cannot be read"):
        load_into(build(BackboneSpec("test_resnet", 64)), Weights(path, "w", "test_resnet", Contract()))


def test_a_file_that_is_not_there_or_could_run_code_is_refused(tmp_path):
    with pytest.raises(ModelFileError, match=r"--weights .*none\.safetensors: there is no such file"):
        local_weights(tmp_path / "none.safetensors", "resnet18")
    pickled = tmp_path / "w.pth"
    torch.save({}, pickled)
    with pytest.raises(ModelFileError, match=r"only \.safetensors files are read, because other formats can run code"):
        local_weights(pickled, "resnet18")
    folder = tmp_path / "folder.safetensors"
    folder.mkdir()
    with pytest.raises(ModelFileError, match=r"folder\.safetensors: is not a whole safetensors file"):
        local_weights(folder, "resnet18")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mean", "red"), ("mean", "0.5,0.5"), ("mean", "[[1],[2],[3]]"), ("mean", "nan,0,0"), ("mean", "[0.5"),
        ("std", "0,0.5,0.5"), ("std", "-1,1,1"), ("std", "inf,1,1"), ("size", "large"), ("size", "0"), ("size", "1000000"),
        ("crop_pct", "0"), ("crop_pct", "1.5"), ("crop_pct", "nan"), ("interpolation", "lanczos"), ("pad_type", "reflect"),
    ],
)  # fmt: skip
def test_metadata_that_makes_no_sense_is_refused(tmp_path, name, value):
    path = write(tmp_path / "w.safetensors", {"x": torch.zeros(1)}, timm="test_resnet", **{name: value})
    with pytest.raises(ModelFileError, match=r"w\.safetensors: its metadata is not understood"):
        local_weights(path, None)


def test_a_file_that_names_no_backbone_or_one_there_is_not(tmp_path):
    with pytest.raises(ModelFileError, match="does not say which backbone it is for; name it with --backbone"):
        local_weights(write(tmp_path / "a.safetensors", {"x": torch.zeros(1)}), None)
    path = write(tmp_path / "b.safetensors", {"x": torch.zeros(1)}, timm="resnet_of_the_future")
    with pytest.raises(ModelFileError, match=r"b\.safetensors: is for resnet_of_the_future, and neither timm nor torchvision"):
        local_weights(path, None)


# What the libraries' hubs hold, without a hub.


@pytest.fixture
def empty_caches(tmp_path, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_large_100", "torchvision/resnet18"])
def test_an_empty_cache_gives_nothing_and_asks_nobody(name, empty_caches):
    assert hub_weights(name, download=False) is None
    choice = choose(NetworkConfig(backbone=name), (200, 200))
    assert not choice.pretrained
    assert "no pretrained copy is on this machine" in choice.reasons[1]


@pytest.mark.parametrize("name", ["resnet18", "torchvision/resnet18"])
def test_a_failed_download_says_what_to_do(name, empty_caches, monkeypatch):
    def fail(*_, **__):
        raise ConnectionError("https://example.org is unreachable")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    monkeypatch.setattr("torch.hub.download_url_to_file", fail)
    with pytest.raises(ModelFileError, match=rf"weights of {name} could not be downloaded .*--weights FILE.*--weights none"):
        choose(NetworkConfig(backbone=name, weights="hub"), (200, 200))


def test_a_backbone_without_weights_on_the_hub_says_so(empty_caches):
    name = next(name for name in timm.list_models() if (cfg := timm.get_pretrained_cfg(name)) is None or not cfg.hf_hub_id)
    with pytest.raises(ModelFileError, match=f"no pretrained weights for {name}"):
        choose(NetworkConfig(backbone=name, weights="hub"), (200, 200))


def test_a_copy_in_the_cache_is_used_under_the_librarys_contract(resnet_state, empty_caches, monkeypatch):
    path = write(empty_caches / "model.safetensors", resnet_state)
    asked = []

    def cached(repository, filename):
        asked.append((repository, filename))
        return str(path)

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", cached)
    choice = choose(NetworkConfig(backbone="test_resnet"), (300, 300))
    cfg = timm.get_pretrained_cfg("test_resnet")
    assert asked == [(cfg.hf_hub_id, "model.safetensors")]
    assert choice.weights.contract == Contract(cfg.mean, cfg.std, cfg.interpolation, cfg.input_size[1], cfg.crop_pct, {}, cfg.license)
    assert (choice.prepare.mean, choice.prepare.std, choice.prepare.size) == (cfg.mean, cfg.std, cfg.input_size[1])
    assert choice.reasons[1] == f"Weights {cfg.hf_hub_id}, found on this machine; licence: {cfg.license}."
    torch.testing.assert_close(choice.build().inner.conv1[0].weight, resnet_state["conv1.0.weight"])


def test_a_broken_copy_in_the_cache_is_named(empty_caches, monkeypatch):
    path = empty_caches / "model.safetensors"
    path.write_bytes(b"broken")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: str(path))
    with pytest.raises(ModelFileError, match=r"model\.safetensors: these weights cannot be read .* fetch it again"):
        choose(NetworkConfig(backbone="test_resnet"), (100, 100)).build()


def test_torchvisions_copy_is_used_under_its_own_contract(empty_caches):
    url = torchvision.models.get_model_weights("shufflenet_v2_x0_5").DEFAULT.url
    path = empty_caches / "torch" / "hub" / "checkpoints" / url.rpartition("/")[2]
    path.parent.mkdir(parents=True)
    state = library_state("torchvision/shufflenet_v2_x0_5")
    torch.save(state, path)
    choice = choose(NetworkConfig(backbone="torchvision/shufflenet_v2_x0_5"), (300, 300))
    assert choice.weights.contract == Contract(IMAGENET_MEAN, (0.229, 0.224, 0.225), "bilinear", 224, 224 / 256, {}, None)
    assert "licence: not stated." in choice.reasons[1]
    loaded = choice.build().inner.state_dict()
    torch.testing.assert_close(loaded["conv5.0.weight"], state["conv5.0.weight"])


def test_torchvisions_inception_converts_its_input_as_its_weights_expect(empty_caches):
    """With weights, torchvision's own builder sets ``transform_input``; without it the network would see other colours."""
    for name, size in (("googlenet", 224), ("inception_v3", 299)):
        url = torchvision.models.get_model_weights(name).DEFAULT.url
        path = empty_caches / "torch" / "hub" / "checkpoints" / url.rpartition("/")[2]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        choice = choose(NetworkConfig(backbone=f"torchvision/{name}"), (300, 300))
        assert (choice.spec.arguments, choice.spec.size) == ({"transform_input": True}, size)
    torch.manual_seed(0)
    converting = build(BackboneSpec("torchvision/googlenet", 64, {"transform_input": True})).eval()
    torch.manual_seed(0)
    plain = build(BackboneSpec("torchvision/googlenet", 64)).eval()
    images = torch.rand(1, 3, 64, 64)
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.inference_mode():
        found = converting(images)[0]
        torch.testing.assert_close(found, plain((images * std + mean) / 0.5 - 1)[0], rtol=1e-3, atol=0)
        assert not torch.allclose(found, plain(images)[0], rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    ("licence", "said"),
    [
        ("apache-2.0", "licence: apache-2.0"),
        ("Apache-2.0", "licence: Apache-2.0"),
        ("cc-by-nc-4.0", "licence: cc-by-nc-4.0, which is not a permissive one: read it before you use the model"),
        (None, "licence: not stated"),
    ],
)
def test_the_licence_is_said_and_one_that_is_not_permissive_stands_out(licence, said, resnet_state, tmp_path):
    metadata = {"timm": "test_resnet"} | ({"license": licence} if licence else {})
    choice = choose(NetworkConfig(weights=str(write(tmp_path / "w.safetensors", resnet_state, **metadata))), (100, 100))
    assert choice.reasons[1] == f"Weights w.safetensors; {said}."


def test_the_licence_of_a_librarys_weights_is_its_own(empty_caches, monkeypatch):
    name = next(name for name in timm.list_models("convnextv2*") if timm.get_pretrained_cfg(name).license == "cc-by-nc-4.0")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: "/nowhere/model.safetensors")
    assert "cc-by-nc-4.0, which is not a permissive one" in choose(NetworkConfig(backbone=name), (300, 300)).reasons[1]


@needs_data
def test_the_real_weights_with_their_own_classifier_know_a_shoe():
    choice = choose(NetworkConfig(weights=str(WEIGHTS)), (200, 200))
    assert choice.spec == BackboneSpec("mobilenetv2_100", 224, {"pad_type": "same"})
    assert (choice.prepare.mean, choice.prepare.std, choice.prepare.interpolation) == ((0.5,) * 3, (0.5,) * 3, "bilinear")
    assert "licence: Apache-2.0." in choice.reasons[1]
    backbone, state = choice.build(), load_file(WEIGHTS)
    assert type(backbone.inner.conv_stem).__name__ == "Conv2dSame"
    head = make_head(backbone.num_features, 1000, 0.0)
    head.set_linear(state["classifier.weight"].double().numpy(), state["classifier.bias"].double().numpy())
    infer = torch_infer(Network(backbone, head, choice.prepare), torch.device("cpu"), ("logits",))
    photos = sorted((DATA / "clothing" / "test" / "shoes").iterdir())[:6]
    logits = infer(np.stack([choice.prepare(np.asarray(Image.open(photo).convert("RGB")))[0] for photo in photos]))["logits"]
    assert logits.shape == (6, 1000)
    names = (DATA / "weights" / "imagenet_labels.txt").read_text().splitlines()
    answers = [names[best].lower() for best in logits.argmax(axis=1)]
    footwear = [answer for answer in answers if any(word in answer for word in ("shoe", "boot", "loafer", "sandal", "clog"))]
    assert len(footwear) >= 5, answers


def test_a_contract_round_trips_through_the_spec(resnet_state, tmp_path):
    choice = choose(NetworkConfig(weights=str(write(tmp_path / "w.safetensors", resnet_state, timm="test_resnet"))), (100, 100))
    assert BackboneSpec.from_json(json.loads(json.dumps(choice.spec.to_json()))) == choice.spec
