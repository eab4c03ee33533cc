"""standalone: one ONNX file that prepares an image of any size bit for bit as Pillow does, and answers as the runtime does."""

from __future__ import annotations

import hashlib
import io
import json
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from PIL import Image

import sightline
from plain_bundle import LABELS, photograph, png, write_plain_bundle
from sightline import bundle as bundles
from sightline.cli import _exit_code
from sightline.data.decode import decode
from sightline.data.prepare import FITS, RESAMPLE, Prepare
from sightline.engines.adapters import version_of
from sightline.errors import DataError, ImageError, ModelFileError, RequirementNotMet, UsageError
from sightline.exporting import resizing, standalone
from sightline.exporting.formulas import Formulas, Value
from sightline.npz import arrays_to_bytes
from sightline.records import ImageRef


def session(graph):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


@cache
def preparing(prepare):
    """A graph that only prepares."""
    graph = Formulas()
    made = resizing.prepared(graph, Value("image", graph), prepare)
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["height", "width", 3])
    out = helper.make_tensor_value_info(made.name, TensorProto.UINT8, [*prepare.shape, 3])
    model = helper.make_model(graph.graph("prepare", [image], [out]), opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return session(model.SerializeToString())


def computed(prepare, image):
    return preparing(prepare).run(None, {"image": image})[0]


PREPARES = [
    Prepare(size, fit, fraction, interpolation, height=height)
    for fit in FITS for interpolation in RESAMPLE for size, height, fraction in ((32, None, 0.875), (45, 31, 1.0))
]  # fmt: skip


# The graph's resizing is Pillow's


@settings(max_examples=150)
@given(st.integers(1, 150), st.integers(1, 150), st.sampled_from(PREPARES), st.integers(0, 2**32 - 1))
@example(32, 32, PREPARES[0], 0)
@example(37, 140, PREPARES[2], 0)
def test_any_picture_is_prepared_bit_for_bit_as_pillow_does(width, height, prepare, seed):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    np.testing.assert_array_equal(computed(prepare, image), prepare(image)[0])


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (3, 2)])
@pytest.mark.parametrize("prepare", PREPARES, ids=str)
def test_the_narrowest_pictures_are_prepared_as_pillow_does(prepare, size):
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    np.testing.assert_array_equal(computed(prepare, image), prepare(image)[0])


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize(("width", "height"), [(1600, 1200), (1201, 1777), (700, 2500)])
def test_photographs_are_prepared_as_pillow_does(fit, width, height):
    prepare, image = Prepare(224, fit, 0.875, "bicubic"), photograph(3, width, height)
    np.testing.assert_array_equal(computed(prepare, image), prepare(image)[0])


def test_black_and_white_stay_what_they_are():
    """The bicubic filter swings beyond both, where Pillow cuts off."""
    image = np.zeros((200, 300, 3), np.uint8)
    image[:, 150:] = 255
    prepare = Prepare(64, "squash", interpolation="bicubic")
    found = computed(prepare, image)
    np.testing.assert_array_equal(found, prepare(image)[0])
    assert set(found[:, :30].ravel()) == {0}
    assert set(found[:, 34:].ravel()) == {255}


def test_a_pillow_that_always_begins_with_the_columns_is_followed(monkeypatch):
    monkeypatch.setattr(resizing, "pillow_may_begin_with_rows", lambda: False)
    prepare, bicubic = Prepare(20, "squash", interpolation="bicubic"), Image.Resampling.BICUBIC
    preparing.cache_clear()
    image = np.random.default_rng(0).integers(0, 256, (300, 30, 3), np.uint8)
    found = computed(prepare, image)
    preparing.cache_clear()
    expected = Image.fromarray(image).resize((20, 300), bicubic).resize((20, 20), bicubic)
    np.testing.assert_array_equal(found, np.asarray(expected))


# The file answers as the runtime does


@pytest.mark.parametrize(
    ("task", "prepare", "thresholds"),
    [
        ("classify", Prepare(64, "crop", 0.875, "bicubic"), {}),
        ("tag", Prepare(64, "pad"), {"ash": 0.3, "elm": 0.6, "oak": 0.5, LABELS[3]: 0.9}),
        ("classify", Prepare(48, "squash", height=64), {}),
    ],
    ids=["crop", "pad", "squash"],
)
def test_probabilities_are_the_runtimes(task, prepare, thresholds, tmp_path):
    bundle = write_plain_bundle(tmp_path / "it.sight", prepare, task, thresholds=thresholds)
    made = sightline.export(bundle, standalone=True, threads=1)
    assert made.model == tmp_path / "it-standalone.onnx"
    assert made.n == 2
    assert made.difference < 1e-6
    model, alone = sightline.Model.open(bundle, engine="onnxruntime", threads=1), session(made.model.read_bytes())
    images = [photograph(seed, *size) for seed, size in enumerate([(64, 64), (31, 50), (400, 300), (301, 455), (1600, 1200)])]
    expected = model.task.probabilities(next(model.raw(images)).raw, model.manifest.decision)
    found = np.stack([alone.run(["probabilities"], {"image": image})[0] for image in images])
    assert found.shape == (len(images), len(LABELS))
    assert found.std(axis=0).max() > 0.05  # the images are told apart
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_what_is_unlike_the_training_images_fades_as_in_the_runtime(run, shapes, tmp_path):
    made = sightline.export(run.model, standalone=True, out=tmp_path, threads=1)
    model, alone = sightline.Model.open(run.model, engine="onnxruntime", threads=1), session(made.model.read_bytes())
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (40, 50, 3), np.uint8), np.zeros((64, 64, 3), np.uint8), photograph(3, 300, 200)]
    images = [*noise, *(decode(ImageRef(str(file))) for file in sorted((shapes / "disc").glob("*.png"))[:8])]
    raw = next(model.raw(images)).raw
    plain, expected = (model.task.probabilities(one, model.manifest.decision) for one in (raw, model.kept(raw)))
    assert np.abs(plain - expected)[: len(noise)].max() > 0.01
    np.testing.assert_allclose([alone.run(["probabilities"], {"image": image})[0] for image in images], expected, atol=1e-5)


def test_the_file_says_all_that_a_program_wants_to_know(tmp_path):
    prepare = Prepare(32, "crop", 0.9)
    bundle = write_plain_bundle(tmp_path / "it.sight", prepare, "tag", thresholds=dict.fromkeys(LABELS, 0.25))
    made = sightline.export(bundle, standalone=True, threads=1)
    said = session(made.model.read_bytes()).get_modelmeta().custom_metadata_map
    assert json.loads(said["labels"]) == list(LABELS)
    assert Prepare.from_json(json.loads(said["prepare"])) == prepare
    assert json.loads(said["decision"]) == {"temperature": 1.5, "thresholds": dict.fromkeys(LABELS, 0.25)}
    assert said["task"] == "tag"
    assert said["source_sha256"] == hashlib.sha256(bundle.read_bytes()).hexdigest()
    assert json.loads(said["licences"])["weights"] == "Apache-2.0"


def test_it_is_plain_onnx_without_operators_from_elsewhere(tmp_path):
    made = sightline.export(write_plain_bundle(tmp_path / "it.sight", Prepare(32)), standalone=True, threads=1)
    model = onnx.load(made.model)
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""}
    (image,), (out,) = model.graph.input, model.graph.output
    assert (image.name, out.name) == ("image", "probabilities")
    assert [size.dim_param or size.dim_value for size in image.type.tensor_type.shape.dim] == ["height", "width", 3]


@pytest.mark.skipif(version_of("openvino") is None, reason="OpenVINO is not installed: sightline[fast]")
def test_another_runtime_gives_the_same_answer(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino_telemetry", None)  # it sends when it is imported
    import openvino

    made = sightline.export(write_plain_bundle(tmp_path / "it.sight", Prepare(64, "crop", 0.875)), standalone=True, threads=1)
    other = openvino.Core().compile_model(str(made.model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    image = photograph(0, 500, 400)
    expected = session(made.model.read_bytes()).run(None, {"image": image})[0]
    assert np.abs(other(image)[0] - expected).max() < 1e-3


def test_jpegs_that_the_runtime_reads_at_reduced_size_are_said(tmp_path, capsys):
    data = tmp_path / "data" / "test" / LABELS[0]
    data.mkdir(parents=True)
    grain = np.random.default_rng(0).integers(0, 256, (800, 1000, 3), np.uint8)
    Image.fromarray(grain).save(data / "large.jpg", quality=95)
    made = sightline.export(write_plain_bundle(tmp_path / "it.sight", Prepare(64)), standalone=True, data=tmp_path / "data", threads=1)
    assert made.n == 3
    assert made.difference < 1e-6
    assert made.reduced > standalone.TOLERANCE
    assert "--full-size" in made.lines()[1]
    assert made.to_json()["max_difference_to_files"] == made.reduced


def test_predict_at_full_size_gives_the_scores_of_the_file(tmp_path, capsys):
    """Also where an image is stored on its side, and where one cannot be read."""
    bundle = write_plain_bundle(tmp_path / "it.sight", Prepare(64, "crop", 0.875))
    made = sightline.export(bundle, standalone=True, threads=1)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(photograph(5, 1000, 801)).save(tmp_path / "a.jpg", quality=95)
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:500])
    Image.fromarray(photograph(6, 1000, 801)).save(tmp_path / "c.jpg", quality=95, exif=turned)
    files = [tmp_path / f"{name}.jpg" for name in "abc"]
    (path, first), (_, torn), (_, last) = sightline.predict(bundle, files, full_size=True, engine="onnxruntime", threads=1)
    assert path == str(files[0])
    assert isinstance(torn, ImageError)
    alone = session(made.model.read_bytes())
    for file, found in ((files[0], first), (files[2], last)):
        expected = alone.run(None, {"image": decode(file.read_bytes())})[0]
        np.testing.assert_allclose([dict(zip(found.labels, found.scores, strict=True))[label] for label in LABELS], expected, atol=1e-6)


# What is refused


def test_a_file_that_answers_otherwise_is_not_written_and_the_images_are_named(tmp_path, monkeypatch):
    bundle = write_plain_bundle(tmp_path / "it.sight", Prepare(32))
    data = tmp_path / "data" / "test" / LABELS[0]
    data.mkdir(parents=True)
    (data / "other.png").write_bytes(png(photograph(7, 90, 60)))
    for changed in ({"fit": "squash"}, {"interpolation": "bicubic", "crop_fraction": 0.9}):
        broken = lambda graph, image, prepare, changed=changed: resizing.prepared(graph, image, replace(prepare, **changed))  # noqa: E731
        monkeypatch.setattr(standalone, "prepared", broken)
        with pytest.raises(RequirementNotMet, match=r"3 of 3 images get other probabilities .* beyond 0.001 \(.*other\.png by 0\."):
            sightline.export(bundle, standalone=True, data=tmp_path / "data", threads=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "it.sight"]


@pytest.mark.parametrize(
    ("task", "prepare", "said"),
    [
        ("detect", Prepare(32, "pad"), "answers with boxes"),
        ("segment", Prepare(32, "pad"), "answers with maps"),
        ("classify", Prepare(32, mean=(0.5,) * 4, std=(0.5,) * 4, channels=4, bands=(1, 2, 3, 4)), "chooses bands"),
    ],
)
def test_what_cannot_stand_alone_is_said_in_a_sentence(task, prepare, said, tmp_path, monkeypatch):
    bundle = write_plain_bundle(tmp_path / "it.sight", Prepare(32))
    opened = sightline.bundle.Bundle.open(bundle)
    opened.manifest = replace(opened.manifest, task=task, prepare=prepare.to_json())
    with opened, pytest.raises(UsageError, match=rf"^--standalone: .*it\.sight {said}"):
        standalone.standalone_graph(opened)


def test_a_bundle_of_parts_that_do_not_fit_together_is_refused(run, tmp_path):
    """Embeddings that are none of its network's, beside which no image can be held."""
    with bundles.Bundle.open(run.model) as opened:
        known = opened.arrays("reference")
        known["embeddings"] = known["embeddings"][:, 1:]
        parts = [bundles.Part(member.name, member.role, opened.read(member.role), member.required) for member in opened.manifest.members]
        parts = [replace(part, data=arrays_to_bytes(known)) if part.role == "reference" else part for part in parts]
        bundles.write(tmp_path / "odd.sight", opened.manifest, parts)
    with pytest.raises(ModelFileError, match=r"odd\.sight: its parts do not fit together \(.*MatMul.*\); copy or train it again\.$"):
        sightline.export(tmp_path / "odd.sight", standalone=True, threads=1)
    assert not list(tmp_path.glob("*.onnx"))


def test_a_bundle_without_images_cannot_be_judged(tmp_path):
    with pytest.raises(ModelFileError, match="carries no images to verify it with"):
        sightline.export(write_plain_bundle(tmp_path / "it.sight", Prepare(32), carried=0), standalone=True, threads=1)


def test_bad_input_is_said_and_no_file_is_overwritten(tmp_path, capsys):
    bundle = write_plain_bundle(tmp_path / "it.sight", Prepare(32))
    with pytest.raises(UsageError, match=r"--out .*it\.onnx: .*absent is no folder to write it\.onnx to"):
        sightline.export(bundle, standalone=True, out=tmp_path / "absent" / "it.onnx", threads=1)
    with pytest.raises(DataError, match="could be read"):
        sightline.export(bundle, standalone=True, max_pixels=10, threads=1)
    assert not list(tmp_path.glob("*.onnx"))
    (tmp_path / "exports").mkdir()
    made = sightline.export(bundle, standalone=True, out=tmp_path / "exports", threads=1)
    assert made.model == tmp_path / "exports" / "it-standalone.onnx"
    words = ["export", str(bundle), "--standalone", "--threads", "1"]
    assert _exit_code(words) == 0
    said = capsys.readouterr()
    assert said.out == f"Model   {tmp_path / 'it-standalone.onnx'}\n"
    assert "of the runtime's on 2 images" in said.err
    assert _exit_code([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["model"] == str(tmp_path / "it-standalone-2.onnx")
    assert found["max_difference"] <= found["tolerance"] == 1e-3


def test_an_unreadable_test_image_is_named_and_loses_no_other(tmp_path, capsys):
    data = tmp_path / "data" / "test" / LABELS[0]
    data.mkdir(parents=True)
    (data / "good.png").write_bytes(png(photograph(7, 90, 60)))
    sink = io.BytesIO()
    Image.fromarray(photograph(8, 90, 60)).save(sink, "JPEG")
    (data / "torn.jpg").write_bytes(sink.getvalue()[:400])
    made = sightline.export(write_plain_bundle(tmp_path / "it.sight", Prepare(32)), standalone=True, data=tmp_path / "data", threads=1)
    assert made.n == 3
    assert "torn.jpg" in capsys.readouterr().err
