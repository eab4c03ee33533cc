"""Images of other than three channels through the line: prepared, stored, changed, learned, exported, shown, and shipped."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import tifffile
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

import sightline
from conftest import QUICK, SHAPES, render_shape
from sightline.bundle import Bundle
from sightline.config import AugmentConfig, NetworkConfig
from sightline.data.channels import changed, picture_of
from sightline.data.decode import Limits, decode
from sightline.data.folder import read_folder
from sightline.data.look import look_at
from sightline.data.prepare import FITS, GREY, Prepare
from sightline.data.reading import Reading
from sightline.data.store import look_once
from sightline.engines.adapters import Work, onnx_infer
from sightline.errors import ConfigError, ImageError, ModelFileError, UsageError
from sightline.model.backbone import BackboneSpec, build
from sightline.model.choose import choose
from sightline.model.export import export_graph
from sightline.model.heads.classify import make_head
from sightline.model.network import Network, torch_infer
from sightline.records import ImageRef
from sightline.replay import rendered_images
from sightline.report.pictures import thumbnail
from sightline.training.augment import recolour, sample_affine, warp
from test_dicom import bytes_of, scan, twelve_bits

pytestmark = pytest.mark.usefixtures("one_thread")


def levels(channels: int, height: int = 30, width: int = 40) -> np.ndarray:
    return np.random.default_rng(channels).integers(0, 256, (height, width, channels), np.uint8)


def prepare_of(bands: tuple[int, ...], size: int = 32, **fields: object) -> Prepare:
    count = len(bands)
    return Prepare(size, mean=(0.4,) * count, std=(0.2,) * count, channels=count, bands=bands, **fields)


# ---- pictures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 4, 5, 16])
@pytest.mark.parametrize("fit", FITS)
def test_each_channel_is_prepared_as_it_would_be_in_colour(channels, fit):
    image, prepare = levels(channels), Prepare(24, fit, 0.9)
    out, back = prepare(image)
    assert out.shape == (24, 24, channels)
    for channel in range(channels):
        alone, same = prepare(np.repeat(image[:, :, channel : channel + 1], 3, axis=2))
        np.testing.assert_array_equal(out[:, :, channel], alone[:, :, 1])
        np.testing.assert_array_equal(back, same)


def test_three_channels_are_the_same_at_once_and_one_by_one():
    image = levels(3)
    for fit in FITS:
        prepare = Prepare(24, fit, interpolation="bicubic")
        np.testing.assert_array_equal(prepare(image)[0], prepare(np.concatenate([image, image[..., :1]], axis=2))[0][..., :3])


def test_the_contract_carries_the_reading_and_older_ones_have_none():
    made = prepare_of((4, 3, 2, 8), window=(0.0, 4095.0))
    assert Prepare.from_json(json.loads(json.dumps(made.to_json()))) == made
    assert made.reading == Reading((0, 4095), (4, 3, 2, 8))
    assert not {"window", "bands"} & Prepare(32).to_json().keys()
    assert Prepare.from_json(Prepare(32).to_json()).reading == Reading()
    for change in ({"channels": 3}, {"bands": [1, 2]}, {"bands": None}, {"bands": [0, 1, 2, 3]}, {"window": [5, 1]}, {"window": "ab"}):
        with pytest.raises(ModelFileError, match="upgrade Sightline"):
            Prepare.from_json({**made.to_json(), **change})


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_views_and_colours_of_any_number_of_channels(channels):
    image, prepare = levels(channels), Prepare(24)
    config = AugmentConfig()
    affine = sample_affine(np.random.default_rng(3), 30, 40, prepare, config)
    view = warp(image, affine, (24, 24))
    for channel in range(channels):
        np.testing.assert_array_equal(view[..., channel], warp(np.repeat(image[..., channel, None], 3, axis=2), affine, (24, 24))[..., 0])
    outside = warp(image, np.array([[1.0, 0, 1000], [0, 1, 1000]]), (4, 4))
    assert (outside == GREY).all()
    pixels = torch.from_numpy(image[None])
    changed_colours = recolour(pixels, torch.tensor([[0.5, 1.0, 0.0]]))
    if channels != 3:  # no saturation to take away
        torch.testing.assert_close(changed_colours, pixels * 0.5)
    flat = recolour(pixels, torch.tensor([[1.0, 0.0, 1.0]]))
    torch.testing.assert_close(flat, torch.full_like(flat, float(pixels.float().mean())))


def test_what_is_shown_are_the_first_three_channels_or_the_first_as_grey():
    five, two = levels(5), levels(2)
    np.testing.assert_array_equal(np.asarray(picture_of(five)), five[..., :3])
    np.testing.assert_array_equal(np.asarray(picture_of(two)), two[..., 0])
    for image, mode in ((five, "RGB"), (two, "L"), (levels(1), "L")):
        shown = Image.open(io.BytesIO(thumbnail(image, 20)))
        assert (shown.mode, shown.size) == (mode, (20, 15))
    np.testing.assert_array_equal(changed(two, lambda plane: plane.transpose(Image.Transpose.ROTATE_180)), two[::-1, ::-1])


# ---- the store -------------------------------------------------------------------------------------------------------


def write_field(path, image: np.ndarray) -> ImageRef:
    tifffile.imwrite(path, image, photometric="minisblack", planarconfig="contig")
    return ImageRef(str(path))


def test_a_look_keeps_all_channels_and_tells_of_those_that_are_shown(tmp_path):
    image = levels(5)
    ref = write_field(tmp_path / "a.tif", image)
    seen = look_at(ref, 64, Limits(), "", Reading(bands=(5, 4, 3, 2, 1)))
    np.testing.assert_array_equal(seen.pixels, image[..., ::-1])
    np.testing.assert_allclose(seen.colour, image[..., [4, 3, 2]].mean(axis=(0, 1)) / 255, atol=1e-6)
    Image.fromarray(image[..., [4, 3, 2]]).save(tmp_path / "same.png")
    same = look_at(ImageRef(str(tmp_path / "same.png")), 64, Limits())
    assert (seen.brightness, seen.contrast, seen.sharpness) == (same.brightness, same.contrast, same.sharpness)
    np.testing.assert_array_equal(seen.thumb, same.thumb)
    grey = look_at(ref, 64, Limits(), "", Reading(bands=(2,)))
    assert grey.pixels.shape == (30, 40, 1)
    np.testing.assert_allclose(grey.colour, [image[..., 1].mean() / 255] * 3, atol=1e-6)


def test_a_look_sees_the_page_that_the_reference_names(tmp_path):
    path = tmp_path / "stack.tif"
    pages = [levels(1)[..., 0], levels(4)[..., 3]]
    with tifffile.TiffWriter(path) as writer:
        for page in pages:
            writer.write(page, photometric="minisblack")
    first, second = (look_at(ImageRef(str(path), frame=frame), 64, Limits()) for frame in (0, 1))
    np.testing.assert_array_equal(second.pixels[..., 0], pages[1])
    assert (first.note, second.note) == ("has 2 pages, of which this is the first", "")


@pytest.mark.usefixtures("empty_cache")
def test_each_reading_has_a_store_of_its_own(tmp_path):
    (tmp_path / "data" / "field").mkdir(parents=True)
    images = [levels(5), levels(6)]
    for number, image in enumerate(images):
        write_field(tmp_path / "data" / "field" / f"{number}.tif", image)
    dataset = read_folder(tmp_path / "data")

    def store_of(reading: Reading):
        return look_once(dataset, 64, limits=Limits(), workers=1, limit_bytes=1e9, reading=reading)

    for bands in ((5, 1), (1, 2, 3, 4, 5), (2,), (5, 1)):
        store = store_of(Reading(bands=bands))
        assert store.channels == len(bands)
        for row, image in enumerate(images):
            np.testing.assert_array_equal(store[row], image[..., [band - 1 for band in bands]])
    missing = store_of(Reading(bands=(6,)))
    assert missing.facts.error.tolist() == ["has 5 bands, and bands 6 are asked for", ""]
    assert missing.select(np.array([1]))[0].shape == (30, 40, 1)


# ---- the network -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
@pytest.mark.parametrize("channels", [1, 5])
def test_a_network_takes_its_channels_and_exports_with_them(name, channels):
    torch.manual_seed(0)
    size = 160 if name == "test_vit" else 32
    prepare = prepare_of(tuple(range(1, channels + 1)), size)
    spec = BackboneSpec(name, size, channels=channels)
    assert BackboneSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    backbone = build(spec)
    network = Network(backbone, make_head(backbone.num_features, 3, 0.0), prepare).eval()
    batch = np.stack([prepare(levels(channels, 200, 200))[0]] * 2)
    expected = torch_infer(network, torch.device("cpu"), ("logits",))(batch)
    found = onnx_infer(Work(export_graph(network, size), ("logits",), "it", batch.shape[1:], threads=1))(batch)
    np.testing.assert_allclose(found["logits"], expected["logits"], atol=1e-4)


def test_a_spec_of_an_earlier_version_has_three_channels():
    assert BackboneSpec.from_json({"name": "test_resnet", "size": 32, "arguments": {}, "keep_resolution": True}).channels == 3


def test_torchvisions_networks_are_refused_for_other_channels():
    asked = NetworkConfig(backbone="torchvision/resnet18", weights="none")
    for refused in (
        lambda: choose(asked, (100, 100), Reading(bands=(1, 2, 3, 4))),
        lambda: build(BackboneSpec("torchvision/resnet18", 32, channels=4)),
    ):
        with pytest.raises(UsageError, match=r"--backbone torchvision/resnet18: .*three channels, and --bands asks for 4"):
            refused()
    assert choose(asked, (100, 100), Reading(bands=(4, 3, 2))).prepare.bands == (4, 3, 2)


@pytest.mark.parametrize("bands", [(1,), (4, 3, 2), (5, 4, 3, 2, 1)])
def test_pretrained_weights_are_fitted_to_the_channels_as_timm_does(bands, tmp_path):
    path = tmp_path / "w.safetensors"
    state = timm.create_model("test_resnet", num_classes=0).state_dict()
    save_file(state, path, metadata={"timm": "test_resnet", "mean": "0.1,0.2,0.3", "std": "0.4,0.5,0.6"})
    choice = choose(NetworkConfig(weights=str(path)), (100, 100), Reading(bands=bands))
    count = len(bands)
    assert choice.prepare.mean == (0.1, 0.2, 0.3, 0.1, 0.2)[:count]
    assert choice.prepare.std == (0.4, 0.5, 0.6, 0.4, 0.5)[:count]
    assert (choice.prepare.channels, choice.spec.channels) == (count, count)
    assert (any("first convolution" in reason for reason in choice.reasons)) == (count != 3)
    assert f"Bands {', '.join(map(str, bands))} of each image, as asked." in choice.reasons
    loaded = choice.build().inner.state_dict()
    torch.testing.assert_close(loaded["conv1.0.weight"], timm.models.adapt_input_conv(count, state["conv1.0.weight"]))
    assert all(torch.equal(loaded[name], state[name]) for name in loaded if name != "conv1.0.weight")


# ---- shipped ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bands", [(1,), (2, 1), (4, 3, 2), (1, 2, 3), (7, 1)])
def test_rendered_images_have_the_bands_that_are_read(bands):
    for data in rendered_images(2, max(bands)):
        assert decode(data, reading=Reading(bands=bands)).shape == (96, 96, len(bands))


def write_fields(folder, per_class: int = 20) -> None:
    """Rendered shapes in the last three bands of 12-bit images of five."""
    for kind in SHAPES:
        (folder / kind).mkdir(parents=True)
        for number in range(per_class):
            colours = np.asarray(render_shape(kind, number), np.uint16) * 16
            noise = np.random.default_rng(number).integers(0, 4096, (32, 32, 2), np.uint16)
            write_field(folder / kind / f"{number:03d}.tif", np.concatenate([noise, colours], axis=2))


def test_a_run_on_bands_ships_a_bundle_that_reads_files_the_same_way(tmp_path):
    write_fields(tmp_path / "fields")
    trained = sightline.train(tmp_path / "fields", out=str(tmp_path / "run"), bands="5,4,3,2", window="0,4095", **QUICK)
    model = sightline.Model.open(trained.model)
    assert model.prepare.reading == Reading((0, 4095), (5, 4, 3, 2))
    assert sightline.verify(trained.model)["max_difference"] < 1e-4
    image = tmp_path / "fields" / "disc" / "000.tif"
    seen = model.predict(str(image))
    assert model.predict(tifffile.imread(image)).scores == pytest.approx(seen.scores)
    with pytest.raises(ImageError, match="has 3 bands, and bands 5, 4, 3, 2 are asked for"):
        model.predict(np.zeros((32, 32, 3), np.uint8))
    assert trained.numbers["settings"]["data"]["bands"] == "5,4,3,2"
    assert "Bands 5, 4, 3, 2 of each image, as asked." in trained.numbers["network"]["reasons"]


def test_a_bundle_of_scans_carries_no_patient(tmp_path):
    for kind in SHAPES:
        (tmp_path / "scans" / kind).mkdir(parents=True)
        for number in range(12):
            grey = np.asarray(render_shape(kind, number).convert("L"), np.uint16) * 16
            (tmp_path / "scans" / kind / f"{number}.dcm").write_bytes(bytes_of(scan(grey, bits=12)))
    trained = sightline.train(tmp_path / "scans", out=str(tmp_path / "run"), bands="1", **QUICK)
    assert sightline.verify(trained.model)["n"] > 0
    assert sightline.Model.open(trained.model).predict(bytes_of(scan(twelve_bits(), bits=12))).label in SHAPES
    with Bundle.open(trained.model) as bundle:
        carried = [bundle.read(member.role) for member in bundle.manifest.members]
    written = [path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file() and path != trained.model]
    assert not any(b"DOE" in data for data in [*carried, *written])


def test_nonsense_is_told_before_anything_is_read(tmp_path):
    with pytest.raises(ConfigError) as caught:
        sightline.train(tmp_path / "nowhere", window="1", bands="0")
    assert len(caught.value.problems) == 2
