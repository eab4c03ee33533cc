"""exporting: a variant in INT8 keeps what its source does, or is not written; what stays in float; and what is said of bad input."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest

import sightline
from conftest import render_shape, write_shapes
from sightline.bundle import Bundle
from sightline.cli import _exit_code
from sightline.data.prepare import Prepare
from sightline.engines import adapters
from sightline.engines.adapters import Work, onnx_infer
from sightline.engines.choice import INT8_TOLERANCE
from sightline.errors import DataError, ModelFileError, RequirementNotMet, UsageError
from sightline.exporting import int8 as making
from sightline.exporting.floats import mixed
from sightline.exporting.judging import Loss, speeds
from sightline.exporting.material import VALIDATION_IMAGES, divided
from sightline.exporting.quantise import in_float, layers, plain, quantised
from sightline.onnx_check import check_graph
from sightline.records import Dataset, ImageRef
from sightline.report.markdown import split_front

# Of a few rendered test images each weighs many points.
GENEROUS = {"max_loss": 25.0, "threads": 1, "calibration_images": 24}
needs_openvino = pytest.mark.skipif(adapters.version_of("openvino") is None, reason="OpenVINO is not installed: sightline[fast]")


@pytest.fixture(scope="module")
def exported(learnt, tmp_path_factory):
    data, run = learnt
    return sightline.export(run.model, data=data, out=tmp_path_factory.mktemp("exported") / "small.sight", **GENEROUS)


@pytest.fixture(scope="module")
def graph(learnt):
    with Bundle.open(learnt[1].model) as bundle:
        return bundle.read("graph")


@pytest.fixture(scope="module")
def images(learnt):
    """Prepared test images (36, 32, 32, 3)."""
    prepare = Prepare(32)
    return np.stack([prepare(np.asarray(render_shape(kind, seed)))[0] for kind in ("cross", "disc", "square") for seed in range(12)])


@pytest.fixture(scope="module")
def int8(graph, images):
    return quantised(graph, images)


def logits(graph, images):
    return onnx_infer(Work(graph, ("logits",), "it", (32, 32, 3), threads=1))(images)["logits"]


# The graph


def test_the_graph_in_int8_has_its_weights_in_eight_bits_and_nothing_that_is_refused(graph, int8):
    check_graph(int8)
    held = {tensor.name: tensor.data_type for tensor in onnx.load_from_string(int8).graph.initializer}
    assert sum(kind == onnx.TensorProto.INT8 for kind in held.values()) >= len(layers(graph))
    assert len(int8) < 0.6 * len(graph)
    assert {value.name for value in onnx.load_from_string(int8).graph.output} == {"logits", "embedding", "features"}


def test_the_graph_in_int8_computes_nearly_the_same(graph, int8, images):
    expected, found = logits(graph, images), logits(int8, images)
    assert 0 < np.abs(found - expected).max() < 0.2 * np.abs(expected).max()
    assert (found.argmax(axis=1) != expected.argmax(axis=1)).mean() <= 0.1


def test_layers_in_float_are_what_they_were_and_all_of_them_bring_the_outputs_near(graph, int8, images):
    names = layers(graph)
    expected = logits(graph, images)
    all_back, some_back = in_float(int8, graph, names), in_float(int8, graph, names[: len(names) // 2])
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load_from_string(plain(graph)).graph.initializer}
    kept = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load_from_string(all_back).graph.initializer}
    back = [name for name in kept if name.endswith("_in_float")]
    assert len(back) >= len(names)
    for name in back:
        np.testing.assert_array_equal(kept[name], weights[name.removesuffix("_in_float")])
    all_apart, some_apart, apart = (np.abs(logits(made, images) - expected).mean() for made in (all_back, some_back, int8))
    assert all_apart < min(some_apart, apart)
    # Roundings of lower and of upper layers may cancel each other, as they do by 6% where the processor adds up products otherwise.
    assert some_apart < 1.25 * apart
    assert len(int8) < len(some_back) < len(all_back)


def test_pooling_without_its_detour_computes_the_same(graph, images):
    operators = [node.op_type for node in onnx.load_from_string(plain(graph)).graph.node]
    assert "Range" not in operators
    np.testing.assert_array_equal(logits(plain(graph), images), logits(graph, images))


def gathering(order):
    """A graph that takes the pooled means of each image in some order, by indices that it computes."""
    values = onnx.parser.parse_model(
        f"""
        <ir_version: 9, opset_import: ["" : 20]>
        it (uint8[n, 4, 4, 3] images) => (float[n, 3, 1, 1] logits)
        <float[n, 3, 1, 1] means, int64[2] axes = {{2, 3}},
         int64[1] flat = {{-1}}, int64 zero = {{0}}, int64 one = {{1}}, int64[1] three = {{3}},
         int64[3] ends = {{1, 2, 3}}, int64[1, 3, 1, 1] order = {{{order}}}>
        {{
            shape = Shape <start = 0, end = 1> (images)
            n = Squeeze (shape)
            numbers = Cast <to = 1> (images)
            permuted = Transpose <perm = [0, 3, 1, 2]> (numbers)
            means = ReduceMean <keepdims = 1> (permuted, axes)
            row = Reshape (means, flat)
            starts = Range (zero, n, one)
            steps = Mul (starts, three)
            columns = Unsqueeze (steps, ends)
            places = Add (columns, order)
            logits = Gather <axis = 0> (row, places)
        }}
    """
    )
    return values.SerializeToString()


def test_a_gather_that_reorders_is_left_alone():
    batch = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), np.uint8)

    def computed(data):
        return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(["logits"], {"images": batch})[0]

    for order in ("0, 1, 2", "2, 1, 0"):
        np.testing.assert_array_equal(computed(plain(gathering(order))), computed(gathering(order)))


@needs_openvino
def test_both_engines_compute_the_same_graph(int8, images):
    work = Work(int8, ("logits",), "it", (32, 32, 3), threads=1, int8=True)
    ours, theirs = adapters.onnx_infer(work)(images)["logits"], adapters.openvino_infer(work)(images)["logits"]
    assert np.abs(ours - theirs).max() < 0.1 * np.abs(ours).max()


def test_a_graph_without_layers_is_refused_in_a_sentence(images):
    with pytest.raises(ModelFileError, match=r"^it: its graph has no layer that can be computed in INT8"):
        quantised(gathering("0, 1, 2"), images, "it")


# What stays in float


def fake_search(monkeypatch, harmful, *, hopeless=False):
    """What ``mixed`` chooses of layers a to h of which some harm, with graphs that only name what is in float, and what it tried."""
    monkeypatch.setattr("sightline.exporting.floats.in_float", lambda int8, graph, back: "".join(back).encode())
    tried = []

    def apart(made):
        tried.append(made)
        return float(len(set(harmful) - set(made.decode())))

    def judge(made):
        wrong = 8 if hopeless else int(apart(made))
        return Loss(float(wrong), 3 * wrong, 100)

    return mixed(b"", b"", tuple("abcdefgh"), apart, judge, 0.5), tried


@pytest.mark.parametrize(("harmful", "expected"), [("", 0), ("c", 1), ("ch", 2), ("cfh", 4)])
def test_as_few_layers_as_it_takes_go_back_to_float(monkeypatch, harmful, expected):
    found, tried = fake_search(monkeypatch, harmful)
    assert found.holds(0.5)
    assert len(found.in_float) == expected
    assert set(harmful) <= set(found.in_float)
    assert len(tried) <= 8 + 5


def test_half_of_the_layers_is_the_most(monkeypatch):
    found, _ = fake_search(monkeypatch, "abcdefgh", hopeless=True)
    assert not found.holds(0.5)
    assert len(found.in_float) <= 4


# Which images


def dataset_of(splits, labels=None):
    count = len(splits)
    targets = np.zeros(count, np.int64) if labels is None else np.array(labels)
    refs = [ImageRef(f"{row}.png") for row in range(count)]
    return Dataset("data", "classify", ("a",), refs, targets, np.array(splits))


def names_of(part):
    return {ref.path for ref in part.refs}


def test_each_part_is_of_its_own_split():
    data = dataset_of(["train"] * 30 + ["validation"] * 5 + ["test"] * 7)
    material = divided(data, data.targets, None, 10)
    assert (len(material.calibration), len(material.validation), len(material.test)) == (10, 5, 7)
    assert names_of(material.calibration) <= {f"{row}.png" for row in range(30)}
    assert names_of(divided(data, data.targets, None, 10).calibration) == names_of(material.calibration)


def test_data_that_did_not_come_split_are_told_apart_by_what_the_model_has_seen():
    data = dataset_of([""] * 40).replace(splits=None)
    known = np.arange(40) < 25
    material = divided(data, data.targets, known, 10)
    assert names_of(material.test) == {f"{row}.png" for row in range(25, 40)}
    assert len(names_of(material.calibration) | names_of(material.validation)) == 25
    assert len(material.calibration) == 10
    assert len(material.validation) == min(15, VALIDATION_IMAGES)


def test_where_only_test_images_are_missing_they_are_what_the_model_has_not_seen_of_training():
    data = dataset_of(["train"] * 20 + [""] * 10 + ["validation"] * 5)
    known = np.arange(35) % 3 > 0
    material = divided(data, data.targets, known, 50)
    assert names_of(material.test) == {f"{row}.png" for row in range(30) if not known[row]}
    assert names_of(material.calibration) == {f"{row}.png" for row in range(30) if known[row]}
    assert names_of(material.validation) == {f"{row}.png" for row in range(30, 35)}
    given = dataset_of(["train"] * 20 + ["test"] * 15)
    assert names_of(divided(given, given.targets, known, 50).test) == {f"{row}.png" for row in range(20, 35)}


@pytest.mark.parametrize(
    ("splits", "labels", "known", "said"),
    [
        (["test"] * 5, None, None, "no labelled training images"),
        (["train"] * 5, None, None, "no labelled test images"),
        (["train"] * 5, None, np.zeros(5, bool), "no labelled test images"),
        (["train"] * 5 + ["test"] * 2, [0] * 5 + [-1] * 2, None, "no labelled test images"),
        (None, None, np.zeros(6, bool), "none of the images that the model was trained on"),
    ],
)
def test_a_part_without_images_is_said(splits, labels, known, said):
    data = dataset_of(splits or [""] * 6, labels)
    data = data if splits else data.replace(splits=None)
    with pytest.raises(DataError, match=said):
        divided(data, data.targets, known, 10)


# From the outside


def test_a_variant_is_a_bundle_that_every_verb_takes(learnt, exported, capsys):
    data, run = learnt
    assert exported.loss.points <= GENEROUS["max_loss"]
    with Bundle.open(exported.model) as bundle, Bundle.open(run.model) as source:
        assert bundle.manifest.is_int8
        assert bundle.manifest.variant["of"]["created"] == source.manifest.created
        assert bundle.manifest.variant["figures"] == json.loads(json.dumps([row.to_json() for row in exported.figures]))
        assert replace(bundle.manifest, members=(), variant={}, created="", versions={}) == replace(
            source.manifest, members=(), created="", versions={}
        )
        assert len(bundle.read("graph")) < 0.6 * len(source.read("graph"))
        front, written = split_front(bundle.read("card").decode())
        assert front.startswith("---\nlibrary_name: sightline")
        assert written.startswith("# An INT8 variant")
    assert sightline.verify(exported.model)["max_difference"] < 1e-5
    found = sightline.evaluate(exported.model, data, engine="onnxruntime")
    assert found["metrics"]["accuracy"] == pytest.approx(exported.figures[1].value, abs=2 / 36)
    assert "int8" in found["engine"]
    model = sightline.Model.open(exported.model)
    assert model.predict(sorted((data / "test" / "disc").iterdir())[0]).labels
    assert _exit_code(["verify", str(exported.model)]) == 0


@needs_openvino
def test_openvino_is_within_the_tolerance_of_int8(exported):
    found = sightline.verify(exported.model, engine="openvino", precision="fp32")
    assert found["tolerance"] == INT8_TOLERANCE
    assert found["max_difference"] <= INT8_TOLERANCE


def test_data_that_lack_test_images_are_judged_on_those_that_the_training_drew(untested, tmp_path):
    data, run = untested
    made = sightline.export(run.model, data=data, precision="fp32,int8", out=tmp_path, **{**GENEROUS, "max_loss": 100.0})
    assert [variant.loss.n for variant in made.variants] == [run.numbers["test"]["n"]] * 2
    assert made.figures[0].value == pytest.approx(run.numbers["test"]["metrics"]["accuracy"], abs=1e-4)


def test_test_images_that_were_trained_on_are_told(learnt, tmp_path, capsys):
    data, run = learnt
    copied = shutil.copytree(data, tmp_path / "data")
    for number in range(3):
        shutil.copy(data / "train" / "disc" / f"{number:03d}.png", copied / "test" / "disc" / f"known-{number}.png")
    sightline.export(run.model, data=copied, precision="fp32", out=tmp_path / "same.sight", threads=1, engine="onnxruntime")
    assert "3 of the test images were used in training, so the figures flatter what is exported." in capsys.readouterr().err


def test_a_manifest_without_a_variant_is_written_as_before_and_one_with_nonsense_is_refused(learnt, tmp_path):
    with Bundle.open(learnt[1].model) as bundle:
        assert "variant" not in bundle.manifest.to_json()
        plainly = bundle.manifest.to_json()
    with pytest.raises(ModelFileError, match="'variant' must be an object"):
        sightline.manifest.Manifest.from_json({**plainly, "variant": 8})


def test_the_command_prints_a_table_and_the_file_or_json_and_overwrites_nothing(learnt, tmp_path, capsys):
    data, run = learnt
    model = tmp_path / "model.sight"
    shutil.copy(run.model, model)
    words = ["export", str(model), "--data", str(data), "--max-loss", "25", "--threads", "1", "--engine", "onnxruntime"]
    assert _exit_code(words) == 0
    said = capsys.readouterr()
    assert said.out == f"Model   {tmp_path / 'model-int8.sight'}\n"
    lines = said.err.splitlines()
    header = next(place for place, line in enumerate(lines) if "accuracy" in line and "images/s" in line)
    assert [line.split()[0] for line in lines[header + 1 : header + 3]] == ["float", "int8"]
    assert _exit_code([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["model"] == str(tmp_path / "model-int8-2.sight")
    assert [row["name"] for row in found["variants"]] == ["float", "int8"]
    assert set(found["variants"][1]) == {
        "name", "megabytes", "metric", "value", "interval", "changed", "difference", "n", "engine",
        "latency_ms", "latency_p99_ms", "batch_ms", "batch_p99_ms", "images_per_second",
    }  # fmt: skip


def test_tags_are_judged_by_their_metric(trained_on, tmp_path):
    data, run = trained_on("tag")
    made = sightline.export(run.model, data=data, out=tmp_path / "small.sight", **{**GENEROUS, "max_loss": 60.0})
    assert made.figures[0].metric == "map"
    assert made.figures[0].value == pytest.approx(run.numbers["test"]["metrics"]["map"], abs=1e-4)
    assert sightline.verify(made.model)["n"] > 0


def scrambled(int8):
    """A graph in INT8 whose last layer has its classes in the wrong order."""
    model = onnx.load_from_string(int8)
    last = next(node for node in reversed(model.graph.node) if node.op_type in ("Gemm", "MatMul"))
    makers = {output: node for node in model.graph.node for output in node.output}
    name = makers[last.input[1]].input[0]
    for place, tensor in enumerate(model.graph.initializer):
        if tensor.name == name:
            model.graph.initializer[place].CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor)[::-1].copy(), name))
    return model.SerializeToString()


def test_a_variant_broken_on_purpose_is_refused_with_its_figures_and_nothing_is_written(learnt, tmp_path, monkeypatch):
    data, run = learnt
    monkeypatch.setattr(making, "quantised", lambda *given: scrambled(quantised(*given)))
    monkeypatch.setattr("sightline.exporting.floats.Mixed.holds", lambda self, max_loss: True)  # so that the test replay is reached
    with pytest.raises(
        RequirementNotMet, match=r"loses \d+\.\d\d points of accuracy on the 36 test images, more than --max-loss 1 .*\.png by"
    ):
        sightline.export(run.model, data=data, out=tmp_path / "broken.sight", threads=1, max_loss=1.0)
    assert not list(tmp_path.iterdir())


def test_a_variant_that_fails_on_validation_is_refused_before_any_test_image_is_read(learnt, tmp_path, monkeypatch):
    data, run = learnt
    monkeypatch.setattr(making, "quantised", lambda *given: scrambled(quantised(*given)))
    monkeypatch.setattr("sightline.exporting.floats.in_float", lambda int8, graph, names: int8)
    with pytest.raises(RequirementNotMet, match="on validation images it loses too much or changes too many answers"):
        sightline.export(run.model, data=data, out=tmp_path / "broken.sight", threads=1, max_loss=1.0)
    assert not list(tmp_path.iterdir())


def test_what_is_missing_or_wrong_is_said_in_a_sentence(learnt, exported, tmp_path):
    data, run = learnt
    with pytest.raises(UsageError, match=r"^--data: give the labelled images"):
        sightline.export(run.model)
    with pytest.raises(ModelFileError, match="is a variant already"):
        sightline.export(exported.model, data=data)
    other = write_shapes(tmp_path / "other", kinds=("disc", "ring"))
    with pytest.raises(DataError, match="does not know the class 'ring'"):
        sightline.export(run.model, data=other)
    strangers = write_shapes(tmp_path / "strangers", per_class=3, seed=9)
    with pytest.raises(DataError, match="none of the images that the model was trained on"):
        sightline.export(run.model, data=strangers)
    flat = tmp_path / "flat"
    flat.mkdir()
    render_shape("disc", 1).save(flat / "a.png")
    with pytest.raises(DataError):
        sightline.export(run.model, data=flat)
    assert _exit_code(["export", str(run.model), "--data", str(data), "--precision", "fp8"]) == 2


def test_without_onnx_it_is_said_how_to_get_it(learnt, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"needs onnx, which is not installed: pip install 'sightline\[train\]'"):
        sightline.export(learnt[1].model, data=learnt[0])


def test_verify_says_why_another_processor_may_differ(exported, tmp_path, monkeypatch):
    """A replay that was recorded otherwise, on a processor without dot products of int8."""
    from sightline.bundle import Part, arrays_to_bytes, write

    with Bundle.open(exported.model) as bundle:
        arrays = bundle.arrays("replay")
        arrays["raw_logits"] = arrays["raw_logits"][:, ::-1].copy()
        write(tmp_path / "off.sight", bundle.manifest, [
            Part("model.onnx", "graph", bundle.read("graph"), required=True), Part("replay.npz", "replay", arrays_to_bytes(arrays)),
        ])  # fmt: skip
    monkeypatch.setattr("sightline.pipeline.int8_features", list)
    with pytest.raises(RequirementNotMet, match="this processor has no dot products of int8"):
        sightline.verify(tmp_path / "off.sight")


def test_an_image_that_cannot_be_read_does_not_lose_the_others(learnt, tmp_path):
    data, run = learnt
    copied = shutil.copytree(data, tmp_path / "data")
    (copied / "test" / "disc" / "000.png").write_bytes(b"no image")
    made = sightline.export(run.model, data=copied, out=tmp_path / "out.sight", **GENEROUS)
    assert made.loss.n == 35
    assert zipfile.is_zipfile(made.model)


def test_speeds_are_of_each_side():
    found = speeds({"quick": lambda batch: {}, "slow": lambda batch: {"x": np.linalg.inv(np.eye(300))}}, (4, 4, 3))
    assert found["quick"].latency_ms < found["slow"].latency_ms
    assert found["quick"].images_per_second > found["slow"].images_per_second
    assert all(speed.latency_ms <= speed.latency_p99_ms for speed in found.values())
