"""Variants of a bundle: each file is replayed by what it is made for, and one that answers otherwise gets no name."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace

import numpy as np
import onnx
import pytest

import sightline
from conftest import SHAPES, render_shape, write_shapes
from made_bundles import PREPARE, SIDE, fitted_graph, prepared, write_bundle
from sightline.bundle import Bundle
from sightline.cli import _exit_code
from sightline.engines.adapters import Work, onnx_infer, version_of
from sightline.errors import RequirementNotMet, UsageError
from sightline.evaluation.metrics import softmax
from sightline.exporting import forms
from sightline.exporting.forms import FORMS, OnnxForm, OpenvinoForm
from sightline.exporting.halved import halved
from sightline.manifest import Manifest
from sightline.onnx_check import check_graph

needs_openvino = pytest.mark.skipif(version_of("openvino") is None, reason="OpenVINO is not installed: sightline[fast]")
QUIETLY = {"threads": 1, "engine": "onnxruntime"}
# The architectures that people ship, those that come in miniature so: size, arguments, and precisions, each of which takes seconds.
NETWORKS = {
    "mobilenetv2_050": (64, {"pad_type": "same"}, "fp32,fp16"), "test_resnet": (64, {}, "fp32,fp16"),
    "test_efficientnet": (64, {}, "fp32,fp16"), "test_convnext": (64, {}, "fp32,fp16"), "test_vit": (64, {}, "fp32,fp16"),
    "inception_v3": (80, {}, "fp32"),
}  # fmt: skip


def png(kind: str, seed: int) -> bytes:
    sink = io.BytesIO()
    render_shape(kind, seed).save(sink, "PNG")
    return sink.getvalue()


@pytest.fixture(scope="module")
def graph() -> bytes:
    return fitted_graph()


@pytest.fixture(scope="module")
def model(graph, tmp_path_factory):
    files = [png(kind, seed) for seed in range(4) for kind in SHAPES]
    return write_bundle(tmp_path_factory.mktemp("made") / "shapes.sight", graph, files)


@pytest.fixture
def hurried(monkeypatch):
    """Speeds are measured in a moment, where no test looks at them."""
    monkeypatch.setattr("sightline.exporting.judging.SECONDS", 0.02)
    monkeypatch.setattr("sightline.exporting.judging.LEAST_ROUNDS", 1)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for split, count, seed in (("train", 20, 1), ("val", 10, 2), ("test", 30, 3)):
        write_shapes(folder / split, per_class=count, seed=seed)
    return folder


def names_in(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# What is written


@needs_openvino
def test_each_form_in_float_is_written_and_its_file_answers_as_the_bundle_does(model, graph, tmp_path):
    made = sightline.export(model, to="onnx,openvino", precision="fp32,fp16", out=tmp_path, **QUIETLY)
    assert names_in(tmp_path) == ["shapes-fp16-openvino", "shapes-fp16.sight", "shapes-fp32-openvino", "shapes-fp32.sight"]
    assert [row.name for row in made.figures] == ["float", "fp32", "fp16", "openvino fp32", "openvino fp16"]
    images = prepared(SHAPES, range(5))
    expected = FORMS["onnx"].open(model, "onnxruntime", 1).side.infer(images)["logits"]
    for variant in made.variants:
        opened = FORMS[variant.wanted.form].open(variant.model, "onnxruntime", 1)
        found = opened.side.infer(images)["logits"]
        assert 0 <= np.abs(found - expected).max() < (1e-4 if variant.wanted.precision == "fp32" else 1e-3)
        assert (opened.side.manifest.labels, opened.side.prepare) == (SHAPES, PREPARE)
        assert variant.samples.largest <= 1e-4
        assert len(variant.samples.names) == 12


@needs_openvino
def test_the_folder_for_openvino_needs_nothing_of_ours(model, tmp_path):
    import openvino

    made = sightline.export(model, to="openvino", precision="fp16", out=tmp_path / "plain", **QUIETLY)
    assert names_in(made.model) == ["card.md", "model.bin", "model.xml", "sightline.json"]
    described = Manifest.from_json(json.loads((made.model / "sightline.json").read_text()))
    images = prepared(SHAPES, range(2))
    found = openvino.Core().compile_model(made.model / "model.xml", "CPU")(images)
    logits = next(values for output, values in found.items() if "logits" in output.get_names())
    predicted = [described.labels[place] for place in logits.argmax(axis=1)]
    opened = sightline.Model.open(model, **QUIETLY)
    assert predicted == [opened.predict(np.asarray(render_shape(kind, seed))).label for kind in SHAPES for seed in range(2)]


def test_a_bundle_in_half_the_size_is_a_bundle_that_every_verb_takes(model, graph, tmp_path):
    made = sightline.export(model, precision="fp16", out=tmp_path / "half.sight", **QUIETLY)
    assert made.model == tmp_path / "half.sight"
    assert sightline.verify(made.model)["max_difference"] < 1e-6
    with Bundle.open(made.model) as bundle:
        assert bundle.manifest.variant["precision"] == "fp16"
        assert bundle.manifest.variant["figures"] == json.loads(json.dumps([row.to_json() for row in made.figures]))
        assert bundle.read("card").decode().startswith("# An FP16 variant\n\nOn the 12 images in the bundle its outputs differ by at most")
    assert _exit_code(["predict", str(made.model), str(tmp_path)]) == 3  # a folder without images: the bundle itself was taken
    with pytest.raises(sightline.SightlineError, match=r"is a variant already \(fp16\)"):
        sightline.export(made.model, precision="fp32")


@pytest.mark.usefixtures("hurried", "no_open_file_is_replaced")
def test_a_bundle_is_finished_with_its_figures_where_no_open_file_can_be_replaced(model, tmp_path):
    made = sightline.export(model, precision="fp32", out=tmp_path / "it.sight", **QUIETLY)
    with Bundle.open(made.model) as bundle:
        assert bundle.manifest.variant["figures"]


def test_weights_in_half_are_those_of_layers_and_the_rest_keeps_its_digits(graph):
    made = halved(graph)
    check_graph(made)
    kinds = {tensor.name: tensor.data_type for tensor in onnx.load_from_string(made).graph.initializer}
    half, whole = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    assert {name: kind for name, kind in kinds.items() if kind == half} == {"kernels_in_half": half, "head_in_half": half}
    assert kinds["bias"] == kinds["scale"] == kinds["shift"] == whole
    assert len(made) < 0.7 * len(graph)


def test_weights_with_their_remainders_are_those_that_they_were(graph, monkeypatch):
    monkeypatch.setattr("sightline.fp16.FEW", 0)
    made, alone = halved(graph, rests=True), halved(graph)
    check_graph(made)
    kinds = {tensor.name: tensor.data_type for tensor in onnx.load_from_string(made).graph.initializer}
    assert {name for name, kind in kinds.items() if kind == onnx.TensorProto.INT8} == {"kernels_rest", "head_rest"}
    assert len(alone) < len(made) < len(graph)
    images = prepared(SHAPES, range(5))
    works = (Work(one, ("logits",), "it", (SIDE, SIDE, 3), threads=1) for one in (graph, alone, made))
    expected, far, near = (onnx_infer(work)(images)["logits"] for work in works)
    assert 0 < np.abs(near - expected).max() < np.abs(far - expected).max() / 20


@needs_openvino
@pytest.mark.usefixtures("hurried")
def test_where_half_moves_an_answer_too_far_the_remainders_are_stored(model, tmp_path):
    """In each form, and the card says so; where more is allowed, half it is."""
    strict = sightline.export(model, to="onnx,openvino", precision="fp16", max_difference=2e-5, out=tmp_path, **QUIETLY)
    assert [(variant.rests, variant.samples.largest <= 2e-5) for variant in strict.variants] == [(True, True)] * 2
    with Bundle.open(tmp_path / "shapes-fp16.sight") as bundle:
        assert bundle.manifest.variant["rests"] is True
        assert "Its weights are stored in fp16 and 8 bits more; sums are in fp32." in bundle.read("card").decode()
    loose = sightline.export(model, precision="fp16", max_difference=0.1, out=tmp_path / "loose.sight", **QUIETLY)
    assert loose.variants[0].rests is False
    assert strict.figures[1].megabytes > loose.figures[1].megabytes


@pytest.mark.parametrize("scale", [1e6, 1e-9])
def test_weights_that_half_cannot_hold_stay_whole(graph, scale):
    model = onnx.load_from_string(graph)
    head = next(tensor for tensor in model.graph.initializer if tensor.name == "head")
    head.CopyFrom(onnx.numpy_helper.from_array(scale * np.random.default_rng(0).normal(0, 1, (3, 48)).astype(np.float32), "head"))
    kinds = {tensor.name: tensor.data_type for tensor in onnx.load_from_string(halved(model.SerializeToString())).graph.initializer}
    assert kinds["head"] == onnx.TensorProto.FLOAT
    assert "kernels_in_half" in kinds


# What is refused


def edited(graph: bytes, how: str) -> bytes:
    model = onnx.load_from_string(graph)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}

    def put(name, values):
        tensors[name].CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(values), name))

    if how == "wrong mean":
        put("shift", np.float32([0.485, 0.456, 0.406]) / np.float32(PREPARE.std))
    elif how == "channel order":
        put("kernels", onnx.numpy_helper.to_array(tensors["kernels"])[:, ::-1])
    else:
        (pads,) = (entry for node in model.graph.node for entry in node.attribute if entry.name == "pads")
        pads.ints[:] = [1, 1, 1, 1]
    return model.SerializeToString()


def breaking(form, how):
    """The form, with what it writes broken."""

    class Broken(form):
        def write(self, content, folder):
            if how == "prepare":
                spoilt = replace(content.manifest, prepare={**content.manifest.prepare, "crop_fraction": 1.0})
                return super().write(replace(content, manifest=spoilt), folder)
            return super().write(replace(content, graph=edited(content.graph, how)), folder)

    return Broken()


@pytest.mark.parametrize("how", ["wrong mean", "symmetric padding", "channel order", "prepare"])
@pytest.mark.parametrize(("name", "form"), [("onnx", OnnxForm), pytest.param("openvino", OpenvinoForm, marks=needs_openvino)])
def test_a_variant_broken_on_purpose_is_refused_and_the_images_that_differ_most_are_named(
    model, data, tmp_path, monkeypatch, how, name, form
):
    monkeypatch.setitem(forms.FORMS, name, breaking(form, how))
    with pytest.raises(RequirementNotMet, match=r"because its outputs differ by up to \S+ from the bundle's, more than 0\.0001 "
                                                r"\(--max-difference\); farthest off: image \d+ in the bundle by \S+; image"):  # fmt: skip
        sightline.export(model, to=name, precision="fp32", out=tmp_path / "broken", **QUIETLY)
    with pytest.raises(RequirementNotMet, match=r"farthest off: \S+/test/\w+/\d+\.png by"):
        sightline.export(model, to=name, precision="fp32", data=data, max_loss=100.0, out=tmp_path / "broken", **QUIETLY)
    assert names_in(tmp_path) == []


@needs_openvino
def test_what_is_refused_does_not_lose_the_others(model, data, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(forms.FORMS, "onnx", breaking(OnnxForm, "wrong mean"))
    words = ["export", str(model), "--to", "onnx,openvino", "--precision", "fp32,fp16", "--out", str(tmp_path), "--threads", "1", "--json"]
    assert _exit_code(words) == 7
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert names_in(tmp_path) == ["shapes-fp16-openvino", "shapes-fp32-openvino"]
    assert [entry["model"] for entry in found["written"]] == [
        str(tmp_path / "shapes-fp32-openvino"),
        str(tmp_path / "shapes-fp16-openvino"),
    ]
    assert [entry["name"] for entry in found["refused"]] == ["fp32", "fp16"]
    assert [row["name"] for row in found["variants"]] == ["float", "openvino fp32", "openvino fp16"]
    assert "not released in FP32, because" in said.err
    assert "not released in FP16, because" in said.err


def test_labels_in_another_order_are_refused_though_the_graph_is_right(model, tmp_path, monkeypatch):
    class Shuffled(OnnxForm):
        def write(self, content, folder):
            return super().write(replace(content, manifest=replace(content.manifest, labels=SHAPES[::-1])), folder)

    monkeypatch.setitem(forms.FORMS, "onnx", Shuffled())
    with pytest.raises(RequirementNotMet, match=r"it gives other answers on \d+ of 12 images, where none was near a tie"):
        sightline.export(model, precision="fp32", out=tmp_path / "shuffled.sight", **QUIETLY)


def test_a_form_that_cannot_be_replayed_is_refused_alone(model, tmp_path, monkeypatch):
    class Other(OnnxForm):
        def open(self, path, engine, threads):
            opened = super().open(path, engine, threads)
            side = replace(opened.side, infer=lambda batch: {"logits": np.zeros((len(batch), 7), np.float32)})
            return replace(opened, side=side, fastest=side.infer)

    monkeypatch.setitem(forms.FORMS, "onnx", Other())
    with pytest.raises(RequirementNotMet, match="not released in FP32, because it cannot be replayed"):
        sightline.export(model, precision="fp32", out=tmp_path / "other.sight", **QUIETLY)


# What is measured


def test_with_data_the_whole_test_set_is_replayed_and_all_figures_stand_in_one_table(model, data, tmp_path, capsys):
    words = ["export", str(model), "--precision", "fp32,fp16,int8", "--max-loss", "10", "--data", str(data), "--out", str(tmp_path)]
    assert _exit_code([*words, "--threads", "1", "--engine", "onnxruntime"]) == 0
    said = capsys.readouterr()
    assert said.out == "".join(f"Model   {tmp_path}/shapes-{precision}.sight\n" for precision in ("fp32", "fp16", "int8"))
    lines = said.err.splitlines()
    head = next(place for place, line in enumerate(lines) if "95% interval" in line)
    assert lines[head].split("  ")[0] == ""
    assert all(name in lines[head] for name in ("MB", "accuracy", "changed", "differs", "ms of 16", "p99", "images/s"))
    rows = [line.split() for line in lines[head + 1 : head + 5]]
    assert [row[0] for row in rows] == ["float", "fp32", "fp16", "int8"]
    assert rows[0][2] == rows[1][2] == f"{sightline.evaluate(model, data, engine='onnxruntime')['metrics']['accuracy']:.4f}"


def test_without_data_float_variants_are_made_and_it_is_said_that_int8_is_not(model, tmp_path, capsys):
    assert _exit_code(["export", str(model), "--precision", "fp32,int8", "--out", str(tmp_path / "a.sight"), "--json"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert "Left out: --data: give the labelled images" in said.err
    assert [row["name"] for row in found["variants"]] == ["float", "fp32"]
    assert [row["value"] for row in found["variants"]] == [None, None]
    assert found["written"][0]["samples"]["n"] == 12
    assert found["model"] == str(tmp_path / "a.sight")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"to": "onxn", "precision": "fp61,fp16"}, "--to onxn: must be one or more of onnx, openvino, torch. Did you mean 'onnx'?"),
        ({"precision": "fp61,fp16"}, "--precision fp61: must be one or more of fp32, fp16, int8. Did you mean 'fp16'?"),
        ({"to": "torch", "precision": "int8"}, "--to torch: has no INT8 variants"),
        ({"precision": "fp32,fp16", "out": "nowhere/at/all"}, "nowhere/at/all: is no folder for the 2 variants"),
        ({"precision": "fp32", "out": "nowhere/at/all.sight"}, "--out nowhere/at/all.sight: nowhere/at is no folder to write all.sight to"),
        ({"precision": "fp32,fp16", "out": "both.sight"}, "--out both.sight: is the name of a file, and there are 2 variants"),
        ({"precision": "fp32,fp16", "out": __file__}, f"--out {__file__}: is no folder for the 2 variants"),
        ({"precision": "fp32", "epochs": 3}, "--epochs 3: only a smaller model is trained; give --latency or --size, or leave it out."),
        (
            {"standalone": True, "precision": "fp16", "to": "torch", "max_loss": 2.0, "epochs": 3},
            "--to torch: does nothing beside --standalone; leave it out. --precision fp16: does nothing beside --standalone; leave it out. "
            "--max-loss 2.0: does nothing beside --standalone; leave it out. --epochs 3: only a smaller model",
        ),
    ],
)
def test_what_cannot_be_asked_for_is_said(model, settings, said):
    with pytest.raises(UsageError) as raised:
        sightline.export(model, **settings)
    assert said in str(raised.value)


@pytest.mark.usefixtures("hurried")
def test_a_folder_takes_a_single_file_too_and_is_made_for_several(model, tmp_path, monkeypatch):
    assert sightline.export(model, precision="fp32", out=tmp_path, **QUIETLY).model == tmp_path / "shapes-fp32.sight"
    made = sightline.export(model, precision="fp32,fp16", out=tmp_path / "new", **QUIETLY)
    assert [variant.model for variant in made.variants] == [
        tmp_path / "new" / f"shapes-{precision}.sight" for precision in ("fp32", "fp16")
    ]
    monkeypatch.setitem(forms.FORMS, "onnx", breaking(OnnxForm, "wrong mean"))
    with pytest.raises(RequirementNotMet):
        sightline.export(model, precision="fp32,fp16", out=tmp_path / "never", **QUIETLY)
    assert names_in(tmp_path) == ["new", "shapes-fp32.sight"]


def test_a_library_that_is_missing_is_named_before_any_work(model, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"Exporting in FP32 for OpenVINO needs openvino, .* pip install 'sightline\[fast\]'"):
        sightline.export(model, to="openvino", precision="fp32")
    with pytest.raises(UsageError, match=r"Exporting in FP32 for torch needs torch, .* pip install 'sightline\[train\]'"):
        sightline.export(model, to="torch", precision="fp32")


def test_a_bundle_without_weights_has_no_program_for_torch_and_the_others_are_written(model, tmp_path):
    with pytest.raises(RequirementNotMet) as raised:
        sightline.export(model, to="onnx,torch", precision="fp32", out=tmp_path, **QUIETLY)
    assert names_in(tmp_path) == ["shapes-fp32.sight"]
    assert "has no weights, of which a program for torch is made" in str(raised.value)
    assert [variant.wanted.name for variant in raised.value.done.variants] == ["fp32"]


# Networks


def decided_network(name, size, arguments):
    """A network of random weights whose head makes of what differs between images what a trained one would: logits apart by about one.

    Its norms keep the statistics that they begin with: with those of few images a deep random network magnifies any rounding.
    """
    import torch
    from torch import nn

    from sightline.data.prepare import Prepare
    from sightline.model.backbone import BackboneSpec, build
    from sightline.model.heads.classify import make_head
    from sightline.model.network import Network

    torch.manual_seed(0)
    spec = BackboneSpec(name, size, arguments)
    backbone = build(spec)
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    prepare = Prepare(size, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), interpolation="bicubic")
    network = Network(backbone, make_head(backbone.num_features, len(SHAPES), 0.0), prepare).eval()
    images = torch.from_numpy(np.stack([prepare(np.asarray(render_shape(kind, seed)))[0] for kind in SHAPES for seed in range(4)]))
    with torch.no_grad():
        seen = network(images)["embedding"].double().numpy()
    spread = np.maximum(seen.std(axis=0), 0.3 * np.sqrt((seen**2).mean()))
    head = np.random.default_rng(0).normal(0, 0.75 / np.sqrt(seen.shape[1]), (len(SHAPES), seen.shape[1])) / spread
    network.head.set_linear(head, -head @ seen.mean(axis=0))
    return network, spec, prepare


@needs_openvino
@pytest.mark.usefixtures("one_thread", "hurried")
@pytest.mark.parametrize("name", NETWORKS)
def test_float_variants_of_a_network_answer_as_torch_does_in_every_form(name, tmp_path):
    import torch

    from sightline.model.export import export_graph, weights_bytes
    from sightline.model.network import torch_infer

    size, arguments, precisions = NETWORKS[name]
    network, spec, prepare = decided_network(name, size, arguments)
    path = tmp_path / "it.sight"
    graph, weights = export_graph(network, prepare.shape), weights_bytes(network)
    write_bundle(path, graph, [png(kind, seed) for kind in SHAPES for seed in range(3)], prepare, backbone=spec.to_json(), weights=weights)
    made = sightline.export(path, to="onnx,openvino,torch", precision=precisions, **QUIETLY)
    forms_made = [(variant.wanted.form, variant.wanted.precision) for variant in made.variants]
    assert forms_made == [(form, precision) for form in FORMS for precision in precisions.split(",")]
    images = np.stack([prepare(np.asarray(render_shape(kind, seed)))[0] for kind in SHAPES for seed in range(40, 48)])
    expected = softmax(torch_infer(network, torch.device("cpu"), ("logits",))(images)["logits"])
    assert len(set(expected.argmax(axis=1).tolist())) > 1
    best = np.sort(expected, axis=1)
    gaps = best[:, -1] - best[:, -2]
    for variant in made.variants:
        found = softmax(FORMS[variant.wanted.form].open(variant.model, "onnxruntime", 1).side.infer(images)["logits"])
        assert np.abs(found - expected).max() < 1e-4, variant.wanted.name
        assert (gaps[found.argmax(axis=1) != expected.argmax(axis=1)] < 1e-3).all(), variant.wanted.name
    sizes, rests = {row.name: row.megabytes for row in made.figures}, any(variant.rests for variant in made.variants)
    for form in ("", "openvino ", "torch ") if "fp16" in precisions else ():
        # The operators of such small networks take room as well, and few of their tensors are worth it.
        assert sizes[f"{form}fp16"] < (1.0 if rests else 0.9) * sizes[f"{form}fp32"]


@pytest.mark.usefixtures("one_thread", "hurried")
def test_a_program_for_torch_holds_no_pickle_and_no_path_and_needs_nothing_of_ours(tmp_path):
    import torch

    from sightline.model.export import export_graph, weights_bytes

    network, spec, prepare = decided_network("test_resnet", 32, {})
    path, graph = tmp_path / "it.sight", export_graph(network, 32)
    write_bundle(path, graph, [png("disc", 1)], prepare, backbone=spec.to_json(), weights=weights_bytes(network))
    made = sightline.export(path, to="torch", precision="fp16", **QUIETLY)
    assert made.model == tmp_path / "it-fp16.pt2"
    with zipfile.ZipFile(made.model) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    assert not [name for name, data in members.items() if data.startswith((b"\x80\x02", b"PK"))]
    assert not [name for name, data in members.items() if b"site-packages" in data or b"/sightline/" in data]
    extra = {"sightline.json": ""}
    program = torch.export.load(made.model, extra_files=extra)
    described = Manifest.from_json(json.loads(extra["sightline.json"]))
    assert described.labels == SHAPES
    assert {tensor.dtype for tensor in program.state_dict.values()} >= {torch.float16, torch.float32}
    for n in (1, 3):
        assert program.module()(torch.zeros(n, 32, 32, 3, dtype=torch.uint8))["logits"].shape == (n, 3)
